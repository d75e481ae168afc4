//! Vectors of the rules that need the parent's state.

use podl_chain_spec::Hash32;

use super::{Fixture, account, closings_of, fixture, stranger};
use crate::chain::BlockParts;
use crate::rules::TransactionError;
use crate::rules::{BlockError, ContextError};
use crate::signed::Signed;
use crate::state::Checkpoint;
use crate::testkit::{Harness, signing_key, small_spec};
use crate::types::{Block, Body, Header, Outcome, Payment, ShardKey, TransactionKind, Vote};

fn context(error: BlockError) -> ContextError {
    match error {
        BlockError::Context(error) => error,
        error => panic!("not a rule of the parent's state: {error}"),
    }
}

impl Fixture {
    fn contextual(&self, block: &Block, change: impl FnOnce(&mut Header, &mut Body)) -> ContextError {
        context(self.refused(block.clone(), change))
    }

    fn resigned(&self, vote: &Vote, change: impl FnOnce(&mut Vote)) -> crate::types::SignedVote {
        let mut vote = vote.clone();
        change(&mut vote);
        let key = self.h.key_of(&vote.seat);
        Signed::new(vote.clone(), &self.h.chain.chain_hash(), key)
    }
}

#[test]
fn voters_hold_seats_and_say_what_is_justified() {
    let mut f = fixture();
    let block = f.scored();
    let vote = block.body.votes[0].message.clone();
    let outsider = f.resigned(&vote, |vote| vote.seat = stranger());
    let error = f.contextual(&block, |_, b| b.votes = vec![outsider]);
    assert_eq!(error, ContextError::Voter { voter: stranger(), height: 2 });
    let liar = f.resigned(&vote, |vote| vote.justified += 1);
    let (got, expected) = (vote.justified + 1, vote.justified);
    let error = f.contextual(&block, |_, b| b.votes[0] = liar);
    assert_eq!(error, ContextError::VoteJustified { voter: vote.seat, got, expected });
}

#[test]
fn nobody_votes_on_genesis() {
    let f = fixture();
    let genesis = f.h.genesis();
    let vote = Vote { height: 0, block: genesis, justified: 0, ready: vec![], seat: account(0) };
    let vote = Signed::new(vote, &genesis, &signing_key(0));
    let block = f.h.idle(genesis, 0, None, BlockParts::default());
    let error = f.contextual(&block, |_, b| b.votes = vec![vote]);
    assert_eq!(error, ContextError::Voter { voter: account(0), height: 0 });
}

#[test]
fn certificates_are_of_a_quorum_for_an_unjustified_ancestor_below_the_parent() {
    let mut f = fixture();
    let block = f.certified();
    let certificate = block.body.certificate.clone().unwrap();
    let above = f.h.meta(block.parent()).justified.height;
    let error = f.contextual(&block, |_, b| {
        b.certificate.as_mut().unwrap().votes.truncate(2);
    });
    assert_eq!(error, ContextError::CertificateQuorum { height: certificate.height });
    // The parent's own votes have another place.
    let parent = f.certificate(block.parent());
    let got = Checkpoint { height: parent.height, block: parent.block };
    let error = f.contextual(&block, |_, b| b.certificate = Some(parent));
    assert_eq!(error, ContextError::CertificateTarget { got, above });
    // A block that is justified already.
    let grandparent = f.h.chain.ancestor(&f.parent, 1).unwrap();
    let old = f.certificate(grandparent);
    let got = Checkpoint { height: 1, block: grandparent };
    let error = f.contextual(&block, |_, b| b.certificate = Some(old));
    assert_eq!(error, ContextError::CertificateTarget { got, above });
    // A sibling of an ancestor.
    let sibling = f.h.idle(grandparent, 1, None, BlockParts::default());
    let sibling = f.h.import(sibling).unwrap().hash;
    let foreign = f.certificate(sibling);
    let got = Checkpoint { height: 2, block: sibling };
    let error = f.contextual(&block, |_, b| b.certificate = Some(foreign));
    assert_eq!(error, ContextError::CertificateTarget { got, above });
    let outsider = f.resigned(&certificate.votes[0].message, |vote| vote.seat = stranger());
    let error = f.contextual(&block, |_, b| b.certificate.as_mut().unwrap().votes = vec![outsider]);
    assert_eq!(error, ContextError::Voter { voter: stranger(), height: certificate.height });
}

#[test]
fn closings_are_of_a_majority_of_the_seats() {
    let mut f = fixture();
    let parent = f.parent;
    let round = f.h.commit(parent, 4, 20);
    let seats = f.h.interval(parent).seats;
    let some = |f: &Fixture, n: usize| f.h.closings(parent, &seats[..n], std::slice::from_ref(&round));
    let (three, two) = (some(&f, 3), some(&f, 2));
    let good = f.scored_closed(three, round.opening.clone(), 4);
    f.h.import(good).unwrap();
    let bad = f.scored_closed(two, round.opening.clone(), 4);
    assert_eq!(context(f.judge(bad)), ContextError::ClosingMajority { got: 2, need: 3 });
    let foreign = f.h.closings(parent, [&seats[0], &seats[1], &seats[2], &stranger()], std::slice::from_ref(&round));
    let bad = f.scored_closed(foreign, round.opening, 4);
    assert_eq!(context(f.judge(bad)), ContextError::ClosingSeat { seat: stranger() });
    let void = f.void();
    let error = f.contextual(&void, |_, b| closings_of(b).closings.truncate(2));
    assert_eq!(error, ContextError::ClosingMajority { got: 2, need: 3 });
}

#[test]
fn keys_stand_where_they_belong_and_are_the_rounds() {
    let mut f = fixture();
    let block = f.scored();
    let set = |b: &mut Body, new: Option<ShardKey>| match &mut b.outcome {
        Outcome::Scored { key, .. } | Outcome::Idle { key } => *key = new,
        Outcome::Void { .. } => panic!("a void block has no key"),
    };
    let error = f.contextual(&block, |_, b| set(b, None));
    assert_eq!(error, ContextError::KeyPresence { given: false, expected: true });
    let wrong = ShardKey([1; 32]);
    let (got, expected) = (crate::shard::key_hash(&wrong), f.h.interval(f.parent).key_hash().unwrap());
    assert_eq!(f.contextual(&block, |_, b| set(b, Some(wrong))), ContextError::KeyHash { got, expected });
    let idle = f.idle(true);
    assert_eq!(f.contextual(&idle, |_, b| set(b, Some(wrong))), ContextError::KeyHash { got, expected });
    let filler = f.filler();
    let error = f.contextual(&filler, |_, b| set(b, Some(wrong)));
    assert_eq!(error, ContextError::KeyPresence { given: true, expected: false });
}

#[test]
fn the_winner_can_pay_for_its_counted_commitments() {
    let mut spec = small_spec(4, 8);
    let poor = 8;
    let fee = spec.money.commitment_fee_min.0.max(spec.money.filler_subsidy.0 / u64::from(spec.limits.list_cap));
    let balance = podl_chain_spec::Amount(2 * fee);
    spec.genesis.accounts.push(podl_chain_spec::GenesisAccount { account: account(poor), balance });
    let mut h = Harness::new(spec);
    let genesis = h.genesis();
    for (commitments, valid) in [(2, true), (3, false)] {
        let rounds: Vec<_> = (0..commitments).map(|_| h.commit(genesis, poor, 9)).collect();
        let closings = h.closings(genesis, &h.interval(genesis).seats, &rounds);
        let opening = rounds[0].opening.clone();
        let parts = BlockParts::default();
        let block = h.chain.build_scored(genesis, account(poor), parts, closings, opening, None).unwrap();
        let result = h.import(block.sign(&signing_key(poor)));
        if valid {
            let head = result.unwrap().hash;
            assert_eq!(h.account(head, poor).balance.0, 0, "both fees were burned");
        } else {
            let need = podl_chain_spec::Amount(3 * fee);
            assert_eq!(context(result.unwrap_err()), ContextError::WinnerFunds { got: balance, need });
        }
    }
}

#[test]
fn only_the_views_seat_proposes_fallbacks() {
    let mut f = fixture();
    let seats = f.h.interval(f.parent).seats;
    for block in [f.idle(false), f.idle(true), f.void()] {
        let view = block.header.message.view;
        let expected = Some(block.header.message.producer);
        let place = usize::try_from((block.height() + u64::from(view)) % 4).unwrap();
        assert_eq!(expected, Some(seats[place]));
        let got = seats[(place + 1) % 4];
        let error = f.contextual(&block, |header, _| header.producer = got);
        assert_eq!(error, ContextError::FallbackProducer { view, got, expected });
    }
    let far = f.h.idle(f.parent, u32::MAX, None, f.h.parts(f.parent));
    f.h.import(far).unwrap();
}

#[test]
fn void_needs_a_task_and_a_commitment_of_a_majority() {
    let mut f = fixture();
    let genesis = f.h.genesis();
    let round = f.h.commit(genesis, 4, 20);
    let void = f.h.void(genesis, 0, &[round], BlockParts::default());
    assert_eq!(context(f.judge(void)), ContextError::VoidFiller);
    let parent = f.parent;
    let round = f.h.commit(parent, 4, 20);
    let seats = f.h.interval(parent).seats;
    let mut closings = f.h.closings(parent, &seats[..2], std::slice::from_ref(&round));
    for mut empty in f.h.closings(parent, &seats[2..], &[]).closings {
        empty.listed = vec![0];
        closings.closings.push(empty);
    }
    closings.closings.sort_by_key(|closing| closing.seat);
    let producer = f.h.interval(parent).fallback_producer(0).unwrap();
    let void = f.h.chain.build_void(parent, producer, 0, BlockParts::default(), closings).unwrap();
    let void = void.sign(f.h.key_of(&producer));
    assert_eq!(context(f.judge(void)), ContextError::VoidUnlisted);
}

#[test]
fn transactions_execute_and_the_state_root_is_reproduced() {
    let mut f = fixture();
    let block = f.scored();
    let payment = Payment { to: account(20), amount: podl_chain_spec::Amount(5) };
    let again = f.h.transaction(6, 1, TransactionKind::Transfer(payment));
    let error = f.contextual(&block, |_, b| b.transactions[0] = again.into_inner());
    let nonce = TransactionError::Nonce { sender: account(6), got: 1, expected: 0 };
    assert_eq!(error, ContextError::Transaction { index: 0, error: nonce });
    let expected = Hash32([1; 32]);
    let got = block.header.message.state_root;
    let error = f.contextual(&block, |header, _| header.state_root = expected);
    assert_eq!(error, ContextError::StateRoot { got, expected });
}
