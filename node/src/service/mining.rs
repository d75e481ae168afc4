//! Where mining meets the chain: the core tells a miner (or the pool's manager) what is worked on, takes what it commits
//! to, and shows the best of it when the shard is open.
//!
//! The core keeps salts and roots of its own commitments on disk, so that a node that restarts within an interval can
//! still open them.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::{Amount, Hash32};
use podl_consensus::interval_context::IntervalContext;
use podl_consensus::types::{BlockHash, Height, ModelRoot, ShardKey};
use serde::{Deserialize, Serialize};

/// A model that this node committed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnModel {
    /// Hash of the commitment.
    pub commitment: Hash32,
    /// Root of the artefact.
    pub model_root: ModelRoot,
    /// Bytes of the artefact.
    pub artefact_bytes: u32,
    /// What hides the root.
    pub salt: [u8; 32],
}

/// The commitments of one interval, as they are kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnInterval {
    pub height: Height,
    pub models: Vec<OwnModel>,
}

/// All that is kept, by parent.
pub(super) type OwnIntervals = BTreeMap<BlockHash, OwnInterval>;

/// What a block of this node's own model pays, should it stay on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WonBlock {
    pub height: Height,
    pub paid: Amount,
}

/// The worker's answer about this node's own models.
pub(super) struct ScoredOwn {
    pub parent: BlockHash,
    pub key: Option<ShardKey>,
    /// Model, correct images, MAC-bits.
    pub best: Option<(OwnModel, u32, u64)>,
}

/// A model that a miner wants to commit to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The interval's parent.
    pub parent: BlockHash,
    /// The artefact.
    pub artefact: Vec<u8>,
}

/// What the core tells a miner.
#[derive(Clone, Debug)]
pub enum MiningEvent {
    /// A new interval: train for it. What belongs to another parent is over.
    Interval {
        /// What is worked on.
        interval: Arc<IntervalContext>,
        /// Until training should end, from now.
        train_ms: u64,
    },
    /// Seats closed: nothing more can be committed in the interval on this parent.
    Closed {
        /// The interval's parent.
        parent: BlockHash,
    },
    /// A model could not be committed to: too late, or the account cannot pay.
    CommitFailed {
        /// The interval's parent.
        parent: BlockHash,
        /// The model.
        model_root: ModelRoot,
    },
    /// A block of this node's account won. Told again after a restart.
    Won {
        /// The block.
        block: BlockHash,
        /// Its height.
        height: Height,
        /// What the round paid it.
        paid: Amount,
        /// The model that won it.
        model: Option<ModelRoot>,
    },
    /// Such a block is final, or lost to another one of its height that is. Told again after a restart.
    Settled {
        /// The block.
        block: BlockHash,
        /// Whether it is final.
        is_final: bool,
    },
}

/// A miner, or a pool's manager. Must return quickly.
pub trait MiningPort: Send {
    /// Takes an event.
    fn on_event(&mut self, event: MiningEvent);

    /// Blocks that it was told it won and that are neither final nor lost as far as it knows.
    fn unsettled(&self) -> Vec<BlockHash> {
        Vec::new()
    }

    /// Roots of blobs in the store that it still needs and that no commitment of this node names yet: the node drops no
    /// others' artefacts while they are here. Must return quickly.
    fn blobs_in_use(&self) -> Vec<Hash32> {
        Vec::new()
    }
}
