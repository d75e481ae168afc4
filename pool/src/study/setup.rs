//! What all scenarios start from: a task, a pool, miners.

use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount};
use podl_consensus::workload::{Bounds, InputShape, Space, Workload, WorkloadVersions};
use podl_nas::search::StrategyKind;

use crate::classes::ClassRule;
use crate::lease::HeartbeatRule;
use crate::ledger::PayScheme;
use crate::manager::{AuditRule, CANDIDATE_PASSES, PoolParams};
use crate::partition::Scheme;
use crate::sim::{Landscape, MinerSpec, SimSpec, Wins};
use crate::training::TrainRule;
use crate::types::EvaluationPlan;

/// Training multiply-accumulates a second of a strong miner.
pub const STRONG: u64 = 120_000_000_000;
/// Of a weak one (paper: a tenth).
pub const WEAK: u64 = STRONG / 10;
/// A lease of the studied pool: a strong miner trains some two middling networks in it in full.
pub const LEASE_MS: u64 = 60_000;
/// A training phase: ten leases.
pub const PHASE_MS: u64 = 10 * LEASE_MS;
/// Training images of the studied task.
pub const TRAIN_IMAGES: u32 = 10_000;
/// Images held back from training, of which most are the manager's to rank by.
pub const VALIDATION_IMAGES: u32 = 5000;
/// Passes over them of a full training.
pub const PASSES: u32 = 30;

/// A pool as a chain with phases of ten minutes would have it.
pub fn params() -> PoolParams {
    PoolParams {
        account: AccountId([255; 32]),
        fee_basis_points: 200,
        pay: PayScheme::default(),
        max_miners: 2000,
        scheme: Scheme::Whole,
        strategy: StrategyKind::Predictor,
        shares: true,
        halve: true,
        starts: false,
        exploit: true,
        least_gain_permille: 10,
        most_passes: CANDIDATE_PASSES,
        backups_permille: 100,
        train_ms: PHASE_MS,
        lease_ms: LEASE_MS,
        min_lease_ms: 10_000,
        grace_ms: 10_000,
        heartbeat: HeartbeatRule { every_ms: 5000, missed: 3 },
        calibration_ms: 10_000,
        calibration_rounds: 3,
        training_permille: 1200,
        classes: ClassRule { strong_permille: 600, hysteresis_permille: 100 },
        explore_permille: 350,
        commit_again_permille: 700,
        commit_margin_ms: 5000,
        commitments: 3,
        evaluation_queue: 4096,
        always_check: 10,
        check_floor_permille: 50,
        requests_per_s: 20,
        suspension_ms: PHASE_MS * 5,
        audits: AuditRule { permille: 500, queue: 4, upload_ms: 30_000 },
        training: TrainRule::default(),
        resumed_permille: 500,
    }
}

/// The paper's task: its space, its LUT bound, and a throughput bound that bites.
pub fn workload() -> Workload {
    Workload {
        space: Space::full(6),
        bounds: Bounds { lut: 100_000, throughput: 1000 },
        input: InputShape::CIFAR,
        classes: 10,
        input_table: vec![vec![0; 256]; 3],
        shard_images: 500,
        versions: WorkloadVersions { engine: 1, cost_model: 1, generator: 1 },
    }
}

/// A pool of these miners that searches the paper's space on a landscape until it has used up `intervals` phases.
pub fn spec(landscape: &Arc<dyn Landscape>, miners: Vec<MinerSpec>, intervals: u32, seed: u64) -> SimSpec {
    let params = params();
    SimSpec {
        seed,
        plan: plan(params.most_passes),
        params,
        miners,
        workload: workload(),
        landscape: landscape.clone(),
        train_images: TRAIN_IMAGES,
        full_images: u64::from(TRAIN_IMAGES) * u64::from(PASSES),
        intervals,
        target: None,
        reward: Amount(10_000_000_000),
        wins: Wins::Always,
        traced: false,
        kills: None,
    }
}

/// Trains candidates for at most so many passes, and judges them by as many images as go with that.
pub fn train_candidates(spec: &mut SimSpec, passes: u32) {
    spec.params.most_passes = passes;
    spec.plan = plan(passes);
}

fn plan(passes: u32) -> EvaluationPlan {
    EvaluationPlan::for_validation(VALIDATION_IMAGES, u64::from(TRAIN_IMAGES) * u64::from(passes))
}

/// So many strong and weak miners, each its own owner.
pub fn miners(strong: u16, weak: u16) -> Vec<MinerSpec> {
    let speeds = std::iter::repeat_n(STRONG, strong.into()).chain(std::iter::repeat_n(WEAK, weak.into()));
    (1..).zip(speeds).map(|(owner, speed)| MinerSpec { owner, ..MinerSpec::honest(speed) }).collect()
}
