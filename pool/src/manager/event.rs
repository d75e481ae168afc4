//! What the manager is told and what it wants done. Events are the journal: the same events in the same order give
//! the same state.

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::types::{BatchPayment, BlobRef, BlockHash, ModelRoot};
use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::audit::{AuditOrder, Verdict};
use crate::calibration::CalibrationJob;
use crate::ledger::WonBlock;
use crate::protocol::Reply;
use crate::types::{AuditId, EvaluationPlan, Interval, JobId, LeaseId, MinerId, Share};

/// What a miner asks, without the bytes that the driver keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Joins.
    Hello {
        /// Version of its messages.
        version: u16,
        /// Whom to pay.
        account: AccountId,
    },
    /// Answers a calibration.
    Calibrated {
        /// The job's seed.
        seed: [u8; 32],
        /// The answer.
        digest: Hash32,
    },
    /// Wants work.
    Lease,
    /// Reports progress.
    Progress {
        /// Of which lease.
        lease: LeaseId,
        /// Work so far.
        done_macs: u64,
    },
    /// Hands in a result whose artefact the driver holds.
    Submit {
        /// The result.
        share: Share,
        /// Whether the artefact is a model of the share's network: one that nobody counts may be trained on by another.
        is_model: bool,
    },
    /// Uploads a part of an artefact, which the driver keeps if this is acknowledged.
    Chunk,
    /// Leaves.
    Leave,
    /// Sent something that was refused before it came here; counted against it.
    Broken,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A model of the task.
    Model {
        /// Read from the artefact.
        architecture: Architecture,
        /// Forward multiply-accumulates of one image.
        macs: u64,
        /// Multiply-accumulates x bits of one image.
        mac_bits: u64,
        /// Count on the public images.
        public_correct: u32,
        /// Count on the secret images; 0 when there are none.
        holdout_correct: u32,
    },
    /// Not a model of the task, in words.
    Invalid(String),
    /// The manager's own side failed (disk, cancelled): nobody is to blame.
    Failed(String),
}

/// What the manager is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The training phase of an interval begins; an earlier one is over.
    IntervalStarted {
        /// Its work.
        interval: Box<Interval>,
        /// How many images judge results.
        plan: EvaluationPlan,
        /// End of the training phase on the manager's clock.
        deadline_ms: u64,
    },
    /// The training phase is over, or its parent left the chain.
    IntervalEnded {
        /// Which.
        parent: BlockHash,
    },
    /// A miner asks.
    Asked {
        /// Who.
        miner: MinerId,
        /// What.
        ask: Ask,
    },
    /// A calibration answer was recomputed.
    CalibrationChecked {
        /// Whose.
        miner: MinerId,
        /// For which job.
        job: CalibrationJob,
        /// Whether it was right.
        correct: bool,
    },
    /// An evaluation is done.
    Evaluated {
        /// Which.
        job: JobId,
        /// What it found.
        outcome: Outcome,
    },
    /// A state that an audit wants is there, with bytes of its root.
    StateArrived {
        /// Whose.
        miner: MinerId,
        /// Its hash.
        root: Hash32,
    },
    /// A replay is done.
    Audited {
        /// Which.
        audit: AuditId,
        /// What it found.
        verdict: Verdict,
    },
    /// The node could not commit (no funds, not connected); the attempt does not count.
    CommitFailed {
        /// Of which interval.
        parent: BlockHash,
        /// Which model.
        root: ModelRoot,
    },
    /// A block of the manager's is on the chain. May come again, and after its interval is long over.
    BlockWon(WonBlock),
    /// Such a block became final.
    BlockFinal {
        /// Which.
        block: BlockHash,
    },
    /// Such a block left the chain.
    BlockLost {
        /// Which.
        block: BlockHash,
    },
    /// Time has passed.
    Tick,
}

impl Event {
    /// What the manager is told in place of an event that it panics at: that a request was broken, so that nobody repeats
    /// it for ever, and that a check came to nothing, so that nobody waits for it. None where nothing can stand in.
    pub(crate) fn stand_in(&self) -> Option<Self> {
        let reason = || "the manager panicked at the result".to_owned();
        match self {
            Self::Asked { ask: Ask::Broken, .. } => None,
            Self::Asked { miner, .. } => Some(Self::Asked { miner: *miner, ask: Ask::Broken }),
            Self::Evaluated { job, .. } => Some(Self::Evaluated { job: *job, outcome: Outcome::Failed(reason()) }),
            Self::Audited { audit, .. } => Some(Self::Audited { audit: *audit, verdict: Verdict::Undecided(reason()) }),
            _ => None,
        }
    }

    /// What it is, in a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::IntervalStarted { .. } => "interval started",
            Self::IntervalEnded { .. } => "interval ended",
            Self::Asked { .. } => "asked",
            Self::CalibrationChecked { .. } => "calibration checked",
            Self::Evaluated { .. } => "evaluated",
            Self::StateArrived { .. } => "state arrived",
            Self::Audited { .. } => "audited",
            Self::CommitFailed { .. } => "commit failed",
            Self::BlockWon(_) => "block won",
            Self::BlockFinal { .. } => "block final",
            Self::BlockLost { .. } => "block lost",
            Self::Tick => "tick",
        }
    }
}

/// What the manager wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer the miner whose request is being handled. Exactly one for every [`Event::Asked`] but
    /// [`Ask::Broken`].
    Reply {
        /// To whom.
        miner: MinerId,
        /// What.
        reply: Box<Reply>,
    },
    /// Recompute a calibration and report [`Event::CalibrationChecked`].
    CheckCalibration {
        /// Whose answer.
        miner: MinerId,
        /// The job.
        job: CalibrationJob,
        /// The miner's answer.
        digest: Hash32,
    },
    /// Evaluate an artefact with the integer engine and report [`Event::Evaluated`].
    Evaluate {
        /// Under which name.
        job: JobId,
        /// The artefact.
        artefact: BlobRef,
    },
    /// Replay a training and report [`Event::Audited`]; one at a time.
    Audit {
        /// Under which name.
        audit: AuditId,
        /// What to replay and compare.
        order: Box<AuditOrder>,
    },
    /// Commit to a model.
    Commit {
        /// In which interval.
        parent: BlockHash,
        /// The model.
        artefact: BlobRef,
        /// 1 for the first commitment of the interval.
        attempt: u8,
    },
    /// Send the batch payment of a final block.
    Pay(BatchPayment),
    /// The pool's best changed; for logs and pages.
    Improved {
        /// Who found it.
        miner: MinerId,
        /// The model.
        root: ModelRoot,
        /// Its count on the images that models are ranked by.
        count: u32,
        /// How many those are.
        images: u32,
    },
}
