//! First stage: rules that need nothing but the chain specification. Cheap ones before signatures.

use podl_chain_spec::{ChainSpec, Hash32};

use super::commitments::{check_list, position};
use super::{IsolationError, transaction, vote};
use crate::codec;
use crate::signed::{Signable, Signed};
use crate::state::Checkpoint;
use crate::types::{Block, ClosingSet, Header, Opening, Outcome, OutcomeKind, SignedVote, commitment_id};

type Result = std::result::Result<(), IsolationError>;

/// Everything but the signatures inside the body. The header's signature is checked: nobody without the producer's key
/// can make a node do more work than this.
///
/// # Errors
/// [`IsolationError`].
pub fn check_form(spec: &ChainSpec, chain: &Hash32, block: &Block) -> Result {
    frame(spec, chain, block)?;
    block.header.verify(chain).map_err(IsolationError::HeaderSignature)?;
    contents(spec, chain, block)
}

/// The same for a block of one's own that is not signed yet.
///
/// # Errors
/// [`IsolationError`].
pub fn check_form_unsigned(spec: &ChainSpec, chain: &Hash32, block: &Block) -> Result {
    frame(spec, chain, block)?;
    contents(spec, chain, block)
}

/// What the producer's signature covers: chain, size, body.
fn frame(spec: &ChainSpec, chain: &Hash32, block: &Block) -> Result {
    chain_matches(chain, &block.header.message)?;
    block_bytes(spec, block)?;
    body_root(block)
}

fn contents(spec: &ChainSpec, chain: &Hash32, block: &Block) -> Result {
    kind(block)?;
    view(&block.header.message)?;
    votes(spec, block)?;
    certificate(spec, block)?;
    closings(spec, block)?;
    opening(spec, chain, block)?;
    transactions(spec, block)
}

fn chain_matches(chain: &Hash32, header: &Header) -> Result {
    let (got, expected) = (header.chain, *chain);
    if got == expected { Ok(()) } else { Err(IsolationError::Chain { got, expected }) }
}

fn block_bytes(spec: &ChainSpec, block: &Block) -> Result {
    let (got, limit) = (codec::encode(block).len(), spec.limits.block_bytes);
    if got as u64 <= u64::from(limit) { Ok(()) } else { Err(IsolationError::BlockBytes { got, limit }) }
}

fn body_root(block: &Block) -> Result {
    let (got, expected) = (block.body.root(), block.header.message.body_root);
    if got == expected { Ok(()) } else { Err(IsolationError::BodyRoot { got, expected }) }
}

fn kind(block: &Block) -> Result {
    let (header, outcome) = (block.header.message.kind, block.body.outcome.kind());
    if header == outcome { Ok(()) } else { Err(IsolationError::Kind { header, outcome }) }
}

fn view(header: &Header) -> Result {
    if header.kind == OutcomeKind::Scored && header.view != 0 {
        return Err(IsolationError::ScoredView { got: header.view });
    }
    Ok(())
}

fn vote_list(spec: &ChainSpec, votes: &[SignedVote], expected: Checkpoint) -> Result {
    let (got, limit) = (votes.len(), 2 * usize::from(spec.seats.window));
    if got > limit {
        return Err(IsolationError::VoteCount { got, limit });
    }
    if !votes.is_sorted_by(|a, b| a.message.seat < b.message.seat) {
        return Err(IsolationError::VoteOrder);
    }
    for vote in votes.iter().map(|vote| &vote.message) {
        let seat = vote.seat;
        let got = Checkpoint { height: vote.height, block: vote.block };
        if got != expected {
            return Err(IsolationError::VoteTarget { seat, got, expected });
        }
        vote::check_form(vote)?;
    }
    Ok(())
}

fn votes(spec: &ChainSpec, block: &Block) -> Result {
    let header = &block.header.message;
    // A header of height 0 fails the height rule; here it has no parent to vote for.
    let parent = Checkpoint { height: header.height.saturating_sub(1), block: header.parent };
    vote_list(spec, &block.body.votes, parent)
}

fn certificate(spec: &ChainSpec, block: &Block) -> Result {
    let Some(certificate) = &block.body.certificate else { return Ok(()) };
    let target = Checkpoint { height: certificate.height, block: certificate.block };
    vote_list(spec, &certificate.votes, target)
}

/// The closings of a block, if its kind has any.
pub(crate) fn closing_set(block: &Block) -> Option<&ClosingSet> {
    match &block.body.outcome {
        Outcome::Scored { closings, .. } | Outcome::Void { closings } => Some(closings),
        Outcome::Idle { .. } => None,
    }
}

fn closings(spec: &ChainSpec, block: &Block) -> Result {
    let Some(set) = closing_set(block) else { return Ok(()) };
    let (got, limit) = (set.closings.len(), spec.seats.window);
    if got > usize::from(limit) {
        return Err(IsolationError::ClosingCount { got, limit });
    }
    set.check_form()?;
    let header = &block.header.message;
    for closing in &set.closings {
        let list = set.listed(closing).map(|commitment| &commitment.message);
        let seat = closing.seat;
        check_list(&spec.limits, (&header.parent, &header.task, header.round), list)
            .map_err(|error| IsolationError::List { seat, error })?;
    }
    Ok(())
}

fn opening(spec: &ChainSpec, chain: &Hash32, block: &Block) -> Result {
    let Outcome::Scored { closings, opening, .. } = &block.body.outcome else { return Ok(()) };
    let (got, limit) = (opening.artefact_bytes, spec.caps.artefact_bytes);
    if got == 0 || got > limit {
        return Err(IsolationError::ArtefactBytes { got, limit });
    }
    let header = &block.header.message;
    let place = opened(chain, header, opening, closings).ok_or(IsolationError::NotCommitted)?;
    let opened = closings.union.get(place);
    for closing in &closings.closings {
        if !closings.listed(closing).any(|commitment| Some(commitment) == opened) {
            return Err(IsolationError::NotListed { seat: closing.seat });
        }
    }
    Ok(())
}

/// Place of the opened commitment. Winner, owner and producer are one: the id is made of the producer's key.
fn opened(chain: &Hash32, header: &Header, opening: &Opening, closings: &ClosingSet) -> Option<usize> {
    let (owner, root, salt) = (&header.producer, &opening.model_root, &opening.salt);
    let id = commitment_id(chain, &header.parent, &header.task, header.round, owner, root, salt);
    position(closings, owner, &id)
}

fn transactions(spec: &ChainSpec, block: &Block) -> Result {
    let transactions = &block.body.transactions;
    let (got, limit) = (transactions.len(), spec.limits.block_transactions);
    if got as u64 > u64::from(limit) {
        return Err(IsolationError::TransactionCount { got, limit });
    }
    for (index, signed) in transactions.iter().enumerate() {
        transaction::check_form(spec, signed).map_err(|error| IsolationError::Transaction { index, error })?;
    }
    Ok(())
}

/// Signatures inside the body. Run after the cheap rules of all stages: a full block has thousands.
///
/// # Errors
/// [`IsolationError`].
pub fn check_signatures(chain: &Hash32, block: &Block) -> Result {
    let certified = block.body.certificate.iter().flat_map(|certificate| &certificate.votes);
    each(chain, block.body.votes.iter().chain(certified)).map_err(IsolationError::VoteSignature)?;
    if let Some(set) = closing_set(block) {
        let parent = block.header.message.parent;
        for closing in &set.closings {
            set.expand(parent, closing).closing.verify(chain).map_err(IsolationError::ClosingSignature)?;
        }
        each(chain, &set.union).map_err(IsolationError::CommitmentSignature)?;
    }
    for (index, transaction) in block.body.transactions.iter().enumerate() {
        transaction.verify(chain).map_err(|error| IsolationError::TransactionSignature { index, error })?;
    }
    Ok(())
}

fn each<'a, T: Signable + 'a>(
    chain: &Hash32,
    messages: impl IntoIterator<Item = &'a Signed<T>>,
) -> std::result::Result<(), crate::signed::BadSignature> {
    messages.into_iter().try_for_each(|message| message.verify(chain))
}
