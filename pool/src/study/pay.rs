//! What pay is worth to a miner: how steady it is, and that nothing is gained by splitting or hopping.

use std::sync::Arc;

use podl_chain_spec::AccountId;
use podl_nas::search::StrategyKind;

use super::figure::Findings;
use super::measure::{Goal, Measure, for_each_seed};
use super::setup::{self, PHASE_MS, STRONG, miners};
use super::statistics::{bootstrap, mean, variance};
use crate::rng::SeededRng;
use crate::sim::{Landscape, MinerSpec, SimReport, SimSpec, Simulation, Stay, Wins, account};

/// Of a thousand intervals so many are won by the pool where others mine too.
const WINS_PERMILLE: u64 = 200;
/// Intervals of one run.
const INTERVALS: u32 = 48;
/// Identities of the miner that splits.
const IDENTITIES: u16 = 4;
/// Time from the beginning of one phase to that of the next.
const INTERVAL_MS: u64 = PHASE_MS + 4500;

/// Variance of a miner's income in a pool of nine against mining alone.
pub fn variance_of_income(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let pairs = for_each_seed(seeds, |seed| {
        let mut spec = spec(landscape, miners(9, 0), seed);
        spec.wins = Wins::Luck(WINS_PERMILLE);
        let reward = spec.reward.0 as f64;
        let (report, _) = Simulation::new(spec).run();
        let pooled: f64 = (1..=9).map(|owner| variance(&income(&report, account(owner)))).sum();
        let mut luck = SeededRng::new(&seed.to_le_bytes(), "alone");
        let alone: f64 = (0..9)
            .map(|_| {
                let won: Vec<f64> =
                    (0..INTERVALS).map(|_| if luck.below(9000) < WINS_PERMILLE { reward } else { 0.0 }).collect();
                variance(&won)
            })
            .sum();
        (pooled, alone)
    });
    let change = bootstrap(&pairs, |p| mean(p, |p| p.0) / mean(p, |p| p.1) - 1.0);
    let what = "variance of income, pool of nine against alone";
    let measures = vec![Measure::new("variance", what, change, Goal::AtMost(-0.85), seeds)];
    let title = "Variance of income in a pool of nine, against alone";
    Findings::with_bars(measures, "variance", title, "change, parts of it", ["pool of nine"])
}

/// What a miner gains by being several, and by coming and going.
pub fn neutrality(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let split = for_each_seed(seeds, |seed| {
        let whole = total(&Simulation::new(spec(landscape, miners(9, 0), seed)).run().0, account(9));
        let mut many = miners(8, 0);
        let part = MinerSpec { owner: 9, ..MinerSpec::honest(STRONG / u64::from(IDENTITIES)) };
        many.extend(std::iter::repeat_n(part, IDENTITIES.into()));
        (total(&Simulation::new(spec(landscape, many, seed)).run().0, account(9)), whole)
    });
    // From the first interval on, and from the second: who is there in the first has more of windows that are short still.
    let hop = for_each_seed(seeds, |seed| [hopped(landscape, 0, seed), hopped(landscape, 1, seed)]);
    let gain = bootstrap(&split, |p| mean(p, |p| p.0) / mean(p, |p| p.1) - 1.0);
    let hopping = bootstrap(&hop, |runs| {
        let sum = |of: fn(&Hopped) -> f64| mean(runs, |both| both.iter().map(of).sum());
        let hopper = sum(|r| r.hopper.pay) / sum(|r| r.hopper.macs).max(1.0);
        let steady = sum(|r| r.steady.pay) / sum(|r| r.steady.macs).max(1.0);
        hopper / steady - 1.0
    });
    let measures = vec![
        Measure::new("neutrality", format!("gain from {IDENTITIES} identities"), gain, Goal::Within(0.02), seeds),
        Measure::new("neutrality", "gain from hopping", hopping, Goal::Within(0.02), seeds),
    ];
    let labels = ["four identities", "hopping"];
    Findings::with_bars(measures, "neutrality", "What splitting and hopping bring", "gain, parts of the pay", labels)
}

/// What was paid for so much work.
struct Earned {
    pay: f64,
    macs: f64,
}

/// One miner that comes and goes, and eight that stay.
struct Hopped {
    hopper: Earned,
    steady: Earned,
}

/// A run with one miner of nine in every other interval only, from the `first` one on. The pool wins every interval: who
/// wins depends on nothing that is compared, so that this is what luck would pay on average, without its scatter.
fn hopped(landscape: &Arc<dyn Landscape>, first: u64, seed: u64) -> Hopped {
    let mut all = miners(9, 0);
    let stays = (first..u64::from(INTERVALS))
        .step_by(2)
        .map(|interval| Stay { from_ms: interval * INTERVAL_MS, dies_ms: Some((interval + 1) * INTERVAL_MS - 1000) });
    if let Some(hopper) = all.last_mut() {
        hopper.stays = stays.collect();
    }
    let (report, _) = Simulation::new(spec(landscape, all, seed)).run();
    let earned = |owners: std::ops::Range<u16>| {
        let pay = owners.clone().map(|owner| total(&report, account(owner))).sum();
        let macs = owners.filter_map(|owner| report.delivered_macs.get(usize::from(owner) - 1)).sum::<u128>() as f64;
        Earned { pay, macs }
    };
    Hopped { hopper: earned(9..10), steady: earned(1..9) }
}

fn spec(landscape: &Arc<dyn Landscape>, miners: Vec<MinerSpec>, seed: u64) -> SimSpec {
    let mut spec = setup::spec(landscape, miners, INTERVALS, seed);
    // What is found is not looked at here; the quickest strategy will do.
    spec.params.strategy = StrategyKind::HillClimb;
    spec
}

fn income(report: &SimReport, account: AccountId) -> Vec<f64> {
    report.income.iter().map(|paid| paid.get(&account).copied().unwrap_or(0) as f64).collect()
}

/// What an account was paid in a run.
pub(super) fn total(report: &SimReport, account: AccountId) -> f64 {
    income(report, account).iter().sum()
}
