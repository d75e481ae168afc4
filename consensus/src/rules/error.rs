//! Why a block is refused, and who is to blame.

use podl_chain_spec::{AccountId, Amount, Hash32};

use super::commitments::ListError;
use super::execution::TransactionError;
use super::transaction::FormError;
use super::vote::VoteError;
use crate::shard::ShardError;
use crate::signed::BadSignature;
use crate::state::{Checkpoint, StateError};
use crate::types::{BlobRoot, BlockHash, ClosingSetError, Height, OutcomeKind, TaskId};
use crate::workload::WorkError;

/// Who is at fault when a block is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Whoever made it signed something invalid; whoever relayed it unchecked is to blame with it.
    Producer,
    /// Somebody damaged or made up bytes that the producer did not sign: only the sender is to blame.
    Sender,
    /// Nobody: it may be valid, but cannot be judged here and now.
    Nobody,
    /// This node: its disk or its code.
    Us,
}

/// Why a block is refused or cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A rule that needs no context.
    #[error("isolation: {0}")]
    Isolation(#[from] IsolationError),
    /// A rule about the header and its parent.
    #[error("header: {0}")]
    Header(#[from] HeaderError),
    /// A rule about the body and the parent's state.
    #[error("state: {0}")]
    Context(#[from] ContextError),
    /// A rule about artefact, shard and score.
    #[error("work: {0}")]
    Work(#[from] WorkRuleError),
    /// Its parent is not here: fetch it first, or it is on a branch that lost.
    #[error("the parent {parent} of block {block} is unknown")]
    UnknownParent {
        /// The block.
        block: BlockHash,
        /// Its parent.
        parent: BlockHash,
    },
    /// It is on no branch that this node can follow any more.
    #[error("block {block} at height {height} is not above the final block at {final_height}")]
    NotAboveFinal {
        /// The block.
        block: BlockHash,
        /// Its height.
        height: Height,
        /// Height of the last final block.
        final_height: Height,
    },
    /// It is here already.
    #[error("block {0} is known already")]
    Known(BlockHash),
    /// Bytes that are needed to judge it are not here yet.
    #[error("blob {0} is not available")]
    NotAvailable(BlobRoot),
    /// This node's own check ended in a panic: a fault of this program.
    #[error("this node's check of the block has panicked")]
    Panicked,
    /// This node's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl BlockError {
    /// Who is at fault.
    pub fn blame(&self) -> Blame {
        match self {
            // The block's name covers neither the header's signature nor a body of another root.
            Self::Isolation(
                IsolationError::BlockBytes { .. }
                | IsolationError::BodyRoot { .. }
                | IsolationError::HeaderSignature(_),
            ) => Blame::Sender,
            Self::Work(WorkRuleError::Artefact(WorkError::UnknownVersion { .. }))
            | Self::Work(WorkRuleError::Shard(WorkError::UnknownVersion { .. }))
            | Self::State(_)
            | Self::Panicked => Blame::Us,
            Self::Context(ContextError::Transaction { error: TransactionError::State(_), .. }) => Blame::Us,
            Self::UnknownParent { .. } | Self::NotAboveFinal { .. } | Self::Known(_) | Self::NotAvailable(_) => {
                Blame::Nobody
            }
            Self::Isolation(_) | Self::Header(_) | Self::Context(_) | Self::Work(_) => Blame::Producer,
        }
    }
}

/// Rules that need nothing but the chain specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsolationError {
    /// Another chain's block.
    #[error("the block is for chain {got}, this is {expected}")]
    Chain {
        /// In the header.
        got: Hash32,
        /// Genesis hash.
        expected: Hash32,
    },
    /// Too large.
    #[error("the block has {got} bytes, at most {limit} are allowed")]
    BlockBytes {
        /// Encoded bytes.
        got: usize,
        /// `limits.block_bytes`.
        limit: u32,
    },
    /// The body is not the one that the header names.
    #[error("the body hashes to {got}, the header names {expected}")]
    BodyRoot {
        /// Hash of the body.
        got: Hash32,
        /// In the header.
        expected: Hash32,
    },
    /// Header and outcome are of two kinds.
    #[error("the header says {header:?}, the outcome is {outcome:?}")]
    Kind {
        /// In the header.
        header: OutcomeKind,
        /// In the body.
        outcome: OutcomeKind,
    },
    /// Scored blocks have no view.
    #[error("a scored block has view 0, got {got}")]
    ScoredView {
        /// In the header.
        got: u32,
    },
    /// Votes out of order or repeated, in the body or in the certificate.
    #[error("votes are not sorted by seat and distinct")]
    VoteOrder,
    /// More votes than two seat sets can cast.
    #[error("{got} votes, two seat sets cast at most {limit}")]
    VoteCount {
        /// Votes.
        got: usize,
        /// Twice `seats.window`.
        limit: usize,
    },
    /// A vote that counts nowhere.
    #[error(transparent)]
    Vote(#[from] VoteError),
    /// A vote in the body that is not for the parent, or in the certificate not for its block.
    #[error("the vote of {seat:?} is for {got:?}, expected {expected:?}")]
    VoteTarget {
        /// Whose.
        seat: AccountId,
        /// Voted for.
        got: Checkpoint,
        /// The parent, or the certificate's block.
        expected: Checkpoint,
    },
    /// A malformed set of closings.
    #[error(transparent)]
    ClosingForm(#[from] ClosingSetError),
    /// More closings than seats there can be.
    #[error("{got} closings, there are at most {limit} seats")]
    ClosingCount {
        /// Closings.
        got: usize,
        /// `seats.window`.
        limit: u8,
    },
    /// A list that no seat may sign.
    #[error("the list of {seat:?}: {error}")]
    List {
        /// Whose.
        seat: AccountId,
        /// What is wrong.
        error: ListError,
    },
    /// The opening opens none of the producer's commitments.
    #[error("the opening matches no commitment of the producer in the block")]
    NotCommitted,
    /// A closing does not list the opened commitment.
    #[error("the closing of {seat:?} does not list the opened commitment")]
    NotListed {
        /// Whose.
        seat: AccountId,
    },
    /// More transactions than allowed.
    #[error("{got} transactions, at most {limit} are allowed")]
    TransactionCount {
        /// Transactions.
        got: usize,
        /// `limits.block_transactions`.
        limit: u32,
    },
    /// A transaction that can be in no block.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Place in the body.
        index: usize,
        /// What is wrong.
        error: FormError,
    },
    /// Artefact over the cap.
    #[error("the artefact has {got} bytes, 1 to {limit} are allowed")]
    ArtefactBytes {
        /// Claimed.
        got: u32,
        /// `caps.artefact_bytes`.
        limit: u32,
    },
    /// The header's signature.
    #[error("header: {0}")]
    HeaderSignature(BadSignature),
    /// A vote's signature.
    #[error("vote: {0}")]
    VoteSignature(BadSignature),
    /// A closing's signature.
    #[error("closing: {0}")]
    ClosingSignature(BadSignature),
    /// A commitment's signature.
    #[error("commitment: {0}")]
    CommitmentSignature(BadSignature),
    /// A transaction's signature.
    #[error("transaction {index}: {error}")]
    TransactionSignature {
        /// Place in the body.
        index: usize,
        /// What is wrong.
        error: BadSignature,
    },
}

/// Rules that need the parent's header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not one more than the parent's.
    #[error("the height is {got}, the parent's child has {expected}")]
    Height {
        /// In the header.
        got: Height,
        /// The parent's plus one.
        expected: Height,
    },
    /// Too early.
    #[error("the time is {got}, at least {least} (parent's plus the shortest interval, ms)")]
    Time {
        /// In the header.
        got: u64,
        /// The parent's plus init and train time.
        least: u64,
    },
    /// Not the interval's task.
    #[error("the task is {got}, the interval's is {expected}")]
    Task {
        /// In the header.
        got: TaskId,
        /// By the parent's state.
        expected: TaskId,
    },
    /// Not the task's next round.
    #[error("the round is {got}, the interval's is {expected}")]
    Round {
        /// In the header.
        got: u32,
        /// By the parent's state.
        expected: u32,
    },
}

/// Rules that need the parent's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not a voter on that block.
    #[error("{voter:?} has no vote on the block at height {height}")]
    Voter {
        /// Who voted.
        voter: AccountId,
        /// Height of the block voted for.
        height: Height,
    },
    /// The vote names another justified height than the state of its block.
    #[error("the vote of {voter:?} says that height {got} is justified in its block's state, {expected} is")]
    VoteJustified {
        /// Who voted.
        voter: AccountId,
        /// In the vote.
        got: Height,
        /// In the state.
        expected: Height,
    },
    /// The certificate is for no ancestor between the justified height and the parent.
    #[error("the certificate is for {got:?}, which is no ancestor above height {above} and below the parent")]
    CertificateTarget {
        /// Its block.
        got: Checkpoint,
        /// Justified height of the parent's state.
        above: Height,
    },
    /// The certificate's votes are too few.
    #[error("the certificate for height {height} has votes of less than a quorum of both seat sets")]
    CertificateQuorum {
        /// Its block's height.
        height: Height,
    },
    /// A closing of no seat of S.
    #[error("{seat:?} closed, but holds no seat in the parent's state")]
    ClosingSeat {
        /// Who closed.
        seat: AccountId,
    },
    /// Closings of a minority.
    #[error("closings of {got} seats, a majority is {need}")]
    ClosingMajority {
        /// Seats that closed.
        got: usize,
        /// Majority of all seats.
        need: usize,
    },
    /// A key is missing, or stands where there is none.
    #[error("key given: {given}, expected: {expected}")]
    KeyPresence {
        /// Whether the block has a key.
        given: bool,
        /// Whether the interval has one.
        expected: bool,
    },
    /// The key is not the round's.
    #[error("the key hashes to {got}, the task names {expected}")]
    KeyHash {
        /// Hash of the key.
        got: Hash32,
        /// On chain.
        expected: Hash32,
    },
    /// The winner cannot pay for its commitments.
    #[error("the winner can spend {got}, its commitments cost {need} (smallest units)", got = .got.0, need = .need.0)]
    WinnerFunds {
        /// Spendable in the parent's state.
        got: Amount,
        /// Fee of all its counted commitments.
        need: Amount,
    },
    /// Not the fallback producer's turn.
    #[error("view {view} belongs to {expected:?}, the producer is {got:?}")]
    FallbackProducer {
        /// In the header.
        view: u32,
        /// Producer in the header.
        got: AccountId,
        /// Seat number (height + view) mod |S|.
        expected: Option<AccountId>,
    },
    /// A filler interval has no key to withhold.
    #[error("a filler interval cannot be void")]
    VoidFiller,
    /// Nobody was there to be judged.
    #[error("a majority of the seats lists no commitment, so no key was due")]
    VoidUnlisted,
    /// A transaction that cannot be executed.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Place in the body.
        index: usize,
        /// Which rule.
        error: TransactionError,
    },
    /// Execution ends elsewhere.
    #[error("the state root after the block is {got}, the header names {expected}")]
    StateRoot {
        /// By execution.
        got: Hash32,
        /// In the header.
        expected: Hash32,
    },
}

/// Rules about artefact, shard and score.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkRuleError {
    /// The artefact has another length than the opening says.
    #[error("the artefact has {got} bytes, the opening says {expected}")]
    ArtefactBytes {
        /// There.
        got: u64,
        /// Claimed.
        expected: u32,
    },
    /// Not canonical, over the caps, outside the space, or not feasible.
    #[error("artefact: {0}")]
    Artefact(WorkError),
    /// The key opens something else than the task names.
    #[error("shard: {0}")]
    Sealed(#[from] ShardError),
    /// What the key opens is not a shard of the declared data set; the key counts as not released.
    #[error("shard: {0}")]
    Shard(WorkError),
    /// Another tie breaker than the model's.
    #[error("the opening claims {got} MAC-bits, the model has {expected}")]
    MacBits {
        /// Claimed.
        got: u64,
        /// Reproduced.
        expected: u64,
    },
    /// Another score than the model's.
    #[error("the opening claims {got} correct images, the model has {expected}")]
    Count {
        /// Claimed.
        got: u32,
        /// Reproduced.
        expected: u32,
    },
    /// The model does not beat the published one.
    #[error("{got} correct images, the model to beat has {baseline}: at least {need} are needed")]
    MinGain {
        /// The candidate's.
        got: u32,
        /// The baseline's on this shard.
        baseline: u32,
        /// Baseline and gain.
        need: u64,
    },
}
