//! What a result says: its count, its lease, its pool, its interval, its network, its base.

use std::collections::BTreeSet;

use super::*;
use crate::manager::architecture_name;
use crate::types::{Assignment, Lease, Purpose};

/// A pool in which all miners explore.
fn exploring(seed: u8) -> Pool {
    Pool::with(seed, |params| {
        params.exploit = false;
        // These miners only say that they are there, not how far they are, and so would seem to need a backup.
        params.backups_permille = 0;
    })
}

#[test]
fn an_inflated_count_is_found_out_by_the_integer_engine() {
    let pool = Pool::new(1);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let lease = cheater.lease();
    let mut step = cheater.train(&lease, 0, lease.work[0].images);
    pool.pass(cheater.ms(&step));
    step.share.correct += 1;
    assert_eq!(cheater.submit(&step), None, "believed until it is counted");
    pool.until("the count", || pool.standing(2).rejected > 0);
    is_punished(&pool, &cheater, honest_macs);
    assert!(!pool.elite_roots().contains(&step.share.artefact.root));
}

#[test]
fn a_result_counts_under_its_own_lease_only() {
    let pool = Pool::new(2);
    let (mut honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let (theirs, own) = (honest.lease(), cheater.lease());
    let done = honest.train(&theirs, 0, theirs.work[0].images);
    pool.pass(honest.ms(&done));
    assert_eq!(cheater.submit(&done), Some(Refusal::NoLease), "the other's lease");
    let mut relabelled = done.clone();
    relabelled.share.lease = own.id;
    assert_eq!(cheater.submit(&relabelled), Some(Refusal::OutsideLease), "the other's network");
    assert_eq!(honest.submit(&done), None, "nothing of it is in the way of whose it is");
    pool.settle();
    assert_eq!(pool.window_macs(1), honest_macs + honest.macs(&done));
    assert_eq!(pool.window_macs(2), 0);
}

#[test]
fn a_result_is_sold_to_one_pool_only() {
    let pools = [Pool::new(3), Pool::new(4)];
    pools.iter().for_each(|pool| pool.begin(1, 60_000));
    let [mut here, mut there] = pools.each_ref().map(|pool| Client::join(pool, 2, SPEED));
    let (lease, other) = (here.lease(), there.lease());
    let same = |work: &Assignment| other.work.iter().position(|w| w.architecture == work.architecture);
    // Both pools begin with networks that are known to learn fast, so that one of them is leased by both.
    let shared = lease.work.iter().enumerate().find_map(|(mine, work)| Some((mine, same(work)?)));
    let (mine, theirs) = shared.expect("a network that both pools lease");
    let step = here.train(&lease, mine, lease.work[mine].images.min(other.work[theirs].images));
    pools.iter().for_each(|pool| pool.pass(here.ms(&step)));
    assert_eq!(here.submit(&step), None);
    let mut again = step.clone();
    again.share.lease = other.id;
    again.share.left_permille = (other.left_permille, other.left_after_permille);
    assert_eq!(there.submit(&again), None, "the count is right");
    pools.iter().for_each(|pool| pool.settle());
    assert_eq!(pools[0].window_macs(2), here.macs(&step));
    assert_eq!(pools[1].audits().failed, 1, "it is not trained from the seed of that pool's lease");
    assert_eq!(pools[1].window_macs(2), 0);
    assert_eq!(there.refusal(&Request::Lease), Some(Refusal::Suspended));
}

#[test]
fn a_result_of_an_old_interval_is_late() {
    let pool = Pool::new(5);
    let (mut honest, honest_macs) = with_honest(&pool);
    let lease = honest.lease();
    let step = honest.train(&lease, 0, lease.work[0].images);
    pool.begin(2, 60_000);
    assert_eq!(honest.submit(&step), Some(Refusal::Late));
    let next = honest.lease();
    let mut relabelled = step.clone();
    relabelled.share.lease = next.id;
    let same = next.work.iter().any(|work| work.architecture == step.share.architecture);
    assert!(same || honest.submit(&relabelled) == Some(Refusal::OutsideLease));
    assert_eq!(pool.window_macs(1), honest_macs);
}

#[test]
fn a_model_is_paid_once() {
    let pool = Pool::new(6);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let lease = cheater.lease();
    let step = cheater.train(&lease, 0, lease.work[0].images / 2);
    pool.pass(cheater.ms(&step));
    assert_eq!(cheater.submit(&step), None);
    assert_eq!(cheater.submit(&step), Some(Refusal::OutsideLease), "its network goes on from that model now");
    let mut continued = step.clone();
    continued.share.base = Some(step.share.artefact.root);
    assert_eq!(cheater.submit(&continued), Some(Refusal::NotNovel), "as its own continuation");
    pool.settle();
    assert_eq!((pool.window_macs(1), pool.window_macs(2)), (honest_macs, cheater.macs(&step)));
}

#[test]
fn the_model_of_another_is_no_result() {
    let pool = Pool::new(12);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    cheater.work();
    pool.settle();
    // Exploration is over: the honest miner's best is what others go on from.
    pool.pass(25_000);
    let lease = cheater.lease();
    let base = lease.work[0].base.expect("a confirmed network");
    assert_eq!(lease.purpose, Purpose::Exploit);
    let mut copy = cheater.train(&lease, 0, lease.work[0].images);
    copy.bytes = pool.manager.blob(&base.root).unwrap().to_vec();
    copy.share.artefact = base;
    pool.pass(cheater.ms(&copy));
    // Training can end at the integers that it began at, so that only a replay tells.
    assert_eq!(cheater.submit(&copy), None);
    pool.until("the replay", || pool.audits().failed > 0);
    is_punished(&pool, &cheater, honest_macs);
    assert!(pool.elite_roots().contains(&base.root), "it stays the model of who trained it");
}

#[test]
fn what_was_trained_is_leased_to_nobody_again_under_no_name() {
    let pool = exploring(7);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut known = BTreeSet::new();
    let mut first = Client::join(&pool, 2, SPEED);
    let steps = first.work();
    known.extend(steps.iter().map(|step| architecture_name(&step.share.architecture)));
    // The same machine under a second name, which has the weights already.
    let (mut second, mut paid) = (Client::join(&pool, 3, SPEED), 0);
    for _ in 0..3 {
        let own = second.work();
        assert!(own.iter().all(|step| known.insert(architecture_name(&step.share.architecture))), "leased twice");
        let mut again = steps[0].clone();
        again.share.lease = own[0].share.lease;
        assert_eq!(second.submit(&again), Some(Refusal::OutsideLease), "what the first name has trained");
        paid += second.sum(&own);
    }
    pool.settle();
    assert_eq!((pool.window_macs(1), pool.audits().failed), (honest_macs, 0));
    assert_eq!((pool.window_macs(2), pool.window_macs(3)), (first.sum(&steps), paid));
}

#[test]
fn a_stale_base_is_found_out() {
    // It says that it began at the artefact of the base, or where the base's training ended.
    for says_end in [false, true] {
        let pool = Pool::new(8);
        let (_honest, honest_macs) = with_honest(&pool);
        let mut cheater = Client::join(&pool, 2, SPEED);
        let lease = cheater.lease();
        let images = lease.work[0].images / 3;
        let first = cheater.train(&lease, 0, images);
        let second = cheater.go_on(&lease, 0, images, &first);
        let stale = cheater.go_on(&lease, 0, images, &first);
        pool.pass(cheater.ms(&first) * 3);
        assert_eq!((cheater.submit(&first), cheater.submit(&second)), (None, None));
        assert_eq!(cheater.submit(&stale), Some(Refusal::OutsideLease), "a base that the lease does not name");
        // The same from a second base, with other bits.
        let mut stale = cheater.train_from(&lease, 0, images, Some((first.share.artefact, None)));
        stale.share.base = Some(second.share.artefact.root);
        if says_end {
            stale.share.states.start = second.share.states.end;
            // It has that state, too.
            stale.start = cheater.go_on(&lease, 0, 32, &second).start;
        }
        assert_eq!(cheater.submit(&stale), None);
        pool.until("the replay", || pool.audits().failed > 0);
        is_punished(&pool, &cheater, honest_macs);
    }
}

#[test]
fn skipped_networks_come_first_in_the_next_lease() {
    let pool = exploring(9);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let lease = cheater.lease();
    assert!(lease.work.len() > 1, "{lease:?}");
    let last = lease.work.len() - 1;
    let picked = cheater.train(&lease, last, lease.work[last].images);
    pool.pass(cheater.ms(&picked));
    assert_eq!(cheater.submit(&picked), None);
    pool.settle();
    assert_eq!(pool.window_macs(2), cheater.macs(&picked), "paid for what it trained, and no more");
    let mut other = picked.clone();
    other.share.architecture.layers[0].filters += 1;
    assert_eq!(cheater.submit(&other), Some(Refusal::OutsideLease), "a network of its own");
    let next = cheater.lease();
    let networks = |lease: &Lease| lease.work.iter().map(|w| w.architecture.clone()).collect::<Vec<_>>();
    assert!(networks(&next).starts_with(&networks(&lease)[..1]), "what it skipped waits for it");
    assert_eq!(pool.window_macs(1), honest_macs);
}

#[test]
fn a_better_model_that_is_kept_for_oneself_is_found_missing() {
    let pool = exploring(10);
    let (_honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let lease = cheater.lease();
    let best = cheater.train(&lease, 0, lease.work[0].images);
    // What the same training had reached before its end is handed in as its end.
    let worse = underwork(&mut cheater, &lease);
    assert_ne!(worse.share.artefact, best.share.artefact);
    pool.pass(cheater.ms(&best));
    assert_eq!(cheater.submit(&worse), None, "its count is right");
    pool.until("the replay", || pool.audits().failed > 0);
    is_punished(&pool, &cheater, honest_macs);
    assert!(!pool.elite_roots().contains(&worse.share.artefact.root));
}
