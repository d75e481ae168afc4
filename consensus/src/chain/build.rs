//! Making blocks: the producer's side of the rules.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Hash32};

use super::Chain;
use crate::codec;
use crate::execute::{BlockInput, Execution};
use crate::finality::{is_quorum, voters_on};
use crate::rules::TransactionError;
use crate::signed::Signed;
use crate::state::{Meta, StateError, StateStore, StateView};
use crate::types::{
    Block, BlockHash, Body, Certificate, ClosingSet, Header, Height, Opening, Outcome, ShardKey, SignedHeader,
    SignedTransaction, SignedVote,
};
use crate::verified::Verified;

/// What a producer has at hand. What the rules of the parent's state do not allow in the block is left out.
#[derive(Clone, Debug, Default)]
pub struct BlockParts {
    /// Votes on the parent, in any order.
    pub votes: Vec<Verified<SignedVote>>,
    /// Votes on an ancestor that are not on the branch yet.
    pub certificate: Option<Certificate<Verified<SignedVote>>>,
    /// Transactions by falling priority, those of a sender by rising nonce.
    pub transactions: Vec<Verified<SignedTransaction>>,
    /// The producer's clock. The header's time is later if the parent's demands it.
    pub time_ms: u64,
}

/// Why a block cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The parent's state is not here.
    #[error("the state of block {0} is not here")]
    UnknownParent(BlockHash),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a transaction was left out of a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// It cannot be executed here.
    #[error(transparent)]
    Execute(#[from] TransactionError),
    /// The block is full.
    #[error("the block is full")]
    Full,
}

/// A complete block but for the producer's signature, which the signing guard must allow first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedBlock {
    /// To be signed.
    pub header: Header,
    /// Its body.
    pub body: Body,
    /// Transactions that were left out, by id.
    pub left_out: Vec<(Hash32, LeftOut)>,
}

impl UnsignedBlock {
    /// Signs the header. Ask the guard before.
    pub fn sign(self, key: &SigningKey) -> Block {
        let chain = self.header.chain;
        Block { header: Signed::new(self.header, &chain, key), body: self.body }
    }

    /// The block with a header that was signed elsewhere.
    pub fn with_header(self, header: SignedHeader) -> Block {
        Block { header, body: self.body }
    }
}

/// A trial execution.
struct Run {
    state_root: Hash32,
    taken: Vec<SignedTransaction>,
    left_out: Vec<(Hash32, LeftOut)>,
}

/// Who proposes what on which parent.
pub(super) struct Proposal {
    pub parent: BlockHash,
    pub producer: AccountId,
    pub view: u32,
    pub outcome: Outcome,
}

impl<S: StateStore> Chain<S> {
    /// A candidate: the producer opens its commitment, which every one of the closings lists.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build_scored(
        &self,
        parent: BlockHash,
        producer: AccountId,
        parts: BlockParts,
        closings: ClosingSet,
        opening: Opening,
        key: Option<ShardKey>,
    ) -> Result<UnsignedBlock, BuildError> {
        let outcome = Outcome::Scored { closings, opening, key };
        self.build(Proposal { parent, producer, view: 0, outcome }, parts)
    }

    /// A void block: the publisher withholds the key.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build_void(
        &self,
        parent: BlockHash,
        producer: AccountId,
        view: u32,
        parts: BlockParts,
        closings: ClosingSet,
    ) -> Result<UnsignedBlock, BuildError> {
        self.build(Proposal { parent, producer, view, outcome: Outcome::Void { closings } }, parts)
    }

    /// An idle block: nobody can be scored. With the key the round is spent.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build_idle(
        &self,
        parent: BlockHash,
        producer: AccountId,
        view: u32,
        parts: BlockParts,
        key: Option<ShardKey>,
    ) -> Result<UnsignedBlock, BuildError> {
        self.build(Proposal { parent, producer, view, outcome: Outcome::Idle { key } }, parts)
    }

    pub(super) fn build(&self, proposal: Proposal, parts: BlockParts) -> Result<UnsignedBlock, BuildError> {
        let Proposal { parent, producer, view, outcome } = proposal;
        let state = self.state(&parent).ok_or(BuildError::UnknownParent(parent))?;
        let interval = self.shared_interval(&parent)?.ok_or(BuildError::UnknownParent(parent))?;
        let meta = state.meta()?;
        let votes = usable_votes(&meta, interval.parent.height, parent, parts.votes);
        let certificate = parts.certificate.and_then(|certificate| self.usable_certificate(&meta, parent, certificate));
        let mut body = Body { votes, certificate, outcome, transactions: Vec::new() };
        let time_ms = parts.time_ms.max(meta.time_ms.saturating_add(self.spec.min_interval_ms()));
        let mut header = Header {
            chain: self.chain,
            height: interval.height,
            parent,
            time_ms,
            kind: body.outcome.kind(),
            view,
            task: interval.task,
            round: interval.round,
            producer,
            body_root: Hash32::ZERO,
            state_root: Hash32::ZERO,
        };
        let input = BlockInput { spec: &self.spec, interval: &interval, time_ms, producer, body: &body };
        let room = self.room(&header, &body);
        let Run { state_root, taken, left_out } = self.run(&state, &input, parts.transactions, room)?;
        body.transactions = taken;
        (header.body_root, header.state_root) = (body.root(), state_root);
        Ok(UnsignedBlock { header, body, left_out })
    }

    /// Bytes left for transactions in a block of this header and body.
    fn room(&self, header: &Header, body: &Body) -> usize {
        // The signature, and the longest form of the count of transactions.
        let fixed = codec::encode(header).len() + codec::encode(body).len() + 64 + 5;
        usize::try_from(self.spec.limits.block_bytes).unwrap_or(usize::MAX).saturating_sub(fixed)
    }

    /// Executes the block with as many of the transactions as work and fit.
    fn run(
        &self,
        state: &StateView<'_>,
        input: &BlockInput<'_>,
        transactions: Vec<Verified<SignedTransaction>>,
        mut room: usize,
    ) -> Result<Run, BuildError> {
        let mut execution = Execution::begin(state, input)?;
        let most = usize::try_from(self.spec.limits.block_transactions).unwrap_or(usize::MAX);
        let (mut taken, mut left_out) = (Vec::new(), Vec::new());
        for transaction in transactions {
            let bytes = codec::encode(&*transaction).len();
            let attempt = if taken.len() >= most || bytes > room {
                Err(LeftOut::Full)
            } else {
                execution.transaction(&transaction).map_err(LeftOut::from)
            };
            match attempt {
                Ok(()) => {
                    room -= bytes;
                    taken.push(transaction.into_inner());
                }
                Err(LeftOut::Execute(TransactionError::State(error))) => return Err(error.into()),
                Err(reason) => left_out.push((transaction.message.id(), reason)),
            }
        }
        Ok(Run { state_root: execution.finish()?.delta.root, taken, left_out })
    }

    fn usable_certificate(
        &self,
        meta: &Meta,
        parent: BlockHash,
        certificate: Certificate<Verified<SignedVote>>,
    ) -> Option<Certificate> {
        let Certificate { height, block, votes } = certificate;
        let below_parent = self.height(&parent).is_some_and(|parent| height < parent);
        if height <= meta.justified.height || !below_parent || self.ancestor(&parent, height) != Some(block) {
            return None;
        }
        let votes = usable_votes(meta, height, block, votes);
        let voters: Vec<AccountId> = votes.iter().map(|vote| vote.message.seat).collect();
        is_quorum(meta, height, &voters).then_some(Certificate { height, block, votes })
    }
}

/// The votes that the rules allow, sorted by seat, one for each.
fn usable_votes(meta: &Meta, height: Height, block: BlockHash, votes: Vec<Verified<SignedVote>>) -> Vec<SignedVote> {
    let (sets, justified) = (voters_on(meta, height), meta.justified_at(height));
    let usable = votes.into_iter().filter(|vote| {
        let vote = &vote.message;
        (vote.height, vote.block) == (height, block)
            && Some(vote.justified) == justified
            && sets.is_some_and(|sets| sets.is_voter(&vote.seat))
    });
    let by_seat: BTreeMap<AccountId, SignedVote> = usable.map(|vote| (vote.message.seat, vote.into_inner())).collect();
    by_seat.into_values().collect()
}
