//! What goes into the interval machine and what comes out.

use std::sync::Arc;

use podl_chain_spec::Hash32;

use crate::signed::Signed;
use crate::state::{Checkpoint, Meta};
use crate::types::{
    BlockHash, ClosingList, Commitment, Evidence, Height, ListedClosing, OutcomeKind, ShardKey, SignedVote, TaskId,
};
use crate::verified::{Verified, VerifiedBlock};

/// What happened. Form and signatures of messages stand by their types; the machine checks all else that it relies on.
#[derive(Clone, Debug)]
pub enum Event {
    /// A miner's commitment.
    Commitment(Verified<Signed<Commitment>>),
    /// A seat's closing with its list, the node's own included.
    Closing(Verified<ListedClosing>),
    /// A shard key, from anyone.
    Key(ShardKey),
    /// Whether the key opens its sealed shard to what the task declared (answer to [`Effect::CheckShard`]).
    ShardChecked {
        /// Hash of the key.
        key_hash: Hash32,
        /// Whether it does. If not, the key counts as not released.
        opens: bool,
    },
    /// A whole block on a parent that may be known: a miner's candidate or a fallback proposal.
    Candidate(VerifiedBlock),
    /// A block that was asked to be validated is not valid.
    CandidateRefused(BlockHash),
    /// A block that was asked to be validated lacks blobs that nobody serves now. It counts as absent.
    CandidateUnavailable(BlockHash),
    /// A valid block with the state after it, parents before children: a validated candidate, or one that sync brought.
    BlockImported(VerifiedBlock, Arc<Meta>),
    /// A block of the node's own on this parent is being checked, or (no longer under way) was not signed, so that the key
    /// is free for another one. Meanwhile, and if no block that others would take can be made, it proposes nothing else.
    Proposing {
        /// The parent.
        parent: BlockHash,
        /// Whether it is.
        is_under_way: bool,
    },
    /// A vote, the node's own included.
    Vote(Verified<SignedVote>),
    /// Pending tasks all of whose blobs this node holds now, best first.
    ReadyTasks(Vec<TaskId>),
    /// Whether the node is importing blocks of the past: then it keeps nothing of their intervals. Never keeps it from
    /// signing.
    CatchingUp(bool),
    /// Time passed.
    Tick,
}

/// A message that others may have missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A vote.
    Vote(SignedVote),
    /// A closing with its list.
    Closing(ListedClosing),
    /// A released key.
    Key(ShardKey),
    /// A block.
    Block(VerifiedBlock),
}

/// Where an interval stands on this node, for logs and displays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Phases 1 and 2: miners set up, train and commit.
    Train,
    /// The node closed and waits for closings of a majority.
    Close,
    /// Closings of a majority are known, the publisher's key is not.
    Release,
    /// Candidates are taken.
    Reveal,
    /// Candidates are checked.
    Validate,
    /// Nothing to vote for in time: fallback producers propose in turn.
    Fallback,
    /// The node voted or abstained.
    Voted,
}

/// What is to be done. The machine signs, stores and sends nothing itself.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Sign this closing through the guard, send it with the list, and give it back as an event.
    SignClosing {
        /// The interval's parent.
        parent: Checkpoint,
        /// What was seen in time.
        list: ClosingList,
    },
    /// Sign this vote through the guard, send it and give it back as an event.
    CastVote {
        /// Block voted for.
        block: Checkpoint,
        /// Justified height in its state.
        justified: Height,
        /// Ready tasks.
        ready: Vec<TaskId>,
    },
    /// Build a fallback block, check it as others will, sign it through the guard, send it and give it back as imported.
    Propose {
        /// Its parent.
        parent: Checkpoint,
        /// Its view.
        view: u32,
        /// Void or idle.
        kind: OutcomeKind,
        /// For idle blocks: the key, if the round is spent.
        key: Option<ShardKey>,
    },
    /// Closings of a majority are known on the chain that this node follows: the round's publisher releases its key.
    CollectionClosed {
        /// The interval's parent.
        parent: Checkpoint,
        /// The published task.
        task: TaskId,
        /// Its round.
        round: u32,
    },
    /// Miners may show what they committed to in the interval on `parent`.
    OpenCandidates {
        /// The interval's parent.
        parent: Checkpoint,
        /// Key of the test shard; none for filler.
        key: Option<ShardKey>,
    },
    /// Find out whether a key opens its shard, and answer with [`Event::ShardChecked`].
    CheckShard {
        /// The interval's parent.
        parent: Checkpoint,
        /// The key.
        key: ShardKey,
    },
    /// Validate a block and answer with `BlockImported`, `CandidateRefused` or `CandidateUnavailable`.
    ValidateCandidate(VerifiedBlock),
    /// Votes name a block that this node lacks: fetch it and what it builds on.
    FetchBlock(BlockHash),
    /// Send again what others seem to lack.
    Rebroadcast(Message),
    /// A key signed two messages that exclude each other.
    Equivocation(Box<Evidence>),
    /// The fork choice moved.
    HeadChanged {
        /// Before.
        old: Checkpoint,
        /// Now.
        new: Checkpoint,
    },
    /// Blocks became final, lowest first.
    Finalised(Vec<Checkpoint>),
    /// The interval that the node works in, or its phase, changed.
    PhaseChanged {
        /// The interval's parent.
        parent: Checkpoint,
        /// Its phase.
        phase: Phase,
    },
}
