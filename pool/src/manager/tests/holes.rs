//! What a hostile or unlucky miner, or a restart, once made go wrong (ADR 19).

use super::audits::{different, end_of, wait};
use super::*;
use crate::manager::search::TaskMemory;

fn strong_and_weak(pool: &Pool) -> (u8, u8) {
    let is_strong = |m: &u8| pool.manager.miners()[&id(*m)].rating.class == Class::Strong;
    (((1..=3).find(is_strong)).unwrap(), (1..=3).find(|m| !is_strong(m)).unwrap())
}

fn macs(pool: &Pool, miner: u8) -> u64 {
    pool.manager.ledger().window_macs(&id(miner), PayScheme::default())
}

#[test]
fn a_model_stays_that_of_its_first_miner() {
    let mut pool = Pool::new(3);
    let (strong, weak) = strong_and_weak(&pool);
    let best = pool.work(strong, 40, 150);
    pool.judge(Verdict::Same);
    let lease = pool.lease(weak);
    assert_eq!(lease.work[0].base, Some(best.artefact));
    pool.now_ms += lease.wall_ms;
    // The base itself comes back as a result, after a training that is said to have ended elsewhere.
    let mut copy = pool.share(&lease, 40);
    copy.artefact = best.artefact;
    assert_eq!(pool.submit(weak, &copy), None, "only a replay can tell");
    pool.evaluate(&copy, 40, 150);
    let owner = |pool: &Pool| pool.manager.elites().first().map(|e| (e.miner, e.images));
    let kept = owner(&pool);
    assert_eq!(kept, Some((id(strong), best.images)));
    pool.judge(different());
    assert!(pool.manager.miners()[&id(weak)].is_suspended(pool.now_ms));
    assert_eq!(owner(&pool), kept, "a false result deletes no model of others");
}

#[test]
fn what_others_trained_is_shown_to_miners_that_train() {
    let mut pool = Pool::new(3);
    let (strong, weak) = strong_and_weak(&pool);
    pool.work(strong, 40, 150);
    pool.manager.miners.get_mut(&id(weak)).unwrap().is_proven = false;
    assert_eq!(pool.lease(weak).purpose, Purpose::Explore);
    pool.ask(weak, Ask::Leave);
    pool.manager.memories.current_mut().unwrap().units.clear();
    pool.manager.miners.get_mut(&id(weak)).unwrap().is_proven = true;
    assert_eq!(pool.lease(weak).purpose, Purpose::Exploit);
}

#[test]
fn what_cannot_be_trained_holds_up_nobody() {
    let mut pool = Pool::new(1);
    let first = pool.lease(1).work[0].architecture.clone();
    for _ in 0..4 {
        pool.now_ms += 250;
        assert_eq!(pool.manager.unit_counts().dropped, 0);
        let again = pool.lease(1).work[0].architecture.clone();
        assert!(again == first || pool.manager.unit_counts().dropped == 1);
    }
    assert_ne!(pool.lease(1).work[0].architecture, first);
    assert_eq!(pool.manager.unit_counts().dropped, 1);
}

#[test]
fn a_backup_says_nothing_of_where_the_owner_goes_on() {
    let Twins { mut pool, leader: owner, backup, lease, step, twin } = twins();
    let lie = pool.share(&twin, 90);
    pool.now_ms += 1000;
    pool.ask(owner, Ask::Progress { lease: lease.id, done_macs: 9 });
    assert_eq!(pool.submit(backup, &lie), None);
    let goes_on = |pool: &Pool| {
        let units = &pool.manager.memories.current().unwrap().units;
        units.iter().find(|u| u.owner == id(owner)).unwrap().claimed.last
    };
    assert_eq!(goes_on(&pool), Some(step.artefact));
    pool.evaluate(&lie, 12, 50);
    assert_eq!(goes_on(&pool), Some(step.artefact));
    let again = pool.lease(owner);
    assert_eq!((&again.work[0].architecture, again.work[0].base), (&step.architecture, Some(step.artefact)));
}

#[test]
fn a_result_that_cannot_be_counted_is_trained_again() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let share = pool.share(&lease, 40);
    assert_eq!(pool.submit(1, &share), None);
    let job = pool.effects.iter().rev().find_map(|e| match e {
        Effect::Evaluate { job, .. } => Some(*job),
        _ => None,
    });
    pool.tell(Event::Evaluated { job: job.unwrap(), outcome: Outcome::Failed("no memory".into()) });
    assert_eq!(pool.lease(1).work[0].architecture, share.architecture);
}

#[test]
fn the_last_result_of_a_network_is_counted_whatever_it_claims() {
    let mut pool = Pool::new(1);
    for count in [40, 41, 42] {
        pool.work(1, count, 160);
        pool.judge(Verdict::Same);
        pool.now_ms += 30;
    }
    pool.manager.miners.get_mut(&id(1)).unwrap().valid_streak = 1_000_000;
    pool.manager.params.check_floor_permille = 0;
    pool.manager.params.always_check = 0;
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let modest = pool.share(&lease, 1);
    assert_eq!(pool.submit(1, &modest), None);
    pool.evaluate(&modest, 80, 320);
    assert!(pool.manager.miners()[&id(1)].is_suspended(pool.now_ms), "it claimed less than it has");
    assert_eq!(macs(&pool, 1), 0);
}

#[test]
fn what_could_not_be_replayed_proves_nobody() {
    let mut pool = Pool::new(1);
    pool.manager.miners.get_mut(&id(1)).unwrap().is_proven = false;
    pool.work(1, 40, 150);
    pool.judge(Verdict::Undecided("interval is over".into()));
    assert!(!pool.manager.miners()[&id(1)].is_proven && macs(&pool, 1) == 0);
    pool.work(1, 41, 151);
    pool.now_ms += 60_000;
    pool.tell(Event::Tick);
    pool.judge(Verdict::Same);
    assert!(pool.manager.miners()[&id(1)].is_proven && macs(&pool, 1) > 0, "the next one is drawn, and proves both");
}

#[test]
fn names_that_come_for_one_result_do_not_fill_the_pool_for_ever() {
    let mut pool = Pool::new(2);
    pool.manager.params.max_miners = 2;
    for miner in [1, 2] {
        pool.manager.miners.get_mut(&id(miner)).unwrap().is_proven = false;
        pool.work(miner, 40 + u32::from(miner), 160);
        pool.ask(miner, Ask::Leave);
    }
    let hello = Ask::Hello { version: VERSION, account: AccountId([3; 32]) };
    assert!(matches!(pool.ask(3, hello.clone()), Reply::Refused { refusal: Refusal::Full, .. }), "both are owed");
    let workload = pool.manager.search().unwrap().interval.workload.clone();
    for height in 2..=6 {
        pool.now_ms += pool.manager.params.train_ms + 1;
        pool.begin(height, &workload, None);
    }
    assert!(matches!(pool.ask(3, hello), Reply::Welcome { .. }));
}

#[test]
fn a_long_task_has_room_for_results_to_its_end() {
    let mut memory = TaskMemory::new(Hash32([1; 32]));
    let root = |n: u32| blake3::hash(&n.to_le_bytes());
    let mut note = |n: u32| memory.note_submitted(id(1), Hash32(*root(n).as_bytes()), Hash32::ZERO, false);
    assert!((0..(1 << 16) + 10).all(&mut note), "new ones are taken");
    assert!(!note(20), "those that are not long ago are known");
    assert!(note(5), "the oldest are forgotten");
}

#[test]
fn that_a_manager_was_away_is_nobodys_fault() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    pool.now_ms += 1000;
    let bytes = postcard::to_stdvec(&pool.manager).unwrap();
    pool.manager = postcard::from_bytes(&bytes).unwrap();
    pool.now_ms += 20_000;
    pool.manager.resume(pool.now_ms, |_| false);
    pool.tell(Event::Tick);
    let share = pool.share(&lease, 40);
    assert_eq!(pool.submit(1, &share), None, "its lease goes on");
    assert!(pool.manager.miners()[&id(1)].is_reliable());
}

#[test]
fn states_of_replays_are_asked_for_again_after_a_restart() {
    let (mut pool, lease) = Pool::with_own_base();
    let mut share = pool.share(&lease, 45);
    share.states.start = end_of(&lease);
    let state = pool.wanted(1, Ask::Submit { share, is_model: true }).expect("a state is wanted");
    pool.now_ms += 10_000;
    pool.tell(Event::StateArrived { miner: id(1), root: state.root });
    assert_eq!(pool.wanted(1, Ask::Chunk), None, "it is there");
    let effects = pool.manager.resume(pool.now_ms, |root| *root == state.root);
    assert!(effects.iter().any(|e| matches!(e, Effect::Audit { .. })), "it is still there: {effects:?}");
    assert_eq!(pool.wanted(1, Ask::Chunk), None);
    let effects = pool.manager.resume(pool.now_ms, |_| false);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Audit { .. })), "{effects:?}");
    assert_eq!(pool.wanted(1, Ask::Chunk), Some(state));
    let hello = Ask::Hello { version: VERSION, account: AccountId([1; 32]) };
    let Reply::Welcome { audit, .. } = pool.ask(1, hello) else { panic!("no welcome") };
    assert_eq!(audit, Some(state), "who comes back hears of it at once");
}

#[test]
fn a_calibration_alone_makes_nobody_much_faster_than_all_others() {
    let mut pool = Pool::new(1);
    pool.work(1, 40, 150);
    // Its lease takes no more results: the verified speed is known.
    wait(&mut pool, 20_000);
    let known = pool.manager.miners()[&id(1)].rating.speed_macs_s;
    let hello = Ask::Hello { version: VERSION, account: AccountId([2; 32]) };
    let Reply::Welcome { calibrate: Some(mut job), .. } = pool.ask(2, hello) else { panic!("no calibration") };
    // Somebody else has worked out the answers.
    while let Reply::CalibrateAgain(longer) = pool.ask(2, Ask::Calibrated { seed: job.seed, digest: Hash32([7; 32]) }) {
        job = longer;
    }
    let record = &pool.manager.miners()[&id(2)];
    assert!(record.calibrated_macs_s > known * 4 && record.calibrated_macs_s <= known * 8, "{known}: {record:?}");
}

#[test]
fn a_replay_comes_to_an_end_however_fast_its_miner_is_said_to_be() {
    let mut pool = Pool::new(3);
    let (strong, weak) = strong_and_weak(&pool);
    let best = pool.work(strong, 40, 150);
    pool.manager.miners.get_mut(&id(weak)).unwrap().rate_macs_s = u64::MAX / 100_000;
    let Reply::Lease { lease, .. } = pool.ask(weak, Ask::Lease) else { panic!("no lease") };
    assert_eq!(lease.work[0].base, Some(best.artefact));
    let full = u64::from(crate::manager::assign::train_images(pool.manager.search().unwrap())) * 30;
    assert_eq!(lease.work[0].images, full);
}

#[test]
fn a_cancelled_lease_leaves_its_other_networks_free() {
    let mut pool = Pool::new(1);
    let Reply::Lease { lease, .. } = pool.ask(1, Ask::Lease) else { panic!("no lease") };
    assert!(lease.work.len() > 1);
    let units = pool.manager.leases().get(lease.id).unwrap().units.clone();
    // Another lease, a backup's, brings the last result of the first network.
    let done = crate::lease::Done { seen_images: 1, left_images: 0, last: None };
    pool.manager.unit_progressed(LeaseId(u64::MAX), units[0], done);
    assert_eq!(pool.manager.unit_counts().cancelled, 1);
    assert!(pool.manager.unit(units[1]).unwrap().holders.is_empty());
}

#[test]
fn an_artefact_that_is_no_model_is_refused_before_anyone_can_go_on_from_it() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let share = pool.share(&lease, 1);
    let junk = Ask::Submit { share, is_model: false };
    assert!(matches!(pool.ask(1, junk), Reply::Refused { refusal: Refusal::Malformed, .. }));
    assert_eq!(pool.manager.miners()[&id(1)].rejected, 1);
}

#[test]
fn a_large_state_has_the_time_that_a_slow_line_takes() {
    let mut params = PoolParams::for_chain(&ChainSpec::load("testnet").unwrap(), AccountId([9; 32]));
    params.train_ms = 600_000;
    let upload_ms = |params: &PoolParams, bytes| params.upload_ms(bytes) - params.audits.upload_ms;
    assert_eq!((upload_ms(&params, 0), upload_ms(&params, 1_250_000)), (0, 10_000));
    assert!(upload_ms(&params, crate::training::STATE_BYTES) >= 120_000);
    params.train_ms = 40_000;
    assert_eq!(params.upload_ms(u64::MAX), 40_000, "the interval's data are not kept longer");
    params.train_ms = 1000;
    assert_eq!(params.upload_ms(u64::MAX), params.audits.upload_ms);
}
