use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount};
use podl_consensus::workload::{Bounds, InputShape, Space, Workload, WorkloadVersions};

use super::*;
use crate::classes::ClassRule;
use crate::lease::HeartbeatRule;
use crate::ledger::PayScheme;
use crate::manager::{AuditRule, PoolParams};
use crate::partition::Scheme;
use crate::protocol::Refusal;
use crate::training::TrainRule;
use crate::types::{Class, EvaluationPlan};

const FAST: u64 = 20_000_000_000;
const SLOW: u64 = FAST / 10;

fn params() -> PoolParams {
    PoolParams {
        account: AccountId([255; 32]),
        fee_basis_points: 200,
        pay: PayScheme::default(),
        max_miners: 100,
        scheme: Scheme::Disjoint,
        strategy: podl_nas::search::StrategyKind::HillClimb,
        shares: true,
        halve: true,
        starts: false,
        exploit: true,
        least_gain_permille: 10,
        most_passes: 1,
        backups_permille: 100,
        train_ms: 48_000,
        lease_ms: 4800,
        min_lease_ms: 1900,
        grace_ms: 3000,
        heartbeat: HeartbeatRule { every_ms: 2000, missed: 3 },
        calibration_ms: 1200,
        calibration_rounds: 3,
        training_permille: 500,
        classes: ClassRule { strong_permille: 600, hysteresis_permille: 100 },
        explore_permille: 350,
        commit_again_permille: 700,
        commit_margin_ms: 2400,
        commitments: 3,
        evaluation_queue: 64,
        always_check: 10,
        check_floor_permille: 50,
        requests_per_s: 20,
        suspension_ms: 240_000,
        audits: AuditRule { permille: 500, queue: 4, upload_ms: 12_000 },
        training: TrainRule::default(),
        resumed_permille: 500,
    }
}

fn workload() -> Workload {
    Workload {
        space: Space::full(4),
        bounds: Bounds { lut: 100_000, throughput: 10 },
        input: InputShape::CIFAR,
        classes: 10,
        input_table: vec![vec![0; 256]; 3],
        shard_images: 500,
        versions: WorkloadVersions { engine: 1, cost_model: 1, generator: 1 },
    }
}

fn spec(seed: u64, miners: Vec<MinerSpec>, intervals: u32) -> SimSpec {
    SimSpec {
        seed,
        params: params(),
        miners,
        workload: workload(),
        landscape: Arc::new(MadeUp),
        train_images: 9000,
        full_images: 270_000,
        plan: EvaluationPlan::for_validation(1000, 0),
        intervals,
        target: None,
        reward: Amount(10_000_003),
        wins: Wins::Always,
        traced: true,
        kills: None,
    }
}

/// Five strong and four weak miners; one of the strong dies in its first lease, one weak lies, one comes and goes.
fn nine() -> Vec<MinerSpec> {
    let mut miners: Vec<MinerSpec> = [FAST; 5].iter().chain(&[SLOW; 4]).map(|&s| MinerSpec::honest(s)).collect();
    for (miner, owner) in miners.iter_mut().zip(1..) {
        miner.owner = owner;
    }
    miners[1].stays = vec![Stay { from_ms: 0, dies_ms: Some(4000) }];
    miners[7].cheat = Cheat::InflatesCounts(60);
    miners[3].stays = vec![Stay { from_ms: 6000, dies_ms: Some(21_000) }, Stay { from_ms: 36_000, dies_ms: None }];
    miners
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| Simulation::new(spec(seed, nine(), 2)).run().0.trace;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn nine_miners_with_churn_and_a_liar_find_commit_and_are_paid() {
    for seed in 0..5 {
        let (report, manager) = Simulation::new(spec(seed, nine(), 3)).run();
        assert_eq!(report.revealed.len(), 3, "a model was revealed in every interval");
        assert!(report.commitments.iter().all(|n| (1..=3).contains(n)), "{:?}", report.commitments);
        assert!(report.revealed.iter().all(|(_, correct)| correct.is_some_and(|n| n > 150)), "{:?}", report.revealed);
        assert_eq!(report.payments.len(), 3);
        let liar = account(8);
        for (batch, (reward, fee, rows)) in report.payments.iter().zip(&report.sums) {
            assert_eq!(reward.0, fee.0 + rows.0, "everything but the fee is shared");
            let paid: u64 = batch.payments.iter().map(|p| p.amount.0).sum();
            assert_eq!(paid, rows.0);
            assert!(batch.payments.iter().all(|p| p.to != liar), "lies pay nothing");
            assert!(batch.payments.is_sorted_by_key(|p| p.to));
        }
        let classes: Vec<Class> = report.classes.last().unwrap().values().copied().collect();
        for slow in [5, 6, 8] {
            assert_eq!(classes[slow], Class::Weak);
        }
        assert_eq!(classes[0], Class::Strong);
        assert!(manager.miners().values().nth(7).unwrap().rejected > 0);
    }
}

#[test]
fn work_of_a_dead_miner_goes_to_another() {
    let mut miners = vec![MinerSpec::honest(FAST); 3];
    miners[1].stays = vec![Stay { from_ms: 0, dies_ms: Some(3500) }];
    let (report, manager) = Simulation::new(spec(7, miners, 1)).run();
    let counts = manager.unit_counts();
    assert!(counts.taken_over + counts.backed_up > 0, "{counts:?}");
    assert_eq!(counts.dropped, 0, "{counts:?} {report:?}");
}

#[test]
fn more_training_on_confirmed_networks_makes_the_pool_better() {
    let (report, manager) = Simulation::new(spec(3, vec![MinerSpec::honest(FAST); 3], 1)).run();
    let first = report.improvements.first().unwrap();
    let last = report.improvements.last().unwrap();
    assert!(first.0 < 10_000, "an improvement within seconds: {first:?}");
    assert!(last.1 > first.1 + 50, "{first:?} {last:?}");
    let best = &manager.elites()[0];
    assert!(best.images > 9000, "the winner was trained in several leases: {}", best.images);
}

#[test]
fn little_work_is_refused_or_lost_in_calm() {
    let (report, manager) = Simulation::new(spec(4, vec![MinerSpec::honest(FAST); 5], 3)).run();
    for (refusal, times) in &report.refusals {
        assert!(matches!(refusal, Refusal::TooLate | Refusal::NoInterval | Refusal::NotNovel), "{refusal}: {times}");
    }
    // The window of the last block reaches back over all intervals.
    let paid: u128 = manager.ledger().paid().last().unwrap().rows.iter().map(|r| u128::from(r.macs)).sum();
    let spent: u128 = report.spent_macs.iter().sum();
    assert!(paid * 100 >= spent * 85, "paid {paid} of {spent}: {:?}", report.refusals);
}

#[test]
fn a_restored_manager_goes_on_as_if_nothing_had_happened() {
    let run = |restart: bool| {
        let mut simulation = Simulation::new(spec(5, vec![MinerSpec::honest(FAST); 3], 1));
        let mut steps = 0;
        while simulation.step() {
            steps += 1;
            if restart && steps % 50 == 0 {
                let bytes = postcard::to_stdvec(&simulation.manager).unwrap();
                simulation.manager = postcard::from_bytes(&bytes).unwrap();
            }
        }
        (simulation.report.revealed, simulation.report.payments, simulation.trace.finalize())
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn replays_find_who_works_less_than_it_says_and_nobody_else() {
    for seed in 0..4 {
        let mut miners = vec![MinerSpec::honest(FAST); 5];
        miners[2].cheat = Cheat::Underworks;
        let (_, manager) = Simulation::new(spec(seed, miners, 3)).run();
        let counts = manager.audit_counts();
        assert!(counts.failed > 0 && counts.passed >= 5 && counts.undecided == 0, "{counts:?}");
        for (number, record) in manager.miners().values().enumerate() {
            assert_eq!(record.suspended_until_ms > 0, number == 2, "seed {seed}, miner {number}: {counts:?}");
        }
    }
}
