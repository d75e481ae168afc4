//! The paper's own experiments (4.2 and 4.3) on the recorded trainings: one controller in the full space, nine in the
//! subspaces S1 to S9, each on its own for 2,000 episodes under 100,000 LUTs and 10 images/s.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_consensus::workload::{Architecture, Bounds, InputShape, PRESET_NAMES, Space};
use podl_nas::search::{AnyStrategy, SearchBox, Strategy, StrategyKind};

use super::figure::{Curve, Figure, Findings, Shape};
use super::measure::{Goal, Measure, for_each_seed};
use super::statistics::{bootstrap, mean, variance};
use crate::rng::SeededRng;
use crate::sim::Landscape;
use crate::types::meets_bounds;

/// Episodes of each miner (4.1.3).
const EPISODES: usize = 2000;
/// Episodes of a weak miner in the same time (4.1.5).
const WEAK_EPISODES: usize = 200;
/// The paper's bounds, which reject hardly anything.
const BOUNDS: Bounds = Bounds { lut: 100_000, throughput: 10 };
/// Episodes between two points of a figure.
const STEP: usize = 10;
/// Convolution layers.
const LAYERS: u8 = 6;

/// Best rewards after every episode: of the full space first, then S1 to S9.
type Curves = Vec<Vec<f64>>;

/// Figures 2 to 4 and the experiment with weak miners.
pub fn paper(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let runs: Vec<Curves> =
        for_each_seed(seeds, |seed| PRESET_NAMES.iter().map(|name| curve(landscape.as_ref(), name, seed)).collect());
    let say = |what: String, of: &dyn Fn(&Curves) -> f64, goal: Goal| {
        Measure::new("paper", what, bootstrap(&runs, |r| mean(r, of)), goal, seeds)
    };
    let mut measures = Vec::new();
    for (index, name) in PRESET_NAMES.iter().enumerate() {
        measures.push(say(
            format!("figure 2: best reward in {name} after {EPISODES} episodes"),
            &|curves| at(curves, index, EPISODES),
            Goal::None,
        ));
    }
    for episodes in [WEAK_EPISODES, 500, EPISODES] {
        measures.push(say(
            format!("figure 3: best of the nine less the miner in the full space after {episodes} episodes"),
            &|curves| best(curves, &[], episodes) - at(curves, 0, episodes),
            Goal::None,
        ));
    }
    for episodes in [50, WEAK_EPISODES, 500, EPISODES] {
        measures.push(say(
            format!("figure 4: sigma of S1, S2, S4 and S9 after {episodes} episodes"),
            &|curves| sigma(curves, episodes),
            Goal::None,
        ));
    }
    measures.push(say(
        format!("weak miners in S1 and S4 ({WEAK_EPISODES} episodes): what the pool's best loses by them"),
        &|curves| best(curves, &[], EPISODES) - best(curves, &[1, 4], EPISODES),
        Goal::None,
    ));
    Findings { measures, figures: figures(&runs) }
}

/// The paper's figures 2 to 4, and the pool's best with and without weak miners where it hurts.
fn figures(runs: &[Curves]) -> Vec<Figure> {
    let mean_of = |label: &str, of: &dyn Fn(&Curves, usize) -> f64| {
        let all: Vec<&Curves> = runs.iter().collect();
        let point = |episodes: usize| [episodes as f64, mean(&all, |curves| of(curves, episodes))];
        Curve { label: label.into(), points: (1..=EPISODES / STEP).map(|n| point(n * STEP)).collect() }
    };
    let of_space = |space: usize| {
        let label = PRESET_NAMES.get(space).copied().unwrap_or_default();
        mean_of(label, &|curves, episodes| at(curves, space, episodes))
    };
    let pool = mean_of("all nine strong", &|curves, episodes| best(curves, &[], episodes));
    let weak = mean_of("S1 and S4 weak", &|curves, episodes| best(curves, &[1, 4], episodes));
    let sigma = mean_of("S1, S2, S4 and S9", &|curves, episodes| sigma(curves, episodes));
    let named = |name, title: &str, y, curves| Figure {
        name,
        title: title.into(),
        y,
        shape: Shape::Curves { x: "episode", curves },
    };
    vec![
        named("paper-2", "Best reward by space (figure 2)", "reward", (0..=9).map(of_space).collect()),
        named("paper-3", "The spaces that do well (figure 3)", "reward", [0, 1, 2, 4, 9].map(of_space).into()),
        named("paper-4", "Deviation between them (figure 4)", "standard deviation of the reward", vec![sigma]),
        named("paper-weak", "Weak miners in two of nine spaces", "reward of the pool", vec![of_space(0), pool, weak]),
    ]
}

/// Deviation between the bests of the spaces that do well.
fn sigma(curves: &Curves, episodes: usize) -> f64 {
    variance(&[1, 2, 4, 9].map(|space| at(curves, space, episodes))).sqrt()
}

fn at(curves: &Curves, space: usize, episodes: usize) -> f64 {
    curves.get(space).and_then(|curve| curve.get(episodes - 1).or(curve.last())).copied().unwrap_or(0.0)
}

/// The best of S1 to S9; miners of the spaces in `weak` stop after a tenth of the episodes.
fn best(curves: &Curves, weak: &[usize], episodes: usize) -> f64 {
    let of = |space: usize| at(curves, space, if weak.contains(&space) { WEAK_EPISODES } else { episodes });
    (1..=9).map(of).fold(0.0, f64::max)
}

/// One controller in one space. An infeasible network is an episode with reward 0, a known one earns what it did.
fn curve(landscape: &dyn Landscape, name: &str, seed: u64) -> Vec<f64> {
    let space = Space::preset(name, LAYERS);
    let Some(own) = space.and_then(|space| SearchBox::from_space(&space).ok()) else { return Vec::new() };
    let bytes = SeededRng::new(&[&seed.to_le_bytes(), name.as_bytes()].concat(), "paper").next_bytes();
    let mut strategy = AnyStrategy::new(StrategyKind::Reinforce, own, bytes, Vec::new());
    let mut known: BTreeMap<Architecture, u32> = BTreeMap::new();
    let mut best = 0u32;
    (0..EPISODES)
        .map(|_| {
            let network = strategy.propose();
            if meets_bounds(&network, InputShape::CIFAR, BOUNDS) {
                let reward = *known.entry(network.clone()).or_insert_with(|| landscape.accuracy_ppm(&network));
                strategy.report(&network, reward);
                best = best.max(reward);
            } else {
                strategy.reject(&network);
            }
            f64::from(best) / 1e6
        })
        .collect()
}
