//! The interval under way as RPC shows it.

use podl_chain_spec::AccountId;
use podl_consensus::types::{BlockHash, Height, ModelRoot, TaskId};
use serde::{Deserialize, Serialize};

/// Where the interval stands on this node's clock (docs/protocol.md, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalPhase {
    /// Waiting for the first head after the start, or for sync.
    Waiting,
    /// Phase 1: fetching the task.
    Init,
    /// Phase 2: training.
    Train,
    /// Waiting for closings of a majority.
    Close,
    /// Waiting for the shard's key.
    Release,
    /// Phase 3a: candidates come in.
    Reveal,
    /// Phase 3b: candidates are checked.
    Validate,
    /// Voted; waiting for the votes of the others.
    Voted,
    /// Something is missing: fallback producers propose.
    Fallback,
}

/// A candidate that this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateView {
    /// The candidate's block.
    pub block: BlockHash,
    /// Who made it.
    pub owner: AccountId,
    /// Its model.
    pub model_root: ModelRoot,
    /// What it claims to classify correctly.
    pub claimed: u32,
    /// Whether this node has re-scored it and the claim held.
    pub is_verified: bool,
}

/// The interval under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalStatus {
    /// Height of the block that will end it.
    pub height: Height,
    /// The block that it builds on.
    pub parent: BlockHash,
    /// What is worked on.
    pub task: TaskId,
    /// Its name; `filler` when nobody published one.
    pub task_name: String,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// Images that the models will be scored on.
    pub shard_images: u32,
    /// Where it stands.
    pub phase: IntervalPhase,
    /// Since the interval began on this node's clock.
    pub elapsed_ms: u64,
    /// Until the phase ends at the latest, if it has an end.
    pub remaining_ms: Option<u64>,
    /// From the opening of candidates to the votes of a majority in the interval before; null if none were opened.
    pub previous_reveal_ms: Option<u64>,
    /// Commitments seen.
    pub commitments: u32,
    /// Closings seen.
    pub closings: u32,
    /// Whether the shard's key is known (filler needs none).
    pub has_key: bool,
    /// Candidates, best claim first.
    pub candidates: Vec<CandidateView>,
    /// Votes seen at this height.
    pub votes: u32,
    /// Seats that can vote.
    pub seats: u32,
}
