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
    Findings::plain(vec![Measure::new("variance", what, change, Goal::AtMost(-0.85), seeds)])
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
    let hop = for_each_seed(seeds, |seed| {
        let mut all = miners(9, 0);
        // There in every other interval.
        let stays = (0..u64::from(INTERVALS)).step_by(2).map(|interval| Stay {
            from_ms: interval * INTERVAL_MS,
            dies_ms: Some((interval + 1) * INTERVAL_MS - 1000),
        });
        if let Some(hopper) = all.last_mut() {
            hopper.stays = stays.collect();
        }
        let mut spec = spec(landscape, all, seed);
        spec.wins = Wins::Luck(WINS_PERMILLE);
        let (report, _) = Simulation::new(spec).run();
        let per_mac = |owner: u16| {
            let macs = report.delivered_macs.get(usize::from(owner) - 1).copied().unwrap_or(0);
            (total(&report, account(owner)), macs as f64)
        };
        let steady = (1..9).map(per_mac).fold((0.0, 0.0), |(pay, macs), own| (pay + own.0, macs + own.1));
        (per_mac(9), steady)
    });
    let gain = bootstrap(&split, |p| mean(p, |p| p.0) / mean(p, |p| p.1) - 1.0);
    let hopping = bootstrap(&hop, |p| {
        let hopper = mean(p, |p| p.0.0) / mean(p, |p| p.0.1).max(1.0);
        let steady = mean(p, |p| p.1.0) / mean(p, |p| p.1.1).max(1.0);
        hopper / steady - 1.0
    });
    let measures = vec![
        Measure::new("neutrality", format!("gain from {IDENTITIES} identities"), gain, Goal::Within(0.02), seeds),
        Measure::new("neutrality", "gain from hopping", hopping, Goal::Within(0.02), seeds),
    ];
    let labels = ["four identities", "hopping"];
    Findings::with_bars(measures, "neutrality", "What splitting and hopping bring", "gain, parts of the pay", labels)
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
