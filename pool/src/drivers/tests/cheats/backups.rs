//! Two miners on one network: what a backup, and whoever lost to it, could claim of the other's work.

use super::*;
use crate::types::{Lease, Purpose};

/// A pool in which miner 1 has handed in and proved a third of a network, and is silent since; and a fast miner 2 that
/// has proved some work, which comes last.
fn with_silent(pool: &Pool) -> (Client<'_>, Client<'_>, Lease, Step, u64) {
    pool.begin(1, 60_000);
    let mut silent = Client::join(pool, 1, SPEED);
    let mut backup = Client::join(pool, 2, SPEED * 2);
    let (steps, lease) = (backup.work(), silent.lease());
    let step = silent.train(&lease, 0, lease.work[0].images / 3);
    pool.pass(silent.ms(&step));
    assert_eq!(silent.submit(&step), None);
    pool.settle();
    let before = backup.sum(&steps);
    (silent, backup, lease, step, before)
}

/// The lease under which the backup goes on with the silent miner's network, and which of its networks that is.
fn take_over(pool: &Pool, backup: &mut Client<'_>, step: &Step) -> (Lease, usize) {
    let lease = backup.lease();
    assert_eq!(lease.purpose, Purpose::Backup);
    let index = lease.work.iter().position(|work| work.base == Some(step.share.artefact)).expect("the network");
    pool.pass(400);
    (lease, index)
}

#[test]
fn a_backup_is_paid_for_its_own_part_alone() {
    let pool = Pool::new(1);
    let (silent, mut backup, _, step, before) = with_silent(&pool);
    pool.pass(3000);
    let (lease, index) = take_over(&pool, &mut backup, &step);
    let mut whole = step.clone();
    whole.share.lease = lease.id;
    assert_eq!(backup.submit(&whole), Some(Refusal::OutsideLease), "the other's work as one's own");
    whole.share.base = Some(step.share.artefact.root);
    whole.share.left_permille = (lease.left_permille, lease.left_after_permille);
    assert_eq!(backup.submit(&whole), Some(Refusal::NotNovel), "and as the continuation of itself");
    let left = lease.work[index].images;
    let more = backup.train(&lease, index, left + 256);
    assert_eq!(backup.submit(&more), Some(Refusal::OverBudget), "more than is left of the network");
    let rest = backup.train(&lease, index, left);
    assert_eq!(backup.submit(&rest), None);
    pool.settle();
    assert_eq!((pool.window_macs(1), pool.window_macs(2)), (silent.macs(&step), before + backup.macs(&rest)));
    assert_eq!(pool.audits().failed, 0);
}

#[test]
fn whoever_lost_to_a_backup_is_paid_for_verified_steps_alone() {
    for claims_rest in [false, true] {
        let pool = Pool::new(2);
        let (mut loser, mut backup, first, step, before) = with_silent(&pool);
        // Two heartbeats are missing, the third is not.
        pool.pass(2000);
        let (lease, index) = take_over(&pool, &mut backup, &step);
        let rest = backup.train(&lease, index, lease.work[index].images);
        assert_eq!(backup.submit(&rest), None);
        pool.settle();
        let progress = Request::Progress { lease: first.id, done_macs: u64::MAX };
        assert!(matches!(loser.ask(&progress), Reply::Ack { go_on: false, .. }));
        assert_eq!(pool.window_macs(1), loser.macs(&step), "a report of progress is no work");
        if claims_rest {
            let mut claim = loser.go_on(&first, 0, 32, &step);
            claim.share.images = first.work[0].images - step.share.images;
            claim.share.ordered = claim.share.images;
            assert_eq!(loser.submit(&claim), None, "its count is right");
            pool.until("the replay", || pool.audits().failed > 0);
            assert_eq!(loser.refusal(&Request::Lease), Some(Refusal::Suspended));
        } else {
            pool.pass(2000);
            let late = loser.go_on(&first, 0, 32, &step);
            assert!(matches!(loser.submit(&late), Some(Refusal::Late | Refusal::NoLease)));
        }
        let kept = if claims_rest { 0 } else { loser.macs(&step) };
        assert_eq!((pool.window_macs(1), pool.window_macs(2)), (kept, before + backup.macs(&rest)));
    }
}
