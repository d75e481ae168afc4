//! Vectors of the rules that need no context.

use podl_chain_spec::Hash32;

use super::{Fixture, account, closings_of, fixture, opening_of};
use crate::rules::commitments::ListError;
use crate::rules::transaction::FormError;
use crate::rules::{BlockError, IsolationError, isolation};
use crate::signed::{Signature, Signed};
use crate::state::Checkpoint;
use crate::testkit::{number_hash, signing_key};
use crate::types::{
    Block, ClosingSetError, Commitment, OutcomeKind, Payment, READY_CAP, TransactionKind, commitment_id,
};

fn isolation(error: BlockError) -> IsolationError {
    match error {
        BlockError::Isolation(error) => error,
        error => panic!("not a rule of isolation: {error}"),
    }
}

impl Fixture {
    fn isolated(
        &self,
        block: &Block,
        change: impl FnOnce(&mut crate::types::Header, &mut crate::types::Body),
    ) -> IsolationError {
        isolation(self.refused(block.clone(), change))
    }
}

#[test]
fn chain_body_root_kind_and_view() {
    let mut f = fixture();
    let block = f.scored();
    let other = Hash32([9; 32]);
    let expected = f.h.chain.chain_hash();
    assert_eq!(f.isolated(&block, |h, _| h.chain = other), IsolationError::Chain { got: other, expected });
    let mut lie = block.clone();
    lie.header.message.body_root = other;
    lie.header = Signed::new(lie.header.message, &expected, &signing_key(4));
    let got = block.header.message.body_root;
    assert_eq!(isolation(f.judge(lie)), IsolationError::BodyRoot { got, expected: other });
    let kinds = IsolationError::Kind { header: OutcomeKind::Idle, outcome: OutcomeKind::Scored };
    assert_eq!(f.isolated(&block, |h, _| h.kind = OutcomeKind::Idle), kinds);
    assert_eq!(f.isolated(&block, |h, _| h.view = 2), IsolationError::ScoredView { got: 2 });
}

#[test]
fn block_bytes_are_bounded() {
    let mut f = fixture();
    let block = f.scored();
    let mut spec = (**f.h.chain.spec()).clone();
    let got = crate::codec::encode(&block).len();
    spec.limits.block_bytes = u32::try_from(got).unwrap();
    isolation::check_form(&spec, &f.h.chain.chain_hash(), &block).unwrap();
    spec.limits.block_bytes -= 1;
    let error = isolation::check_form(&spec, &f.h.chain.chain_hash(), &block).unwrap_err();
    assert_eq!(error, IsolationError::BlockBytes { got, limit: spec.limits.block_bytes });
}

#[test]
fn votes_are_sorted_few_for_the_parent_and_flag_in_order() {
    let mut f = fixture();
    let block = f.scored();
    assert_eq!(f.isolated(&block, |_, b| b.votes.swap(0, 1)), IsolationError::VoteOrder);
    let twice = f.isolated(&block, |_, b| b.votes.insert(0, b.votes[0].clone()));
    assert_eq!(twice, IsolationError::VoteOrder);
    let many = f.isolated(&block, |_, b| b.votes = vec![b.votes[0].clone(); 9]);
    assert_eq!(many, IsolationError::VoteCount { got: 9, limit: 8 });
    let seat = block.body.votes[0].message.seat;
    let expected = Checkpoint { height: 2, block: f.parent };
    let got = Checkpoint { height: 1, ..expected };
    let error = f.isolated(&block, |_, b| b.votes[0].message.height = 1);
    assert_eq!(error, IsolationError::VoteTarget { seat, got, expected });
    let flags = |n: u64| (0..n).map(number_hash).collect::<Vec<_>>();
    for ready in [flags(READY_CAP as u64 + 1), vec![Hash32([1; 32]); 2], vec![Hash32([2; 32]), Hash32([1; 32])]] {
        let error = f.isolated(&block, |_, b| b.votes[0].message.ready = ready);
        assert_eq!(error, IsolationError::Vote(crate::rules::vote::VoteError::ReadyFlags { seat }));
    }
    let certified = f.certified();
    let error = f.isolated(&certified, |_, b| b.certificate.as_mut().unwrap().votes.swap(0, 1));
    assert_eq!(error, IsolationError::VoteOrder);
    let error = f.isolated(&certified, |_, b| b.certificate.as_mut().unwrap().height -= 1);
    assert!(matches!(error, IsolationError::VoteTarget { .. }));
}

#[test]
fn closings_have_their_one_form() {
    let mut f = fixture();
    let block = f.scored();
    let unordered = f.isolated(&block, |_, b| closings_of(b).closings.swap(0, 1));
    assert_eq!(unordered, ClosingSetError::SeatOrder.into());
    let unordered = f.isolated(&block, |_, b| closings_of(b).union.swap(0, 1));
    assert_eq!(unordered, ClosingSetError::UnionOrder.into());
    let error = f.isolated(&block, |_, b| closings_of(b).closings[0].listed[0] |= 4);
    assert!(matches!(error, IsolationError::ClosingForm(ClosingSetError::Bitmap { union: 2, .. })));
    let error = f.isolated(&block, |_, b| {
        closings_of(b).closings.iter_mut().for_each(|closing| closing.listed[0] &= !1);
    });
    assert_eq!(error, ClosingSetError::Unlisted { index: 0 }.into());
    let error = f.isolated(&block, |_, b| {
        let closings = &mut closings_of(b).closings;
        closings.push(closings[0].clone());
    });
    assert_eq!(error, IsolationError::ClosingCount { got: 5, limit: 4 });
}

#[test]
fn lists_keep_to_their_caps_and_their_interval() {
    let mut f = fixture();
    let parent = f.parent;
    let three: Vec<_> = (0..3).map(|_| f.h.commit(parent, 4, 20)).collect();
    let good = f.scored_with(&three, 1);
    f.h.import(good).unwrap();
    let four: Vec<_> = (0..4).map(|_| f.h.commit(parent, 4, 20)).collect();
    let seat = f.h.interval(parent).seats.into_iter().min().unwrap();
    let error = ListError::OwnerCap { owner: account(4), got: 4, limit: 3 };
    let block = f.scored_with(&four, 1);
    assert_eq!(isolation(f.judge(block)), IsolationError::List { seat, error });
    let mut other = f.h.commit(parent, 5, 10);
    let message = Commitment { round: 2, ..other.commitment.message.clone() };
    other.commitment = Signed::new(message, &f.h.chain.chain_hash(), &signing_key(5));
    let rounds = [f.h.commit(parent, 4, 20), other];
    let block = f.scored_with(&rounds, 0);
    let error = ListError::OtherInterval { owner: account(5) };
    assert_eq!(isolation(f.judge(block)), IsolationError::List { seat, error });
}

#[test]
fn only_the_producers_own_listed_commitment_is_opened() {
    let mut f = fixture();
    let parent = f.parent;
    let rounds = [f.h.commit(parent, 4, 20), f.h.commit(parent, 5, 30)];
    let block = f.scored_with(&rounds, 0);
    // Another salt, another artefact, somebody else's opening, and a thief who signs the block.
    let salt = f.isolated(&block, |_, b| opening_of(b).salt = [1; 32]);
    let root = f.isolated(&block, |_, b| opening_of(b).model_root = rounds[1].opening.model_root);
    let foreign = f.isolated(&block, |_, b| *opening_of(b) = rounds[1].opening.clone());
    let thief = f.isolated(&block, |h, _| h.producer = account(5));
    for error in [salt, root, foreign, thief] {
        assert_eq!(error, IsolationError::NotCommitted);
    }
    // A copy of the id under the thief's own name was not made of the thief's key.
    let stolen = Commitment { owner: account(6), ..rounds[0].commitment.message.clone() };
    let stolen = crate::testkit::Round {
        owner: 6,
        commitment: Signed::new(stolen, &f.h.chain.chain_hash(), &signing_key(6)),
        opening: rounds[0].opening.clone(),
    };
    let theft = f.scored_with(&[rounds[0].clone(), stolen], 1);
    assert_eq!(isolation(f.judge(theft)), IsolationError::NotCommitted);
    let id = |owner| {
        let (interval, opening) = (f.h.interval(parent), &rounds[0].opening);
        let (chain, salt) = (f.h.chain.chain_hash(), &opening.salt);
        commitment_id(&chain, &parent, &interval.task, 1, &account(owner), &opening.model_root, salt)
    };
    assert_ne!(id(4), id(6));
}

#[test]
fn every_included_closing_lists_the_opened_commitment() {
    let mut f = fixture();
    let parent = f.parent;
    let rounds = [f.h.commit(parent, 4, 20), f.h.commit(parent, 5, 30)];
    let seats = f.h.interval(parent).seats;
    let both = f.h.closings(parent, &seats[..3], &rounds);
    let late = f.h.closings(parent, &seats[3..], &rounds[1..]);
    let mut mixed = both.clone();
    let place = mixed.union.iter().position(|c| c.message.owner == account(5)).unwrap();
    let mut closing = late.closings[0].clone();
    closing.listed = vec![1 << place];
    mixed.closings.push(closing);
    mixed.closings.sort_by_key(|closing| closing.seat);
    let good = f.scored_closed(both, rounds[0].opening.clone(), 4);
    f.h.import(good).unwrap();
    let bad = f.scored_closed(mixed, rounds[0].opening.clone(), 4);
    assert_eq!(isolation(f.judge(bad)), IsolationError::NotListed { seat: seats[3] });
}

#[test]
fn artefact_bytes_are_bounded() {
    let mut f = fixture();
    let block = f.scored();
    let limit = f.h.chain.spec().caps.artefact_bytes;
    for got in [0, limit + 1] {
        let error = f.isolated(&block, |_, b| opening_of(b).artefact_bytes = got);
        assert_eq!(error, IsolationError::ArtefactBytes { got, limit });
    }
}

#[test]
fn transactions_are_few_and_well_formed() {
    let mut f = fixture();
    let block = f.scored();
    let mut spec = (**f.h.chain.spec()).clone();
    spec.limits.block_transactions = 1;
    isolation::check_form(&spec, &f.h.chain.chain_hash(), &block).unwrap();
    let error = f.isolated(&block, |_, b| b.transactions = vec![b.transactions[0].clone(); 2001]);
    assert_eq!(error, IsolationError::TransactionCount { got: 2001, limit: 2000 });
    let leave = f.h.transaction(6, 0, TransactionKind::LeaveSeat);
    let error = f.isolated(&block, |_, b| b.transactions[0] = leave.into_inner());
    let not_active = FormError::NotActive("leaving a seat");
    assert_eq!(error, IsolationError::Transaction { index: 0, error: not_active });
}

#[test]
fn every_signature_is_checked() {
    let mut f = fixture();
    let block = f.scored();
    let bad = Signature([1; 64]);
    let mut header = block.clone();
    header.header.signature = bad;
    assert!(matches!(isolation(f.judge(header)), IsolationError::HeaderSignature(_)));
    let error = f.isolated(&block, |_, b| b.votes[1].signature = bad);
    assert!(matches!(error, IsolationError::VoteSignature(_)));
    let error = f.isolated(&block, |_, b| closings_of(b).closings[2].signature = bad);
    assert!(matches!(error, IsolationError::ClosingSignature(_)));
    let error = f.isolated(&block, |_, b| closings_of(b).union[1].signature = bad);
    assert!(matches!(error, IsolationError::CommitmentSignature(_)));
    let error = f.isolated(&block, |_, b| b.transactions[0].signature = bad);
    assert!(matches!(error, IsolationError::TransactionSignature { index: 0, .. }));
    let certified = f.certified();
    let error = f.isolated(&certified, |_, b| b.certificate.as_mut().unwrap().votes[0].signature = bad);
    assert!(matches!(error, IsolationError::VoteSignature(_)));
    // A changed list is no longer what the seat signed.
    let error = f.isolated(&block, |_, b| {
        let set = closings_of(b);
        let other = set.union.iter().position(|c| c.message.owner == account(5)).unwrap();
        set.closings[0].listed[0] &= !(1u8 << other);
    });
    assert!(matches!(error, IsolationError::ClosingSignature(_)));
}

#[test]
fn a_signature_of_another_chain_is_none() {
    let mut f = fixture();
    let block = f.scored();
    let payment = Payment { to: account(1), amount: podl_chain_spec::Amount(1) };
    let foreign = f.h.transaction(6, 0, TransactionKind::Transfer(payment)).into_inner();
    let foreign = Signed::new(foreign.message, &Hash32([5; 32]), &signing_key(6));
    let error = f.isolated(&block, |_, b| b.transactions[0] = foreign);
    assert!(matches!(error, IsolationError::TransactionSignature { .. }));
}
