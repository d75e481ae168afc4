//! Sync of a podl node as a pure state machine: which blocks to ask of whom, when a peer broke a promise, and when the
//! node has caught up. Blocks are checked by the caller.
//!
//! Ranges are imported one after the other: each block costs an inference pass, so more would only fill memory. Another
//! peer is asked while one keeps the node waiting. Single missing blocks go beside the ranges ([`wanted`]).
//!
//! # Correctness
//! A claim is only a reason to ask. Whether the node is behind follows from votes that it verified and from blocks that it
//! imported, never from what a peer says; and it never keeps the node from signing.

mod peers;
mod wanted;

use std::collections::BTreeMap;

use podl_chain_spec::Hash32;
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{Block, BlockHash, Height};
use serde::{Deserialize, Serialize};

use peers::{Own, Peers};
use wanted::WantedBlocks;

/// Most blocks that one range request asks for.
pub const RANGE_BLOCKS: u32 = 32;
/// Most single blocks asked for at one time.
const SINGLE_REQUESTS: usize = 16;
/// A request that takes longer has failed. A block of two megabytes over a slow home line takes some 20 s.
pub const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// After this long without an answer somebody else is asked for the range as well.
const RANGE_HEDGE_MS: u64 = 5_000;
/// The same for a single block, for which a vote may wait.
const SINGLE_HEDGE_MS: u64 = 2_000;
/// Of these, wanted because peers spoke of them: what votes name always finds room.
const SINGLE_REQUESTS_OF_PEERS: usize = 8;

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
    PeerStatus {
        /// Who.
        peer: P,
        /// Where.
        status: Status,
        /// The highest block that there can be by this node's own clock: what claims more is disregarded, without blame,
        /// since the clock may be wrong.
        highest: Height,
    },
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
        /// Whether the first one builds on a block that is here.
        connects: bool,
    },
    /// A request failed: timeout, refused, malformed.
    Failed {
        /// Of whom it was asked.
        peer: P,
        /// Which request.
        request: u64,
    },
    /// The range last delivered was dealt with.
    Processed {
        /// From whom it came.
        peer: P,
        /// What became of it.
        range: RangeEnd,
    },
    /// The node's own chain moved.
    Local {
        /// Own head.
        head: Checkpoint,
        /// Own last final block.
        finalised: Checkpoint,
    },
    /// A quorum of the seats that vote after the head voted at this height.
    VotedAhead(Height),
    /// A peer spoke of a block that is not known here and may be wanted later.
    Named {
        /// Who.
        peer: P,
        /// Which block.
        hash: BlockHash,
    },
    /// A block is wanted: a peer sent what builds on it, or (without a peer) votes name it.
    Unknown {
        /// Who spoke of it.
        peer: Option<P>,
        /// Which block.
        hash: BlockHash,
    },
    /// Time went on.
    Tick,
}

/// What became of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// So many of its blocks are new and in the chain now.
    Imported(u32),
    /// All of it was here already, up to this height.
    Known(Height),
    /// It does not build on anything that is here.
    Unconnected,
    /// It cannot be checked now: blobs are not to be had, or a queue is full. Nobody is to blame.
    Stalled,
    /// One of its blocks is not valid.
    Invalid,
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
    /// Check and import these in order; of a range say [`Event::Processed`] then.
    Deliver {
        /// In rising order, each the parent of the next, with who sent it and answers for its bytes.
        blocks: Vec<(P, Block)>,
        /// Whether they answer a range request.
        is_range: bool,
    },
    /// The peer broke the protocol.
    Penalise {
        /// Who.
        peer: P,
        /// In words.
        why: &'static str,
    },
    /// The node is behind by this many blocks, or level with the network (0). Sent when it changes sides.
    Behind(u64),
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Range { from: Height },
    Single { hash: BlockHash },
}

#[derive(Clone, Debug)]
struct InFlight<P> {
    peer: P,
    ask: Ask,
    since_ms: u64,
}

/// The sync machine. `P` names a peer.
#[derive(Debug)]
pub struct Sync<P> {
    chain: Hash32,
    head: Checkpoint,
    finalised: Checkpoint,
    peers: Peers<P>,
    wanted: WantedBlocks<P>,
    in_flight: BTreeMap<u64, InFlight<P>>,
    /// A delivered range is being imported; the next waits for it.
    importing: bool,
    /// A range brings new blocks, or the last one did, so that what peers claim is likely.
    advancing: bool,
    /// Highest height at which a quorum is known to have voted.
    voted_ahead: Height,
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
            peers: Peers::new(),
            wanted: WantedBlocks::new(),
            in_flight: BTreeMap::new(),
            importing: false,
            advancing: false,
            voted_ahead: 0,
            next_request: 0,
            behind: false,
        }
    }

    /// What this node tells others.
    pub fn status(&self) -> Status {
        Status { chain: self.chain, head: self.head, finalised: self.finalised }
    }

    /// Whether the node knows that it lacks blocks.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Highest head that a peer claims: for display, and for what to ask.
    pub fn best_peer_height(&self) -> Option<Height> {
        self.peers.heights().map(|(_, height)| height).max()
    }

    /// Heights that peers claim.
    pub fn peer_heights(&self) -> impl Iterator<Item = (&P, Height)> {
        self.peers.heights()
    }

    /// Takes an event at `now_ms` of a monotonic clock.
    pub fn handle(&mut self, now_ms: u64, event: Event<P>) -> Vec<Effect<P>> {
        let mut effects = Vec::new();
        match event {
            Event::PeerStatus { peer, status, highest } => self.on_status(peer, status, highest, &mut effects),
            Event::PeerGone(peer) => self.on_gone(&peer),
            Event::Blocks { peer, request, blocks, connects } => {
                if let Some(flight) = self.end_request(&peer, request) {
                    self.on_blocks(now_ms, &flight, blocks, connects, &mut effects);
                }
            }
            Event::Failed { peer, request } => {
                if let Some(flight) = self.end_request(&peer, request) {
                    self.on_no_answer(now_ms, &flight, "did not answer a block request", &mut effects);
                }
            }
            Event::Processed { peer, range } => self.on_processed(now_ms, &peer, range, &mut effects),
            Event::Local { head, finalised } => {
                self.advancing |= self.importing && head.height > self.head.height;
                (self.head, self.finalised) = (head, finalised);
            }
            Event::VotedAhead(height) => self.voted_ahead = height,
            Event::Named { peer, hash } => self.wanted.name(peer, hash),
            Event::Unknown { peer, hash } => self.wanted.want(peer, hash),
            Event::Tick => {}
        }
        self.expire(now_ms, &mut effects);
        self.ask_singles(now_ms, &mut effects);
        self.ask_range(now_ms, &mut effects);
        self.report(&mut effects);
        effects
    }

    fn on_status(&mut self, peer: P, status: Status, highest: Height, effects: &mut Vec<Effect<P>>) {
        if status.chain != self.chain {
            effects.push(Effect::Penalise { peer, why: "is on another chain" });
            return;
        }
        if status.finalised.height > status.head.height {
            effects.push(Effect::Penalise { peer, why: "claims a final block above its head" });
            return;
        }
        let own = self.own();
        self.peers.claim(peer, Some(status).filter(|status| status.head.height <= highest), own);
    }

    fn on_gone(&mut self, peer: &P) {
        self.peers.remove(peer);
        let gone: Vec<u64> = self.in_flight.iter().filter(|(_, f)| f.peer == *peer).map(|(id, _)| *id).collect();
        for request in gone {
            self.end_request(peer, request);
        }
    }

    /// An answer that was not asked for, or came too late, is dropped: its request was dealt with already.
    fn end_request(&mut self, peer: &P, request: u64) -> Option<InFlight<P>> {
        self.in_flight.get(&request).filter(|f| f.peer == *peer)?;
        let flight = self.in_flight.remove(&request)?;
        if let Ask::Single { hash } = flight.ask
            && let Some(wanted) = self.wanted.get_mut(&hash)
        {
            wanted.in_flight = wanted.in_flight.saturating_sub(1);
        }
        Some(flight)
    }

    fn on_blocks(
        &mut self,
        now_ms: u64,
        flight: &InFlight<P>,
        mut blocks: Vec<Block>,
        connects: bool,
        effects: &mut Vec<Effect<P>>,
    ) {
        if blocks.is_empty() {
            return self.on_no_answer(now_ms, flight, "has not the blocks that it promised", effects);
        }
        let peer = flight.peer.clone();
        if let Err(why) = check_answer(flight.ask, &blocks) {
            self.peers.caught(now_ms, &peer);
            effects.push(Effect::Penalise { peer, why });
            return;
        }
        match flight.ask {
            // Of two that were asked, the second to answer is not to blame, and not needed.
            Ask::Range { .. } if self.importing => {}
            Ask::Range { .. } => {
                self.importing = true;
                let blocks = blocks.into_iter().map(|block| (peer.clone(), block)).collect();
                effects.push(Effect::Deliver { blocks, is_range: true });
            }
            Ask::Single { .. } => {
                let blocks = self.wanted.came(peer, blocks.remove(0), connects);
                if !blocks.is_empty() {
                    effects.push(Effect::Deliver { blocks, is_range: false });
                }
            }
        }
    }

    /// A promised range that does not come counts against the peer; a single block nobody promised.
    fn on_no_answer(&mut self, now_ms: u64, flight: &InFlight<P>, why: &'static str, effects: &mut Vec<Effect<P>>) {
        if matches!(flight.ask, Ask::Range { .. }) {
            self.advancing = false;
            self.blame(now_ms, &flight.peer, why, effects);
        }
    }

    fn on_processed(&mut self, now_ms: u64, peer: &P, range: RangeEnd, effects: &mut Vec<Effect<P>>) {
        self.importing = false;
        self.advancing = matches!(range, RangeEnd::Imported(_));
        match range {
            RangeEnd::Imported(_) => self.peers.brought_blocks(peer),
            RangeEnd::Known(last) => self.peers.brought_known(peer, last),
            RangeEnd::Unconnected => {
                if self.peers.did_not_connect(peer, self.finalised.height) {
                    self.blame(now_ms, peer, "its blocks lead nowhere", effects);
                }
            }
            RangeEnd::Stalled => self.peers.pause(now_ms, peer),
            RangeEnd::Invalid => {
                self.peers.caught(now_ms, peer);
                effects.push(Effect::Penalise { peer: peer.clone(), why: "sent an invalid block" });
            }
        }
    }

    fn blame(&mut self, now_ms: u64, peer: &P, why: &'static str, effects: &mut Vec<Effect<P>>) {
        if self.peers.failed(now_ms, peer) {
            effects.push(Effect::Penalise { peer: peer.clone(), why });
        }
    }

    fn expire(&mut self, now_ms: u64, effects: &mut Vec<Effect<P>>) {
        let is_late = |flight: &InFlight<P>| flight.since_ms.saturating_add(REQUEST_TIMEOUT_MS) <= now_ms;
        let late: Vec<(u64, P)> =
            self.in_flight.iter().filter(|(_, f)| is_late(f)).map(|(id, f)| (*id, f.peer.clone())).collect();
        for (request, peer) in late {
            if let Some(flight) = self.end_request(&peer, request) {
                self.on_no_answer(now_ms, &flight, "did not answer in time", effects);
            }
        }
    }

    fn own(&self) -> Own {
        Own { head: self.head.height, finalised: self.finalised.height }
    }

    fn start(&mut self, now_ms: u64, peer: P, ask: Ask) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        self.peers.ask(&peer);
        self.in_flight.insert(request, InFlight { peer, ask, since_ms: now_ms });
        request
    }

    fn ask_singles(&mut self, now_ms: u64, effects: &mut Vec<Effect<P>>) {
        let singles = self.in_flight.values().filter_map(|flight| match flight.ask {
            Ask::Single { hash } => Some(hash),
            Ask::Range { .. } => None,
        });
        let (mut of_votes, mut of_peers) = (0usize, 0usize);
        for hash in singles {
            if self.wanted.is_of_votes(&hash) { of_votes += 1 } else { of_peers += 1 }
        }
        for hash in self.wanted.due(now_ms) {
            let is_of_votes = self.wanted.is_of_votes(&hash);
            if of_votes + of_peers >= SINGLE_REQUESTS {
                return;
            }
            if !is_of_votes && of_peers >= SINGLE_REQUESTS_OF_PEERS {
                continue;
            }
            let Some(wanted) = self.wanted.get_mut(&hash) else { continue };
            let Some(peer) = self.peers.for_block(&wanted.named_by, &wanted.tried) else {
                if wanted.in_flight == 0 {
                    self.wanted.give_up(&hash);
                }
                continue;
            };
            wanted.tried.push(peer.clone());
            wanted.in_flight += 1;
            wanted.hedge_ms = now_ms.saturating_add(SINGLE_HEDGE_MS);
            if is_of_votes {
                of_votes += 1
            } else {
                of_peers += 1
            }
            let request = self.start(now_ms, peer.clone(), Ask::Single { hash });
            effects.push(Effect::RequestBlock { peer, request, hash });
        }
    }

    fn ask_range(&mut self, now_ms: u64, effects: &mut Vec<Effect<P>>) {
        let ranges = || self.in_flight.values().filter(|f| matches!(f.ask, Ask::Range { .. }));
        let waits = |flight: &InFlight<P>| flight.since_ms.saturating_add(RANGE_HEDGE_MS) > now_ms;
        // One more each few seconds until the first has timed out: a handful in all.
        if self.importing || ranges().any(waits) {
            return;
        }
        let busy: Vec<&P> = ranges().map(|flight| &flight.peer).collect();
        let Some((peer, from)) = self.peers.for_range(now_ms, self.own(), &busy) else { return };
        let request = self.start(now_ms, peer.clone(), Ask::Range { from });
        effects.push(Effect::RequestRange { peer, request, from, count: RANGE_BLOCKS });
    }

    /// One block behind is everyday gossip; two mean that something was missed.
    fn report(&mut self, effects: &mut Vec<Effect<P>>) {
        let claimed = self.best_peer_height().filter(|_| self.advancing).unwrap_or(0);
        let gap = claimed.max(self.voted_ahead).saturating_sub(self.head.height);
        let behind = if self.behind { gap > 0 } else { gap > 1 };
        if behind != self.behind {
            self.behind = behind;
            effects.push(Effect::Behind(gap));
        }
    }
}

fn check_answer(ask: Ask, blocks: &[Block]) -> Result<(), &'static str> {
    match ask {
        Ask::Single { hash } if blocks.len() != 1 || blocks[0].hash() != hash => {
            Err("sent another block than the one asked for")
        }
        Ask::Range { from } if blocks[0].height() != from || blocks.len() > RANGE_BLOCKS as usize => {
            Err("sent another range than the one asked for")
        }
        _ if blocks.windows(2).any(|w| w[1].parent() != w[0].hash()) => Err("sent blocks that are no chain"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
