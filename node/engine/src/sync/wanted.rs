//! Single blocks that somebody spoke of and that are not here: asked of who named them, then of the others in turn.
//!
//! Nobody is blamed for not having one: whoever relays a vote or a block need not hold what it builds on.

use std::collections::{BTreeMap, VecDeque};

use podl_consensus::types::{Block, BlockHash};

/// Single blocks wanted because a peer spoke of them.
const OF_PEERS: usize = 32;
/// Of these, named by one peer.
const OF_ONE_PEER: usize = 8;
/// Single blocks wanted because votes name them.
const OF_VOTES: usize = 64;
/// Blocks that wait until what they build on is here, of those that votes name and of the others: each may have megabytes.
const WITH_BLOCKS: usize = 4;
/// Most parents followed from one block before a range is the better way.
const DEPTH: usize = 8;
/// Peers remembered as having named one block.
const NAMERS: usize = 4;
/// Blocks whose namers are remembered before the block is wanted.
const NAMED: usize = 256;
/// Peers asked for one block at a time, one after the other while none answers.
const AT_ONCE: usize = 6;

#[derive(Clone, Debug)]
pub(super) struct Wanted<P> {
    pub named_by: Vec<P>,
    pub tried: Vec<P>,
    /// Requests under way.
    pub in_flight: usize,
    /// When another peer is asked although one has not answered yet.
    pub hedge_ms: u64,
    /// Blocks that build on it, lowest first, with who sent each.
    pub above: Vec<(P, Block)>,
    of_votes: bool,
}

/// All that is wanted.
#[derive(Debug)]
pub(super) struct WantedBlocks<P> {
    wanted: BTreeMap<BlockHash, Wanted<P>>,
    /// Who spoke of which block, newest last.
    named: VecDeque<(BlockHash, Vec<P>)>,
}

impl<P: Ord + Clone> WantedBlocks<P> {
    pub fn new() -> Self {
        Self { wanted: BTreeMap::new(), named: VecDeque::new() }
    }

    /// Remembers that a peer spoke of a block.
    pub fn name(&mut self, peer: P, hash: BlockHash) {
        if let Some((_, peers)) = self.named.iter_mut().find(|(named, _)| *named == hash) {
            if peers.len() < NAMERS && !peers.contains(&peer) {
                peers.push(peer);
            }
            return;
        }
        if self.named.len() >= NAMED {
            self.named.pop_front();
        }
        self.named.push_back((hash, vec![peer]));
    }

    /// Wants a block that a peer spoke of, or votes if there is no peer.
    pub fn want(&mut self, peer: Option<P>, hash: BlockHash) {
        let known = self.named.iter().find(|(named, _)| *named == hash).map(|(_, peers)| peers.clone());
        let mut named_by = known.unwrap_or_default();
        named_by.extend(peer.clone());
        if let Some(wanted) = self.wanted.get_mut(&hash) {
            let fresh: Vec<P> = named_by.into_iter().filter(|peer| !wanted.named_by.contains(peer)).collect();
            let room = NAMERS.saturating_sub(wanted.named_by.len());
            wanted.named_by.extend(fresh.into_iter().take(room));
            wanted.of_votes |= peer.is_none();
            return;
        }
        if self.has_room(peer.as_ref()) {
            let of_votes = peer.is_none();
            self.insert(hash, named_by, Vec::new(), of_votes);
        }
    }

    fn has_room(&self, peer: Option<&P>) -> bool {
        let count = |of: &dyn Fn(&Wanted<P>) -> bool| self.wanted.values().filter(|wanted| of(wanted)).count();
        match peer {
            None => count(&|wanted| wanted.of_votes) < OF_VOTES,
            Some(peer) => {
                count(&|wanted| !wanted.of_votes) < OF_PEERS
                    && count(&|wanted| wanted.named_by.contains(peer)) < OF_ONE_PEER
            }
        }
    }

    fn insert(&mut self, hash: BlockHash, named_by: Vec<P>, above: Vec<(P, Block)>, of_votes: bool) {
        let wanted = Wanted { named_by, tried: Vec::new(), in_flight: 0, hedge_ms: 0, above, of_votes };
        self.wanted.insert(hash, wanted);
    }

    /// A wanted block came from a peer. The blocks to be imported, lowest first; none when what it builds on is wanted now.
    pub fn came(&mut self, peer: P, block: Block, connects: bool) -> Vec<(P, Block)> {
        let Some(wanted) = self.wanted.remove(&block.hash()) else { return Vec::new() };
        let parent = block.parent();
        let mut blocks = vec![(peer.clone(), block)];
        blocks.extend(wanted.above);
        let of_votes = wanted.of_votes;
        let waits = |other: &&Wanted<P>| !other.above.is_empty() && other.of_votes == of_votes;
        let waiting = self.wanted.values().filter(waits).count();
        let follow = !connects && blocks.len() < DEPTH && waiting < WITH_BLOCKS && !self.wanted.contains_key(&parent);
        if !follow {
            return blocks;
        }
        self.insert(parent, vec![peer], blocks, of_votes);
        Vec::new()
    }

    /// Forgets a block: nobody had it. Votes that name it ask again after a while.
    pub fn give_up(&mut self, hash: &BlockHash) {
        self.wanted.remove(hash);
    }

    pub fn get_mut(&mut self, hash: &BlockHash) -> Option<&mut Wanted<P>> {
        self.wanted.get_mut(hash)
    }

    /// Whether votes name a wanted block.
    pub fn is_of_votes(&self, hash: &BlockHash) -> bool {
        self.wanted.get(hash).is_some_and(|wanted| wanted.of_votes)
    }

    /// Blocks that somebody may be asked for now, those that votes name first.
    pub fn due(&self, now_ms: u64) -> Vec<BlockHash> {
        let is_due =
            |wanted: &Wanted<P>| wanted.in_flight == 0 || (wanted.in_flight < AT_ONCE && wanted.hedge_ms <= now_ms);
        let mut due: Vec<_> = self.wanted.iter().filter(|(_, wanted)| is_due(wanted)).collect();
        due.sort_by_key(|(_, wanted)| !wanted.of_votes);
        due.into_iter().map(|(hash, _)| *hash).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.wanted.len()
    }
}
