//! Links: who gets what, when, and whether at all.

use podl_chain_spec::Hash32;
use podl_consensus::codec::encode;
use podl_consensus::hash::{Domain, hash_value};
use podl_consensus::interval::{Event, Message};
use podl_consensus::signed::Signed;
use podl_consensus::testkit::unchecked;
use podl_consensus::types::{Block, BlockHash, Commitment, Height};
use podl_consensus::verified::{Verified, VerifiedBlock};

use super::world::{Happening, World};

/// Times that gossip's pull tries to bring a lost message.
const PULLS: u32 = 3;
/// Most blocks in one answer, as a sync protocol has it.
const BLOCKS_AT_ONCE: usize = 64;

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    Commitment(Verified<Signed<Commitment>>),
    Gossip(Message),
    /// Please send this block and what it builds on above a height.
    Fetch(BlockHash, Height),
    Blocks(Vec<VerifiedBlock>),
}

impl Wire {
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Commitment(commitment) => encode(&**commitment).len(),
            Self::Gossip(Message::Vote(vote)) => encode(vote).len(),
            Self::Gossip(Message::Closing(closing)) => encode(closing).len(),
            Self::Gossip(Message::Key(key)) => encode(key).len(),
            Self::Gossip(Message::Block(block)) => encode(&***block).len(),
            Self::Fetch(..) => 40,
            Self::Blocks(blocks) => blocks.iter().map(|block| encode(&***block).len()).sum(),
        };
        bytes as u64
    }
}

impl Wire {
    /// Names a message that gossip relays.
    fn id(&self) -> Option<Hash32> {
        match self {
            Self::Commitment(commitment) => Some(commitment.message.hash()),
            Self::Gossip(Message::Vote(vote)) => Some(hash_value(Domain::Vote, vote)),
            Self::Gossip(Message::Closing(listed)) => Some(hash_value(Domain::Closing, &listed.closing)),
            Self::Gossip(Message::Key(key)) => Some(hash_value(Domain::ShardKey, key)),
            Self::Gossip(Message::Block(block)) => Some(block.hash()),
            Self::Fetch(..) | Self::Blocks(_) => None,
        }
    }
}

impl World {
    /// Everybody but the sender.
    pub(super) fn others(&self, node: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != node).collect()
    }

    /// To everybody.
    pub(super) fn broadcast(&mut self, from: usize, message: Message) {
        self.send(from, &self.others(from), &Wire::Gossip(message));
    }

    /// To a part of the network, against the protocol. If the setup has it so, the first honest node that gets it relays
    /// it, as gossip does.
    pub(super) fn send_part(&mut self, from: usize, to: &[usize], wire: &Wire) {
        if self.setup.relay && to.len() + 1 < self.nodes.len() {
            self.partial.extend(wire.id());
        }
        self.send(from, to, wire);
    }

    /// To some nodes, each over its own link.
    pub(super) fn send(&mut self, from: usize, to: &[usize], wire: &Wire) {
        let bytes = wire.bytes();
        for to in to {
            if self.groups[from] != self.groups[*to] {
                continue;
            }
            let mut delay = self.delay();
            let mut pulls = 0;
            while self.rng.chance(self.links.loss_permille) && pulls <= PULLS {
                pulls += 1;
                delay += self.rng.range(700, 1500);
            }
            if pulls <= PULLS {
                self.monitor.report.messages += 1;
                self.monitor.report.bytes += bytes;
                self.schedule(self.now + delay, Happening::Deliver { from, to: *to, wire: wire.clone() });
            }
        }
    }

    fn delay(&mut self) -> u64 {
        let links = self.links;
        let slow = if self.rng.chance(links.slow_permille) { self.rng.below(links.slow_ms + 1) } else { 0 };
        links.least_ms + self.rng.below(links.spread_ms + 1) + slow
    }

    /// Whether a setup's fine control lets a node see a block now.
    fn may_see(&self, to: usize, block: &Block) -> bool {
        let hash = block.hash();
        let route = self.setup.routes.iter().find(|r| r.height == block.height() && self.now < r.until_ms);
        let Some(route) = route else { return true };
        let place = self.created.get(&block.height()).and_then(|made| made.iter().position(|made| *made == hash));
        let own = block.header.message.producer == self.nodes[to].account;
        let seen_by = place.and_then(|place| route.seen_by.get(place.min(route.seen_by.len() - 1)));
        own || seen_by.is_some_and(|seen_by| seen_by.contains(&to))
    }

    /// A message arrives.
    pub(super) fn receive(&mut self, from: usize, to: usize, wire: Wire) {
        if self.groups[from] != self.groups[to] || !self.nodes[to].is_up() {
            return;
        }
        if self.is_honest(to) && wire.id().is_some_and(|id| self.partial.remove(&id)) {
            self.send(to, &self.others(to), &wire);
        }
        match wire {
            Wire::Commitment(commitment) => self.feed(to, Event::Commitment(commitment)),
            Wire::Gossip(Message::Vote(vote)) => self.feed(to, Event::Vote(unchecked(vote))),
            Wire::Gossip(Message::Closing(closing)) => self.feed(to, Event::Closing(unchecked(closing))),
            Wire::Gossip(Message::Key(key)) => self.feed(to, Event::Key(key)),
            Wire::Gossip(Message::Block(block)) if self.may_see(to, &block) => self.feed(to, Event::Candidate(block)),
            Wire::Gossip(Message::Block(_)) => {}
            Wire::Fetch(hash, above) => {
                let mut blocks = self.nodes[to].branch_above(&hash, above);
                blocks.truncate(BLOCKS_AT_ONCE);
                if !blocks.is_empty() {
                    self.send(to, &[from], &Wire::Blocks(blocks));
                }
            }
            Wire::Blocks(blocks) => self.sync(to, &blocks),
        }
    }

    /// Validates blocks that came in order, one after the other, a little later each.
    fn sync(&mut self, to: usize, blocks: &[VerifiedBlock]) {
        let mut at = self.now;
        let life = self.nodes[to].life;
        for block in blocks.iter().filter(|block| self.may_see(to, block)).cloned().collect::<Vec<_>>() {
            if !self.nodes[to].ledger.contains(&block.hash()) {
                at += self.rng.range(5, 40);
                self.schedule(at, Happening::Validated { node: to, life, block });
            }
        }
    }

    /// Two nodes find each other and exchange what the other may lack.
    pub(super) fn meet(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let (Some(machine), true) = (&self.nodes[from].machine, self.nodes[to].is_up()) else { continue };
            let above = self.nodes[to].machine.as_ref().map_or(0, |machine| machine.tree().root().height);
            let blocks = self.nodes[from].branch_above(&machine.head().block, above);
            let messages = machine.catch_up_messages();
            self.send(from, &[to], &Wire::Blocks(blocks));
            messages.into_iter().for_each(|message| self.send(from, &[to], &Wire::Gossip(message)));
        }
    }
}
