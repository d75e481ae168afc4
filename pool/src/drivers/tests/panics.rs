//! Jobs that panic: each counts as failed by the manager, and neither its thread nor anybody else's work goes with it.

use std::panic::catch_unwind;
use std::sync::atomic::AtomicU32;

use super::super::manager::Checks;
use super::client::{Client, Pool, SPEED, id};
use super::*;
use crate::manager::Outcome;

/// Whether the checks of one test panic. Every test has its own.
struct Switch(AtomicBool);

impl Switch {
    const fn on() -> Self {
        Self(AtomicBool::new(true))
    }

    fn panics(&self) {
        assert!(!self.0.load(Ordering::Relaxed), "on purpose");
    }

    fn off(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn no_change(_: &mut PoolParams) {}

/// A pool in whose first interval a miner has trained something.
fn with_step(pool: &Pool) -> (Client<'_>, client::Step) {
    pool.begin(1, 60_000);
    let mut miner = Client::join(pool, 1, SPEED);
    let lease = miner.lease();
    let step = miner.train(&lease, 0, lease.work[0].images / 2);
    pool.pass(miner.ms(&step));
    (miner, step)
}

#[test]
fn an_evaluation_that_panics_is_nobodys_fault_and_others_are_counted() {
    static SWITCH: Switch = Switch::on();
    let usual = Checks::default();
    let checks = Checks {
        evaluate: |evaluation, caps| {
            SWITCH.panics();
            evaluation.evaluate(caps)
        },
        ..usual
    };
    let pool = Pool::over(1, no_change, |_| (), checks);
    let (mut miner, step) = with_step(&pool);
    assert_eq!(miner.submit(&step), None);
    pool.count();
    assert_eq!((pool.standing(1).rejected, pool.manager.elites().len()), (0, 0));
    assert_eq!(pool.manager.health(), Ok(()));
    SWITCH.off();
    let lease = miner.lease();
    let next = miner.train(&lease, 0, lease.work[0].images);
    pool.pass(miner.ms(&next));
    assert_eq!(miner.submit(&next), None);
    pool.count();
    assert_eq!(pool.standing(1).accepted, 1, "the thread is still there");
}

#[test]
fn a_replay_that_panics_proves_nothing_and_the_next_one_is_made() {
    static SWITCH: Switch = Switch::on();
    let usual = Checks::default();
    let checks = Checks {
        replay: |auditor, order, material| {
            SWITCH.panics();
            auditor.audit(order, material)
        },
        ..usual
    };
    let pool = Pool::over(2, no_change, |_| (), checks);
    let (mut miner, step) = with_step(&pool);
    assert_eq!(miner.submit(&step), None);
    pool.until("a replay", || pool.audits().undecided == 1);
    assert_eq!(pool.manager.health(), Ok(()));
    assert_eq!(pool.standing(1).rejected, 0);
    SWITCH.off();
    let lease = miner.lease();
    let next = miner.train(&lease, 0, lease.work[0].images);
    pool.pass(miner.ms(&next));
    assert_eq!(miner.submit(&next), None);
    pool.until("another replay", || pool.audits().passed == 1);
}

#[test]
fn a_calibration_that_cannot_be_recomputed_shuts_nobody_out() {
    static SWITCH: Switch = Switch::on();
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let usual = Checks::default();
    let checks = Checks {
        calibrate: |job| {
            TRIED.fetch_add(1, Ordering::Relaxed);
            SWITCH.panics();
            crate::calibration::answer(job, 1)
        },
        ..usual
    };
    let pool = Pool::over(3, no_change, |_| (), checks);
    pool.begin(1, 60_000);
    let first = Client::join(&pool, 1, SPEED);
    pool.until("a check", || TRIED.load(Ordering::Relaxed) == 1);
    SWITCH.off();
    // A wrong answer is still found out.
    let liar = Client::new(&pool, 2, SPEED);
    let job = liar.hello().unwrap();
    pool.pass(1000);
    liar.ask(&Request::Calibrated { seed: job.seed, digest: Hash32::ZERO });
    pool.until("the other check", || pool.standing(2).rejected == 1);
    assert_eq!(first.refusal(&Request::Lease), None);
    assert_eq!(pool.manager.health(), Ok(()));
}

#[test]
fn an_artefact_whose_decoding_panics_is_refused_and_costs_nothing() {
    static SWITCH: Switch = Switch::on();
    let usual = Checks::default();
    let checks = Checks {
        network: |bytes, caps| {
            SWITCH.panics();
            (Checks::default().network)(bytes, caps)
        },
        ..usual
    };
    let pool = Pool::over(4, no_change, |_| (), checks);
    let (miner, step) = with_step(&pool);
    for _ in 0..5 {
        assert_eq!(miner.submit(&step), Some(Refusal::NoArtefact));
    }
    assert_eq!((pool.standing(1).rejected, pool.manager.health()), (0, Ok(())));
    SWITCH.off();
    assert_eq!(miner.submit(&step), None, "it is neither known nor suspended");
}

/// A machine that panics whenever a lease is asked for: a sum of its parameters is too large.
fn panics_at_leases(params: &mut PoolParams) {
    params.lease_ms = u64::MAX;
}

#[test]
fn an_event_that_panics_is_taken_back_and_whoever_repeats_it_is_shut_out() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |config: &mut ManagerConfig| client::keep_in(folder.path(), config);
    let start = || Pool::over(5, panics_at_leases, keep, Checks::default());
    {
        let pool = start();
        pool.begin(1, 60_000);
        let miner = Client::join(&pool, 1, SPEED);
        let before = pool.standing(1);
        let refusals: Vec<_> = (0..5).map(|_| miner.refusal(&Request::Lease)).collect();
        let [first @ .., last] = &refusals[..] else { panic!("none") };
        assert!(first.iter().all(|refusal| *refusal == Some(Refusal::Malformed)), "{refusals:?}");
        assert_eq!(*last, Some(Refusal::Suspended));
        assert_eq!(pool.manager.health(), Ok(()), "its books are whole");
        assert_eq!(protocol::Standing { rejected: 4, ..before }, pool.standing(1));
    }
    // The manager was killed in such an event.
    let (mut journal, _) = Journal::open(&folder.path().join("journal")).unwrap();
    let ask = crate::manager::Ask::Hello { version: VERSION, account: AccountId([2; 32]) };
    journal.append(600_000, &crate::manager::Event::Asked { miner: id(2), ask }).unwrap();
    let ask = crate::manager::Ask::Lease;
    journal.append(600_000, &crate::manager::Event::Asked { miner: id(1), ask }).unwrap();
    drop(journal);
    let pool = start();
    let known: Vec<MinerId> = pool.manager.overview().miners.iter().map(|m| m.id).collect();
    assert_eq!(known, [id(1), id(2)], "all but that event");
    assert_eq!(pool.manager.health(), Ok(()));
}

#[test]
fn a_result_at_which_the_machine_panics_is_not_waited_for() {
    let usual = Checks::default();
    // More than any data have: the spread of two such counts is too large a number.
    let checks = Checks {
        evaluate: |evaluation, caps| match evaluation.evaluate(caps) {
            Outcome::Model { architecture, macs, mac_bits, public_correct, .. } => {
                Outcome::Model { architecture, macs, mac_bits, public_correct, holdout_correct: u32::MAX }
            }
            other => other,
        },
        ..usual
    };
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::over(11, no_change, |config| client::keep_in(folder.path(), config), checks);
    let (first, step) = with_step(&pool);
    let mut second = Client::join(&pool, 2, SPEED);
    let lease = second.lease();
    let other = second.train(&lease, 0, lease.work[0].images / 2);
    pool.pass(second.ms(&other));
    assert_eq!(first.submit(&step), None);
    pool.count();
    assert_eq!(second.submit(&other), None);
    pool.count();
    assert_eq!(pool.elite_roots(), [step.share.artefact.root]);
    assert_eq!((pool.standing(1).accepted, pool.standing(2).accepted, pool.standing(2).rejected), (1, 0, 0));
    assert_eq!(pool.manager.health(), Ok(()));
}

#[test]
fn without_a_journal_a_panicking_event_is_told_of() {
    let pool = Pool::over(6, panics_at_leases, |_| (), Checks::default());
    pool.begin(1, 60_000);
    let miner = Client::join(&pool, 1, SPEED);
    assert_eq!(pool.manager.health(), Ok(()));
    assert_eq!(miner.refusal(&Request::Lease), Some(Refusal::Malformed));
    let fault = pool.manager.health().unwrap_err();
    assert!(fault.contains("half changed") && fault.contains("overflow"), "{fault}");
}

#[test]
fn what_goes_wrong_with_the_drivers_own_doing_is_told_of() {
    let broken_sink = |config: &mut ManagerConfig| config.sink = Arc::new(|_| panic!("a node without a desk"));
    let pool = Pool::over(7, no_change, broken_sink, Checks::default());
    let (miner, step) = with_step(&pool);
    assert_eq!(pool.manager.health(), Ok(()));
    assert_eq!(miner.submit(&step), None);
    pool.until("a fault", || pool.manager.health().is_err());
    let fault = pool.manager.health().unwrap_err();
    assert!(fault.contains("a node without a desk"), "the threads are still there: {fault}");
}

#[test]
fn a_journal_that_cannot_be_written_is_told_of() {
    let spec = spec();
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    // A folder that is gone is one that cannot be written.
    drop(folder);
    let config = config(&spec, unaudited(&spec), 7, system_clock());
    let manager = ManagerDriver::start(ManagerConfig { journal: Some((journal, None)), ..config }).unwrap();
    let fault = manager.health().unwrap_err();
    assert!(fault.contains("without a journal"), "{fault}");
}

#[test]
fn who_is_not_heard_writes_nothing_into_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::kept(8, folder.path());
    let written = || std::fs::metadata(folder.path().join("journal/events")).unwrap().len();
    let before = written();
    let stranger = Client::new(&pool, 1, SPEED);
    for _ in 0..20 {
        assert_eq!(stranger.refusal(&Request::Lease), Some(Refusal::Unknown));
        let junk = pool.manager.handle(id(1), &[255; 1000]);
        assert_eq!(refusal(protocol::decode_reply(&junk).unwrap()), Some(Refusal::Unknown));
    }
    assert_eq!(written(), before);
    stranger.hello().unwrap();
    (0..4).for_each(|_| drop(pool.manager.handle(id(1), &[255; 1000])));
    let before = written();
    (0..20).for_each(|_| drop(pool.manager.handle(id(1), &[255; 1000])));
    assert_eq!(stranger.refusal(&Request::Lease), Some(Refusal::Suspended));
    assert_eq!(written(), before);
}

#[test]
fn an_artefact_that_is_only_named_is_decoded_once() {
    static DECODED: AtomicU32 = AtomicU32::new(0);
    let usual = Checks::default();
    let checks = Checks {
        network: |bytes, caps| {
            DECODED.fetch_add(1, Ordering::Relaxed);
            (Checks::default().network)(bytes, caps)
        },
        ..usual
    };
    let pool = Pool::over(9, no_change, |_| (), checks);
    let (miner, step) = with_step(&pool);
    let other = Client::join(&pool, 2, SPEED);
    assert_eq!(miner.upload(step.share.artefact, &step.bytes), None);
    let named = Request::Submit { share: step.share.clone(), inline: None };
    assert_eq!(other.refusal(&named), Some(Refusal::NoLease));
    assert_eq!(DECODED.load(Ordering::Relaxed), 0, "it is not the other's to hand in");
    let mut dear = step.share.clone();
    dear.images = u64::MAX;
    let dear = Request::Submit { share: dear, inline: None };
    (0..5).for_each(|_| assert_eq!(miner.refusal(&dear), Some(Refusal::OverBudget)));
    assert_eq!(miner.refusal(&named), None);
    assert_eq!(DECODED.load(Ordering::Relaxed), 1);
}

#[test]
fn a_bench_whose_training_panicked_trains_on() {
    let pool = Pool::new(10);
    let (interval, blob) = pool.interval(1);
    let plan = crate::types::EvaluationPlan { public_images: 32, holdout_images: 0 };
    let mut bench = TrainBench::new(1, pool.spec.caps.clone(), TrainSettings::default()).unwrap();
    bench.prepare(&interval, plan, Some(&blob)).unwrap();
    let space = &interval.workload.space;
    let architecture = crate::partition::Subspace::whole(space.clone())
        .draw(&mut crate::rng::SeededRng::new(b"seed", "network"))
        .unwrap();
    let order = crate::miner::TrainOrder {
        id: 1,
        parent: interval.parent,
        architecture,
        base: None,
        base_end: None,
        seed: 1,
        images: 32,
        due_ms: 600_000,
        image_macs: 1,
        left_permille: (1000, 900),
        rule: crate::training::TrainRule { batch: 16, ..crate::training::TrainRule::default() },
    };
    let mut train = |progress: &mut (dyn FnMut(u64) + Send)| bench.train(&order, None, &Arc::default(), progress);
    let panicked = catch_unwind(std::panic::AssertUnwindSafe(|| train(&mut |_| panic!("on purpose")).map(|_| ())));
    assert!(panicked.is_err());
    assert_eq!(train(&mut |_| ()).map(|product| product.trained.images), Ok(32));
}
