//! Where a model comes from, as its chain says.

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::types::{BlobRoot, BlockHash, Height, ModelRoot, TaskId};
use podl_consensus::workload::Bounds;
use serde::{Deserialize, Serialize};

/// What is known of a model's origin. Everything but the model is absent where it is unknown. Its JSON form lies beside
/// fetched models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The model.
    pub model_root: ModelRoot,
    /// Name of the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_name: Option<String>,
    /// The chain: hash of its specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Hash32>,
    /// The block that the model won.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub won: Option<Won>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskFacts>,
}

/// The latest block that a model won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Won {
    /// Height of the block, which is the number of the interval.
    pub height: Height,
    /// The block.
    pub block: BlockHash,
    /// Whether the block was final when the chain was asked.
    pub is_final: bool,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// Account of the miner.
    pub miner: AccountId,
    /// Images of the sealed shard that the model classified correctly.
    pub correct: u32,
    /// Images of the sealed shard.
    pub images: u32,
}

/// The task that a model was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFacts {
    /// Names it.
    pub id: TaskId,
    /// Its name; `filler` for filler intervals.
    pub name: String,
    /// Root of its training data; filler has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_root: Option<BlobRoot>,
    /// Its FPGA bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Its normalisation: for each channel the input values (8 fraction bits) of the bytes 0 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_table: Option<Vec<Vec<i16>>>,
}

impl Provenance {
    /// The task's input table, where it is known.
    pub fn input_table(&self) -> Option<&[Vec<i16>]> {
        self.task.as_ref()?.input_table.as_deref()
    }

    /// The task's bounds, where they are known.
    pub fn bounds(&self) -> Option<Bounds> {
        self.task.as_ref()?.bounds
    }
}
