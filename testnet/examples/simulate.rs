//! Runs scenarios on virtual time over many seeds and prints their figures:
//! `cargo run --release -p podl-testnet --no-default-features --features sim --example simulate -- SCENARIO|all FIRST LAST`

#![allow(clippy::print_stdout, reason = "a command-line tool")]

use std::collections::BTreeMap;

use podl_testnet::sim::{Report, Scenario, run, setup};

fn percentile(sorted: &[u64], hundredths: usize) -> u64 {
    sorted.get((sorted.len().saturating_sub(1)) * hundredths / 100).copied().unwrap_or(0)
}

fn summary(scenario: Scenario, seats: usize, reports: &[(u64, Report)], seconds: f64) {
    let mut resumed: Vec<u64> = reports.iter().filter_map(|(_, report)| report.resumed_after).collect();
    resumed.sort_unstable();
    let sum = |f: fn(&Report) -> u64| reports.iter().map(|(_, report)| f(report)).sum::<u64>();
    let mut lag: BTreeMap<u64, u64> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, report) in reports {
        report.lag.iter().for_each(|(height, times)| *lag.entry(*height).or_default() += times);
        report.kinds.iter().for_each(|(kind, times)| *kinds.entry(kind).or_default() += times);
    }
    let heights = sum(|report| report.head_height).max(1);
    println!(
        "{scenario:?} W={seats}: {} runs, {} bad, resumed after p50 {} p90 {} max {}, heights {heights}, kinds {kinds:?}, \
         reorgs {}, evidence {}, {} messages and {} kB a height, lag {lag:?}, {seconds:.1} s",
        reports.len(),
        reports.iter().filter(|(_, report)| !report.violations.is_empty()).count(),
        percentile(&resumed, 50),
        percentile(&resumed, 90),
        percentile(&resumed, 100),
        sum(|report| report.reorgs),
        sum(|report| report.evidence),
        sum(|report| report.messages) / heights,
        sum(|report| report.bytes) / heights / 1000,
    );
    for (seed, report) in reports.iter().filter(|(_, report)| !report.violations.is_empty()).take(5) {
        println!("  seed {seed}: {}", report.violations[0]);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.first().map_or("all", String::as_str);
    let number = |place: usize, default: u64| arguments.get(place).and_then(|a| a.parse().ok()).unwrap_or(default);
    let seeds = number(1, 0)..=number(2, 9);
    for scenario in Scenario::ALL {
        if wanted != "all" && wanted != format!("{scenario:?}") {
            continue;
        }
        for seats in [4, 7] {
            let start = std::time::Instant::now();
            let reports: Vec<(u64, Report)> =
                seeds.clone().map(|seed| (seed, run(&setup(scenario, seats, seed)))).collect();
            summary(scenario, seats, &reports, start.elapsed().as_secs_f64());
        }
    }
}
