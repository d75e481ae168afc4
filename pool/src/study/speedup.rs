//! How much sooner a pool finds a network that is good enough.

use std::sync::Arc;

use podl_nas::search::StrategyKind;

use super::figure::{Bar, Figure, Findings};
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, PASSES, miners};
use super::statistics::{bootstrap, mean};
use crate::partition::Subspace;
use crate::rng::SeededRng;
use crate::sim::{Landscape, MinerSpec, Simulation, Target};
use crate::types::meets_bounds;

/// Random feasible networks that tell what share of single evaluations reaches a target.
const SAMPLE: usize = 4000;
/// Phases after which a search that has not found it counts as having taken that long.
pub(super) const LIMIT_PHASES: u32 = 60;
/// What is looked for and how.
pub(super) struct Race {
    pub target_ppm: u32,
    /// Percent of single evaluations that reach it.
    pub percent: Option<f64>,
    pub strategy: StrategyKind,
}

/// Targets that no share of random networks worth naming reaches.
pub(super) fn hard_races() -> [Race; 2] {
    [600_000, 700_000].map(|target_ppm| Race { target_ppm, percent: None, strategy: StrategyKind::Predictor })
}

/// Speed-up of nine equal miners and of five strong and four weak ones over one strong miner. Drawn at random, one
/// evaluation is like the other: then nine miners cannot be more than 8.3 to 8.7 times sooner where 1 to 2 % of them reach
/// the target, and what is missing is what the pool costs. With the default search a lone miner can also be stuck where
/// nine are not, and for targets that need many steps from network to network nine cannot be nine times sooner.
pub fn speedup(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let sample = sample(landscape);
    let common = [5.0, 2.0, 1.0]
        .into_iter()
        .flat_map(|percent| [StrategyKind::Random, StrategyKind::Predictor].map(|strategy| (Some(percent), strategy)));
    let races = common.map(|(percent, strategy)| {
        let target_ppm = quantile(&sample, percent.unwrap_or(1.0) / 100.0);
        Race { target_ppm, percent, strategy }
    });
    let mut measures = Vec::new();
    let mut bars: [Vec<Bar>; 2] = Default::default();
    for race in races.chain(hard_races()) {
        let pair = speedup_of(landscape, seeds, &race);
        let which = usize::from(race.strategy != StrategyKind::Random);
        let target = race.target_ppm / 1000;
        let labels = [format!(".{target:03}: 9"), "5 + 4".into()];
        bars[which].extend(pair.iter().zip(labels).map(|(measure, label)| Bar::of(measure, label)));
        measures.extend(pair);
    }
    let [random, predictor] = bars;
    let figures = [
        ("speedup", "Speed-up over one miner by the target accuracy, default search", predictor),
        ("speedup-random", "Speed-up over one miner by the target accuracy, random search", random),
    ]
    .map(|(name, title, bars)| Figure::bars(name, title, "times sooner", bars));
    Findings { measures, figures: figures.into() }
}

fn speedup_of(landscape: &Arc<dyn Landscape>, seeds: u64, race: &Race) -> [Measure; 2] {
    let times = for_each_seed(seeds, |seed| {
        [(1, 0), (9, 0), (5, 4)].map(|(strong, weak)| time_to(landscape, miners(strong, weak), race, seed))
    });
    let difficulty = race.percent.map_or_else(String::new, |p| format!(" ({p} % of single evaluations reach it)"));
    let target = race.target_ppm / 1000;
    let named = |who: &str| format!("{who} over one, {}: speed-up to .{target:03}{difficulty}", race.strategy.name());
    // The goals are named for targets that one to two in a hundred evaluations reach.
    let has_goal = race.percent.is_some_and(|percent| percent <= 2.0);
    [("nine equal", 1usize, 6.5), ("5 strong + 4 at a tenth", 2, 4.3)].map(|(who, at, goal)| {
        let estimate = bootstrap(&times, |t| mean(t, |t| t[0]) / mean(t, |t| t[at]).max(1.0));
        let goal = if has_goal { Goal::AtLeast(goal) } else { Goal::None };
        Measure::new("speedup", named(who), estimate, goal, seeds)
    })
}

/// Milliseconds of training phases until a pool of these miners has a model of the target.
pub(super) fn time_to(landscape: &Arc<dyn Landscape>, miners: Vec<MinerSpec>, race: &Race, seed: u64) -> f64 {
    let mut spec = setup::spec(landscape, miners, LIMIT_PHASES, seed);
    spec.target = Some(Target { accuracy_ppm: race.target_ppm });
    spec.params.strategy = race.strategy;
    if race.strategy == StrategyKind::Random {
        // One evaluation is a full training then, and nothing is learned from what was found.
        spec.params.exploit = false;
        setup::train_candidates(&mut spec, PASSES);
    }
    let (report, _) = Simulation::new(spec).run();
    report.reached_ms.unwrap_or(report.phases_ms) as f64
}

/// Accuracies of random feasible networks, ascending.
pub(super) fn sample(landscape: &Arc<dyn Landscape>) -> Vec<u32> {
    let work = setup::workload();
    let whole = Subspace::whole(work.space.clone());
    let mut rng = SeededRng::new(b"sample", "study");
    let mut found = Vec::with_capacity(SAMPLE);
    while found.len() < SAMPLE {
        let Some(network) = whole.draw(&mut rng) else { break };
        if meets_bounds(&network, work.input, work.bounds) {
            found.push(landscape.accuracy_ppm(&network));
        }
    }
    found.sort_unstable();
    found
}

/// The accuracy that this share of a sample reaches.
pub(super) fn quantile(sample: &[u32], share: f64) -> u32 {
    let from_end = (sample.len() as f64 * share).round().max(1.0) as usize;
    sample.len().checked_sub(from_end).and_then(|at| sample.get(at)).copied().unwrap_or(0)
}
