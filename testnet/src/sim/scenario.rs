//! Named scenarios.

use std::collections::BTreeSet;

use super::rng::Rng;
use super::setup::{Action, BlockRoute, Conduct, Links, Publisher, Reveal, Setup};

/// What befalls the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Nothing, with the filler task.
    CalmFiller,
    /// Nothing, with a published task.
    CalmTask,
    /// Nobody mines.
    NoMiners,
    /// Slow and lossy links for a while.
    BadLinks,
    /// The network splits twice, at random, and heals.
    Partitions,
    /// Nodes die and start again, over and over.
    Crashes,
    /// A tolerated number of seats withholds its votes.
    WithheldVotes,
    /// A third of the producers leaves votes and certificates out of its blocks.
    OmittedVotes,
    /// Miners show candidates to some in time and to others late.
    SplitReveal,
    /// Miners show candidates late, to nobody, or without their artefacts.
    WithheldCandidates,
    /// A tolerated number of seats signs everything twice.
    Equivocators,
    /// The publisher withholds every key.
    PublisherWithholds,
    /// The publisher releases early, late, or to half of the network.
    PublisherErratic,
    /// Miners flood commitments that they never open.
    CommitmentFlood,
    /// Five of seven vote for a block, two for its sibling, and one seat alone sees the child that carries the quorum.
    QuorumSeenByOne,
    /// A seat enters by finality on one branch only, and the network is split.
    SeatOnOneBranch,
    /// All of it at once.
    Chaos,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 17] = [
        Self::CalmFiller,
        Self::CalmTask,
        Self::NoMiners,
        Self::BadLinks,
        Self::Partitions,
        Self::Crashes,
        Self::WithheldVotes,
        Self::OmittedVotes,
        Self::SplitReveal,
        Self::WithheldCandidates,
        Self::Equivocators,
        Self::PublisherWithholds,
        Self::PublisherErratic,
        Self::CommitmentFlood,
        Self::QuorumSeenByOne,
        Self::SeatOnOneBranch,
        Self::Chaos,
    ];
}

/// About the length of a calm interval of the simulated chain, in milliseconds.
const INTERVAL_MS: u64 = 12_500;
/// The longest that ten calm intervals may take: with every one of them falling back through several views.
const AFTERMATH_MS: u64 = 10 * 26_000;

/// The setup of a scenario with W seats.
pub fn setup(scenario: Scenario, seats: usize, seed: u64) -> Setup {
    let mut rng = Rng::new(seed.wrapping_mul(1000).wrapping_add(scenario as u64));
    let mut setup = Setup::calm(&format!("{scenario:?}"), seats, rng.next_u64());
    let trouble_ms = 8 * INTERVAL_MS;
    setup.calm_from_ms = trouble_ms;
    match scenario {
        Scenario::CalmFiller | Scenario::CalmTask => {
            setup.rounds = if scenario == Scenario::CalmTask { 60 } else { 0 };
            setup.calm_from_ms = 2 * INTERVAL_MS;
            setup.strict_finality = true;
        }
        Scenario::NoMiners => (setup.mine_permille, setup.calm_from_ms) = (0, 2 * INTERVAL_MS),
        Scenario::BadLinks => {
            setup.rounds = 60;
            setup.links = Links::BAD;
            setup.plan.push((trouble_ms, Action::Links(Links::CALM)));
        }
        Scenario::Partitions => partitions(&mut setup, &mut rng),
        Scenario::Crashes => crashes(&mut setup, &mut rng),
        Scenario::WithheldVotes => {
            misconduct(&mut setup, &mut rng, |_| Conduct { withhold_votes: true, ..Conduct::HONEST })
        }
        Scenario::OmittedVotes => {
            let omit = Conduct { omit_votes: true, ..Conduct::HONEST };
            setup.conduct.extend((0..setup.nodes / 3).map(|node| (node, omit)));
        }
        Scenario::SplitReveal => reveals(&mut setup, &[Reveal::Split]),
        Scenario::WithheldCandidates => {
            reveals(&mut setup, &[Reveal::Late, Reveal::Withhold, Reveal::HideArtefact]);
        }
        Scenario::Equivocators => {
            misconduct(&mut setup, &mut rng, |_| Conduct { equivocate: true, ..Conduct::HONEST });
        }
        Scenario::PublisherWithholds => (setup.rounds, setup.publisher) = (60, Publisher::Withhold),
        Scenario::PublisherErratic => (setup.rounds, setup.publisher) = (60, Publisher::Mixed),
        Scenario::CommitmentFlood => {
            let flood = Conduct { flood: true, ..Conduct::HONEST };
            setup.conduct.extend((0..setup.nodes / 2).map(|node| (node, flood)));
        }
        Scenario::QuorumSeenByOne => quorum_seen_by_one(&mut setup, &mut rng),
        Scenario::SeatOnOneBranch => seat_on_one_branch(&mut setup, &mut rng),
        Scenario::Chaos => chaos(&mut setup, &mut rng),
    }
    setup.end_ms = setup.calm_from_ms + AFTERMATH_MS;
    setup
}

fn partitions(setup: &mut Setup, rng: &mut Rng) {
    setup.rounds = if rng.chance(500) { 60 } else { 0 };
    for half in 0..2 {
        let from = (1 + 4 * half) * INTERVAL_MS + rng.below(INTERVAL_MS);
        let ways = rng.range(2, 3);
        let groups = (0..setup.nodes).map(|_| u8::try_from(rng.below(ways)).unwrap_or(0)).collect();
        setup.plan.push((from, Action::Partition(groups)));
        let lasts = rng.range(INTERVAL_MS / 2, 5 * INTERVAL_MS / 2);
        setup.plan.push((from + lasts, Action::Heal));
    }
}

fn crashes(setup: &mut Setup, rng: &mut Rng) {
    setup.rounds = if rng.chance(500) { 60 } else { 0 };
    let end = setup.calm_from_ms;
    for node in 0..setup.nodes {
        let mut at = rng.range(5_000, end / 2);
        while at < end {
            setup.plan.push((at, Action::Crash(node)));
            let up = (at + rng.range(500, 20_000)).min(end);
            setup.plan.push((up, Action::Restart(node)));
            at = up + rng.range(5_000, 40_000);
        }
    }
}

/// As many nodes misbehave as are tolerated among the seats; which ones is drawn.
fn misconduct(setup: &mut Setup, rng: &mut Rng, conduct: impl Fn(usize) -> Conduct) {
    while setup.conduct.len() < setup.tolerated() {
        let node = rng.index(setup.seats);
        setup.conduct.insert(node, conduct(node));
    }
}

/// Most miners show candidates in one of these ways, for good.
fn reveals(setup: &mut Setup, ways: &[Reveal]) {
    setup.mine_permille = 800;
    for node in 0..setup.nodes {
        if node % 4 != 3 {
            setup.conduct.insert(node, Conduct { reveal: ways[node % ways.len()], ..Conduct::HONEST });
        }
    }
}

fn quorum_seen_by_one(setup: &mut Setup, rng: &mut Rng) {
    let until_ms = setup.calm_from_ms;
    let all: BTreeSet<usize> = (0..setup.nodes).collect();
    let few: BTreeSet<usize> = (0..setup.seats).rev().take(setup.tolerated()).collect();
    let most: BTreeSet<usize> = all.difference(&few).copied().collect();
    let height = rng.range(2, 3);
    setup.mine_permille = 1000;
    // Siblings B1 and B2; then a child of B1 that carries its quorum, for one seat's eyes, and others that carry none.
    let siblings = BlockRoute { height, seen_by: vec![most, few], omit_but_first: false, until_ms };
    let one = BTreeSet::from([rng.index(setup.seats)]);
    let others: BTreeSet<usize> = all.difference(&one).copied().collect();
    let seen_by = vec![one, others.clone(), others];
    let children = BlockRoute { height: height + 1, seen_by, omit_but_first: true, until_ms };
    setup.routes = vec![siblings, children];
}

fn seat_on_one_branch(setup: &mut Setup, rng: &mut Rng) {
    setup.mine_permille = 1000;
    // Nodes above W win heights 1 and 2 now and then; where one does, height 4 makes it a seat on the branch whose
    // block carries the votes, and not on the other.
    let (one, two): (BTreeSet<usize>, BTreeSet<usize>) = (0..setup.nodes).partition(|_| rng.chance(500));
    let groups = (0..setup.nodes).map(|node| u8::from(two.contains(&node))).collect();
    let height = rng.range(3, 5);
    let until_ms = setup.calm_from_ms - INTERVAL_MS;
    setup.routes = vec![BlockRoute { height, seen_by: vec![one, two], omit_but_first: true, until_ms }];
    setup.plan.push((height * INTERVAL_MS + rng.below(INTERVAL_MS), Action::Partition(groups)));
    setup.plan.push((until_ms, Action::Heal));
}

fn chaos(setup: &mut Setup, rng: &mut Rng) {
    partitions(setup, rng);
    crashes(setup, rng);
    setup.rounds = 60;
    setup.publisher = Publisher::Mixed;
    setup.links = Links { loss_permille: 100, slow_permille: 150, slow_ms: 2000, ..Links::CALM };
    setup.plan.push((setup.calm_from_ms, Action::Links(Links::CALM)));
    let ways = [Reveal::Honest, Reveal::Split, Reveal::Late, Reveal::Withhold, Reveal::HideArtefact];
    let draw: Vec<Conduct> = (0..setup.nodes)
        .map(|_| Conduct {
            withhold_votes: rng.chance(400),
            omit_votes: rng.chance(500),
            equivocate: rng.chance(600),
            reveal: ways[rng.index(ways.len())],
            flood: rng.chance(300),
        })
        .collect();
    misconduct(setup, rng, |node| draw[node]);
}
