//! X, its views, void and idle.

use super::*;
use crate::types::OutcomeKind;

/// The seat whose turn it is in a view at height 1 is number 1 + view.
const FIRST: u64 = 1;

#[test]
fn without_closings_of_a_majority_the_first_seat_proposes_idle() {
    let mut bed = Bed::new(FIRST);
    bed.commit(10, 40);
    assert_eq!(proposed(&bed.at(D + 3_999)), None);
    assert_eq!(proposed(&bed.at(D + 4_000)), Some((0, OutcomeKind::Idle, None)));
    assert_eq!(proposed(&bed.at(D + 60_000)), None, "one block on a parent");
}

#[test]
fn the_wait_for_closings_counts_from_an_early_closing() {
    let (mut bed, opened) = Bed::with_task(3);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    bed.at(1_000);
    bed.feed(Event::Key(key));
    // Height 3: seat 3 is first. The key is known, so the round is spent.
    assert_eq!(proposed(&bed.at(4_999)), None);
    assert_eq!(proposed(&bed.at(5_000)), Some((0, OutcomeKind::Idle, Some(key))));
}

#[test]
fn each_view_is_another_seats_turn() {
    let mut bed = Bed::new(FIRST + 2);
    assert_eq!(proposed(&bed.at(D + 4_000 + 2 * VIEW - 1)), None);
    assert_eq!(proposed(&bed.at(D + 4_000 + 2 * VIEW)), Some((2, OutcomeKind::Idle, None)));
}

#[test]
fn a_key_that_signed_a_candidate_does_not_propose() {
    let mut bed = Bed::new(FIRST);
    let round = bed.commit(FIRST, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2, 3], std::slice::from_ref(&round));
    let own = bed.candidate(&round, std::slice::from_ref(&round), None);
    bed.show(&own);
    bed.feed(Event::CandidateRefused(own.hash()));
    assert_eq!(proposed(&bed.at(D + 60_000)), None);
}

#[test]
fn without_the_key_it_proposes_void_and_only_if_a_commitment_is_counted() {
    let (mut bed, _) = Bed::with_task(3);
    let round = bed.commit(10, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2], &[round]);
    assert_eq!(proposed(&bed.at(D + 3_999)), None);
    assert_eq!(proposed(&bed.at(D + 4_000)), Some((0, OutcomeKind::Void, None)));

    let (mut bed, _) = Bed::with_task(3);
    bed.at(D);
    bed.others_close(&[0, 1, 2], &[]);
    assert_eq!(proposed(&bed.at(D + 4_000)), Some((0, OutcomeKind::Idle, None)));
}

#[test]
fn a_key_that_opens_nothing_counts_as_not_released() {
    let (mut bed, opened) = Bed::with_task(3);
    let round = bed.commit(10, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2], &[round]);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    bed.feed(Event::Key(key));
    assert!(bed.m.key_for(&opened).is_some());
    bed.feed(Event::ShardChecked { key_hash: crate::shard::key_hash(&key), opens: false });
    assert_eq!(bed.m.key_for(&opened), None);
    assert_eq!(proposed(&bed.at(D + 4_000)), Some((0, OutcomeKind::Void, None)));
}

#[test]
fn without_a_valid_candidate_the_round_is_spent_at_v() {
    let (mut bed, opened) = Bed::with_task(3);
    let round = bed.commit(10, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2], &[round]);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    bed.feed(Event::Key(key));
    assert_eq!(proposed(&bed.at(D + 4_999)), None);
    assert_eq!(proposed(&bed.at(D + 5_000)), Some((0, OutcomeKind::Idle, Some(key))));
}

#[test]
fn the_lowest_view_is_voted_for_when_its_turn_has_come() {
    let mut bed = Bed::new(0);
    bed.at(D);
    let (second, third) = (bed.idle(1, None), bed.idle(2, None));
    for block in [&third, &second] {
        assert_eq!(to_validate(&bed.show(block)), [block.hash()], "proposals are checked at once");
        bed.validate(block);
    }
    assert_eq!(voted(&bed.at(D + 4_000 + VIEW - 1)), None);
    assert_eq!(voted(&bed.at(D + 4_000 + VIEW)).unwrap().block, second.hash());
}

#[test]
fn a_valid_candidate_that_comes_before_the_vote_is_preferred() {
    let mut bed = Bed::new(0);
    let round = bed.commit(10, 40);
    bed.at(D + 4_000);
    let block = bed.candidate(&round, std::slice::from_ref(&round), None);
    assert_eq!(to_validate(&bed.show(&block)), [block.hash()]);
    assert_eq!(voted(&bed.validate(&block)).unwrap().block, block.hash());
}

#[test]
fn who_holds_the_key_votes_void_last() {
    let (mut bed, opened) = Bed::with_task(0);
    let round = bed.commit(10, 40);
    bed.at(D);
    bed.others_close(&[0, 1, 2], std::slice::from_ref(&round));
    bed.at(D + 4_000);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    bed.feed(Event::Key(key));
    let void = Arc::new(unchecked(bed.h.void(opened, 0, &[round], bed.h.parts(opened))));
    bed.show(&void);
    assert_eq!(voted(&bed.validate(&void)), None);
    assert_eq!(voted(&bed.at(D + 4_000 + 2 * VIEW - 1)), None);
    let mut other = bed.m.clone();
    assert_eq!(voted(&bed.at(D + 4_000 + 2 * VIEW)).unwrap().block, void.hash());

    // An idle block with the key is better at any time.
    let idle = bed.idle(1, Some(key));
    let imported = bed.h.import((**idle).clone()).unwrap();
    let event = Event::BlockImported(imported.block, imported.meta);
    let effects = other.handle(D + 4_000 + 2 * VIEW - 1, event, &bed.h.chain);
    assert_eq!(voted(&effects).unwrap().block, idle.hash());
}

#[test]
fn a_stuck_interval_is_sent_again() {
    let mut bed = Bed::new(0);
    assert!(closed(&bed.at(D)).is_some());
    bed.others_close(&[0], &[]);
    let effects = bed.at(D + 4_000 + 3 * VIEW);
    let again = |e: &&Effect| matches!(e, Effect::Rebroadcast(super::super::Message::Closing(..)));
    assert!((1..=2).contains(&effects.iter().filter(again).count()));
}
