//! Whole chains: calm running, siblings, reorgs, restarts, pruning, availability.

mod forks;

use std::sync::Arc;

use podl_chain_spec::Amount;

use super::*;
use crate::codec;
use crate::rules::{BlockError, ContextError, WorkRuleError};
use crate::state::{MemoryStore, TaskPhase, check_supply, genesis_checkpoint, genesis_delta, verify_proof};
use crate::state::{StateKey, StateProof};
use crate::testkit::{Blobs, FakeVerifier, Harness, account, small_spec};
use crate::types::{Payment, TransactionKind};

fn harness() -> Harness {
    Harness::new(small_spec(4, 8))
}

#[test]
fn in_calm_every_block_is_final_two_heights_later_and_the_store_follows() {
    let mut h = harness();
    let mut head = h.genesis();
    for height in 1..=20u64 {
        head = h.advance(head, 4 + height % 4, 50, vec![]);
        let expected = height.saturating_sub(2);
        assert_eq!(h.chain.finalised().height, expected);
        assert_eq!(h.chain.stored(), h.chain.finalised());
        assert_eq!(h.chain.blocks().count() as u64, height - expected);
        check_supply(h.chain.store().values()).unwrap();
    }
    let meta = h.meta(head);
    // Four filler winners in turn hold all the seats by now.
    assert!((4..8).all(|n| meta.seats.is_seat(&account(n))));
    assert!(meta.seats_log.len() <= 4 && meta.justified_log.len() <= 4 && meta.winners.len() <= 3);
    assert_eq!(meta.supply.0, meta.minted.0 + h.chain.spec().genesis_supply().0 - meta.burned.0);
}

#[test]
fn siblings_share_a_height_and_reorgs_only_move_a_pointer() {
    let mut h = harness();
    let first = h.advance(h.genesis(), 4, 50, vec![]);
    let pay = |h: &Harness, to: u64| {
        let payment = Payment { to: account(to), amount: Amount(7) };
        h.transaction(7, 0, TransactionKind::Transfer(payment))
    };
    let (left, right) = (vec![pay(&h, 20)], vec![pay(&h, 21)]);
    let a = h.advance(first, 5, 60, left);
    let b = h.advance(first, 6, 61, right);
    let (a2, b2) = (h.advance(a, 4, 50, vec![]), h.advance(b, 4, 50, vec![]));
    for (block, to, not_to) in [(a2, 20, 21), (b2, 21, 20)] {
        assert_eq!(h.account(block, to).balance, Amount(7));
        assert!(h.account(block, not_to).is_empty());
        assert_eq!(h.account(block, 7).nonce, 1);
    }
    // Block 3 on either branch makes block 1 final; one more on b prunes a.
    assert_eq!(h.chain.finalised().block, first);
    let last = h.advance(b2, 4, 50, vec![]);
    assert_eq!(h.chain.finalised().block, b);
    assert!(!h.chain.contains(&a) && !h.chain.contains(&a2) && h.chain.contains(&last));
    assert_eq!(h.account(last, 21).balance, Amount(7));
}

#[test]
fn finality_reports_what_it_made_final_and_what_it_pruned() {
    let mut h = harness();
    let first = h.advance(h.genesis(), 4, 50, vec![]);
    let loser = h.advance(h.genesis(), 5, 49, vec![]);
    let second = h.advance(first, 5, 50, vec![]);
    let parts = h.parts(second);
    let block = h.scored(second, 6, 50, parts);
    let imported = h.import(block).unwrap();
    assert_eq!(imported.newly_final.iter().map(|b| (b.hash, b.height)).collect::<Vec<_>>(), [(first, 1)]);
    assert_eq!(imported.pruned.iter().map(|block| block.hash()).collect::<Vec<_>>(), [loser]);
    let parts = crate::chain::BlockParts::default();
    let late = h.chain.build_idle(loser, account(0), 0, parts, None);
    assert!(matches!(late, Err(BuildError::UnknownParent(hash)) if hash == loser));
}

#[test]
fn a_restart_from_persisted_deltas_reads_and_builds_the_same() {
    let mut h = harness();
    let mut store = MemoryStore::default();
    store.apply(&genesis_delta(h.chain.spec()).unwrap());
    let (task, mut head) = h.open_task(h.genesis(), 7, 3);
    for owner in [4, 5, 6, 4] {
        head = h.advance(head, owner, 20 + u32::try_from(owner).unwrap() * 5 + u32::from(owner == 4), vec![]);
        if h.interval(head).is_filler() {
            break;
        }
    }
    let sibling = h.idle(h.chain.block(&head).unwrap().block.parent(), 1, None, Default::default());
    let sibling = h.import(sibling).unwrap().hash;
    let mut persisted: Vec<_> = h.chain.blocks().map(|(_, b)| b.clone()).collect();
    persisted.sort_by_key(|b| b.block.height());
    let bytes: Vec<_> = persisted.iter().map(|b| (codec::encode(&**b.block), codec::encode(&*b.delta))).collect();
    let decoded = bytes
        .iter()
        .map(|(block, delta)| (codec::decode(block, 1 << 22).unwrap(), codec::decode(delta, 1 << 22).unwrap()));
    let again = Chain::open(h.chain.spec().clone(), h.chain.store().clone(), h.chain.stored(), decoded).unwrap();
    assert_eq!(again.finalised(), h.chain.finalised());
    for hash in [head, sibling] {
        assert_eq!(again.meta(&hash), h.chain.meta(&hash));
        assert_eq!(again.interval_context(&hash).unwrap(), h.chain.interval_context(&hash).unwrap());
        let (value, proof) = again.state(&hash).unwrap().prove(StateKey::TaskStatus(task)).unwrap();
        let root = again.block(&hash).unwrap().delta.root;
        verify_proof(root, StateKey::TaskStatus(task), value.as_deref(), &proof).unwrap();
        assert_eq!(StateProof::from_bytes(&proof.to_bytes()).unwrap(), proof);
    }
    let parts = h.parts(head);
    let block = h.scored(head, 5, 50, parts);
    let mut again = again;
    let there = again.import(block.clone(), &h.blobs, &FakeVerifier).unwrap();
    let here = h.import(block).unwrap();
    assert_eq!((there.hash, &there.delta, there.pruned), (here.hash, &here.delta, here.pruned));
}

#[test]
fn persisted_blocks_that_do_not_follow_are_refused() {
    let mut h = harness();
    let first = h.advance(h.genesis(), 4, 50, vec![]);
    let entry = h.chain.block(&first).unwrap().clone();
    let (spec, genesis) = (h.chain.spec().clone(), genesis_checkpoint(h.chain.spec()));
    let open = |block: &Block, delta: StateDelta| {
        Chain::open(spec.clone(), h.chain.store().clone(), genesis, [(block.clone(), delta)]).map(drop)
    };
    open(&entry.block, (*entry.delta).clone()).unwrap();
    let other_root = StateDelta { root: Hash32([1; 32]), ..(*entry.delta).clone() };
    assert!(matches!(open(&entry.block, other_root), Err(StateError::Corrupt { .. })));
    let mut orphan = (**entry.block).clone();
    orphan.header.message.parent = Hash32([9; 32]);
    assert!(matches!(open(&orphan, (*entry.delta).clone()), Err(StateError::Corrupt { .. })));
    let ahead = Checkpoint { height: 5, block: first };
    assert!(Chain::open(spec.clone(), h.chain.store().clone(), ahead, []).is_err());
}

#[test]
fn reads_are_the_same_before_and_after_folding() {
    let mut h = harness();
    let mut head = h.genesis();
    for owner in [4, 5, 6, 7, 4, 5] {
        let parts = h.parts(head);
        let block = h.scored(head, owner, 50, parts);
        head = h.chain.import(block, &h.blobs, &FakeVerifier).unwrap().hash;
    }
    assert_eq!((h.chain.stored().height, h.chain.finalised().height, h.chain.unfolded().len()), (0, 4, 4));
    let read = |h: &Harness| (4..8).map(|n| h.account(head, n)).collect::<Vec<_>>();
    let before = read(&h);
    let proof = h.chain.state(&head).unwrap().prove(StateKey::Account(account(5))).unwrap();
    h.fold();
    assert_eq!((h.chain.stored(), h.chain.unfolded().len()), (h.chain.finalised(), 0));
    assert_eq!(read(&h), before);
    assert_eq!(h.chain.state(&head).unwrap().prove(StateKey::Account(account(5))).unwrap(), proof);
    check_supply(h.chain.store().values()).unwrap();
}

#[test]
fn a_checked_block_can_come_too_late() {
    let mut h = harness();
    let first = h.advance(h.genesis(), 4, 50, vec![]);
    let parts = h.parts(first);
    let slow = h.scored(first, 7, 10, parts);
    let slow = h.chain.prepare_import(h.chain.verify(slow).unwrap()).unwrap();
    let mut head = first;
    for owner in [4, 5, 6] {
        head = h.advance(head, owner, 50, vec![]);
    }
    let checked = slow.check_work(&h.blobs, &FakeVerifier).unwrap();
    assert_eq!(checked.work().unwrap().correct, 10);
    let error = h.chain.commit(checked.clone()).unwrap_err();
    assert!(matches!(error, BlockError::NotAboveFinal { height: 2, final_height: 2, .. }), "{error}");
    let orphan = h.idle(head, 0, None, Default::default());
    let child = {
        let mut other = harness();
        let mut parent = other.genesis();
        for _ in 0..5 {
            parent = other.advance(parent, 5, 33, vec![]);
        }
        other.idle(parent, 0, None, Default::default())
    };
    assert!(matches!(h.import(child), Err(BlockError::UnknownParent { .. })));
    h.import(orphan.clone()).unwrap();
    assert!(matches!(h.import(orphan), Err(BlockError::Known(_))));
}

#[test]
fn a_block_whose_blobs_are_missing_is_not_invalid() {
    let mut h = harness();
    let parts = h.parts(h.genesis());
    let block = h.scored(h.genesis(), 4, 50, parts);
    let root = match &block.body.outcome {
        crate::types::Outcome::Scored { opening, .. } => opening.model_root,
        _ => unreachable!("a scored block"),
    };
    let prepared = h.chain.prepare_import(h.chain.verify(block.clone()).unwrap()).unwrap();
    assert_eq!(prepared.job().unwrap().blobs()[0].root, root);
    let error = prepared.clone().check_work(&Blobs::default(), &FakeVerifier).unwrap_err();
    assert_eq!(error, BlockError::NotAvailable(root));
    assert_eq!(error.blame(), crate::rules::Blame::Nobody);
    // Damaged bytes count as absent, too.
    let damaged = |_: &crate::types::BlobRoot| Some(Arc::new(vec![1u8; 24]));
    assert_eq!(prepared.clone().check_work(&damaged, &FakeVerifier).unwrap_err(), BlockError::NotAvailable(root));
    h.import(block).unwrap();
}

#[test]
fn work_can_be_checked_on_another_thread() {
    let mut h = harness();
    let parts = h.parts(h.genesis());
    let block = h.scored(h.genesis(), 4, 50, parts);
    let prepared = h.chain.prepare_import(h.chain.verify(block).unwrap()).unwrap();
    let blobs = h.blobs.clone();
    let checked = std::thread::spawn(move || prepared.check_work(&blobs, &FakeVerifier)).join().unwrap().unwrap();
    h.chain.commit(checked).unwrap();
}

#[test]
fn a_pause_of_finality_does_not_make_the_meta_grow() {
    let mut h = harness();
    let mut head = h.genesis();
    let mut bytes = 0;
    for height in 1..=40u64 {
        // Only two of four seats are heard: a majority, no quorum.
        let votes = h.votes(head, &[]).into_iter().take(2).collect();
        let block = h.idle(head, 0, None, BlockParts { votes, ..BlockParts::default() });
        head = h.import(block).unwrap().hash;
        if height == 5 {
            bytes = codec::encode(&*h.meta(head)).len();
        }
    }
    assert_eq!(h.chain.finalised().height, 0);
    assert!(codec::encode(&*h.meta(head)).len() <= bytes + 8);
    // A certificate for the parent's parent and votes on the parent finalise all of it at once.
    let parent = h.chain.block(&head).unwrap().block.parent();
    let certificate = Some(Harness::certificate(h.votes(parent, &[])));
    let parts = BlockParts { certificate, ..h.parts(head) };
    let block = h.idle(head, 0, None, parts);
    head = h.import(block).unwrap().hash;
    let next = h.advance(head, 4, 50, vec![]);
    assert_eq!(h.chain.finalised().height, 40);
    assert_eq!(h.meta(next).justified.block, head);
}

#[test]
fn a_task_runs_its_rounds_each_with_its_own_shard_and_ends() {
    let mut h = harness();
    let before = h.account(h.genesis(), 7).total().unwrap();
    let (task, mut head) = h.open_task(h.genesis(), 7, 2);
    let reward = h.chain.spec().money.min_reward;
    let interval = h.interval(head);
    assert_eq!((interval.task, interval.round, interval.is_filler()), (task, 1, false));
    head = h.advance(head, 4, 20, vec![]);
    let second = h.interval(head);
    assert_ne!(second.key_hash(), interval.key_hash());
    assert_eq!(second.published.as_ref().unwrap().min_gain, 1);
    // Last round's winner, or one no better, cannot win again.
    let parts = h.parts(head);
    let copy = h.scored(head, 5, 20, parts);
    let error = h.import(copy).unwrap_err();
    assert_eq!(error, WorkRuleError::MinGain { got: 20, baseline: 20, need: 21 }.into());
    head = h.advance(head, 5, 21, vec![]);
    let status = h.chain.state(&head).unwrap().task_status(&task).unwrap().unwrap();
    assert_eq!((status.phase, status.escrow, status.bond), (TaskPhase::Done, Amount(0), Amount(0)));
    assert_eq!(status.last_winner.unwrap().correct, 21);
    assert!(h.interval(head).is_filler());
    // The publisher paid two rewards and a fee, and got its bond back.
    let spent = before.0 - h.account(head, 7).total().unwrap().0;
    assert!(spent > 2 * reward.0 && spent < 2 * reward.0 + 200_000, "spent {spent}");
}

#[test]
fn a_withheld_key_voids_the_task_and_burns_the_bond() {
    let mut h = harness();
    let (task, head) = h.open_task(h.genesis(), 7, 2);
    let round = h.commit(head, 4, 20);
    let burned = h.meta(head).burned;
    let before = h.account(head, 7).balance;
    let nobody = h.void(head, 0, &[], BlockParts::default());
    assert_eq!(h.import(nobody).unwrap_err(), ContextError::VoidUnlisted.into());
    let block = h.void(head, 2, &[round], BlockParts::default());
    let head = h.import(block).unwrap().hash;
    let status = h.chain.state(&head).unwrap().task_status(&task).unwrap().unwrap();
    let reward = h.chain.spec().money.min_reward;
    assert_eq!((status.phase, status.held()), (TaskPhase::Void, Some(Amount(0))));
    assert_eq!(h.meta(head).burned.0 - burned.0, reward.0);
    assert_eq!(h.account(head, 7).balance.0 - before.0, 2 * reward.0);
}

#[test]
fn an_idle_block_with_the_key_spends_the_round_unwon() {
    let mut h = harness();
    let (task, head) = h.open_task(h.genesis(), 7, 2);
    let before = h.account(head, 7).balance;
    let untouched = h.idle(head, 0, None, BlockParts::default());
    let untouched = h.import(untouched).unwrap().hash;
    assert_eq!(h.interval(untouched).round, 1);
    let key = h.shard_key(&h.interval(head));
    let spent = h.idle(head, 1, key, BlockParts::default());
    let spent = h.import(spent).unwrap().hash;
    assert_eq!(h.interval(spent).round, 2);
    let status = h.chain.state(&spent).unwrap().task_status(&task).unwrap().unwrap();
    assert_eq!((status.phase, status.last_winner), (TaskPhase::Active, None));
    let reward = h.chain.spec().money.min_reward;
    let burn = reward.percent(20).max(h.chain.spec().money.burn_min);
    assert_eq!(h.account(spent, 7).balance.0 - before.0, reward.0 - burn.0);
}
