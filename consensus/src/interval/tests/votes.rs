//! The signing guard, doubt, pull and fork choice in the machine.

use super::*;
use crate::chain::BlockParts;

#[test]
fn in_doubt_it_waits_half_a_view_and_follows_the_votes() {
    let play = |seats: &[u64]| {
        let mut bed = Bed::new(1);
        let rounds = [bed.commit(10, 40), bed.commit(11, 50)];
        bed.at(D);
        bed.others_close(&[0, 1, 2, 3], &rounds);
        let (low, high) = (bed.candidate(&rounds[0], &rounds, None), bed.candidate(&rounds[1], &rounds, None));
        bed.show(&low);
        bed.at(D + 2_501);
        bed.validate(&low);
        // The better one comes late and stays unchecked until somebody votes for it.
        assert!(to_validate(&bed.show(&high)).is_empty());
        let imported = bed.h.import((**high).clone()).unwrap();
        let asked = bed.others_vote(high.hash(), seats);
        assert_eq!(to_validate(&asked).is_empty(), seats.is_empty());
        if !seats.is_empty() {
            bed.feed(Event::BlockImported(imported.block, imported.meta));
        }
        assert_eq!(voted(&bed.at(D + 5_000 + VIEW / 2 - 1)), None);
        (voted(&bed.at(D + 5_000 + VIEW / 2)).unwrap().block, low.hash(), high.hash())
    };
    let (choice, low, _) = play(&[]);
    assert_eq!(choice, low, "nobody saw it in time");
    let (choice, _, high) = play(&[0]);
    assert_eq!(choice, high, "somebody did");
}

#[test]
fn votes_of_more_than_a_third_pull_after_a_view() {
    let mut bed = Bed::new(1);
    let block = bed.idle(3, None);
    bed.validate(&block);
    bed.others_vote(block.hash(), &[0]);
    bed.at(3_000);
    assert_eq!(voted(&bed.others_vote(block.hash(), &[2])), None);
    assert_eq!(voted(&bed.at(3_000 + VIEW - 1)), None);
    assert_eq!(voted(&bed.at(3_000 + VIEW)).unwrap().block, block.hash());
    // One seat of four, which may lie, pulls nobody.
    let mut bed = Bed::new(1);
    let block = bed.idle(3, None);
    bed.validate(&block);
    bed.others_vote(block.hash(), &[0]);
    assert_eq!(voted(&bed.at(D)), None);
}

#[test]
fn a_seat_bound_to_a_higher_justified_block_abstains_and_moves_on() {
    let mut bed = Bed::new(1);
    let genesis = bed.base();
    let one = bed.h.advance(genesis, 10, 30, Vec::new());
    // A child that carries the votes on its parent, and one that does not.
    let carries = bed.h.idle(one, 0, None, bed.h.parts(one));
    let omits = bed.h.idle(one, 1, None, BlockParts::default());
    let (carries, omits) = (bed.h.import(carries).unwrap(), bed.h.import(omits).unwrap());
    let blind = bed.h.idle(omits.hash, 0, None, BlockParts::default());
    let blind = bed.h.import(blind).unwrap();
    assert_eq!((carries.meta.justified.height, blind.meta.justified.height), (1, 0));

    let mut guard = Guard::new(account(1));
    assert!(guard.authorise_vote(bed.h.vote(&account(1), carries.hash, &[]).into_inner().message).is_ok());
    let root = genesis_checkpoint(bed.h.chain.spec());
    bed.m = IntervalMachine::new(bed.h.chain.spec(), root, bed.h.meta(genesis), Some(&guard));
    for hash in [one, omits.hash] {
        let entry = bed.h.chain.block(&hash).unwrap().clone();
        bed.feed(Event::BlockImported(entry.block, entry.meta));
    }
    bed.others_vote(omits.hash, &[0, 2, 3]);
    assert_eq!(bed.base(), omits.hash);
    bed.feed(Event::BlockImported(blind.block, blind.meta));
    let effects = bed.others_vote(blind.hash, &[0, 2, 3]);
    assert_eq!((voted(&effects), bed.base()), (None, blind.hash), "j would fall from 1 to 0");
    // The next producer lifts j by certificate, and the seat votes again.
    let lifted = bed.h.idle(blind.hash, 0, None, bed.h.parts(blind.hash));
    let lifted = bed.h.import(lifted).unwrap();
    assert_eq!(lifted.meta.justified.height, 3);
    bed.feed(Event::BlockImported(lifted.block, lifted.meta));
    assert_eq!(voted(&bed.others_vote(lifted.hash, &[0, 2, 3])).unwrap().block, lifted.hash);
}

/// Five of seven vote for B1, two for B2; one seat alone sees the child of B1 that carries the quorum. Then three who
/// voted for B1 are drawn to B2's branch. Whoever learns of the child starts from B1, however the votes stand.
#[test]
fn the_fork_choice_starts_at_the_highest_justified_block() {
    let mut h = Harness::new(small_spec(7, 24));
    let genesis = h.genesis();
    let root = genesis_checkpoint(h.chain.spec());
    let b1 = h.scored(genesis, 10, 30, BlockParts::default());
    let b2 = h.scored(genesis, 11, 40, BlockParts::default());
    let (b1, b2) = (h.import(b1).unwrap(), h.import(b2).unwrap());
    let quorum: Vec<_> = (0..5).map(|seat| h.vote(&account(seat), b1.hash, &[])).collect();
    let child = h.idle(b1.hash, 0, None, BlockParts { votes: quorum.clone(), ..BlockParts::default() });
    let child = h.import(child).unwrap();
    assert_eq!(child.meta.justified.height, 1);
    let other = h.idle(b2.hash, 0, None, BlockParts::default());
    let other = h.import(other).unwrap();

    let mut machine = IntervalMachine::new(h.chain.spec(), root, h.meta(genesis), None);
    for block in [&b1, &b2, &other] {
        machine.handle(0, Event::BlockImported(block.block.clone(), block.meta.clone()), &h.chain);
    }
    let mut votes = quorum;
    votes.extend((5..7).map(|seat| h.vote(&account(seat), b2.hash, &[])));
    votes.extend((2..7).map(|seat| h.vote(&account(seat), other.hash, &[])));
    for vote in votes {
        machine.handle(1, Event::Vote(vote), &h.chain);
    }
    assert_eq!(machine.head().block, other.hash, "five latest votes against two");
    machine.handle(2, Event::BlockImported(child.block, child.meta), &h.chain);
    assert_eq!(machine.head().block, child.hash);
}

#[test]
fn finality_prunes_the_machine_and_never_switches_its_branch() {
    let mut bed = Bed::new(1);
    let mut tip = bed.h.genesis();
    let mut finalised = Vec::new();
    for height in 1..=6 {
        let block = Arc::new(unchecked(bed.h.scored(tip, 10 + height % 3, 40, bed.h.parts(tip))));
        let effects = bed.validate(&block);
        finalised.extend(effects.iter().filter_map(|e| match e {
            Effect::Finalised(blocks) => Some(blocks.clone()),
            _ => None,
        }));
        tip = block.hash();
    }
    let heights: Vec<u64> = finalised.into_iter().flatten().map(|block| block.height).collect();
    assert_eq!(heights, [1, 2, 3, 4]);
    assert_eq!((bed.m.tree().root().height, bed.m.tree().len()), (4, 2));
    assert!(bed.m.catch_up_messages().len() < 16);
}
