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
/// What is measured.
const COMPLETED: &str = "leases completed";
const WASTED: &str = "work wasted";
const USED: &str = "utilisation";

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
        push(COMPLETED, |s| s.completed, completed.map_or(Goal::None, Goal::AtLeast));
        push(WASTED, |s| s.wasted, Goal::AtMost(0.05));
        push(USED, |s| s.used, Goal::AtLeast(used));
    }
    let figures = [
        ("churn-left", COMPLETED, "Leases not completed, by deaths in the time of a lease", "part of the leases"),
        ("churn-wasted", WASTED, "Work wasted, by deaths in the time of a lease", "part of the training"),
        ("churn-used", USED, "Time used for training, by deaths in the time of a lease", "part of the time"),
    ];
    let figures = figures.map(|(name, what, title, y)| Figure::bars(name, title, y, bars(&measures, what))).into();
    Findings { measures, figures }
}

/// One measure in all cases. Of completed leases, nearly all, the rest is drawn.
fn bars(measures: &[Measure], what: &str) -> Vec<Bar> {
    let labels = ["calm", "0.1", "0.5", "heavy-tailed", "a third"];
    let of_it = measures.iter().filter(|m| m.measure.starts_with(what));
    let bar = |(measure, label)| {
        let Bar { label, value, interval: [low, high] } = Bar::of(measure, label);
        if what == COMPLETED {
            Bar { label, value: 1.0 - value, interval: [1.0 - high, 1.0 - low] }
        } else {
            Bar { label, value, interval: [low, high] }
        }
    };
    of_it.zip(labels).map(bar).collect()
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
    let left = counts.dropped + report.unnoticed_units;
    let completed = counts.done as f64 / (counts.done + left).max(1) as f64;
    Seen { completed, wasted: wasted(&report), used: report.utilisation() }
}

/// Share of the training that was in no result the manager took.
fn wasted(report: &SimReport) -> f64 {
    let spent: u128 = report.spent_macs.iter().sum();
    let delivered: u128 = report.delivered_macs.iter().sum();
    1.0 - delivered as f64 / spent.max(1) as f64
}
