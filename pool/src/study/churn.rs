//! What churn costs: leases that nobody finishes, work that is lost, time that miners stand still.

use std::sync::Arc;

use podl_nas::search::StrategyKind;

use super::figure::{Bar, Figure, Findings};
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, LEASE_MS, PHASE_MS, miners};
use super::statistics::{bootstrap, mean};
use crate::sim::{Churn, Landscape, SimReport, Simulation, lives};

/// Phases of one run.
const PHASES: u32 = 3;
/// Miners of one run.
const MINERS: u16 = 20;

/// What one run showed.
struct Seen {
    completed: f64,
    wasted: f64,
    used: f64,
}

/// Leases completed, work wasted and time used with miners that come and go.
pub fn churn(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let cases = [
        ("calm", Churn::Calm, Some(0.999), 0.95),
        ("L*t = 0.1", Churn::Poisson { deaths_permille: 100 }, Some(0.999), 0.85),
        ("L*t = 0.5", Churn::Poisson { deaths_permille: 500 }, Some(0.995), 0.85),
        ("L*t = 0.5, heavy-tailed", Churn::HeavyTailed { deaths_permille: 500 }, None, 0.85),
        ("L*t = 0.5, a third at once", Churn::Correlated { deaths_permille: 500 }, None, 0.85),
    ];
    let mut measures = Vec::new();
    for (name, churn, completed, used) in cases {
        let seen = for_each_seed(seeds, |seed| run(landscape, churn, seed));
        let mut push = |what: &str, of: fn(&Seen) -> f64, goal: Goal| {
            measures.push(Measure::new(
                "churn",
                format!("{what}, {name}"),
                bootstrap(&seen, |s| mean(s, of)),
                goal,
                seeds,
            ));
        };
        push("leases completed", |s| s.completed, completed.map_or(Goal::None, Goal::AtLeast));
        push("work wasted", |s| s.wasted, Goal::AtMost(0.05));
        push("utilisation", |s| s.used, Goal::AtLeast(used));
    }
    let labels = ["calm", "0.1", "0.5", "heavy-tailed", "a third"];
    let wasted = measures.iter().filter(|m| m.measure.starts_with("work wasted"));
    let bars = wasted.zip(labels).map(|(measure, label)| Bar::of(measure, label)).collect();
    let title = "Work wasted by deaths, so many in the time of a lease";
    let figure = Figure::bars("churn", title, "part of the training", bars);
    Findings { measures, figures: vec![figure] }
}

fn run(landscape: &Arc<dyn Landscape>, churn: Churn, seed: u64) -> Seen {
    let mut all = miners(MINERS, 0);
    let end_ms = u64::from(PHASES) * (PHASE_MS + 5000);
    let stays = lives(churn, all.len(), LEASE_MS, end_ms, seed);
    for (miner, stays) in all.iter_mut().zip(stays) {
        miner.stays = stays;
    }
    let mut spec = setup::spec(landscape, all, PHASES, seed);
    spec.params.strategy = StrategyKind::HillClimb;
    let (report, manager) = Simulation::new(spec).run();
    let counts = manager.unit_counts();
    let completed = counts.done as f64 / (counts.done + counts.dropped).max(1) as f64;
    Seen { completed, wasted: wasted(&report), used: report.utilisation() }
}

/// Share of the training that was in no result the manager took.
fn wasted(report: &SimReport) -> f64 {
    let spent: u128 = report.spent_macs.iter().sum();
    let delivered: u128 = report.delivered_macs.iter().sum();
    1.0 - delivered as f64 / spent.max(1) as f64
}
