//! Tasks, models and blobs as RPC shows them.

use std::path::PathBuf;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::state::{TaskPhase, TaskSpec, TaskStatus};
use podl_consensus::types::{BlobRef, BlobRoot, BlockHash, Height, ModelRoot, TaskId};
use podl_consensus::workload::{Bounds, InputShape, Space};
use serde::{Deserialize, Serialize};

use super::HexBytes;

/// Winner of a task's latest won round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundWinner {
    /// The artefact.
    pub model_root: ModelRoot,
    /// Bytes of the artefact.
    pub artefact_bytes: u64,
    /// Who made it.
    pub owner: AccountId,
    /// The round.
    pub round: u32,
    /// Images of that round's shard that it classified correctly.
    pub correct: u32,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Names it.
    pub id: TaskId,
    /// For people.
    pub name: String,
    /// Who published it.
    pub publisher: AccountId,
    /// Where it stands.
    pub phase: TaskPhase,
    /// Rounds in all.
    pub rounds: u32,
    /// The round that the next interval works on; `rounds + 1` when all are spent.
    pub next_round: u32,
    /// What a round pays.
    pub reward: Amount,
    /// Multiply-accumulates that training it takes, and its data's weight.
    pub difficulty: u64,
    /// Height of the block that published it.
    pub published: Height,
    /// Seats that flagged it ready.
    pub ready: u32,
    /// Winner of the latest won round.
    pub last_winner: Option<RoundWinner>,
}

impl TaskSummary {
    /// The summary of a task of the state.
    pub fn new(id: TaskId, spec: &TaskSpec, status: &TaskStatus) -> Self {
        let winner = status.last_winner.map(|w| RoundWinner {
            model_root: w.model.root,
            artefact_bytes: w.model.bytes,
            owner: w.owner,
            round: w.round,
            correct: w.correct,
        });
        Self {
            id,
            name: spec.task.name.clone(),
            publisher: spec.publisher,
            phase: status.phase,
            rounds: status.rounds,
            next_round: status.next_round,
            reward: status.reward,
            difficulty: status.difficulty,
            published: status.published,
            ready: u32::try_from(status.ready.len()).unwrap_or(u32::MAX),
            last_winner: winner,
        }
    }
}

/// A task with everything about it but the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: TaskSummary,
    /// The search space.
    pub space: Space,
    /// FPGA bounds.
    pub bounds: Bounds,
    /// Image size.
    pub input: InputShape,
    /// Number of classes.
    pub classes: u16,
    /// Images of each test shard.
    pub shard_images: u32,
    /// Training images.
    pub train_images: u32,
    /// Epochs that the publisher reckons with.
    pub epochs: u16,
    /// Training and search-validation images.
    pub data: BlobRef,
    /// Rewards of unspent rounds.
    pub escrow: Amount,
    /// The bond, while it is held.
    pub bond: Amount,
    /// By how many images a later winner must beat the baseline.
    pub min_gain: u32,
    /// Height of the block that opened it; 0 before.
    pub opened: Height,
}

impl TaskDetail {
    /// The detail of a task of the state.
    pub fn new(id: TaskId, spec: &TaskSpec, status: &TaskStatus) -> Self {
        let (task, workload) = (&spec.task, &spec.task.workload);
        Self {
            summary: TaskSummary::new(id, spec, status),
            space: workload.space.clone(),
            bounds: workload.bounds,
            input: workload.input,
            classes: workload.classes,
            shard_images: workload.shard_images,
            train_images: task.train_images,
            epochs: task.epochs,
            data: task.data,
            escrow: status.escrow,
            bond: status.bond,
            min_gain: task.min_gain,
            opened: status.opened,
        }
    }
}

/// A model that won a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// Names it; `blob_get` serves it.
    pub model_root: ModelRoot,
    /// Bytes of the artefact.
    pub artefact_bytes: u32,
    /// Who made it.
    pub owner: AccountId,
    /// The task.
    pub task: TaskId,
    /// Its name; `filler` for filler intervals.
    pub task_name: String,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// Height of its block.
    pub height: Height,
    /// Its block.
    pub block: BlockHash,
    /// Images of the shard that it classified correctly.
    pub correct: u32,
    /// Images of the shard.
    pub images: u32,
    /// Whether its block is final.
    pub is_final: bool,
}

/// A piece of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobChunk {
    /// BLAKE3 of the whole blob; whoever fetches it checks that.
    pub root: BlobRoot,
    /// Bytes of the whole blob.
    pub total_bytes: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// The piece.
    pub bytes: HexBytes,
}

/// What is to be published. The node reads the data set from its own disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// For people, 1 to 64 printable characters.
    pub name: String,
    /// `builtin[:SEED]`, or `cifar10:DIR`, `idx:DIR` or `images:DIR[@HEIGHTxWIDTH]` with an absolute path.
    pub dataset: String,
    /// The search space.
    pub space: Space,
    /// FPGA bounds.
    pub bounds: Bounds,
    /// What each round pays.
    pub reward: Amount,
    /// Number of rounds, and so of sealed test shards.
    pub rounds: u32,
    /// Images of each test shard; null shares the test images out evenly.
    pub shard_images: Option<u32>,
    /// Training images to hold back for search; null takes a tenth.
    pub validation_images: Option<u32>,
    /// Epochs that the publisher reckons with.
    pub epochs: u16,
    /// At least one round's reward; null takes one.
    pub bond: Option<Amount>,
    /// By how many images a later winner must beat the one before.
    pub min_gain: u32,
    /// Where a second copy of the sealed shard keys is put; null means `TASK.keys.backup` in the data folder.
    pub backup: Option<PathBuf>,
}

/// A task on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReply {
    /// Names the task.
    pub task: TaskId,
    /// The transaction.
    pub tx: Hash32,
    /// What leaves the account: escrow, bond and fee.
    pub cost: Amount,
    /// Where the node keeps the shard keys, encrypted to the wallet.
    pub key_file: PathBuf,
    /// The second copy. Keep it elsewhere: without a key file the task ends void and the bond is burned.
    pub backup_file: PathBuf,
}
