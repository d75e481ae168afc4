//! How much sooner a pool finds a network that is good enough.

use std::sync::Arc;

use podl_nas::search::StrategyKind;

use super::baselines::{Team, race};
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, PHASE_MS, STRONG, miners};
use super::statistics::{bootstrap, mean};
use crate::partition::{Subspace, algorithm1, boxes_for, disjoint};
use crate::rng::SeededRng;
use crate::sim::{Landscape, MinerSpec, Simulation, Target};
use crate::types::meets_bounds;

/// Random feasible networks that tell what share of single evaluations reaches a target.
const SAMPLE: usize = 4000;
/// Most seeds for targets without a share of evaluations.
const MOST_HARD_SEEDS: u64 = 10;
/// Phases after which a search that has not found it counts as having taken that long.
const LIMIT_PHASES: u32 = 60;
/// The paper's controller needs far more evaluations; it is given up earlier, which only flatters it.
const REINFORCE_LIMIT_MS: u64 = PHASE_MS * 20;

/// Makes the teams of a scheme for a seed.
type Teams = fn(u64) -> Vec<Team>;

/// What is looked for and how.
struct Race {
    target_ppm: u32,
    /// Percent of single evaluations that reach it.
    percent: Option<f64>,
    strategy: StrategyKind,
}

/// Speed-up of nine equal miners and of five strong and four weak ones over one strong miner. Drawn at random, one
/// evaluation is like the other: then nine miners cannot be more than 8.3 to 8.7 times sooner where 1 to 2 % of them reach
/// the target, and what is missing is what the pool costs. With the default search a lone miner can also be stuck where
/// nine are not, and for targets that need many steps from network to network nine cannot be nine times sooner.
pub fn speedup(landscape: &Arc<dyn Landscape>, seeds: u64) -> Vec<Measure> {
    let sample = sample(landscape);
    let common = [5.0, 2.0, 1.0]
        .into_iter()
        .flat_map(|percent| [StrategyKind::Random, StrategyKind::Predictor].map(|strategy| (Some(percent), strategy)));
    let races = common.map(|(percent, strategy)| {
        let target_ppm = quantile(&sample, percent.unwrap_or(1.0) / 100.0);
        Race { target_ppm, percent, strategy }
    });
    let hard =
        [600_000, 700_000].map(|target_ppm| Race { target_ppm, percent: None, strategy: StrategyKind::Predictor });
    races.chain(hard).flat_map(|race| speedup_of(landscape, seeds, &race)).collect()
}

fn speedup_of(landscape: &Arc<dyn Landscape>, seeds: u64, race: &Race) -> [Measure; 2] {
    // Hard targets take hundreds of evaluations, each with a fit of the predictor.
    let seeds = if race.percent.is_some() { seeds } else { seeds.min(MOST_HARD_SEEDS) };
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

/// The same target by other schemes on nine equal miners: how many times sooner the pool is.
pub fn baselines(landscape: &Arc<dyn Landscape>, seeds: u64) -> Vec<Measure> {
    let target_ppm = quantile(&sample(landscape), 0.01);
    let race_of_pool = Race { target_ppm, percent: Some(1.0), strategy: StrategyKind::Predictor };
    let pool = for_each_seed(seeds, |seed| time_to(landscape, miners(9, 0), &race_of_pool, seed));
    let schemes: [(&str, Teams, u64); 4] = [
        ("nine uncoordinated miners", uncoordinated, u64::from(LIMIT_PHASES) * PHASE_MS),
        ("a naive equal split of the space", equal_split, u64::from(LIMIT_PHASES) * PHASE_MS),
        ("central asynchronous search, without messages and checks", central, u64::from(LIMIT_PHASES) * PHASE_MS),
        ("the paper's Algorithm 1 with its controller", paper, REINFORCE_LIMIT_MS),
    ];
    let spec = setup::spec(landscape, miners(9, 0), 1, 0);
    let all = schemes.into_iter().map(|(name, teams, limit_ms)| {
        let others = for_each_seed(seeds, |seed| race(teams(seed), &spec, target_ppm, limit_ms) as f64);
        let pairs: Vec<(f64, f64)> = pool.iter().copied().zip(others).collect();
        let ratio = bootstrap(&pairs, |p| mean(p, |p| p.1) / mean(p, |p| p.0).max(1.0));
        Measure::new(
            "baselines",
            format!("pool of nine over {name}: time to .{:03}", target_ppm / 1000),
            ratio,
            Goal::None,
            seeds,
        )
    });
    all.collect()
}

fn time_to(landscape: &Arc<dyn Landscape>, miners: Vec<MinerSpec>, race: &Race, seed: u64) -> f64 {
    let mut spec = setup::spec(landscape, miners, LIMIT_PHASES, seed);
    spec.target = Some(Target { accuracy_ppm: race.target_ppm });
    spec.params.strategy = race.strategy;
    // A search at random learns nothing from what it found.
    spec.params.exploit = race.strategy != StrategyKind::Random;
    let (report, _) = Simulation::new(spec).run();
    report.reached_ms.unwrap_or(report.phases_ms) as f64
}

/// Accuracies of random feasible networks, ascending.
fn sample(landscape: &Arc<dyn Landscape>) -> Vec<u32> {
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
fn quantile(sample: &[u32], share: f64) -> u32 {
    let from_end = (sample.len() as f64 * share).round().max(1.0) as usize;
    sample.len().checked_sub(from_end).and_then(|at| sample.get(at)).copied().unwrap_or(0)
}

fn team(kind: StrategyKind, part: &Subspace, seed: u64, number: u64, workers: Vec<u64>) -> Option<Team> {
    let bytes = SeededRng::new(&[seed.to_le_bytes(), number.to_le_bytes()].concat(), "team").next_bytes();
    Team::new(kind, part, bytes, workers).ok()
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
