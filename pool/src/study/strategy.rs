//! What the paper's division into exploring and exploiting miners brings.

use std::sync::Arc;

use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, miners};
use super::statistics::{bootstrap, mean};
use crate::sim::{Landscape, Simulation};

/// Phases of one run.
const PHASES: u32 = 2;

/// Accuracy after the same time with and without exploitation, with five strong and four weak miners, where a phase is
/// short of what networks need (one pass over the data for a candidate) and where it is not (a full training for each).
pub fn strategy(landscape: &Arc<dyn Landscape>, seeds: u64) -> Vec<Measure> {
    let mut measures = Vec::new();
    for (name, passes) in [("candidates of one pass", 1), ("candidates of 30 passes", 30)] {
        let pairs = for_each_seed(seeds, |seed| {
            [true, false].map(|exploit| {
                let mut spec = setup::spec(landscape, miners(5, 4), PHASES, seed);
                spec.params.most_passes = passes;
                spec.params.exploit = exploit;
                if passes == 1 {
                    // Miners a twentieth as fast: a phase is some thirty passes of one of them.
                    spec.miners.iter_mut().for_each(|m| m.speed_macs_s /= 20);
                }
                let (report, _) = Simulation::new(spec).run();
                f64::from(report.progress.last().map_or(0, |(_, ppm)| *ppm)) / 1e6
            })
        });
        for (which, of) in [("on", 0usize), ("off", 1)] {
            let estimate = bootstrap(&pairs, |p| mean(p, |p| p[of]));
            let what = format!("best accuracy with exploitation {which}, {name}");
            measures.push(Measure::new("strategy", what, estimate, Goal::None, seeds));
        }
        let gain = bootstrap(&pairs, |p| mean(p, |p| p[0] - p[1]));
        measures.push(Measure::new("strategy", format!("gain from exploitation, {name}"), gain, Goal::Above0, seeds));
    }
    measures
}
