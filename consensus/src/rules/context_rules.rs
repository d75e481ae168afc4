//! Third stage: the body against the parent's state, before execution.

use podl_chain_spec::AccountId;

use super::commitments::counted;
use super::isolation::closing_set;
use super::{BlockError, ContextError};
use crate::finality::{is_quorum, voters_on};
use crate::interval_context::IntervalContext;
use crate::shard::key_hash;
use crate::state::{Checkpoint, Meta, StateView, majority};
use crate::types::{Block, BlockHash, ClosingSet, Height, Outcome, ShardKey, SignedVote};

type Result = std::result::Result<(), ContextError>;

/// Checks the body against the state of the parent; `ancestor` names the block at a height of the parent's branch, if
/// it is not below the last final one.
///
/// # Errors
/// [`BlockError::Context`], or [`BlockError::State`] when the state cannot be read.
pub fn check(
    interval: &IntervalContext,
    state: &StateView<'_>,
    ancestor: impl Fn(Height) -> Option<BlockHash>,
    block: &Block,
) -> std::result::Result<(), BlockError> {
    let meta = state.meta()?;
    votes(&meta, interval.parent.height, &block.body.votes)?;
    certificate(&meta, interval.parent, ancestor, block)?;
    closings(interval, block)?;
    key(interval, &block.body.outcome)?;
    match &block.body.outcome {
        Outcome::Scored { closings, .. } => winner_funds(interval, state, &block.header.message.producer, closings)?,
        Outcome::Void { closings } => {
            fallback_producer(interval, block)?;
            void(interval, closings)?;
        }
        Outcome::Idle { .. } => fallback_producer(interval, block)?,
    }
    Ok(())
}

/// Whether a block whose form and signatures stand can be of this interval at all: it names height, task and round, and
/// its producer is whose turn it is, or opens what a majority of the seats closed. Cheap, and the same on every node that
/// knows the parent; it bounds how many producers can have a block on one parent.
pub fn may_follow(interval: &IntervalContext, block: &Block) -> bool {
    let header = &block.header.message;
    let place = (header.parent, header.height, header.task, header.round);
    let fits = place == (interval.parent.block, interval.height, interval.task, interval.round)
        && header.kind == block.body.outcome.kind();
    let by_turn = match &block.body.outcome {
        Outcome::Scored { .. } => closings(interval, block).is_ok(),
        Outcome::Void { .. } | Outcome::Idle { .. } => fallback_producer(interval, block).is_ok(),
    };
    fits && by_turn
}

/// Voters hold a seat in the state of the voted block's parent or were replaced there, and say truly what is justified
/// in their block's state.
fn votes(meta: &Meta, height: Height, votes: &[SignedVote]) -> Result {
    let sets = voters_on(meta, height);
    for vote in votes.iter().map(|vote| &vote.message) {
        let voter = vote.seat;
        if !sets.is_some_and(|sets| sets.is_voter(&voter)) {
            return Err(ContextError::Voter { voter, height });
        }
        let (got, expected) = (vote.justified, meta.justified_at(height));
        if Some(got) != expected {
            return Err(ContextError::VoteJustified { voter, got, expected: expected.unwrap_or_default() });
        }
    }
    Ok(())
}

/// A certificate is for an ancestor above the justified height of the parent's state, and below the parent, whose
/// votes have their own place.
fn certificate(
    meta: &Meta,
    parent: Checkpoint,
    ancestor: impl Fn(Height) -> Option<BlockHash>,
    block: &Block,
) -> Result {
    let Some(certificate) = &block.body.certificate else { return Ok(()) };
    let got = Checkpoint { height: certificate.height, block: certificate.block };
    let above = meta.justified.height;
    if got.height <= above || got.height >= parent.height || ancestor(got.height) != Some(got.block) {
        return Err(ContextError::CertificateTarget { got, above });
    }
    votes(meta, got.height, &certificate.votes)?;
    let voters: Vec<AccountId> = certificate.votes.iter().map(|vote| vote.message.seat).collect();
    let enough = is_quorum(meta, got.height, &voters);
    if enough { Ok(()) } else { Err(ContextError::CertificateQuorum { height: got.height }) }
}

fn closings(interval: &IntervalContext, block: &Block) -> Result {
    let Some(set) = closing_set(block) else { return Ok(()) };
    if let Some(stranger) = set.closings.iter().find(|closing| !interval.seats.contains(&closing.seat)) {
        return Err(ContextError::ClosingSeat { seat: stranger.seat });
    }
    let (got, need) = (set.closings.len(), majority(interval.seats.len()));
    if got >= need { Ok(()) } else { Err(ContextError::ClosingMajority { got, need }) }
}

/// A scored block of a task has the round's key, an idle one may have it; nothing else has one.
fn key(interval: &IntervalContext, outcome: &Outcome) -> Result {
    let (given, expected) = (outcome.key(), interval.key_hash());
    let needed = matches!(outcome, Outcome::Scored { .. });
    match (given, expected) {
        (Some(key), Some(expected)) => matching_key(key, expected),
        (Some(_), None) => Err(ContextError::KeyPresence { given: true, expected: false }),
        (None, Some(_)) if needed => Err(ContextError::KeyPresence { given: false, expected: true }),
        (None, _) => Ok(()),
    }
}

fn matching_key(key: &ShardKey, expected: podl_chain_spec::Hash32) -> Result {
    let got = key_hash(key);
    if got == expected { Ok(()) } else { Err(ContextError::KeyHash { got, expected }) }
}

/// The winner must be able to pay for all of its counted commitments.
fn winner_funds(
    interval: &IntervalContext,
    state: &StateView<'_>,
    winner: &AccountId,
    closings: &ClosingSet,
) -> std::result::Result<(), BlockError> {
    let commitments = counted(closings, interval.seats.len()).get(winner).copied().unwrap_or_default();
    let got = state.account(winner)?.spendable(interval.height);
    let need = interval.commitment_fee.checked_mul(commitments);
    if need.is_some_and(|need| got >= need) {
        return Ok(());
    }
    let need = need.unwrap_or(podl_chain_spec::Amount(u64::MAX));
    Err(ContextError::WinnerFunds { got, need }.into())
}

fn fallback_producer(interval: &IntervalContext, block: &Block) -> Result {
    let header = &block.header.message;
    let (view, got, expected) = (header.view, header.producer, interval.fallback_producer(header.view));
    if expected == Some(got) { Ok(()) } else { Err(ContextError::FallbackProducer { view, got, expected }) }
}

/// A key was due: there is one, and a majority of the seats lists a commitment to be judged.
fn void(interval: &IntervalContext, closings: &ClosingSet) -> Result {
    if interval.is_filler() {
        return Err(ContextError::VoidFiller);
    }
    let due = !counted(closings, interval.seats.len()).is_empty();
    if due { Ok(()) } else { Err(ContextError::VoidUnlisted) }
}
