//! Several blocks of one producer on one parent, from gossip and from sync.

use std::sync::Arc;

use podl_consensus::interval::Event;
use podl_consensus::signed::Signature;
use podl_consensus::testkit::{small_spec, unchecked};
use podl_consensus::types::Block;
use podl_network::{PeerId, Verdict};

use super::Bed;
use podl_engine::wire::Gossip;

/// Differing valid idle blocks of the seat whose turn it is on genesis.
fn twins(bed: &Bed, count: u64) -> Vec<Block> {
    let genesis = bed.h.genesis();
    let first_ms = bed.h.chain.spec().genesis.time_ms + 60_000;
    let twin = |n| {
        let parts = podl_consensus::chain::BlockParts { time_ms: first_ms + n, ..bed.h.parts(genesis) };
        bed.h.idle(genesis, 0, None, parts)
    };
    (0..count).map(twin).collect()
}

#[test]
fn gossip_takes_two_and_blames_who_goes_on() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let (blocks, peer, other) = (twins(&bed, 7), bed.peer, PeerId::random());
    let mut judged = Vec::new();
    for block in &blocks {
        let gossip = Gossip::Block(Box::new(block.clone()));
        let (verdict, event) = bed.core().judge(gossip, peer);
        judged.push((verdict, event.is_some()));
    }
    let (taken, left, blamed) = ((Verdict::Accept, true), (Verdict::Ignore, false), (Verdict::Reject, false));
    assert_eq!(judged, [taken, taken, left, left, blamed, blamed, blamed]);
    // Somebody else who passes on the third is not to blame.
    assert_eq!(bed.core().judge(Gossip::Block(Box::new(blocks[2].clone())), other).0, Verdict::Ignore);
    // Nor is a block that another signed counted against this producer: nobody can use up another's places.
    let mut forged = blocks[6].clone();
    forged.header.signature = Signature([1; 64]);
    assert_eq!(bed.core().judge(Gossip::Block(Box::new(forged)), other).0, Verdict::Reject);
}

#[test]
fn a_block_out_of_turn_is_refused_before_it_takes_a_place() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let genesis = bed.h.genesis();
    let producer = podl_consensus::testkit::account(12);
    let built = bed.h.chain.build_idle(genesis, producer, 0, bed.h.parts(genesis), None).unwrap();
    let block = built.sign(bed.h.key_of(&producer));
    let peer = bed.peer;
    let (verdict, event) = bed.core().judge(Gossip::Block(Box::new(block)), peer);
    assert_eq!((verdict, event.is_some()), (Verdict::Reject, false));
}

#[test]
fn sync_executes_two_of_one_producer() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let taken: Vec<bool> = twins(&bed, 5).into_iter().map(|block| bed.deliver(&[block])).collect();
    assert_eq!(taken, [true, true, false, false, false]);
    assert_eq!(bed.core().view.chain.blocks().count(), 2);
    // Blocks that were found at a start count as well.
    bed.restart();
    let later = twins(&bed, 6).remove(5);
    assert!(!bed.deliver(&[later]));
}

#[test]
fn sync_follows_a_chain_that_went_on_over_a_third_twin() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let blocks = twins(&bed, 3);
    for block in &blocks[..2] {
        bed.deliver(std::slice::from_ref(block));
    }
    let third = bed.h.import(blocks[2].clone()).unwrap().hash;
    let next = {
        let parts = bed.h.parts(third);
        bed.h.scored(third, 10, 40, parts)
    };
    assert!(!bed.deliver(&[blocks[2].clone()]), "alone it is left");
    assert!(bed.deliver(&[blocks[2].clone(), next]), "with votes of seats behind it is needed");
}

#[test]
fn a_third_twin_is_taken_when_a_seat_voted_for_it() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let blocks = twins(&bed, 3);
    for block in &blocks[..2] {
        bed.deliver(std::slice::from_ref(block));
    }
    let third = bed.h.import(blocks[2].clone()).unwrap().hash;
    let vote = bed.h.vote(&podl_consensus::testkit::account(2), third, &[]);
    bed.core().drive(Event::Vote(vote)).unwrap();
    assert!(bed.deliver(&blocks[2..]));
}

#[test]
fn a_damaged_copy_does_not_speak_for_the_block() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let block = twins(&bed, 1).remove(0);
    let mut damaged = block.clone();
    damaged.body.certificate =
        Some(podl_consensus::types::Certificate { height: 1, block: block.hash(), votes: vec![] });
    assert_eq!(damaged.hash(), block.hash());
    assert!(!bed.deliver(&[damaged]));
    assert!(bed.core().machine.candidate(&block.hash()).is_none());
    assert!(bed.deliver(&[block]));
}

#[test]
fn blocks_ahead_of_the_clock_are_held_once_within_bounds_and_the_nearest_stay() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let genesis = bed.h.genesis();
    let ahead = |bed: &Bed, n: u64| {
        let time_ms = crate::service::clock::unix_ms() + 3_600_000 + n;
        let parts = podl_consensus::chain::BlockParts { time_ms, ..bed.h.parts(genesis) };
        Arc::new(unchecked(bed.h.idle(genesis, 0, None, parts)))
    };
    let block = ahead(&bed, 0);
    for _ in 0..3 {
        bed.core().start_import(block.clone(), None).unwrap();
    }
    assert_eq!(bed.core().imports.ahead_count(), 1);
    // Hundreds of the far future hold no place against one that is a little early.
    for n in 1..200 {
        let block = ahead(&bed, n * 86_400_000);
        bed.core().start_import(block, None).unwrap();
    }
    assert_eq!(bed.core().imports.ahead_count(), 64);
    let early = ahead(&bed, 1);
    bed.core().start_import(early.clone(), None).unwrap();
    assert_eq!(bed.core().imports.ahead_count(), 64);
    assert!(bed.core().imports.is_ahead(&early.hash()) && bed.core().imports.is_ahead(&block.hash()));
    // What is final ends the waiting of what it excludes.
    let mut tip = genesis;
    for owner in 10..15 {
        tip = bed.mine(tip, owner, vec![]);
    }
    bed.core().retry_imports().unwrap();
    assert_eq!(bed.core().imports.ahead_count(), 0);
}
