//! What an operator can set, and what follows from the chain's phases.

use podl_chain_spec::{AccountId, ChainSpec};
use podl_nas::search::StrategyKind;
use serde::{Deserialize, Serialize};

use super::audit::AuditRule;
use crate::classes::ClassRule;
use crate::lease::HeartbeatRule;
use crate::ledger::{PayScheme, PayTerms};
use crate::partition::Scheme;
use crate::training::TrainRule;

/// Most passes over the data for a candidate. On recorded trainings a pool of nine had networks of .60 and .70 after 5.0 and
/// 12.2 minutes with 1 pass, 3.8 and 7.3 with 10, 5.3 and 9.7 with 30 (12 seeds).
pub const CANDIDATE_PASSES: u32 = 10;

/// What a line carries on which mining is still worth while: 1 Mbit a second.
const SLOW_LINE_BYTES_MS: u64 = 125;

/// Parameters of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolParams {
    /// The manager's account: owner of commitments, sender of payouts.
    pub account: AccountId,
    /// The manager's cut, in hundredths of a percent of a reward.
    pub fee_basis_points: u16,
    /// How the rest is shared among miners.
    pub pay: PayScheme,
    /// Most miners known at a time; also bounds the payments of a batch.
    pub max_miners: usize,
    /// How the space is cut.
    pub scheme: Scheme,
    /// What proposes networks in each part.
    pub strategy: StrategyKind,
    /// Whether every part's search learns from all results.
    pub shares: bool,
    /// Whether the worse parts are given up as evidence comes, where the scheme is one that gives up parts.
    pub halve: bool,
    /// Whether searches begin with networks that are known to learn fast.
    pub starts: bool,
    /// Whether confirmed networks are trained further (paper: exploitation).
    pub exploit: bool,
    /// Least gain that further training must promise, in thousandths of the images.
    pub least_gain_permille: u32,
    /// Most passes over the data for a candidate.
    pub most_passes: u32,
    /// Most leases worked on twice, in thousandths of all, rounded up.
    pub backups_permille: u16,
    /// Length of the training phase.
    pub train_ms: u64,
    /// Length of a lease: 10 % of the phase, since a lease that ends without a share is lost.
    pub lease_ms: u64,
    /// Shortest lease worth handing out at the end of a phase.
    pub min_lease_ms: u64,
    /// How long after a lease shares still count.
    pub grace_ms: u64,
    /// Heartbeats.
    pub heartbeat: HeartbeatRule,
    /// Intended length of a calibration, and the most repetitions until one is long enough to measure.
    pub calibration_ms: u64,
    /// See `calibration_ms`.
    pub calibration_rounds: u8,
    /// Training speed as thousandths of the integer engine's, both in multiply-accumulates: turns a calibration into
    /// a first lease. Later leases follow what was measured.
    pub training_permille: u64,
    /// Division into classes.
    pub classes: ClassRule,
    /// Thousandths of the phase in which strong miners explore; afterwards they train what was found, where that promises
    /// more. On recorded trainings a quarter and a half did as well (24 seeds).
    pub explore_permille: u64,
    /// Thousandths of the phase after which the best is committed a second time.
    pub commit_again_permille: u64,
    /// How long before the end of the phase the last commitment is made.
    pub commit_margin_ms: u64,
    /// Most commitments of one owner in one interval.
    pub commitments: u8,
    /// Most results that wait to be checked.
    pub evaluation_queue: usize,
    /// Consecutive valid results below which every result is checked.
    pub always_check: u32,
    /// Least probability of a check, in thousandths.
    pub check_floor_permille: u64,
    /// Replays of training.
    pub audits: AuditRule,
    /// How shares are trained.
    pub training: TrainRule,
    /// Thousandths of the first learning rate for a network that an earlier interval trained.
    pub resumed_permille: u16,
    /// Requests a second that a miner may make, and how many at once.
    pub requests_per_s: u32,
    /// How long a miner that lied or broke the rules too often is shut out.
    pub suspension_ms: u64,
}

impl PoolParams {
    /// Parameters for a chain's phases.
    pub fn for_chain(spec: &ChainSpec, account: AccountId) -> Self {
        let train_ms = spec.phases.train_ms;
        Self {
            account,
            fee_basis_points: 200,
            pay: PayScheme::default(),
            max_miners: usize::try_from(spec.limits.batch_payments).unwrap_or(1000).min(1000),
            scheme: Scheme::Whole,
            strategy: StrategyKind::Predictor,
            shares: true,
            halve: true,
            starts: true,
            exploit: true,
            least_gain_permille: 10,
            most_passes: CANDIDATE_PASSES,
            backups_permille: 100,
            train_ms,
            lease_ms: (train_ms / 10).clamp(1200, 60_000),
            min_lease_ms: (train_ms / 25).clamp(500, 10_000),
            grace_ms: (train_ms / 16).clamp(1000, 10_000),
            heartbeat: HeartbeatRule { every_ms: (train_ms / 24).clamp(750, 5000), missed: 3 },
            calibration_ms: (train_ms / 40).clamp(250, 10_000),
            calibration_rounds: 3,
            // Measured on two cores of an AMD EPYC: 1,600. A little less, so that a first lease is not too long.
            training_permille: 1200,
            classes: ClassRule { strong_permille: 600, hysteresis_permille: 100 },
            explore_permille: 350,
            commit_again_permille: 700,
            commit_margin_ms: (train_ms / 20).clamp(800, 5000),
            commitments: spec.limits.commitments_per_owner,
            evaluation_queue: 64,
            always_check: 10,
            check_floor_permille: 50,
            // Half of one thread, at the lowest priority.
            audits: AuditRule { permille: 500, queue: 4, upload_ms: (train_ms / 4).clamp(10_000, 30_000) },
            training: TrainRule::default(),
            resumed_permille: 500,
            requests_per_s: 20,
            suspension_ms: train_ms.saturating_mul(5),
        }
    }

    /// How long a miner may take to upload so many bytes for an audit: a slow line's time for them on top, and never longer
    /// than the data that the audit needs are kept.
    pub fn upload_ms(&self, bytes: u64) -> u64 {
        (self.audits.upload_ms.saturating_add(bytes / SLOW_LINE_BYTES_MS)).min(self.train_ms.max(self.audits.upload_ms))
    }

    /// Under what terms won blocks are shared.
    pub fn pay_terms(&self) -> PayTerms {
        PayTerms { fee_basis_points: self.fee_basis_points, scheme: self.pay }
    }
}
