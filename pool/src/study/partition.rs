//! What cutting the space among searches costs or brings.

use std::sync::Arc;

use super::figure::{Bar, Figure, Findings};
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, PHASE_MS, miners};
use super::statistics::{Estimate, bootstrap, mean};
use crate::partition::{Scheme, union_cardinality};
use crate::sim::{Landscape, Simulation};

/// Phases of one run.
const PHASES: u32 = 2;
/// What is looked for, in millionths.
const TARGETS_PPM: [u32; 2] = [600_000, 700_000];

/// What one run showed.
struct Seen {
    /// Best true accuracy at the end.
    best: f64,
    /// Minutes of training to each target, all of them where it was not reached.
    minutes: [f64; 2],
    /// Networks whose training was begun.
    begun: f64,
    /// Networks in the parts that were searched at the end, as a power of ten.
    searched: f64,
}

/// Nine equal miners under the pool's own strategy, the same seeds with each partition: what they find in the same time,
/// when they have what is looked for, and how much of the space they begin and still search. The whole space, which is what
/// a node takes unless told otherwise, is what the others are held against.
pub fn partition(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let runs = for_each_seed(seeds, |seed| Scheme::ALL.map(|scheme| run(landscape, scheme, seed)));
    let mut measures = Vec::new();
    let mut bars = Vec::new();
    for (at, scheme) in Scheme::ALL.into_iter().enumerate() {
        let measure = |what: String, of: &dyn Fn(&[Seen; 4]) -> f64| {
            Measure::new("partition", what, mean_of(&runs, of), Goal::None, seeds)
        };
        let best = measure(format!("best accuracy, {scheme}"), &|run| run[at].best);
        bars.push(Bar::of(&best, scheme.name()));
        measures.push(best);
        for (target, ppm) in TARGETS_PPM.iter().enumerate() {
            let what = format!("minutes to .{}, {scheme}", ppm / 1000);
            measures.push(measure(what, &|run| run[at].minutes[target]));
        }
        measures.push(measure(format!("networks begun, {scheme}"), &|run| run[at].begun));
        measures.push(measure(format!("networks searched at the end, log10, {scheme}"), &|run| run[at].searched));
        if scheme == Scheme::Whole {
            continue;
        }
        measures.push(measure(format!("best accuracy, {scheme} less whole"), &|run| run[at].best - run[0].best));
        for (target, ppm) in TARGETS_PPM.iter().enumerate() {
            let what = format!("minutes to .{}, {scheme} less whole", ppm / 1000);
            measures.push(measure(what, &|run| run[at].minutes[target] - run[0].minutes[target]));
        }
    }
    let title = "Best accuracy of nine miners after two phases by partition";
    Findings { measures, figures: vec![Figure::bars("partition", title, "best accuracy", bars)] }
}

fn mean_of(runs: &[[Seen; 4]], of: &dyn Fn(&[Seen; 4]) -> f64) -> Estimate {
    bootstrap(runs, |chosen| mean(chosen, of))
}

fn run(landscape: &Arc<dyn Landscape>, scheme: Scheme, seed: u64) -> Seen {
    let mut spec = setup::spec(landscape, miners(9, 0), PHASES, seed);
    spec.params.scheme = scheme;
    let (report, manager) = Simulation::new(spec).run();
    let end_ms = u64::from(PHASES) * PHASE_MS;
    let minutes_to = |target_ppm: u32| {
        let reached = report.progress.iter().find(|(_, ppm)| *ppm >= target_ppm);
        reached.map_or(end_ms, |(at_ms, _)| *at_ms) as f64 / 60_000.0
    };
    let explored = manager.explored();
    let (searched, begun) =
        explored.map_or((0.0, 0), |(_, searched, begun)| (union_cardinality(&searched).log10(), begun));
    Seen {
        best: report.progress.last().map_or(0.0, |(_, ppm)| f64::from(*ppm) / 1e6),
        minutes: TARGETS_PPM.map(minutes_to),
        begun: begun as f64,
        searched,
    }
}
