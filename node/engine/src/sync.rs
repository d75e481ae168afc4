//! Sync of a podl node as a pure state machine: which blocks to ask of whom, when a peer is behind its promise, and when
//! the node has caught up. Events in, effects out; time is an argument; blocks are checked by the caller.
//!
//! One range request is under way at a time: blocks are imported in order and each costs an inference pass, so more
//! requests would only fill memory. Single missing blocks (an unknown parent of something gossiped) go beside it.

use std::collections::BTreeMap;

use podl_chain_spec::Hash32;
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{Block, BlockHash, Height};
use serde::{Deserialize, Serialize};

/// Most blocks that one range request asks for.
pub const RANGE_BLOCKS: u32 = 32;
/// Most single blocks asked for at one time.
const SINGLE_REQUESTS: usize = 16;
/// Most parents followed from one gossiped block before a range request is the better way.
const SINGLE_DEPTH: u32 = 8;
/// A request that takes longer has failed. A block of two megabytes over a slow home line takes some 20 s.
pub const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// A peer that failed is left alone for this long.
const PEER_PAUSE_MS: u64 = 10_000;
/// Failures after which a peer's promise counts as false.
const FAILURES_BEFORE_BLAME: u32 = 3;

/// Where a peer says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Genesis hash of its chain.
    pub chain: Hash32,
    /// Its head.
    pub head: Checkpoint,
    /// Its last final block.
    pub finalised: Checkpoint,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// A peer told where it is.
    PeerStatus(P, Status),
    /// A peer is gone.
    PeerGone(P),
    /// Blocks came for a request, in rising order; empty when the peer has none.
    Blocks {
        /// From whom.
        peer: P,
        /// Of which request.
        request: u64,
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// A request failed: timeout, refused, malformed.
    Failed {
        /// Of whom it was asked.
        peer: P,
        /// Which request.
        request: u64,
    },
    /// The blocks last delivered were all dealt with.
    Processed {
        /// From whom they came.
        peer: P,
        /// Whether one of them was not valid.
        invalid: bool,
        /// How many were new and are in the chain now.
        imported: u32,
    },
    /// The node's own chain moved.
    Local {
        /// Own head.
        head: Checkpoint,
        /// Own last final block.
        finalised: Checkpoint,
    },
    /// Somebody spoke of a block that is not known here.
    Unknown {
        /// Who.
        peer: P,
        /// Which block.
        hash: BlockHash,
    },
    /// Time went on.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<P> {
    /// Ask for the blocks of the peer's chain from a height on.
    RequestRange {
        /// Whom.
        peer: P,
        /// Name it in the answer.
        request: u64,
        /// First height.
        from: Height,
        /// At most so many.
        count: u32,
    },
    /// Ask for one block by hash.
    RequestBlock {
        /// Whom.
        peer: P,
        /// Name it in the answer.
        request: u64,
        /// Which.
        hash: BlockHash,
    },
    /// Check and import these in order, then say [`Event::Processed`].
    Deliver {
        /// Who is to blame for them.
        peer: P,
        /// In rising order, each the parent of the next.
        blocks: Vec<Block>,
    },
    /// The peer broke the protocol.
    Penalise {
        /// Who.
        peer: P,
        /// In words.
        why: &'static str,
    },
    /// The node is behind by this many blocks, or level with its peers (0). Sent when it changes sides.
    Behind(u64),
}

#[derive(Clone, Debug)]
struct Peer {
    status: Status,
    paused_until_ms: u64,
    failures: u32,
}

#[derive(Clone, Debug)]
enum Ask {
    Range { from: Height },
    Single { hash: BlockHash, depth: u32 },
}

#[derive(Clone, Debug)]
struct InFlight<P> {
    peer: P,
    ask: Ask,
    deadline_ms: u64,
}

/// The sync machine. `P` names a peer.
#[derive(Debug)]
pub struct Sync<P> {
    chain: Hash32,
    head: Checkpoint,
    finalised: Checkpoint,
    peers: BTreeMap<P, Peer>,
    in_flight: BTreeMap<u64, InFlight<P>>,
    /// A delivered range is being imported; the next waits for it.
    importing: bool,
    /// Where the next range begins when the peer's chain did not join ours at the head: at the last final block.
    rewind: bool,
    next_request: u64,
    behind: bool,
}

impl<P: Ord + Clone> Sync<P> {
    /// A machine for a node whose chain stands at `head`.
    pub fn new(chain: Hash32, head: Checkpoint, finalised: Checkpoint) -> Self {
        Self {
            chain,
            head,
            finalised,
            peers: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            importing: false,
            rewind: false,
            next_request: 0,
            behind: false,
        }
    }

    /// What this node tells others.
    pub fn status(&self) -> Status {
        Status { chain: self.chain, head: self.head, finalised: self.finalised }
    }

    /// Whether the node knows of peers that are further.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Highest head that a peer promised and was not caught lying about.
    pub fn best_peer_height(&self) -> Option<Height> {
        self.peers.values().map(|p| p.status.head.height).max()
    }

    /// Heights that peers told of.
    pub fn peer_heights(&self) -> impl Iterator<Item = (&P, Height)> {
        self.peers.iter().map(|(peer, known)| (peer, known.status.head.height))
    }

    /// Takes an event at `now_ms` of a monotonic clock.
    pub fn handle(&mut self, now_ms: u64, event: Event<P>) -> Vec<Effect<P>> {
        let mut effects = Vec::new();
        match event {
            Event::PeerStatus(peer, status) => self.on_status(peer, status, &mut effects),
            Event::PeerGone(peer) => self.on_gone(&peer),
            Event::Blocks { peer, request, blocks } => self.on_blocks(now_ms, &peer, request, blocks, &mut effects),
            Event::Failed { peer, request } => {
                if self.take(&peer, request).is_some() {
                    self.blame(now_ms, &peer, "did not answer a block request", &mut effects);
                }
            }
            Event::Processed { peer, invalid, imported } => {
                self.importing = false;
                if invalid {
                    self.drop_peer(&peer, "sent an invalid block", &mut effects);
                } else if imported == 0 && !self.rewind {
                    // All known or not connecting: the peer is on another branch above the last final block.
                    self.rewind = true;
                } else if imported == 0 {
                    self.blame(now_ms, &peer, "its blocks lead nowhere", &mut effects);
                } else {
                    self.rewind = false;
                }
            }
            Event::Local { head, finalised } => {
                self.head = head;
                self.finalised = finalised;
            }
            Event::Unknown { peer, hash } => self.ask_single(now_ms, peer, hash, 0, &mut effects),
            Event::Tick => {}
        }
        self.expire(now_ms, &mut effects);
        self.ask_range(now_ms, &mut effects);
        self.report(&mut effects);
        effects
    }

    fn on_status(&mut self, peer: P, status: Status, effects: &mut Vec<Effect<P>>) {
        if status.chain != self.chain {
            effects.push(Effect::Penalise { peer, why: "is on another chain" });
            return;
        }
        if status.finalised.height > status.head.height {
            effects.push(Effect::Penalise { peer, why: "claims a final block above its head" });
            return;
        }
        let known = self.peers.entry(peer).or_insert(Peer { status, paused_until_ms: 0, failures: 0 });
        known.status = status;
    }

    fn on_gone(&mut self, peer: &P) {
        self.peers.remove(peer);
        self.in_flight.retain(|_, f| f.peer != *peer);
    }

    fn take(&mut self, peer: &P, request: u64) -> Option<InFlight<P>> {
        self.in_flight.get(&request).filter(|f| f.peer == *peer)?;
        self.in_flight.remove(&request)
    }

    fn on_blocks(&mut self, now_ms: u64, peer: &P, request: u64, blocks: Vec<Block>, effects: &mut Vec<Effect<P>>) {
        // An answer that was not asked for, or came too late, is dropped: its request was dealt with already.
        let Some(flight) = self.take(peer, request) else { return };
        if blocks.is_empty() {
            return self.blame(now_ms, peer, "has not the blocks that it promised", effects);
        }
        if let Err(why) = check_answer(&flight.ask, &blocks) {
            return self.drop_peer(peer, why, effects);
        }
        if let Some(known) = self.peers.get_mut(peer) {
            known.failures = 0;
        }
        match flight.ask {
            Ask::Range { .. } => self.importing = true,
            Ask::Single { depth, .. } => {
                // Follow parents a few steps; the caller sets a block aside until its parent is there.
                let first = &blocks[0];
                if first.height() > self.head.height + 1 && depth + 1 < SINGLE_DEPTH {
                    self.ask_single(now_ms, peer.clone(), first.parent(), depth + 1, effects);
                }
            }
        }
        effects.push(Effect::Deliver { peer: peer.clone(), blocks });
    }

    fn ask_single(&mut self, now_ms: u64, peer: P, hash: BlockHash, depth: u32, effects: &mut Vec<Effect<P>>) {
        let singles = self.in_flight.values().filter_map(|f| match &f.ask {
            Ask::Single { hash, .. } => Some(*hash),
            Ask::Range { .. } => None,
        });
        let singles: Vec<BlockHash> = singles.collect();
        if singles.contains(&hash) || singles.len() >= SINGLE_REQUESTS || !self.peers.contains_key(&peer) {
            return;
        }
        let request = self.start(now_ms, peer.clone(), Ask::Single { hash, depth });
        effects.push(Effect::RequestBlock { peer, request, hash });
    }

    fn start(&mut self, now_ms: u64, peer: P, ask: Ask) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        self.in_flight.insert(request, InFlight { peer, ask, deadline_ms: now_ms + REQUEST_TIMEOUT_MS });
        request
    }

    fn expire(&mut self, now_ms: u64, effects: &mut Vec<Effect<P>>) {
        let late: Vec<u64> =
            self.in_flight.iter().filter(|(_, f)| f.deadline_ms <= now_ms).map(|(id, _)| *id).collect();
        for request in late {
            if let Some(flight) = self.in_flight.remove(&request) {
                self.blame(now_ms, &flight.peer, "did not answer in time", effects);
            }
        }
    }

    /// Asks the peer with the most to offer. Who is final further comes first: a long head alone costs nothing to claim.
    fn ask_range(&mut self, now_ms: u64, effects: &mut Vec<Effect<P>>) {
        let ranging = self.in_flight.values().any(|f| matches!(f.ask, Ask::Range { .. }));
        if self.importing || ranging {
            return;
        }
        let ahead = |p: &Peer| {
            let s = &p.status;
            s.finalised.height > self.finalised.height
                || s.head.height > self.head.height
                || (s.head.height == self.head.height && s.head.block != self.head.block && self.rewind)
        };
        let best = self
            .peers
            .iter()
            .filter(|(_, p)| p.paused_until_ms <= now_ms && ahead(p))
            .max_by_key(|(_, p)| (p.status.finalised.height, p.status.head.height));
        let Some((peer, _)) = best else { return };
        let peer = peer.clone();
        let base = if self.rewind { self.finalised.height } else { self.head.height };
        let from = base + 1;
        let request = self.start(now_ms, peer.clone(), Ask::Range { from });
        effects.push(Effect::RequestRange { peer, request, from, count: RANGE_BLOCKS });
    }

    fn report(&mut self, effects: &mut Vec<Effect<P>>) {
        let gap = self.best_peer_height().unwrap_or(0).saturating_sub(self.head.height);
        // One block behind is everyday gossip; two mean that something was missed.
        let behind = if self.behind { gap > 0 } else { gap > 1 };
        if behind != self.behind {
            self.behind = behind;
            effects.push(Effect::Behind(gap));
        }
    }

    fn blame(&mut self, now_ms: u64, peer: &P, why: &'static str, effects: &mut Vec<Effect<P>>) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.failures += 1;
        known.paused_until_ms = now_ms + PEER_PAUSE_MS;
        if known.failures >= FAILURES_BEFORE_BLAME {
            self.drop_peer(peer, why, effects);
        }
    }

    fn drop_peer(&mut self, peer: &P, why: &'static str, effects: &mut Vec<Effect<P>>) {
        self.on_gone(peer);
        effects.push(Effect::Penalise { peer: peer.clone(), why });
    }
}

fn check_answer(ask: &Ask, blocks: &[Block]) -> Result<(), &'static str> {
    match ask {
        Ask::Single { hash, .. } if blocks.len() != 1 || blocks[0].hash() != *hash => {
            Err("sent another block than the one asked for")
        }
        Ask::Range { from } if blocks[0].height() != *from || blocks.len() > RANGE_BLOCKS as usize => {
            Err("sent another range than the one asked for")
        }
        _ if blocks.windows(2).any(|w| w[1].parent() != w[0].hash()) => Err("sent blocks that are no chain"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
