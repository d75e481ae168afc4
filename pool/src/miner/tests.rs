//! What a miner shows of itself; the simulation shows how it works.

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::workload::Workload;

use super::*;
use crate::calibration::CalibrationJob;
use crate::partition::Subspace;
use crate::rng::SeededRng;
use crate::types::{Assignment, DataSource, Purpose};

/// A miner that has said hello at time 0.
fn started() -> Miner {
    let mut miner = Miner::new(AccountId([1; 32]), "test");
    assert!(matches!(miner.handle(0, MinerEvent::Start)[..], [MinerEffect::Send(Request::Hello { .. })]));
    assert_eq!(miner.offline(), None, "nothing has failed");
    miner
}

fn welcome(calibrate: Option<CalibrationJob>) -> MinerEvent {
    MinerEvent::Replied(Box::new(Reply::Welcome { fee_basis_points: 0, heartbeat_ms: 1000, calibrate, audit: None }))
}

fn refused(refusal: Refusal, retry_ms: u64) -> MinerEvent {
    MinerEvent::Replied(Box::new(Reply::Refused { refusal, retry_ms }))
}

fn unreachable() -> MinerEvent {
    MinerEvent::Unreachable { reason: "nobody answers".into() }
}

#[test]
fn a_pool_that_has_gone_is_tried_again_and_again_ever_less_often() {
    let mut miner = started();
    miner.handle(10, welcome(None));
    let mut now_ms = 5000;
    let mut waits = Vec::new();
    for _ in 0..12 {
        miner.handle(now_ms, unreachable());
        let offline = miner.offline().expect("it is without its pool");
        assert_eq!((offline.since_ms, offline.reason.as_str()), (5000, "nobody answers"), "since the first failure");
        let retry_at_ms = offline.retry_at_ms.expect("the next try has its time");
        assert_eq!(miner.next_wake_ms(), Some(retry_at_ms));
        assert_eq!(miner.handle(retry_at_ms - 1, MinerEvent::Tick), [], "not before");
        let tried = miner.handle(retry_at_ms, MinerEvent::Tick);
        assert!(matches!(tried[..], [MinerEffect::Send(Request::Hello { .. })]), "{tried:?}");
        assert_eq!(miner.offline().unwrap().retry_at_ms, None, "now");
        waits.push(retry_at_ms - now_ms);
        now_ms = retry_at_ms + 100;
    }
    assert!(waits.is_sorted() && waits[0] == BACKOFF_MS.0 && waits[11] == BACKOFF_MS.1, "{waits:?}");
    miner.handle(now_ms, welcome(None));
    assert_eq!((miner.offline(), miner.stage()), (None, Stage::Joined), "it is back");
    miner.handle(now_ms + 10, unreachable());
    assert_eq!(miner.offline().map(|o| o.since_ms), Some(now_ms + 10), "another time");
}

#[test]
fn a_miner_that_is_shut_out_says_why_and_when_it_asks_again() {
    let mut miner = started();
    miner.handle(100, refused(Refusal::Suspended, 60_000));
    let offline = miner.offline().unwrap();
    assert_eq!((offline.since_ms, offline.retry_at_ms), (100, Some(60_100)));
    assert!(offline.reason.starts_with("suspended"), "{}", offline.reason);
    let job = CalibrationJob { seed: [0; 32], steps: MOST_STEPS + 1 };
    miner.handle(60_100, MinerEvent::Tick);
    assert_eq!(miner.handle(60_200, welcome(Some(job))), [], "endless calibration");
    let offline = miner.offline().unwrap();
    assert!(offline.since_ms == 100 && offline.reason.contains("calibration"), "{offline:?}");
    let retry_at_ms = offline.retry_at_ms.unwrap();
    miner.handle(retry_at_ms, MinerEvent::Tick);
    let job = CalibrationJob { steps: 1, ..job };
    assert_eq!(miner.handle(retry_at_ms + 1, welcome(Some(job))), [MinerEffect::Calibrate(job)]);
    assert_eq!((miner.offline(), miner.stage()), (None, Stage::Calibrating));
}

#[test]
fn refusals_are_counted_by_kind() {
    let mut miner = started();
    miner.handle(10, welcome(None));
    for now_ms in [20, 5000, 10_000] {
        miner.handle(now_ms, MinerEvent::Tick);
        miner.handle(now_ms, refused(Refusal::NoInterval, 100));
    }
    miner.handle(20_000, MinerEvent::Tick);
    miner.handle(20_000, refused(Refusal::Late, 0));
    let told: Vec<_> = miner.refusals().iter().map(|(refusal, t)| (*refusal, t.count, t.last_ms)).collect();
    assert_eq!(told, [(Refusal::NoInterval, 3, 10_000), (Refusal::Late, 1, 20_000)]);
}

/// A lease of two networks on a task of two layers.
fn lease(spec: &ChainSpec) -> (Lease, Interval) {
    let interval = Interval {
        parent: Hash32([1; 32]),
        height: 1,
        task: Hash32([2; 32]),
        round: 0,
        workload: Workload::filler(spec),
        data: DataSource::Filler { seed: [3; 32] },
        score_macs: u64::MAX,
        baseline: None,
    };
    let space = Subspace::whole(interval.workload.space.clone());
    let mut rng = SeededRng::new(b"x", "test");
    let work = [1000, 500].map(|images| Assignment::new(space.draw(&mut rng).unwrap(), None, images));
    let lease = Lease {
        id: LeaseId(7),
        parent: interval.parent,
        purpose: Purpose::Explore,
        work: work.into(),
        steps: 1,
        seed: 1,
        budget_macs: u64::MAX / 4,
        wall_ms: 5000,
        due_ms: 6000,
        left_permille: 1000,
        left_after_permille: 900,
    };
    (lease, interval)
}

#[test]
fn progress_is_measured_by_what_the_lease_has_to_do() {
    let (lease, interval) = lease(&ChainSpec::load("dev").unwrap());
    let macs = |index: usize| interval.training_macs(&lease.work[index].architecture).unwrap();
    let planned_macs = macs(0) * 1000 + macs(1) * 500;
    let plan = EvaluationPlan { public_images: 10, holdout_images: 0 };
    let mut miner = started();
    miner.handle(10, welcome(None));
    assert_eq!(miner.progress(), None);
    let parent = interval.parent;
    let reply = Reply::Lease { lease: Box::new(lease.clone()), interval: Box::new(interval.clone()), plan };
    miner.handle(1000, MinerEvent::Replied(Box::new(reply)));
    let effects = miner.handle(1500, MinerEvent::Prepared { parent });
    let Some(MinerEffect::Train(order)) = effects.into_iter().find(|e| matches!(e, MinerEffect::Train(_))) else {
        panic!("no training")
    };
    miner.handle(3000, MinerEvent::Progressed { order: order.id, images: 250 });
    let progress = miner.progress().unwrap();
    let done_macs = macs(0) * 250;
    assert_eq!(progress, Progress { lease: lease.id, done_macs, planned_macs, left_ms: 4000 });
    let permille = progress.done_permille();
    assert_eq!(permille, done_macs * 1000 / planned_macs, "not of the budget, of which it takes next to nothing");
    assert_eq!(Progress { done_macs: u64::MAX, ..progress }.done_permille(), 1000);
}

#[test]
fn a_state_is_uploaded_when_the_pool_asks_and_not_once_it_is_known_to_be_gone() {
    let state = BlobRef { root: Hash32([9; 32]), bytes: 100 };
    let audit = Some(state);
    let mut miner = started();
    let welcome = Reply::Welcome { fee_basis_points: 0, heartbeat_ms: 1000, calibrate: None, audit };
    let upload = Request::Chunk { artefact: state, offset: 0, bytes: Vec::new() };
    let sent = miner.handle(10, MinerEvent::Replied(Box::new(welcome)));
    assert_eq!(sent, [MinerEffect::Send(upload.clone())], "before it asks for work");
    let ack = || Reply::Ack { go_on: true, best_permille: None, standing: Standing::default(), audit };
    let again = miner.handle(20, MinerEvent::Replied(Box::new(ack())));
    assert_eq!(again, [MinerEffect::Send(upload)], "the pool has not got it");
    let gone = miner.handle(30, MinerEvent::StateGone { state });
    assert_eq!(gone, [MinerEffect::Send(Request::Lease)], "its work goes on");
    let later = miner.handle(40, MinerEvent::Replied(Box::new(ack())));
    assert_eq!(later, [MinerEffect::Send(Request::Lease)], "it is not here");
}
