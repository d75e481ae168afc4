//! The pool beside other schemes on the same nine miners.

use std::sync::Arc;

use podl_nas::search::StrategyKind;
use podl_nas::train::TrainingCosts;

use super::figure::{Bar, Figure, Findings};
use super::measure::{Goal, Measure, for_each_seed};
use super::race::{Team, race};
use super::setup::{self, PHASE_MS, STRONG, miners};
use super::speedup::{LIMIT_PHASES, Race, hard_races, quantile, sample, time_to};
use super::statistics::{bootstrap, mean};
use crate::partition::{Subspace, algorithm1, boxes_for, disjoint};
use crate::rng::SeededRng;
use crate::sim::Landscape;

/// After this a scheme counts as having taken that long.
const LIMIT_MS: u64 = LIMIT_PHASES as u64 * PHASE_MS;
/// The paper's controller needs far more evaluations; it is given up earlier, which only flatters it.
const REINFORCE_LIMIT_MS: u64 = PHASE_MS * 20;

/// A scheme that the pool is compared with.
struct Scheme {
    name: &'static str,
    /// Its name in a figure.
    short: &'static str,
    /// Its teams for a seed.
    teams: fn(u64) -> Vec<Team>,
    limit_ms: u64,
}

const SCHEMES: [Scheme; 4] = [
    Scheme { name: "nine uncoordinated miners", short: "alone", teams: uncoordinated, limit_ms: LIMIT_MS },
    Scheme { name: "a naive equal split of the space", short: "split", teams: equal_split, limit_ms: LIMIT_MS },
    Scheme {
        name: "central asynchronous search, without messages and checks",
        short: "central",
        teams: central,
        limit_ms: LIMIT_MS,
    },
    Scheme {
        name: "the paper's Algorithm 1 with its controller",
        short: "paper",
        teams: paper,
        limit_ms: REINFORCE_LIMIT_MS,
    },
];

/// How many times sooner a pool of nine equal miners has a model than other schemes have, for an easy target and two
/// that take hundreds of evaluations.
pub fn baselines(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let easy =
        Race { target_ppm: quantile(&sample(landscape), 0.01), percent: Some(1.0), strategy: StrategyKind::Predictor };
    let mut measures = Vec::new();
    let mut bars = Vec::new();
    for wanted in [easy].into_iter().chain(hard_races()) {
        let found = beside_others(landscape, seeds, &wanted);
        let target = wanted.target_ppm / 1000;
        let labels = SCHEMES.iter().map(|scheme| format!("{} .{target:03}", scheme.short));
        bars.extend(found.iter().skip(1).zip(labels).map(|(measure, label)| Bar::of(measure, label)));
        measures.extend(found);
    }
    let title = "How many times sooner a pool of nine is than other schemes";
    let figure = Figure::bars("baselines", title, "times sooner", bars);
    Findings { measures, figures: vec![figure] }
}

fn beside_others(landscape: &Arc<dyn Landscape>, seeds: u64, wanted: &Race) -> Vec<Measure> {
    let target = format!(".{:03}", wanted.target_ppm / 1000);
    let pool = for_each_seed(seeds, |seed| time_to(landscape, miners(9, 0), wanted, seed));
    let minutes = bootstrap(&pool, |p| mean(p, |ms| ms / 60_000.0));
    let own = Measure::new("baselines", format!("minutes of a pool of nine to {target}"), minutes, Goal::None, seeds);
    let spec = setup::spec(landscape, miners(9, 0), 1, 0);
    let others = SCHEMES.iter().map(|scheme| {
        let others =
            for_each_seed(seeds, |seed| race((scheme.teams)(seed), &spec, wanted.target_ppm, scheme.limit_ms) as f64);
        let pairs: Vec<(f64, f64)> = pool.iter().copied().zip(others).collect();
        let ratio = bootstrap(&pairs, |p| mean(p, |p| p.1) / mean(p, |p| p.0).max(1.0));
        let what = format!("pool of nine over {}: time to {target}", scheme.name);
        Measure::new("baselines", what, ratio, Goal::None, seeds)
    });
    std::iter::once(own).chain(others).collect()
}

fn team(kind: StrategyKind, part: &Subspace, seed: u64, number: u64, workers: Vec<u64>) -> Option<Team> {
    let bytes = SeededRng::new(&[seed.to_le_bytes(), number.to_le_bytes()].concat(), "team").next_bytes();
    Team::new(kind, part, TrainingCosts::of_task(&setup::workload()), bytes, workers).ok()
}

fn whole() -> Subspace {
    Subspace::whole(setup::workload().space)
}

fn uncoordinated(seed: u64) -> Vec<Team> {
    (0..9).filter_map(|n| team(StrategyKind::Predictor, &whole(), seed, n, vec![STRONG])).collect()
}

fn equal_split(seed: u64) -> Vec<Team> {
    let parts = disjoint(&setup::workload().space, boxes_for(9));
    (0..).zip(&parts).filter_map(|(n, part)| team(StrategyKind::Predictor, part, seed, n, vec![STRONG])).collect()
}

fn central(seed: u64) -> Vec<Team> {
    team(StrategyKind::Predictor, &whole(), seed, 0, vec![STRONG; 9]).into_iter().collect()
}

fn paper(seed: u64) -> Vec<Team> {
    let mut rng = SeededRng::new(&seed.to_le_bytes(), "algorithm 1");
    let parts = algorithm1(&setup::workload().space, 9, &mut rng);
    (0..).zip(&parts).filter_map(|(n, part)| team(StrategyKind::Reinforce, part, seed, n, vec![STRONG])).collect()
}
