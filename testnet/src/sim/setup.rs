//! What a simulated network consists of and what befalls it.

use std::collections::{BTreeMap, BTreeSet};

use podl_consensus::types::Height;

/// Links between nodes. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// Least delay of a message.
    pub least_ms: u64,
    /// Usual spread above it.
    pub spread_ms: u64,
    /// One message in so many thousand is slow: it takes up to `slow_ms` more.
    pub slow_permille: u32,
    /// See `slow_permille`.
    pub slow_ms: u64,
    /// So many of a thousand messages are lost; gossip pulls them about a second later, and may lose them again.
    pub loss_permille: u32,
}

impl Links {
    /// A calm network.
    pub const CALM: Self = Self { least_ms: 20, spread_ms: 130, slow_permille: 50, slow_ms: 400, loss_permille: 5 };
    /// Bad links: seconds of delay, every fourth message lost at first.
    pub const BAD: Self = Self { least_ms: 50, spread_ms: 900, slow_permille: 200, slow_ms: 3000, loss_permille: 250 };
}

/// When a task's publisher releases its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// When the closings of a majority are known.
    Honest,
    /// Never.
    Withhold,
    /// During training.
    Early,
    /// Around the end of the time it has.
    Late,
    /// To half of the nodes only, late.
    Split,
    /// Another of these each time.
    Mixed,
}

/// How a miner shows its candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal {
    /// At once, to all.
    Honest,
    /// To half of the nodes in time, to the rest after the reveal ended.
    Split,
    /// After the reveal ended.
    Late,
    /// Never, or to one node only.
    Withhold,
    /// The block at once, its artefact seconds later.
    HideArtefact,
}

/// How a node misbehaves. The default is honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conduct {
    /// Sends its votes to nobody, or to one node.
    pub withhold_votes: bool,
    /// Leaves votes and certificates out of its blocks.
    pub omit_votes: bool,
    /// Signs two votes, two closings, two blocks, and shows each to one half.
    pub equivocate: bool,
    /// How it shows candidates.
    pub reveal: Reveal,
    /// Signs commitments by the dozen that it never opens.
    pub flood: bool,
    /// Shares its key with another node, each with a guard of its own: together they sign anything at all.
    pub twin: bool,
}

impl Conduct {
    /// As the protocol asks.
    pub const HONEST: Self = Self {
        withhold_votes: false,
        omit_votes: false,
        equivocate: false,
        reveal: Reveal::Honest,
        flood: false,
        twin: false,
    };

    /// Whether the node breaks the rules that seats promise to keep, so that nothing is promised to it.
    pub fn is_faulty(&self) -> bool {
        *self != Self::HONEST
    }
}

/// Something that happens to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nodes reach only nodes of their own group, given by node.
    Partition(Vec<u8>),
    /// All nodes reach each other again and exchange what they have.
    Heal,
    /// The node dies. Disk and guard survive, messages and memory do not.
    Crash(usize),
    /// It starts again.
    Restart(usize),
    /// Links change.
    Links(Links),
}

/// Fine control for one height: who gets to see which block until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRoute {
    /// Height of the blocks.
    pub height: Height,
    /// Who sees the first, second, ... block made at that height before `until_ms`; its producer always does. Further
    /// ones are seen by those who see the last.
    pub seen_by: Vec<BTreeSet<usize>>,
    /// Until when.
    pub until_ms: u64,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For reports.
    pub name: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// W: seats at genesis and most ever. They are nodes 0 to W - 1.
    pub seats: usize,
    /// Nodes in all; those above W win their seats.
    pub nodes: usize,
    /// Links at the beginning.
    pub links: Links,
    /// Rounds of the published task; 0 for filler only.
    pub rounds: u32,
    /// Conduct of the publisher, which is the last node but for twins.
    pub publisher: Publisher,
    /// In how many of a thousand intervals each node mines.
    pub mine_permille: u32,
    /// Nodes that misbehave.
    pub conduct: BTreeMap<usize, Conduct>,
    /// Nodes that run twice: each entry adds a node, after all others, with the key of the one named. Both are faulty.
    pub twins: Vec<usize>,
    /// Who alone mines at the first heights.
    pub early_miners: Vec<usize>,
    /// Nodes that leave votes out of their blocks at a height, without being faulty otherwise.
    pub omit_at: BTreeMap<Height, BTreeSet<usize>>,
    /// What happens when, in milliseconds.
    pub plan: Vec<(u64, Action)>,
    /// Fine control.
    pub routes: Vec<BlockRoute>,
    /// When the last disturbance ends.
    pub calm_from_ms: u64,
    /// Length of the run.
    pub end_ms: u64,
    /// Whether honest nodes relay what they get, as gossip does; if not, a liar can keep halves apart for good.
    pub relay: bool,
    /// Whether every node validates every block itself; else one does for all, which changes nothing but the time.
    pub each_validates: bool,
    /// Whether a block must be final as soon as its grandchild is valid anywhere.
    pub strict_finality: bool,
}

impl Setup {
    /// A calm network of W seats and two more miners.
    pub fn calm(name: &str, seats: usize, seed: u64) -> Self {
        Self {
            name: name.into(),
            seed,
            seats,
            nodes: seats + 2,
            links: Links::CALM,
            rounds: 0,
            publisher: Publisher::Honest,
            mine_permille: 500,
            conduct: BTreeMap::new(),
            twins: Vec::new(),
            early_miners: Vec::new(),
            omit_at: BTreeMap::new(),
            plan: Vec::new(),
            routes: Vec::new(),
            calm_from_ms: 0,
            end_ms: 0,
            relay: true,
            each_validates: false,
            strict_finality: false,
        }
    }

    /// Nodes in all, twins included.
    pub fn all_nodes(&self) -> usize {
        self.nodes + self.twins.len()
    }

    /// Whose key a node has.
    pub fn key_number(&self, node: usize) -> usize {
        node.checked_sub(self.nodes).and_then(|twin| self.twins.get(twin)).copied().unwrap_or(node)
    }

    /// The publisher.
    pub fn publisher_node(&self) -> usize {
        self.nodes - 1
    }

    /// Most seats that may misbehave without endangering anything: less than a third.
    pub fn tolerated(&self) -> usize {
        self.seats.saturating_sub(1) / 3
    }
}
