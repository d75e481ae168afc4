//! Bounds on what strangers can make a node keep or do.

use super::*;
use crate::interval::{BLOCKS_PER_PRODUCER, News};
use crate::signed::Signed;
use crate::testkit::{number_hash, signing_key};
use crate::types::{Block, Commitment, Evidence, Outcome};

#[test]
fn commitments_are_bounded_by_owner_list_and_money() {
    let mut bed = Bed::new(1);
    for _ in 0..10 {
        bed.commit(10, 40);
    }
    // Account 30 is not funded.
    bed.commit(30, 40);
    let parent = bed.base();
    let wrong = bed.h.commit(parent, 11, 40).commitment.message;
    let wrong = Commitment { round: 7, ..wrong };
    bed.feed(Event::Commitment(unchecked(Signed::new(wrong, &bed.h.chain.chain_hash(), &signing_key(11)))));
    let list = closed(&bed.at(D)).unwrap();
    assert_eq!(list.0.len(), 3);
    assert!(list.0.iter().all(|c| c.message.owner == account(10)));
}

#[test]
fn the_list_is_bounded_and_first_come_first_served() {
    let mut bed = Bed::new(1);
    let cap = bed.h.chain.spec().limits.list_cap as usize;
    let rounds: Vec<Round> =
        (0..24u64).flat_map(|owner| (0..3).map(move |_| owner)).map(|o| bed.commit(o, 40)).collect();
    assert!(rounds.len() > cap);
    let list = closed(&bed.at(D)).unwrap();
    assert_eq!(list, ClosingList::new(rounds[..cap].iter().map(|r| r.commitment.clone())));
}

#[test]
fn closings_that_break_the_rules_do_not_count() {
    let mut bed = Bed::new(1);
    let parent = bed.base();
    let rounds = [bed.commit(10, 40), bed.commit(11, 40)];
    // Not a seat; a list of another round. What breaks a rule of form never gets here.
    bed.others_close(&[9], &rounds);
    let message = Commitment { round: 7, ..rounds[0].commitment.message.clone() };
    let other = Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(10));
    bed.others_close(&[2], &[Round { commitment: other, ..rounds[0].clone() }]);
    bed.others_close(&[3], &rounds);
    assert!(bed.m.majority_closings(&parent, None).is_none());
    bed.others_close(&[0, 2], &rounds);
    assert_eq!(bed.m.majority_closings(&parent, None).unwrap().len(), 3);
    let one = rounds[0].commitment.message.hash();
    assert_eq!(bed.m.majority_closings(&parent, Some(&one)).unwrap().len(), 3);
    assert!(bed.m.majority_closings(&parent, Some(&number_hash(1))).is_none());
}

#[test]
fn two_closings_two_blocks_and_two_votes_are_evidence() {
    let mut bed = Bed::new(1);
    let round = bed.commit(10, 40);
    bed.others_close(&[0], std::slice::from_ref(&round));
    let evidence = |effects: &[Effect]| {
        effects
            .iter()
            .filter_map(|e| match e {
                Effect::Equivocation(evidence) => Some((**evidence).clone()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert!(matches!(evidence(&bed.others_close(&[0], &[]))[..], [Evidence::Closings(..)]));
    assert!(evidence(&bed.others_close(&[0], &[])).is_empty(), "said once");

    let first = bed.candidate(&round, std::slice::from_ref(&round), None);
    let second = twins(&first, 2).remove(1);
    bed.show(&first);
    assert!(matches!(evidence(&bed.show(&second))[..], [Evidence::Blocks(..)]));

    let (one, two) = (bed.idle(0, None), bed.idle(1, None));
    bed.validate(&one);
    bed.validate(&two);
    bed.others_vote(one.hash(), &[3]);
    assert!(matches!(evidence(&bed.others_vote(two.hash(), &[3]))[..], [Evidence::Votes(..)]));
}

#[test]
fn candidates_of_one_producer_and_strangers_proposals_are_bounded() {
    let mut bed = Bed::new(1);
    let round = bed.commit(10, 40);
    bed.at(D + 4_000);
    let block = bed.candidate(&round, std::slice::from_ref(&round), None);
    let mut asked = Vec::new();
    for later in 0..20 {
        let mut block = (**block).clone();
        block.header.message.time_ms += later;
        let hash = block.hash();
        asked.extend(to_validate(&bed.show(&Arc::new(unchecked(block)))));
        bed.feed(Event::CandidateRefused(hash));
    }
    assert_eq!(asked.len(), BLOCKS_PER_PRODUCER);
    // An idle block out of turn is not even looked at.
    let mut stranger = (**bed.idle(0, None)).clone();
    stranger.header.message.producer = account(10);
    assert!(to_validate(&bed.show(&Arc::new(unchecked(stranger)))).is_empty());
}

/// Differing blocks of one producer on one parent.
fn twins(block: &Block, count: u64) -> Vec<VerifiedBlock> {
    let twin = |n| {
        let mut block = block.clone();
        block.header.message.time_ms += n;
        Arc::new(unchecked(block))
    };
    (0..count).map(twin).collect()
}

#[test]
fn an_equivocation_is_told_once_and_a_third_block_is_not_kept() {
    let mut bed = Bed::new(1);
    let round = bed.commit(10, 40);
    let block = bed.candidate(&round, std::slice::from_ref(&round), None);
    let blocks = twins(&block, 20);
    let told = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Equivocation(_))).count();
    let told: usize = blocks.iter().map(|block| told(&bed.show(block))).sum();
    assert_eq!(told, 1);
    let kept: Vec<bool> = blocks.iter().map(|block| bed.m.candidate(&block.hash()).is_some()).collect();
    assert_eq!(kept.iter().position(|kept| !kept), Some(BLOCKS_PER_PRODUCER));
    assert_eq!(kept.iter().filter(|kept| **kept).count(), BLOCKS_PER_PRODUCER);
}

#[test]
fn a_block_that_a_seat_voted_for_is_taken_and_checked_whatever_else_its_producer_signed() {
    let mut bed = Bed::new(1);
    bed.at(D + 4_000);
    let blocks = twins(&bed.idle(0, None), 4);
    blocks.iter().take(3).for_each(|block| drop(bed.show(block)));
    let vote = podl_vote(&bed, &blocks[3], 3);
    bed.feed(Event::Vote(unchecked(vote)));
    assert_eq!(to_validate(&bed.show(&blocks[3])), [blocks[3].hash()]);
    assert!(bed.m.candidate(&blocks[2].hash()).is_none());
}

/// A vote of a seat for a block that no chain knows.
fn podl_vote(bed: &Bed, block: &Block, seat: u64) -> crate::types::SignedVote {
    let message = crate::types::Vote {
        height: block.height(),
        block: block.hash(),
        justified: 0,
        ready: vec![],
        seat: account(seat),
    };
    Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(seat))
}

#[test]
fn candidates_that_no_majority_closed_take_no_place() {
    let mut bed = Bed::new(1);
    let round = bed.commit(10, 40);
    let parent = bed.base();
    // Strangers close what they committed to, and so does one seat alone.
    for owner in 12..24 {
        let junk = bed.h.commit(parent, owner, 100);
        let closings = bed.h.closings(parent, &[account(owner), account(0)], std::slice::from_ref(&junk));
        let parts = bed.h.parts(parent);
        let built = bed.h.chain.build_scored(parent, account(owner), parts, closings, junk.opening.clone(), None);
        let Ok(built) = built else { continue };
        let block = Arc::new(unchecked(built.sign(&signing_key(owner))));
        bed.show(&block);
        assert!(bed.m.candidate(&block.hash()).is_none());
    }
    let honest = bed.candidate(&round, std::slice::from_ref(&round), None);
    bed.show(&honest);
    assert!(bed.m.candidate(&honest.hash()).is_some());
}

#[test]
fn made_up_keys_do_not_push_out_the_real_one() {
    let (mut bed, opened) = Bed::with_task(1);
    let key = bed.h.shard_key(&bed.h.interval(opened)).unwrap();
    bed.feed(Event::Key(key));
    for number in 0..500 {
        bed.feed(Event::Key(ShardKey(number_hash(number).0)));
    }
    assert_eq!(bed.m.key_for(&opened), Some(key));
    assert!(bed.m.keys.len() <= 32);
}

#[test]
fn messages_on_unknown_parents_are_bounded() {
    let mut bed = Bed::new(1);
    let message = bed.h.commit(bed.base(), 10, 40).commitment.message;
    for number in 0..2_000 {
        let message = Commitment { parent: number_hash(number), ..message.clone() };
        let commitment = Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(10));
        bed.feed(Event::Commitment(unchecked(commitment)));
    }
    assert_eq!(bed.m.early.len(), 6, "one owner, however rich, crowds out nobody");
    for owner in 0..2_000 {
        let message = Commitment { parent: number_hash(owner), owner: account(owner), ..message.clone() };
        bed.feed(Event::Commitment(unchecked(Signed::new(message, &bed.h.chain.chain_hash(), &signing_key(owner)))));
    }
    assert!(bed.m.early.len() <= 256);
    assert_eq!(bed.m.rounds.len(), 1);
}

#[test]
fn what_can_tell_nothing_is_seen_before_its_signatures_are() {
    let mut bed = Bed::new(1);
    let parent = bed.base();
    let rounds: Vec<Round> = (0..8).map(|_| bed.h.commit(parent, 10, 40)).collect();
    let news = |bed: &Bed, n: usize| bed.m.news_of_commitment(&rounds[n].commitment);
    for round in &rounds[..6] {
        assert_eq!(bed.m.news_of_commitment(&round.commitment), News::Fresh);
        bed.feed(Event::Commitment(unchecked(round.commitment.clone())));
    }
    assert_eq!((news(&bed, 0), news(&bed, 5), news(&bed, 7)), (News::Held, News::Nothing, News::Nothing));
    // Account 30 is not funded: what it cannot pay is counted all the same.
    let poor: Vec<Round> = (0..7).map(|_| bed.h.commit(parent, 30, 40)).collect();
    for round in &poor[..6] {
        assert_eq!(bed.m.news_of_commitment(&round.commitment), News::Fresh);
        bed.feed(Event::Commitment(unchecked(round.commitment.clone())));
    }
    assert_eq!(bed.m.news_of_commitment(&poor[6].commitment), News::Nothing);
    let mut resigned = rounds[0].commitment.clone();
    resigned.signature.0[0] ^= 1;
    assert_eq!(bed.m.news_of_commitment(&resigned), News::Nothing, "one signature of a message is enough");
    let late = bed.h.commit(parent, 11, 40);
    assert_eq!(bed.m.news_of_commitment(&late.commitment), News::Fresh);
    bed.at(D);
    assert_eq!(bed.m.news_of_commitment(&late.commitment), News::Nothing, "it closed");

    let closing = |bed: &Bed, rounds: &[Round]| bed.h.closing(parent, &account(0), rounds).into_inner();
    assert_eq!(bed.m.news_of_closing(&closing(&bed, &rounds[..1])), News::Fresh);
    bed.others_close(&[0], &rounds[..1]);
    assert_eq!(bed.m.news_of_closing(&closing(&bed, &rounds[..1])), News::Held);
    let mut other_signature = closing(&bed, &rounds[..1]);
    other_signature.list.0[0].signature.0[0] ^= 1;
    assert_eq!(bed.m.news_of_closing(&other_signature), News::Nothing);
    assert_eq!(bed.m.news_of_closing(&closing(&bed, &rounds[..2])), News::Fresh, "the second is evidence");
    bed.others_close(&[0], &rounds[..2]);
    assert_eq!(bed.m.news_of_closing(&closing(&bed, &rounds[..3])), News::Nothing, "a third says no more");
}

#[test]
fn a_proposal_that_is_being_checked_keeps_its_place_and_a_failed_one_gives_it_back() {
    let mut bed = Bed::new(1);
    let parent = bed.base();
    let own_views = |effects: &[Effect]| proposed(effects).is_some();
    bed.feed(Event::Proposing { parent, is_under_way: true });
    assert!(!own_views(&bed.at(D + 4_000 + 8 * VIEW)), "the key may be needed for it");
    bed.feed(Event::Proposing { parent, is_under_way: false });
    assert!(own_views(&bed.at(D + 4_000 + 16 * VIEW)));
}

#[test]
fn an_unavailable_candidate_counts_as_absent_until_it_is_there() {
    let mut bed = Bed::new(0);
    let rounds = [bed.commit(10, 40), bed.commit(11, 50)];
    bed.at(D);
    bed.others_close(&[0, 1, 2, 3], &rounds);
    let (low, high) = (bed.candidate(&rounds[0], &rounds, None), bed.candidate(&rounds[1], &rounds, None));
    bed.show(&low);
    bed.show(&high);
    bed.validate(&low);
    bed.feed(Event::CandidateUnavailable(high.hash()));
    assert_eq!(to_validate(&bed.at(D + VIEW - 1)), []);
    assert_eq!(to_validate(&bed.at(D + VIEW)), [high.hash()], "asked for again");
    bed.feed(Event::CandidateUnavailable(high.hash()));
    let effects = bed.at(D + 5_000 + VIEW / 2);
    assert_eq!(voted(&effects).unwrap().block, low.hash());
    assert!(matches!(low.body.outcome, Outcome::Scored { .. }));
}
