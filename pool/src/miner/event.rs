//! What a miner is told and what it wants done.

use podl_chain_spec::Hash32;
use podl_consensus::types::{BlobRef, BlockHash};
use podl_consensus::workload::Architecture;

use crate::calibration::CalibrationJob;
use crate::protocol::{Refusal, Reply, Request};
use crate::training::{Recipe, States, TrainRule};
use crate::types::{EvaluationPlan, Interval};

/// A training run of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOrder {
    /// Number of the order; answers name it.
    pub id: u64,
    /// The interval.
    pub parent: BlockHash,
    /// The network.
    pub architecture: Architecture,
    /// Weights to go on from; none: fresh ones from the seed.
    pub base: Option<BlobRef>,
    /// The state that the base's training ended with. If it is still there it is gone on from, momentum and all; any
    /// other state would fail an audit.
    pub base_end: Option<Hash32>,
    /// Fixes first weights and data order.
    pub seed: u64,
    /// Training images to spend.
    pub images: u64,
    /// From now on, when it must be over, with whatever was reached.
    pub due_ms: u64,
    /// Training multiply-accumulates of one image.
    pub image_macs: u64,
    /// Thousandths of the phase that are left at the beginning and at the end of the lease.
    pub left_permille: (u16, u16),
    /// Batches and rates.
    pub rule: TrainRule,
}

impl TrainOrder {
    /// All that decides its result but the data and the state it starts from.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            architecture: self.architecture.clone(),
            seed: self.seed,
            rule: self.rule,
            images: self.images,
            left_permille: self.left_permille,
            fresh: self.base.is_none(),
        }
    }
}

/// A finished training run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    /// The model; the driver holds its bytes.
    pub artefact: BlobRef,
    /// Training images spent.
    pub images: u64,
    /// Count on the public part of the search-validation images.
    pub correct: u32,
    /// Hashes of the state before and after.
    pub states: States,
}

/// What a miner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MinerEvent {
    /// Begin.
    Start,
    /// The answer to the request under way.
    Replied(Box<Reply>),
    /// The request under way failed: no answer.
    Unreachable {
        /// Why, in words.
        reason: String,
    },
    /// A calibration is done.
    Calibrated {
        /// Which.
        job: CalibrationJob,
        /// Its answer.
        digest: Hash32,
    },
    /// A calibration could not be done.
    NotCalibrated {
        /// Why, in words.
        reason: String,
    },
    /// The interval's data are at hand.
    Prepared {
        /// Which interval.
        parent: BlockHash,
    },
    /// They could not be had.
    NotPrepared {
        /// Which interval.
        parent: BlockHash,
    },
    /// A training run goes on.
    Progressed {
        /// Which.
        order: u64,
        /// Images so far.
        images: u64,
    },
    /// A training run ended.
    Finished {
        /// Which.
        order: u64,
        /// Its result; none when it was cancelled, failed, or diverged.
        result: Option<Trained>,
    },
    /// The request under way was for a state that is no longer here; it was not sent.
    StateGone {
        /// Which.
        state: BlobRef,
    },
    /// The request under way was a result whose artefact is no longer here; it was not sent.
    ResultGone,
    /// Hand the lease back and leave.
    Stop,
    /// Time has passed.
    Tick,
}

/// What a miner wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MinerEffect {
    /// Send a request; at most one is under way. The driver adds the artefact to a [`Request::Submit`], and the bytes to
    /// a [`Request::Chunk`] of a training state.
    Send(Request),
    /// Compute a calibration.
    Calibrate(CalibrationJob),
    /// Get the data of an interval.
    Prepare {
        /// The interval.
        interval: Box<Interval>,
        /// What counts are claimed on.
        plan: EvaluationPlan,
    },
    /// Train.
    Train(TrainOrder),
    /// End the running training; its result is not wanted.
    Cancel,
    /// A refusal, for people; it says what to do.
    Refused(Refusal),
    /// The miner has left.
    Stopped,
}
