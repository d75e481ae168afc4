//! What cheating brings: pay less what the work behind it would have cost.

use std::sync::Arc;

use podl_nas::search::StrategyKind;

use super::figure::Findings;
use super::measure::{Goal, Measure, for_each_seed};
use super::pay::total;
use super::setup::{self, miners};
use super::statistics::{bootstrap, mean};
use crate::sim::{Cheat, Landscape, Simulation, account};

/// Intervals of one run.
const INTERVALS: u32 = 12;

/// The profit of one miner of nine that cheats, as a part of what an honest one is paid: its pay, less what honest miners
/// are paid for as much training as it really did. One that trains nothing cannot lose by this, and must gain nothing; what it
/// could have earned on the same machine is its cost.
pub fn cheats(landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
    let cheats = [
        ("inflated counts", Cheat::InflatesCounts(60), Goal::Below0),
        ("training an eighth of what is claimed", Cheat::Underworks, Goal::Below0),
        ("handing in the pool's best as one's own", Cheat::Copies, Goal::Below0),
        ("holding leases without training", Cheat::Squats, Goal::AtMost(0.0)),
    ];
    let all = cheats.into_iter().map(|(name, cheat, goal)| {
        let profits = for_each_seed(seeds, |seed| {
            let mut all = miners(9, 0);
            if let Some(last) = all.last_mut() {
                last.cheat = cheat;
            }
            let mut spec = setup::spec(landscape, all, INTERVALS, seed);
            spec.params.strategy = StrategyKind::HillClimb;
            let (report, _) = Simulation::new(spec).run();
            let pay = |owner: u16| total(&report, account(owner));
            let honest = (1..9).map(pay).sum::<f64>() / 8.0;
            let honest_macs = report.spent_macs.iter().take(8).sum::<u128>() as f64 / 8.0;
            let own_macs = report.spent_macs.last().copied().unwrap_or(0) as f64;
            (pay(9) - honest * own_macs / honest_macs.max(1.0), honest)
        });
        let profit = bootstrap(&profits, |p| mean(p, |p| p.0) / mean(p, |p| p.1).max(1.0));
        Measure::new("cheats", format!("profit of {name}"), profit, goal, seeds)
    });
    let labels = ["counts", "underwork", "copies", "squats"];
    Findings::with_bars(
        all.collect(),
        "cheats",
        "What cheating brings",
        "profit, parts of an honest miner's pay",
        labels,
    )
}
