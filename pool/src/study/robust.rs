//! What a dying manager costs, and how a large pool does.

use std::sync::Arc;

use podl_nas::search::StrategyKind;

use super::figure::Findings;
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, LEASE_MS, miners};
use super::statistics::{bootstrap, mean};
use crate::sim::{Landscape, Simulation};

/// Verified work that is gone after the manager was killed in the middle of leases and came back from its journal.
pub fn manager_kill(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let runs = for_each_seed(seeds, |seed| {
        let mut spec = setup::spec(landscape, miners(5, 4), 2, seed);
        spec.params.strategy = StrategyKind::HillClimb;
        // A prime, so that it dies at another point of the leases every time.
        spec.manager_dies_every_ms = Some(LEASE_MS + 7_919);
        let (report, _) = Simulation::new(spec).run();
        (report.lost_macs as f64, f64::from(report.manager_deaths))
    });
    let lost = bootstrap(&runs, |r| mean(r, |r| r.0));
    let deaths = bootstrap(&runs, |r| mean(r, |r| r.1));
    Findings::plain(vec![
        Measure::new("manager-kill", "verified multiply-accumulates lost", lost, Goal::AtMost(0.0), seeds),
        Measure::new("manager-kill", "times the manager was killed in a run", deaths, Goal::None, seeds),
    ])
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
    Findings::plain(vec![
        Measure::new("scale", "seconds to simulate a phase of 1,000 miners", seconds, Goal::AtMost(600.0), seeds),
        Measure::new("scale", "utilisation of 1,000 miners", used, Goal::AtLeast(0.95), seeds),
    ])
}
