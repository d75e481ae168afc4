//! The event loop.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::hash::{Domain, hash_value};
use podl_consensus::interval::Event;
use podl_consensus::rules::BlockError;
use podl_consensus::testkit::{signing_key, small_spec};
use podl_consensus::types::{Block, BlockHash, Height, ModelRoot, ShardKey};
use podl_consensus::verified::VerifiedBlock;

use super::deliver::Wire;
use super::ledger::{Ledger, SharedBlobs, Validated};
use super::mining::Work;
use super::monitor::{Monitor, Report, Violation};
use super::node::{Clock, Node};
use super::rng::Rng;
use super::setup::{Action, Conduct, Links, Setup};

/// Heads after finality resumed for which a run goes on, to see that it stays so.
const ENCORE: Height = 4;

/// Something that is to happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Act(Action),
    Calm,
    Deliver { from: usize, to: usize, wire: Wire },
    Timer { node: usize },
    Own { node: usize, life: u32, event: Event },
    Validated { node: usize, life: u32, block: VerifiedBlock },
    Mine { node: usize, life: u32, parent: BlockHash },
    Show { node: usize, life: u32, parent: BlockHash, key: Option<ShardKey> },
    Release { key: ShardKey, half: bool },
    Send { from: usize, to: Vec<usize>, wire: Wire },
}

/// Heap entries ordered by time, then by number.
#[derive(Debug)]
struct Entry(Reverse<(u64, u64)>, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// The simulated world.
pub(super) struct World {
    pub setup: Setup,
    pub spec: Arc<ChainSpec>,
    pub chain: Hash32,
    pub rng: Rng,
    pub now: u64,
    pub nodes: Vec<Node>,
    pub groups: Vec<u8>,
    pub links: Links,
    pub monitor: Monitor,
    pub blobs: SharedBlobs,
    /// Artefacts that their owners keep back until a time.
    pub hidden: BTreeMap<ModelRoot, u64>,
    /// Blocks by height in the order in which they were made.
    pub created: BTreeMap<Height, Vec<BlockHash>>,
    pub work: Work,
    /// Messages that their senders showed to a part of the network only, until an honest node relayed them.
    pub partial: BTreeSet<Hash32>,
    queue: BinaryHeap<Entry>,
    next: u64,
    inbox: VecDeque<(usize, Event)>,
    trace: Hash32,
}

/// Runs a setup to its end.
pub fn run(setup: &Setup) -> Report {
    let mut world = World::new(setup.clone());
    world.start();
    while world.step() {}
    world.finish()
}

impl World {
    fn new(setup: Setup) -> Self {
        let mut spec = small_spec(setup.seats as u64, setup.nodes as u64);
        spec.limits.list_cap = 32;
        let spec = Arc::new(spec);
        let mut rng = Rng::new(setup.seed);
        let blobs: SharedBlobs = Rc::new(RefCell::new(podl_consensus::testkit::Blobs::default()));
        let work = Work::publish(&spec, &blobs, setup.nodes as u64 - 1, setup.rounds);
        let validated = (!setup.each_validates).then(Validated::default);
        let node = |number: usize, rng: &mut Rng| {
            let clock = Clock { offset_ms: rng.below(1_000_000), rate_ppm: rng.range(999_500, 1_000_500) };
            let key = setup.key_number(number);
            let twin = key != number || setup.twins.contains(&number);
            let conduct = Conduct { twin, ..setup.conduct.get(&key).copied().unwrap_or(Conduct::HONEST) };
            let ledger = Ledger::new(&spec, blobs.clone(), validated.clone());
            Node::new(signing_key(key as u64), clock, conduct, ledger)
        };
        let nodes: Vec<Node> = (0..setup.all_nodes()).map(|number| node(number, &mut rng)).collect();
        Self {
            chain: spec.genesis_hash(),
            groups: vec![0; setup.all_nodes()],
            links: setup.links,
            monitor: Monitor::default(),
            hidden: BTreeMap::new(),
            created: BTreeMap::new(),
            partial: BTreeSet::new(),
            queue: BinaryHeap::new(),
            next: 0,
            inbox: VecDeque::new(),
            trace: Hash32::ZERO,
            now: 0,
            setup,
            spec,
            rng,
            nodes,
            blobs,
            work,
        }
    }

    fn start(&mut self) {
        for (at, action) in self.setup.plan.clone() {
            self.schedule(at, Happening::Act(action));
        }
        self.schedule(self.setup.calm_from_ms, Happening::Calm);
        for number in 0..self.nodes.len() {
            self.start_node(number);
        }
    }

    pub(super) fn schedule(&mut self, at: u64, happening: Happening) {
        self.next += 1;
        self.queue.push(Entry(Reverse((at.max(self.now), self.next)), happening));
    }

    /// Nodes that keep all promises.
    pub(super) fn is_honest(&self, node: usize) -> bool {
        !self.nodes[node].conduct.is_faulty()
    }

    fn step(&mut self) -> bool {
        let Some(Entry(Reverse((at, number)), happening)) = self.queue.pop() else { return false };
        if at > self.setup.end_ms || self.is_done() {
            return false;
        }
        self.now = at;
        if !matches!(happening, Happening::Timer { .. }) {
            self.trace = hash_value(Domain::Body, &(self.trace, at, number));
        }
        self.happen(happening);
        self.work_inbox();
        self.check_resumed();
        true
    }

    fn is_done(&self) -> bool {
        let resumed = self.monitor.report.resumed_after.zip(self.monitor.calm_head);
        let enough = resumed.is_some_and(|(after, calm)| self.highest_head() >= calm + after + ENCORE);
        (enough && !self.setup.strict_finality) || !self.monitor.report.violations.is_empty()
    }

    fn happen(&mut self, happening: Happening) {
        let alive = |world: &Self, node: usize, life: u32| world.nodes[node].is_up() && world.nodes[node].life == life;
        match happening {
            Happening::Act(action) => self.act(action),
            Happening::Calm => self.monitor.calm_head = Some(self.highest_head()),
            Happening::Deliver { from, to, wire } => self.receive(from, to, wire),
            Happening::Timer { node } if self.nodes[node].timer_ms == self.now => self.feed(node, Event::Tick),
            Happening::Own { node, life, event } if alive(self, node, life) => self.feed(node, event),
            Happening::Validated { node, life, block } if alive(self, node, life) => self.import(node, &block),
            Happening::Mine { node, life, parent } if alive(self, node, life) => self.mine(node, parent),
            Happening::Show { node, life, parent, key } if alive(self, node, life) => self.show(node, parent, key),
            Happening::Release { key, half } => self.release(key, half),
            Happening::Send { from, to, wire } => self.send_part(from, &to, &wire),
            _ => {}
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Partition(groups) => self.regroup(groups),
            Action::Heal => self.regroup(vec![0; self.nodes.len()]),
            Action::Crash(node) => self.nodes[node].crash(),
            Action::Restart(node) if !self.nodes[node].is_up() => {
                self.start_node(node);
                (0..self.nodes.len()).filter(|peer| *peer != node).for_each(|peer| self.meet(node, peer));
            }
            Action::Restart(_) => {}
            Action::Links(links) => self.links = links,
        }
    }

    /// Cuts the network anew; nodes that find each other again exchange what they have.
    fn regroup(&mut self, groups: Vec<u8>) {
        let before = std::mem::replace(&mut self.groups, groups);
        for a in 0..self.nodes.len() {
            let met = |b: &usize| before[a] != before[*b] && self.groups[a] == self.groups[*b];
            (0..a).filter(met).collect::<Vec<_>>().into_iter().for_each(|b| self.meet(a, b));
        }
    }

    fn start_node(&mut self, node: usize) {
        let above = self.nodes[node].start(&self.spec);
        for (block, meta) in above {
            self.feed(node, Event::BlockImported(block, meta));
        }
        let ready = self.work.task.iter().copied().collect();
        self.feed(node, Event::ReadyTasks(ready));
        self.work_inbox();
    }

    /// Gives a node an event; what follows from it is worked off before time goes on.
    pub(super) fn feed(&mut self, node: usize, event: Event) {
        self.inbox.push_back((node, event));
    }

    fn work_inbox(&mut self) {
        while let Some((number, event)) = self.inbox.pop_front() {
            let node = &mut self.nodes[number];
            let local = node.clock.local(self.now);
            let Some(machine) = &mut node.machine else { continue };
            let before = machine.base();
            let effects = machine.handle(local, event, node.ledger.view());
            let after = machine.base();
            let tree = machine.tree();
            let left = before.height >= tree.root().height && !tree.is_ancestor(&before.block, &after.block);
            self.monitor.report.reorgs += u64::from(left && !node.conduct.is_faulty());
            let due = node.clock.virtual_of(machine.next_deadline_ms(local)).max(self.now + 1);
            if due != node.timer_ms {
                node.timer_ms = due;
                self.schedule(due, Happening::Timer { node: number });
            }
            effects.into_iter().for_each(|effect| self.effect(number, effect));
        }
    }

    /// Validates a block and takes it in.
    pub(super) fn import(&mut self, node: usize, block: &VerifiedBlock) {
        let hash = block.hash();
        let model = match &block.body.outcome {
            podl_consensus::types::Outcome::Scored { opening, .. } => Some(opening.model_root),
            _ => None,
        };
        let own = block.header.message.producer == self.nodes[node].account;
        let hidden = model.and_then(|model| self.hidden.get(&model)).is_some_and(|until| *until > self.now);
        let imported = if hidden && !own {
            Err(BlockError::NotAvailable(model.unwrap_or_default()))
        } else {
            self.nodes[node].ledger.import(block)
        };
        match imported {
            Ok(meta) => {
                self.nodes[node].archive.insert(hash, block.clone());
                self.monitor.imported(node, &meta, self.setup.strict_finality);
                self.feed(node, Event::BlockImported(block.clone(), meta));
            }
            Err(BlockError::NotAvailable(_)) => self.feed(node, Event::CandidateUnavailable(hash)),
            Err(BlockError::Known(_) | BlockError::UnknownParent { .. }) => {}
            Err(error) => {
                self.refused(node, block, &error);
                self.feed(node, Event::CandidateRefused(hash));
            }
        }
    }

    /// What an honest producer made is valid, unless the chain has moved past it.
    fn refused(&mut self, node: usize, block: &Block, error: &BlockError) {
        let producer = block.header.message.producer;
        let by_honest = self.nodes.iter().any(|n| n.account == producer && !n.conduct.is_faulty());
        if by_honest && !matches!(error, BlockError::NotAboveFinal { .. }) {
            let violation = Violation::Refused { at_ms: self.now, node, what: error.to_string() };
            self.monitor.report.violations.push(violation);
        }
    }

    fn heads(&self) -> impl Iterator<Item = (usize, Height, Height)> {
        let honest = self.nodes.iter().enumerate().filter(|(_, node)| !node.conduct.is_faulty());
        honest.filter_map(|(number, node)| {
            let machine = node.machine.as_ref()?;
            Some((number, machine.head().height, machine.tree().root().height))
        })
    }

    fn highest_head(&self) -> Height {
        self.heads().map(|(_, head, _)| head).max().unwrap_or(0)
    }

    /// Finality goes on when every honest node calls a block final that is above all heads of the end of the trouble.
    fn check_resumed(&mut self) {
        let Some(calm) = self.monitor.calm_head else { return };
        if self.monitor.report.resumed_after.is_none() && self.heads().all(|(_, _, final_height)| final_height > calm) {
            self.monitor.report.resumed_after = Some(self.highest_head() - calm);
        }
    }

    fn finish(mut self) -> Report {
        if let Some(expected) = self.monitor.calm_head
            && self.monitor.report.violations.is_empty()
        {
            let stalled = self.heads().filter(|(_, _, final_height)| *final_height <= expected);
            let stalled: Vec<Violation> = stalled
                .map(|(node, head, final_height)| {
                    let calm = head.saturating_sub(expected);
                    Violation::Stalled { node, final_height, expected, head, calm }
                })
                .collect();
            self.monitor.report.violations.extend(stalled);
        }
        let mut report = self.monitor.report.clone();
        (report.trace, report.head_height) = (self.trace, self.highest_head());
        report
    }
}
