//! Named scenarios.

use std::collections::{BTreeMap, BTreeSet};

use podl_consensus::types::Height;

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
    /// The network is cut in halves, of the seats too, for several intervals.
    Halves,
    /// Two parts of the network see different siblings, of which one carries no votes, and are cut apart, until one
    /// interval before the calm.
    Sides,
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
    /// A seat enters by finality on one branch only while the network is split, and a tolerated number of keys signs on
    /// both sides: without the previous seat set both sides would finalise.
    SeatOnOneBranch,
    /// For six heights every block is seen by a random part of the network, random producers omit votes, and the network
    /// is cut and joined at random.
    Tangle,
    /// A tolerated number of seats runs twice, through partitions with one of the two on each side.
    Twins,
    /// All of it at once.
    Chaos,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 21] = [
        Self::CalmFiller,
        Self::CalmTask,
        Self::NoMiners,
        Self::BadLinks,
        Self::Partitions,
        Self::Halves,
        Self::Sides,
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
        Self::Tangle,
        Self::Twins,
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
        Scenario::Halves => halves(&mut setup, &mut rng),
        Scenario::Sides => sides(&mut setup, &mut rng),
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
        Scenario::Tangle => tangle(&mut setup, &mut rng),
        Scenario::Twins => {
            setup.twins = some_seats(&setup, &mut rng);
            partitions(&mut setup, &mut rng);
        }
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
        let groups = (0..setup.all_nodes()).map(|_| u8::try_from(rng.below(ways)).unwrap_or(0)).collect();
        setup.plan.push((from, Action::Partition(groups)));
        let lasts = rng.range(INTERVAL_MS / 2, 5 * INTERVAL_MS / 2);
        setup.plan.push((from + lasts, Action::Heal));
    }
}

fn halves(setup: &mut Setup, rng: &mut Rng) {
    setup.mine_permille = 700;
    let mut groups: Vec<u8> = (0..setup.nodes).map(|node| u8::from(node % 2 == 0)).collect();
    for node in (1..setup.nodes).rev() {
        groups.swap(node, rng.index(node + 1));
    }
    setup.plan.push((rng.range(INTERVAL_MS, 4 * INTERVAL_MS), Action::Partition(groups)));
    setup.calm_from_ms = rng.range(6 * INTERVAL_MS, 9 * INTERVAL_MS);
    setup.plan.push((setup.calm_from_ms, Action::Heal));
}

fn sides(setup: &mut Setup, rng: &mut Rng) {
    setup.mine_permille = 1000;
    let (one, two): (BTreeSet<usize>, BTreeSet<usize>) = (0..setup.nodes).partition(|_| rng.chance(500));
    let groups = (0..setup.nodes).map(|node| u8::from(two.contains(&node))).collect();
    let height = rng.range(3, 5);
    let until_ms = setup.calm_from_ms - INTERVAL_MS;
    setup.omit_at.insert(height, two.clone());
    setup.routes = vec![BlockRoute { height, seen_by: vec![one, two], until_ms }];
    setup.plan.push((height * INTERVAL_MS + rng.below(INTERVAL_MS), Action::Partition(groups)));
    setup.plan.push((until_ms, Action::Heal));
}

fn crashes(setup: &mut Setup, rng: &mut Rng) {
    setup.rounds = if rng.chance(500) { 60 } else { 0 };
    let end = setup.calm_from_ms;
    for node in 0..setup.all_nodes() {
        let mut at = rng.range(5_000, end / 2);
        while at < end {
            setup.plan.push((at, Action::Crash(node)));
            let up = (at + rng.range(500, 20_000)).min(end);
            setup.plan.push((up, Action::Restart(node)));
            at = up + rng.range(5_000, 40_000);
        }
    }
}

/// As many seats as are tolerated, drawn.
fn some_seats(setup: &Setup, rng: &mut Rng) -> Vec<usize> {
    let mut drawn = BTreeSet::new();
    while drawn.len() < setup.tolerated() {
        drawn.insert(rng.index(setup.seats));
    }
    drawn.into_iter().collect()
}

/// A tolerated number of seats misbehaves.
fn misconduct(setup: &mut Setup, rng: &mut Rng, conduct: impl Fn(usize) -> Conduct) {
    let seats = some_seats(setup, rng);
    setup.conduct.extend(seats.into_iter().map(|node| (node, conduct(node))));
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

/// Heights 3 and 4: siblings B1, which most see, and B2, which a third sees; then a child of B1 that carries its quorum
/// for one seat's eyes, and children for the others that carry no votes. A tolerated number of seats votes for nobody's
/// eyes all the while, so that the one seat, bound by its higher justified height, is missed.
fn quorum_seen_by_one(setup: &mut Setup, rng: &mut Rng) {
    misconduct(setup, rng, |_| Conduct { withhold_votes: true, ..Conduct::HONEST });
    let until_ms = setup.calm_from_ms;
    let all: BTreeSet<usize> = (0..setup.nodes).collect();
    let few: BTreeSet<usize> = (0..setup.seats).rev().take(setup.tolerated()).collect();
    let most: BTreeSet<usize> = all.difference(&few).copied().collect();
    setup.mine_permille = 1000;
    let honest = (0..setup.seats).find(|seat| !setup.conduct.contains_key(seat)).unwrap_or(0);
    let one = BTreeSet::from([honest]);
    let others: BTreeSet<usize> = all.difference(&one).copied().collect();
    setup.omit_at = BTreeMap::from([(4, others.clone()), (5, others.clone())]);
    setup.routes = vec![
        BlockRoute { height: 3, seen_by: vec![most, few], until_ms },
        BlockRoute { height: 4, seen_by: vec![others.clone()], until_ms },
        BlockRoute { height: 5, seen_by: vec![others], until_ms },
    ];
}

fn tangle(setup: &mut Setup, rng: &mut Rng) {
    if rng.chance(500) {
        misconduct(setup, rng, |_| Conduct { withhold_votes: true, ..Conduct::HONEST });
    } else {
        setup.twins = some_seats(setup, rng);
    }
    setup.mine_permille = 700;
    let until_ms = setup.calm_from_ms;
    let nodes = setup.all_nodes();
    let part = |rng: &mut Rng, permille: u32| (0..nodes).filter(|_| rng.chance(permille)).collect::<BTreeSet<usize>>();
    for height in 2..8 {
        let seen_by = (0..4).map(|_| part(rng, 600)).collect();
        setup.routes.push(BlockRoute { height, seen_by, until_ms });
        setup.omit_at.insert(height, part(rng, 400));
    }
    // In half of the runs the network is also cut anew every few seconds.
    let mut at = rng.range(INTERVAL_MS, 2 * INTERVAL_MS);
    while at < until_ms && rng.chance(950) && setup.seed.is_multiple_of(2) {
        let groups = (0..nodes).map(|_| u8::try_from(rng.below(3) / 2).unwrap_or(0)).collect();
        setup.plan.push((at, Action::Partition(groups)));
        at += rng.range(3_000, 15_000);
    }
    setup.plan.push((until_ms, Action::Heal));
}

/// One side carries the votes that make a winner a seat, the other leaves them out; from then on they are apart, with
/// the twins on both sides, so that each side has a quorum of its own current seats.
fn seat_on_one_branch(setup: &mut Setup, rng: &mut Rng) {
    setup.mine_permille = 1000;
    // Winners of the first heights become seats two heights later, in place of the oldest: 4 for 0, or 7 for 0 and,
    // on one side only, 8 for 1.
    let (height, left, twins) =
        if setup.seats == 4 { (3, vec![0, 1, 2], vec![2]) } else { (4, vec![1, 2, 3, 4, 5], vec![4, 5]) };
    setup.early_miners = (setup.seats..setup.seats + height - 2).collect();
    setup.early_miners.push(setup.seats);
    setup.twins = twins;
    let groups = (0..setup.all_nodes()).map(|node| u8::from(!left.contains(&node))).collect();
    let height = height as Height;
    setup.omit_at.insert(height, left.iter().copied().collect());
    let from = (height - 1) * INTERVAL_MS + rng.range(1_000, 6_000);
    setup.plan.push((from, Action::Partition(groups)));
    setup.calm_from_ms = from + rng.range(80_000, 120_000);
    setup.plan.push((setup.calm_from_ms, Action::Heal));
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
            twin: false,
        })
        .collect();
    misconduct(setup, rng, |node| draw[node]);
}
