//! Seeded networks on virtual time: safety in every run, finality within ten calm intervals after every disturbance.

use podl_testnet::sim::{Report, Scenario, Setup, run, setup};

/// Seeds of each scenario and each number of seats. `examples/simulate.rs` runs as many as wanted.
const SEEDS: u64 = 16;

/// Most heights from the end of the trouble until every honest node saw a block above it become final.
const CALM_INTERVALS: u64 = 10;

fn check(scenario: Scenario) -> Vec<Report> {
    let mut reports = Vec::new();
    for (seats, seed) in [4, 7].into_iter().flat_map(|seats| (0..SEEDS).map(move |seed| (seats, seed))) {
        let report = run(&setup(scenario, seats, seed));
        let what = format!("{scenario:?} W={seats} seed {seed}");
        assert!(report.violations.is_empty(), "{what}: {}", report.violations[0]);
        let resumed = report.resumed_after;
        assert!(resumed.is_some_and(|after| after <= CALM_INTERVALS), "{what}: finality resumed after {resumed:?}");
        reports.push(report);
    }
    reports
}

fn kinds(reports: &[Report], kind: &str) -> u64 {
    reports.iter().filter_map(|report| report.kinds.get(kind)).sum()
}

#[test]
fn in_calm_every_block_is_final_two_heights_later() {
    // The run itself checks it at every import: `strict_finality`.
    for scenario in [Scenario::CalmFiller, Scenario::CalmTask] {
        let reports = check(scenario);
        assert!(reports.iter().all(|report| report.lag.keys().all(|lag| *lag <= 2) && report.reorgs == 0));
        assert!(kinds(&reports, "scored") > 15 * kinds(&reports, "idle") && kinds(&reports, "void") == 0);
    }
}

#[test]
fn without_miners_idle_blocks_go_on() {
    let reports = check(Scenario::NoMiners);
    assert!(kinds(&reports, "scored") == 0 && kinds(&reports, "idle") >= 2 * SEEDS * 4);
}

#[test]
fn bad_links() {
    check(Scenario::BadLinks);
}

#[test]
fn partitions_that_heal() {
    check(Scenario::Partitions);
}

#[test]
fn halves_that_meet_again() {
    check(Scenario::Halves);
    check(Scenario::Sides);
}

#[test]
fn crashes_with_the_restored_guard() {
    check(Scenario::Crashes);
}

#[test]
fn withheld_votes() {
    check(Scenario::WithheldVotes);
}

#[test]
fn omitted_votes() {
    check(Scenario::OmittedVotes);
}

#[test]
fn split_and_late_reveals() {
    check(Scenario::SplitReveal);
}

#[test]
fn withheld_candidates_and_artefacts() {
    check(Scenario::WithheldCandidates);
}

#[test]
fn equivocating_seats_up_to_a_third() {
    let reports = check(Scenario::Equivocators);
    assert!(reports.iter().all(|report| report.evidence > 0), "they are caught");
}

#[test]
fn a_publisher_that_withholds_its_key_costs_one_void_round() {
    let reports = check(Scenario::PublisherWithholds);
    assert!(kinds(&reports, "void") > SEEDS && kinds(&reports, "void") <= 2 * SEEDS);
}

#[test]
fn a_publisher_that_releases_early_late_or_to_some() {
    check(Scenario::PublisherErratic);
}

#[test]
fn commitment_floods() {
    check(Scenario::CommitmentFlood);
}

#[test]
fn a_quorum_that_one_seat_alone_sees_deadlocks_nobody() {
    check(Scenario::QuorumSeenByOne);
}

#[test]
fn a_seat_that_enters_on_one_branch_only_splits_nobody() {
    check(Scenario::SeatOnOneBranch);
}

#[test]
fn tangled_visibility() {
    check(Scenario::Tangle);
}

#[test]
fn seats_that_run_twice() {
    check(Scenario::Twins);
}

#[test]
fn everything_at_once() {
    check(Scenario::Chaos);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for scenario in [Scenario::Chaos, Scenario::Crashes, Scenario::CalmTask] {
        let setup = setup(scenario, 4, 3);
        let first = run(&setup);
        assert_eq!(run(&setup), first);
        // Sharing validations saves time and changes nothing.
        assert_eq!(run(&Setup { each_validates: true, ..setup.clone() }), first);
        assert_ne!(run(&Setup { seed: setup.seed + 1, ..setup }).trace, first.trace);
    }
}

#[test]
fn without_relays_liars_may_delay_but_never_split() {
    for scenario in [Scenario::Equivocators, Scenario::SplitReveal, Scenario::Chaos] {
        for (seats, seed) in [(4, 100), (7, 101), (4, 102), (7, 103)] {
            let report = run(&Setup { relay: false, ..setup(scenario, seats, seed) });
            let unsafe_ones = report
                .violations
                .iter()
                .filter(|violation| !matches!(violation, podl_testnet::sim::Violation::Stalled { .. }));
            assert_eq!(unsafe_ones.count(), 0, "{scenario:?} W={seats} seed {seed}: {:?}", report.violations);
        }
    }
}
