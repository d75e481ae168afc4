//! What the paper's division into exploring and exploiting miners brings.

use std::sync::Arc;

use super::figure::{Curve, Figure, Findings, Shape};
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, PASSES, PHASE_MS, miners};
use super::statistics::{bootstrap, mean};
use crate::manager::CANDIDATE_PASSES;
use crate::sim::{Landscape, SimReport, Simulation};

/// Phases of one run.
const PHASES: u32 = 2;
/// Points of a curve.
const POINTS: u64 = 40;

/// A kind of phase.
struct Regime {
    name: &'static str,
    figure: &'static str,
    /// Passes over the data that a candidate gets at most.
    passes: u32,
    /// Miners are so many times slower than those of the other scenarios.
    slower: u64,
}

const REGIMES: [Regime; 3] = [
    // A phase is some thirty passes of one miner.
    Regime { name: "candidates of one pass", figure: "strategy-short", passes: 1, slower: 20 },
    Regime { name: "candidates of 10 passes", figure: "strategy", passes: CANDIDATE_PASSES, slower: 1 },
    Regime { name: "candidates of 30 passes", figure: "strategy-full", passes: PASSES, slower: 1 },
];

/// Accuracy after the same time with and without exploitation, with five strong and four weak miners: where a phase is
/// short of what networks need (one pass over the data for a candidate), where it is not, and where each candidate is
/// trained in full, which leaves nothing to exploit.
pub fn strategy(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let mut findings = Findings::default();
    for regime in &REGIMES {
        let pairs =
            for_each_seed(seeds, |seed| [true, false].map(|exploits| run(landscape, regime, exploits, seed).progress));
        let last = |progress: &Progress| accuracy_at(progress, u64::MAX);
        let sides = [("on", 0usize), ("off", 1)];
        for (which, of) in sides {
            let estimate = bootstrap(&pairs, |p| mean(p, |p| last(&p[of])));
            let what = format!("best accuracy with exploitation {which}, {}", regime.name);
            findings.measures.push(Measure::new("strategy", what, estimate, Goal::None, seeds));
        }
        let gain = bootstrap(&pairs, |p| mean(p, |p| last(&p[0]) - last(&p[1])));
        let what = format!("gain from exploitation, {}", regime.name);
        findings.measures.push(Measure::new("strategy", what, gain, Goal::Above0, seeds));
        let all: Vec<&[Progress; 2]> = pairs.iter().collect();
        let curves = sides.map(|(which, of)| {
            let times = (1..=POINTS).map(|n| u64::from(PHASES) * PHASE_MS * n / POINTS);
            let points = times.map(|ms| [ms as f64 / 60_000.0, mean(&all, |p| accuracy_at(&p[of], ms))]);
            Curve { label: format!("exploitation {which}"), points: points.collect() }
        });
        findings.figures.push(Figure {
            name: regime.figure,
            title: format!("Exploration and exploitation, {}", regime.name),
            y: "best accuracy",
            shape: Shape::Curves { x: "minutes of training", curves: curves.into() },
        });
    }
    findings
}

/// Time of each improvement and what it reached, in millionths.
type Progress = Vec<(u64, u32)>;

fn run(landscape: &Arc<dyn Landscape>, regime: &Regime, exploits: bool, seed: u64) -> SimReport {
    let mut spec = setup::spec(landscape, miners(5, 4), PHASES, seed);
    setup::train_candidates(&mut spec, regime.passes);
    spec.params.exploit = exploits;
    spec.miners.iter_mut().for_each(|m| m.speed_macs_s /= regime.slower);
    Simulation::new(spec).run().0
}

fn accuracy_at(progress: &Progress, ms: u64) -> f64 {
    f64::from(progress.iter().take_while(|(at, _)| *at <= ms).last().map_or(0, |(_, ppm)| *ppm)) / 1e6
}
