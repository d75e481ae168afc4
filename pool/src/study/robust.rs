//! What a dying manager costs, and how a large pool does.

use std::sync::Arc;

use podl_nas::search::StrategyKind;

use super::figure::{Bar, Figure, Findings};
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, LEASE_MS, miners};
use super::statistics::{bootstrap, mean};
use crate::sim::{Kills, Landscape, SimReport, Simulation};

/// What is gone after the manager was killed in the middle of leases and came back from its journal.
pub fn manager_kill(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let runs = for_each_seed(seeds, |seed| killed(landscape, 0, seed));
    let measure = |what: &str, goal: Goal, of: fn(&SimReport) -> f64| {
        Measure::new("manager-kill", what, bootstrap(&runs, |r| mean(r, of)), goal, seeds)
    };
    let none = Goal::AtMost(0.0);
    let measures = vec![
        measure("kills after which the manager was another", none, |r| f64::from(r.changed_restores)),
        measure("verified multiply-accumulates lost", none, |r| r.lost_macs as f64),
        measure("acknowledged results never counted", none, |r| r.uncounted_results as f64),
        measure("times the manager was killed in a run", Goal::None, |r| f64::from(r.manager_deaths)),
        measure("results that waited to be counted then", Goal::None, |r| r.waiting_results as f64),
    ];
    // All that a kill may cost, beside how often there was something to lose. Work lost is in another unit.
    let labels = [(3, "kills"), (4, "waiting results"), (0, "changed managers"), (2, "lost results")];
    let bars = labels.map(|(at, label)| Bar::of(&measures[at], label)).into();
    let figure = Figure::bars("manager-kill", "A manager that is killed, and what is gone", "times a run", bars);
    Findings { measures, figures: vec![figure] }
}

/// A run in which the manager is killed again and again, and its journal loses so many events each time.
pub(super) fn killed(landscape: &Arc<dyn Landscape>, lost_events: usize, seed: u64) -> SimReport {
    let mut spec = setup::spec(landscape, miners(5, 4), 2, seed);
    spec.params.strategy = StrategyKind::HillClimb;
    // A prime, so that it dies at another point of the leases every time.
    spec.kills = Some(Kills { every_ms: LEASE_MS + 7_919, lost_events });
    Simulation::new(spec).run().0
}

/// A pool of a thousand miners, two thirds of them weak, for one phase.
pub fn scale(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let seeds = seeds.min(2);
    let runs = for_each_seed(seeds, |seed| {
        let mut spec = setup::spec(landscape, miners(334, 666), 1, seed);
        spec.params.strategy = StrategyKind::HillClimb;
        let start = std::time::Instant::now();
        let (report, _) = Simulation::new(spec).run();
        (start.elapsed().as_secs_f64(), report.utilisation())
    });
    let seconds = bootstrap(&runs, |r| mean(r, |r| r.0));
    let used = bootstrap(&runs, |r| mean(r, |r| r.1));
    let measures = vec![
        Measure::new("scale", "seconds to simulate a phase of 1,000 miners", seconds, Goal::AtMost(600.0), seeds),
        Measure::new("scale", "utilisation of 1,000 miners", used, Goal::AtLeast(0.95), seeds),
    ];
    // Seconds and a share do not go on one axis.
    let bars = vec![Bar::of(&measures[1], "334 strong, 666 weak")];
    let figure = Figure::bars("scale", "A thousand miners", "time used for training", bars);
    Findings { measures, figures: vec![figure] }
}
