//! Upper limits on what a task may ask of every node; checked before anything is allocated.

use serde::{Deserialize, Serialize};

/// Limits on the search space, data and artefacts of a task (docs/protocol.md, workload).
///
/// Every full node scores the winning artefact of every block, so each number here bounds work or memory that a
/// stranger can cause on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// Most convolution layers of a network (at least one is required).
    pub conv_layers: u8,
    /// Largest kernel height or width, in pixels.
    pub kernel: u8,
    /// Most filters (output channels) of a convolution.
    pub filters: u16,
    /// Largest stride in either direction.
    pub stride: u8,
    /// Largest max-pool window.
    pub pool: u8,
    /// Most total bits (integer + fraction) of an activation or weight; the least is 1.
    pub total_bits: u8,
    /// Largest input height or width, in pixels.
    pub input_side: u8,
    /// Most input channels.
    pub input_channels: u8,
    /// Most classes of a data set.
    pub classes: u16,
    /// Widest hidden dense layer.
    pub dense_width: u16,
    /// Most bytes of an encoded artefact.
    pub artefact_bytes: u32,
    /// Most bytes of one (encrypted) test shard.
    pub shard_bytes: u32,
    /// Most bytes of the published training data of a task.
    pub data_bytes: u64,
    /// Most multiply-accumulates that scoring one candidate on one whole shard may take: no more than a node scores within
    /// `phases.validate_ms`, or one candidate would keep every node from checking the others.
    pub score_macs: u64,
    /// Most rounds (and so test shards) of one task.
    pub rounds: u32,
}
