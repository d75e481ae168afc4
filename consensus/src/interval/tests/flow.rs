//! Phases in their order: closing, release, reveal, validation, vote, next interval.

use super::*;
use crate::shard::key_hash;

#[test]
fn a_seat_closes_at_d_with_what_it_saw_before() {
    let mut bed = Bed::new(1);
    let early = bed.commit(10, 50);
    assert_eq!(closed(&bed.at(D - 1)), None);
    let list = closed(&bed.at(D)).expect("it closes at D");
    assert_eq!(list, ClosingList::new([early.commitment]));
    bed.commit(11, 60);
    assert_eq!(closed(&bed.at(D + 100)), None, "once");
}

#[test]
fn closings_of_a_majority_or_the_key_make_it_close_early() {
    let mut bed = Bed::new(1);
    bed.at(5_000);
    let round = bed.commit(10, 50);
    assert_eq!(closed(&bed.others_close(&[0, 2], &[])), None);
    assert_eq!(closed(&bed.others_close(&[3], &[])), Some(ClosingList::new([round.commitment])));

    let (mut bed, opened) = Bed::with_task(1);
    let before = bed.commit(10, 50);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    assert_eq!(closed(&bed.feed(Event::Key(key))), Some(ClosingList::new([before.commitment])));
    bed.commit(11, 60);
    assert_eq!(bed.m.key_for(&opened), Some(key));
}

#[test]
fn a_commitment_seen_after_the_key_is_never_listed() {
    let (mut bed, opened) = Bed::with_task(1);
    // Even if the key came before the node could know what it is for.
    let mut late = Bed::new(1);
    std::mem::swap(&mut late.h, &mut bed.h);
    let key = late.h.shard_key(&late.h.interval(opened)).unwrap();
    late.feed(Event::Key(key));
    for hash in [late.h.chain.block(&opened).unwrap().block.parent(), opened] {
        let entry = late.h.chain.block(&hash).unwrap().clone();
        late.feed(Event::BlockImported(entry.block, entry.meta));
    }
    late.others_vote(opened, &[0, 2, 3]);
    assert_eq!(late.base(), opened);
    let round = late.h.commit(opened, 10, 50);
    late.feed(Event::Commitment(unchecked(round.commitment)));
    let effects = late.others_close(&[0, 2, 3], &[]);
    assert_eq!(closed(&effects), None, "it closed when it took the base");
    assert!(
        late.m
            .majority_closings(&opened, None)
            .is_some_and(|closings| closings.iter().all(|closing| closing.list.0.is_empty()))
    );
}

#[test]
fn with_closings_and_key_candidates_open_and_the_best_claim_is_checked_first() {
    let (mut bed, opened) = Bed::with_task(1);
    let rounds: Vec<Round> = (0..4).map(|n| bed.commit(10 + n, 20 + 5 * u32::try_from(n).unwrap())).collect();
    bed.at(D + 1_000);
    let start = bed.now;
    let effects = bed.others_close(&[0, 2, 3], &rounds);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::CollectionClosed { parent, round: 1, .. } if parent.block == opened))
    );
    assert!(!effects.iter().any(|e| matches!(e, Effect::OpenCandidates { .. })));
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    let effects = bed.feed(Event::Key(key));
    assert!(effects.iter().any(|e| matches!(e, Effect::CheckShard { key: asked, .. } if *asked == key)));
    assert!(effects.iter().any(|e| matches!(e, Effect::OpenCandidates { key: Some(open), .. } if *open == key)));
    bed.feed(Event::ShardChecked { key_hash: key_hash(&key), opens: true });

    let shown: Vec<VerifiedBlock> = (0..3).map(|n| bed.candidate(&rounds[n], &rounds, Some(key))).collect();
    for block in &shown {
        assert!(to_validate(&bed.show(block)).is_empty(), "the revealing is not over");
    }
    let asked = to_validate(&bed.at(start + 2_500));
    assert_eq!(asked, [shown[2].hash(), shown[1].hash()], "two at a time, best first");
    assert!(to_validate(&bed.feed(Event::CandidateRefused(shown[2].hash()))).contains(&shown[0].hash()));
    assert_eq!(voted(&bed.validate(&shown[1])), None, "the fourth commitment is not opened");
    assert_eq!(voted(&bed.at(start + 4_999)), None);
    assert_eq!(voted(&bed.at(start + 5_000)).unwrap().block, shown[1].hash(), "at V the best that is valid");
}

#[test]
fn it_votes_as_soon_as_all_that_was_listed_is_opened_and_checked() {
    let mut bed = Bed::new(1);
    let rounds = [bed.commit(10, 40), bed.commit(11, 50), bed.commit(11, 45)];
    bed.at(D);
    bed.others_close(&[0, 1, 2, 3], &rounds);
    let low = bed.candidate(&rounds[0], &rounds, None);
    let high = bed.candidate(&rounds[1], &rounds, None);
    bed.show(&low);
    // Owner 11 shows one of its two: its key may sign one block only.
    assert_eq!(to_validate(&bed.show(&high)), [high.hash(), low.hash()]);
    assert_eq!(voted(&bed.validate(&low)), None, "a better claim is not checked");
    assert_eq!(voted(&bed.validate(&high)).unwrap().block, high.hash());
    assert!(bed.now < D + 100);
}

#[test]
fn a_backed_block_is_voted_for_at_once_and_becomes_the_base() {
    let mut bed = Bed::new(1);
    let genesis = bed.base();
    let block = bed.idle(3, None);
    bed.now = 3_000;
    bed.validate(&block);
    assert_eq!((bed.m.head().block, bed.base()), (block.hash(), genesis));
    bed.others_vote(block.hash(), &[0, 2]);
    let effects = bed.others_vote(block.hash(), &[3]);
    assert_eq!(voted(&effects).unwrap().block, block.hash());
    assert_eq!(bed.base(), block.hash());
}

#[test]
fn without_a_majority_the_next_interval_begins_a_view_after_the_vote() {
    let mut bed = Bed::new(1);
    let round = bed.commit(10, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2, 3], std::slice::from_ref(&round));
    let block = bed.candidate(&round, std::slice::from_ref(&round), None);
    bed.show(&block);
    let effects = bed.validate(&block);
    bed.obey(&effects);
    let start = bed.now;
    bed.at(start + VIEW - 1);
    assert_eq!(bed.base(), bed.h.genesis());
    let effects = bed.at(start + VIEW);
    assert_eq!(bed.base(), block.hash());
    let phase = |e: &Effect| matches!(e, Effect::PhaseChanged { phase: super::super::Phase::Train, .. });
    assert!(effects.iter().any(phase));
}

#[test]
fn a_candidate_brings_the_closings_and_the_key_that_a_node_missed() {
    let (mut bed, opened) = Bed::with_task(1);
    let round = bed.commit(10, 40);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    let block = bed.candidate(&round, std::slice::from_ref(&round), Some(key));
    let effects = bed.show(&block);
    assert!(effects.iter().any(|e| matches!(e, Effect::OpenCandidates { key: Some(_), .. })));
    assert_eq!(closed(&effects), Some(ClosingList::new([round.commitment.clone()])));
    assert_eq!(to_validate(&effects), [block.hash()]);
    assert!(bed.m.majority_closings(&opened, Some(&round.commitment.message.hash())).is_some());
}

#[test]
fn what_comes_before_its_block_is_kept_for_it() {
    let mut bed = Bed::new(1);
    let genesis = bed.base();
    let block = Arc::new(unchecked(bed.h.scored(genesis, 10, 30, crate::chain::BlockParts::default())));
    // The harness must know the block to make what follows it; the machine does not yet.
    let imported = bed.h.import((**block).clone()).unwrap();
    let round = bed.h.commit(block.hash(), 11, 40);
    bed.feed(Event::Commitment(unchecked(round.commitment.clone())));
    let votes: Vec<_> = (0..4).map(|seat| bed.h.vote(&account(seat), block.hash(), &[])).collect();
    let asked = votes.into_iter().flat_map(|vote| bed.feed(Event::Vote(vote))).collect::<Vec<_>>();
    assert!(asked.iter().any(|e| matches!(e, Effect::FetchBlock(hash) if *hash == block.hash())));
    bed.feed(Event::BlockImported(imported.block, imported.meta));
    assert_eq!(bed.base(), block.hash());
    let list = closed(&bed.at(bed.now + D)).unwrap();
    assert_eq!(list, ClosingList::new([round.commitment]));
}

/// What others claim makes a node fetch blocks; it never keeps its key from signing on the head that it has verified.
#[test]
fn a_node_that_imports_the_past_signs_what_its_guard_allows() {
    let mut bed = Bed::new(1);
    bed.feed(Event::CatchingUp(true));
    assert!(closed(&bed.at(D)).is_some());
    let genesis = bed.base();
    let block = Arc::new(unchecked(bed.h.scored(genesis, 10, 30, crate::chain::BlockParts::default())));
    let mut effects = bed.validate(&block);
    effects.extend(bed.others_vote(block.hash(), &[0, 2, 3]));
    assert_eq!(voted(&effects).unwrap().block, block.hash());
}

#[test]
fn a_restarted_seat_keeps_its_promises() {
    let mut bed = Bed::new(1);
    let round = bed.commit(10, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2, 3], std::slice::from_ref(&round));
    let block = bed.candidate(&round, std::slice::from_ref(&round), None);
    bed.show(&block);
    let effects = bed.validate(&block);
    let choice = voted(&effects).unwrap();
    let mut guard = Guard::new(account(1));
    let vote = bed.h.vote(&account(1), choice.block, &[]).into_inner().message;
    assert!(guard.authorise_vote(vote).is_ok());
    let own = bed.h.idle(bed.h.genesis(), 0, None, crate::chain::BlockParts::default()).header.message;
    assert!(guard.authorise_block(own).is_ok());

    let root = genesis_checkpoint(bed.h.chain.spec());
    bed.m = IntervalMachine::new(bed.h.chain.spec(), root, bed.h.meta(root.block), Some(&guard));
    let entry = bed.h.chain.block(&block.hash()).unwrap().clone();
    let mut effects = bed.feed(Event::BlockImported(entry.block, entry.meta));
    effects.extend(bed.at(bed.now + 60_000));
    let again = effects.iter().any(|e| matches!(e, Effect::CastVote { block, .. } if block.height == 1));
    let twice = effects.iter().any(|e| matches!(e, Effect::Propose { parent, .. } if parent.height == 0));
    assert!(!again && !twice, "neither a second vote at its height nor a second block on its parent");
    assert_eq!(bed.base(), block.hash(), "it moved on");
}
