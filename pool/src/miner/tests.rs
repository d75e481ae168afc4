//! What a miner shows of itself; the simulation shows how it works.

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::workload::Workload;
use proptest::prelude::*;

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

/// An acknowledgement that asks for a state, or for none.
fn ack(audit: Option<BlobRef>) -> MinerEvent {
    MinerEvent::Replied(Box::new(Reply::Ack { go_on: true, best_permille: None, standing: Standing::default(), audit }))
}

/// What a miner sends when it hears of something.
fn sent(miner: &mut Miner, now_ms: u64, event: MinerEvent) -> Option<Request> {
    miner.handle(now_ms, event).into_iter().find_map(|effect| match effect {
        MinerEffect::Send(request) => Some(request),
        _ => None,
    })
}

fn chunk(artefact: BlobRef, number: usize) -> Option<Request> {
    Some(Request::Chunk { artefact, offset: (number * CHUNK_BYTES) as u64, bytes: Vec::new() })
}

/// It has asked for work, has got none, and asks again in a minute.
fn idle(miner: &mut Miner) {
    assert_eq!(sent(miner, 10, welcome(None)), Some(Request::Lease));
    assert_eq!(sent(miner, 20, refused(Refusal::NoInterval, 60_000)), None);
    assert_eq!(sent(miner, 60_020, MinerEvent::Tick), Some(Request::Lease));
}

#[test]
fn a_state_goes_out_chunk_by_chunk_and_holds_up_nothing() {
    let state = BlobRef { root: Hash32([9; 32]), bytes: 3 * CHUNK_BYTES as u64 - 1 };
    let mut miner = started();
    let welcome = Reply::Welcome { fee_basis_points: 0, heartbeat_ms: 1000, calibrate: None, audit: Some(state) };
    let welcome = MinerEvent::Replied(Box::new(welcome));
    assert_eq!(sent(&mut miner, 10, welcome), Some(Request::Lease), "work comes first");
    assert_eq!(sent(&mut miner, 20, refused(Refusal::NoInterval, 1000)), chunk(state, 0));
    assert_eq!(sent(&mut miner, 30, ack(Some(state))), chunk(state, 1));
    assert_eq!(sent(&mut miner, 1500, ack(Some(state))), Some(Request::Lease), "it is time to ask again");
    assert_eq!(sent(&mut miner, 1510, refused(Refusal::NoInterval, 1000)), chunk(state, 2));
    assert_eq!(sent(&mut miner, 1520, ack(None)), None, "that was all of it");
}

#[test]
fn an_upload_that_broke_off_begins_anew_and_one_that_nobody_wants_ends() {
    let state = BlobRef { root: Hash32([9; 32]), bytes: 3 * CHUNK_BYTES as u64 };
    let mut miner = started();
    idle(&mut miner);
    assert_eq!(sent(&mut miner, 60_030, ack(Some(state))), Some(Request::Lease));
    assert_eq!(sent(&mut miner, 60_040, refused(Refusal::NoInterval, 60_000)), chunk(state, 0));
    assert_eq!(sent(&mut miner, 60_050, ack(Some(state))), chunk(state, 1));
    // A manager that was killed has only what was whole.
    assert_eq!(sent(&mut miner, 60_060, refused(Refusal::BadChunk, 0)), None);
    assert_eq!(sent(&mut miner, 120_040, MinerEvent::Tick), Some(Request::Lease));
    assert_eq!(sent(&mut miner, 120_050, ack(Some(state))), Some(Request::Lease));
    assert_eq!(sent(&mut miner, 120_060, refused(Refusal::NoInterval, 60_000)), chunk(state, 0), "asked for once more");
    assert_eq!(sent(&mut miner, 120_070, ack(None)), None, "nobody asks any more");
}

#[test]
fn a_state_that_is_gone_is_not_offered_again() {
    let state = BlobRef { root: Hash32([9; 32]), bytes: 100 };
    let mut miner = started();
    idle(&mut miner);
    assert_eq!(sent(&mut miner, 60_030, ack(Some(state))), Some(Request::Lease));
    assert_eq!(sent(&mut miner, 60_040, refused(Refusal::NoInterval, 60_000)), chunk(state, 0));
    assert_eq!(sent(&mut miner, 60_050, MinerEvent::StateGone { state }), None);
    assert_eq!(sent(&mut miner, 120_040, MinerEvent::Tick), Some(Request::Lease), "its work goes on");
    assert_eq!(sent(&mut miner, 120_050, ack(Some(state))), Some(Request::Lease));
    assert_eq!(sent(&mut miner, 120_060, refused(Refusal::NoInterval, 60_000)), None, "it is not here");
}

#[test]
fn a_calibration_that_cannot_be_done_is_not_waited_for() {
    let mut miner = started();
    let job = CalibrationJob { seed: [1; 32], steps: 1 };
    assert_eq!(miner.handle(10, welcome(Some(job))), [MinerEffect::Calibrate(job)]);
    assert_eq!(miner.next_wake_ms(), None);
    miner.handle(20, MinerEvent::NotCalibrated { reason: "no memory".into() });
    assert_eq!((miner.stage(), miner.offline().unwrap().reason.as_str()), (Stage::Offline, "no memory"));
    assert_eq!(miner.next_wake_ms(), Some(20 + BACKOFF_MS.1), "it joins anew");
}

#[test]
fn a_result_that_is_gone_keeps_nothing_back() {
    let spec = ChainSpec::load("dev").unwrap();
    let (lease, interval) = lease(&spec);
    let (parent, plan) = (interval.parent, EvaluationPlan { public_images: 10, holdout_images: 0 });
    let mut miner = started();
    miner.handle(10, welcome(None));
    let reply = Reply::Lease { lease: Box::new(lease), interval: Box::new(interval), plan };
    miner.handle(20, MinerEvent::Replied(Box::new(reply)));
    miner.handle(30, MinerEvent::Prepared { parent });
    let artefact = BlobRef { root: Hash32([5; 32]), bytes: 10 };
    let trained = Trained { artefact, images: 1, correct: 1, states: crate::training::States::default() };
    let result = sent(&mut miner, 40, MinerEvent::Finished { order: 1, result: Some(trained) });
    assert!(matches!(result, Some(Request::Submit { .. })));
    assert_eq!(sent(&mut miner, 50, MinerEvent::ResultGone), None);
    assert_eq!(miner.stage(), Stage::Joined, "its pool is there");
    let beat = sent(&mut miner, 5000, MinerEvent::Tick);
    assert!(matches!(beat, Some(Request::Progress { .. })), "{beat:?}");
}

#[test]
fn a_miner_that_is_to_leave_leaves_whatever_is_asked_of_it() {
    let mut miner = started();
    idle(&mut miner);
    miner.handle(60_030, MinerEvent::Stop);
    // One wanted state after the other, each another one.
    for number in 0..=20 {
        let state = BlobRef { root: Hash32([number; 32]), bytes: 3 * CHUNK_BYTES as u64 };
        miner.queue_chunk(state, &Request::Lease);
    }
    assert!(miner.outbox.contains(&Request::Leave), "{:?}", miner.outbox);
    assert_eq!(miner.outbox.len(), MOST_QUEUED);
}

/// Numbers that a hostile manager would try.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0u64..100_000, Just(u64::MAX / 2), Just(u64::MAX - 1), Just(u64::MAX)]
}

fn short() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), 0u16..2000, Just(u16::MAX)]
}

fn hostile_lease() -> impl Strategy<Value = Reply> {
    let numbers = (number(), number(), number(), number(), number());
    let works = proptest::collection::vec((number(), any::<u32>(), any::<u8>()), 0..4);
    (numbers, (short(), short(), 0u8..=64), works, [short(), short()], any::<u32>()).prop_map(
        |((budget_macs, wall_ms, due_ms, seed, id), (from, to, steps), works, [filters, width], shard_images)| {
            let spec = ChainSpec::load("dev").unwrap();
            let mut workload = Workload { shard_images, ..Workload::filler(&spec) };
            workload.space.filters = vec![filters];
            workload.space.dense.width = width;
            let whole = Subspace::whole(workload.space.clone());
            let mut rng = SeededRng::new(&seed.to_le_bytes(), "networks");
            let work = works.into_iter().map(|(images, batch, bytes)| Assignment {
                rule: crate::training::TrainRule { batch: batch % 2000, ..Default::default() },
                ..Assignment::new(
                    whole.draw(&mut rng).unwrap(),
                    (bytes > 100).then_some(BlobRef { root: Hash32([bytes; 32]), bytes: images }),
                    images,
                )
            });
            let interval = Interval {
                parent: Hash32([1; 32]),
                height: budget_macs,
                task: Hash32([2; 32]),
                round: 0,
                workload,
                data: DataSource::Filler { seed: [3; 32] },
                score_macs: due_ms,
                baseline: None,
            };
            let lease = Lease {
                id: LeaseId(id),
                parent: interval.parent,
                purpose: Purpose::Explore,
                work: work.collect(),
                steps,
                seed,
                budget_macs,
                wall_ms,
                due_ms,
                left_permille: from,
                left_after_permille: to,
            };
            let plan = EvaluationPlan { public_images: shard_images, holdout_images: u32::MAX };
            Reply::Lease { lease: Box::new(lease), interval: Box::new(interval), plan }
        },
    )
}

proptest! {
    /// Whatever a manager says, its miner does not panic over it.
    #[test]
    fn numbers_of_a_hostile_manager_are_survived(
        leases in proptest::collection::vec((hostile_lease(), number(), 1u64..10_000), 1..4),
        [heartbeat_ms, retry_ms, state_bytes] in [number(), number(), number()],
    ) {
        let mut miner = started();
        let state = BlobRef { root: Hash32([9; 32]), bytes: state_bytes };
        let welcome = Reply::Welcome { fee_basis_points: u16::MAX, heartbeat_ms, calibrate: None, audit: Some(state) };
        miner.handle(10, MinerEvent::Replied(Box::new(welcome)));
        let (mut now_ms, mut order) = (10, 1);
        for (lease, images, passed_ms) in leases {
            let parent = Hash32([1; 32]);
            miner.handle(now_ms, MinerEvent::Replied(Box::new(lease)));
            for event in [
                MinerEvent::Prepared { parent },
                MinerEvent::Progressed { order, images },
                MinerEvent::Tick,
                MinerEvent::Finished {
                    order,
                    result: Some(Trained {
                        artefact: state,
                        images,
                        correct: u32::MAX,
                        states: crate::training::States::default(),
                    }),
                },
                ack(Some(state)),
                refused(Refusal::Busy, retry_ms),
                MinerEvent::Finished { order: order + 1, result: None },
                MinerEvent::Tick,
            ] {
                now_ms += passed_ms;
                miner.handle(now_ms, event);
                let _ = (miner.next_wake_ms(), miner.progress().map(|progress| progress.done_permille()));
            }
            order = miner.next_order;
        }
    }
}
