//! Differing blocks of one producer on one parent: the first two are taken, since together they are the evidence;
//! further ones are not executed, whichever way they come, and count against whoever keeps passing them on.
//!
//! Signing one more costs its producer nothing, checking it costs every node an execution and an inference pass. The
//! interval machine keeps the same bound for what it asks to be validated; this one also covers blocks that sync brings.
//!
//! # Correctness
//! A block that a seat voted for is always taken, or nodes that saw different twins first could not follow each other.
//! Votes are bounded: the pool keeps two of each voter and height. Only blocks whose producer's signature stands are
//! counted, and only where [`may_follow`] says that the producer can have one at all: others could use up his places.

use std::collections::BTreeMap;

use libp2p::PeerId;
use podl_chain_spec::AccountId;
use podl_consensus::interval::{BLOCKS_PER_PRODUCER, ChainView, Event};
use podl_consensus::rules::context_rules::may_follow;
use podl_consensus::types::{Block, BlockHash, Height, SignedVote};
use podl_consensus::verified::Verified;
use podl_network::Verdict;

use super::{Core, CoreError};

/// Differing blocks of one producer on one parent that an honest peer may pass on: two, and two more after a restart, in
/// which it forgot the first ones.
const RELAYED_AT_MOST: usize = 2 * BLOCKS_PER_PRODUCER;
/// Peers remembered for one producer and parent.
const RELAYERS: usize = 64;
/// Producers remembered, on all parents together. There are some hundreds at most on one parent: those whose commitments
/// a majority listed, and the seats.
const PLACES: usize = 4_096;

/// Parent, with its child's height first so that old ones are dropped together, and producer.
type Place = (Height, BlockHash, AccountId);

fn place_of(block: &Block) -> Place {
    (block.height(), block.parent(), block.header.message.producer)
}

#[derive(Debug, Default)]
struct Known {
    /// What was taken.
    taken: Vec<BlockHash>,
    /// What each peer passed on, as far as it matters.
    relayed: BTreeMap<PeerId, Vec<BlockHash>>,
}

/// What is known of the blocks above the last final one.
#[derive(Debug, Default)]
pub(super) struct Siblings(BTreeMap<Place, Known>);

impl Siblings {
    fn at(&mut self, block: &Block) -> &mut Known {
        let place = place_of(block);
        if self.0.len() >= PLACES && !self.0.contains_key(&place) {
            self.0.pop_first();
        }
        self.0.entry(place).or_default()
    }

    /// Whether the block would be one of the first two of its producer on its parent.
    pub(super) fn would_take(&self, block: &Block) -> bool {
        let taken = self.0.get(&place_of(block)).map_or(&[][..], |known| &known.taken);
        taken.len() < BLOCKS_PER_PRODUCER || taken.contains(&block.hash())
    }

    /// Takes a block whose signatures stand, if it is one of the first two of its producer on its parent.
    pub(super) fn take(&mut self, block: &Block) -> bool {
        let (hash, taken) = (block.hash(), &mut self.at(block).taken);
        if taken.len() < BLOCKS_PER_PRODUCER && !taken.contains(&hash) {
            taken.push(hash);
        }
        taken.contains(&hash)
    }

    /// Notes that a peer passed a block on; whether that is more than an honest one would.
    fn is_too_many(&mut self, block: &Block, peer: PeerId) -> bool {
        let (hash, relayed) = (block.hash(), &mut self.at(block).relayed);
        if relayed.len() >= RELAYERS && !relayed.contains_key(&peer) {
            return false;
        }
        let blocks = relayed.entry(peer).or_default();
        if blocks.len() <= RELAYED_AT_MOST && !blocks.contains(&hash) {
            blocks.push(hash);
        }
        blocks.len() > RELAYED_AT_MOST
    }

    /// Forgets what stands at or below the last final height.
    pub(super) fn prune(&mut self, final_height: Height) {
        self.0.retain(|(height, ..), _| *height > final_height);
    }
}

impl Core {
    /// What to do with a gossiped block on a known parent, whose form and header's signature stand: the verdict on its
    /// message, and whether the machine hears of it, should the signatures inside stand as well.
    pub(super) fn judge_sibling(&mut self, block: &Block, peer: PeerId) -> (Verdict, bool) {
        let Some(interval) = self.view.interval(&block.parent()) else { return (Verdict::Ignore, false) };
        if !may_follow(&interval, block) {
            return (Verdict::Reject, false);
        }
        let too_many = self.siblings.is_too_many(block, peer);
        if self.siblings.would_take(block) {
            return (Verdict::Accept, true);
        }
        // Whoever needs it because of a vote asks for it by its hash: nobody need pass it on.
        let verdict = if too_many { Verdict::Reject } else { Verdict::Ignore };
        (verdict, self.is_voted(block))
    }

    fn is_voted(&self, block: &Block) -> bool {
        self.machine.votes().names(block.height(), &block.hash())
    }

    /// Whether a block whose form and header's signature stand may be executed.
    pub(super) fn may_execute(&mut self, block: &Block) -> Result<bool, CoreError> {
        let Some(interval) = self.view.interval(&block.parent()) else { return Ok(true) };
        if !may_follow(&interval, block) {
            return Ok(false);
        }
        if self.siblings.would_take(block) || self.is_voted(block) {
            return Ok(true);
        }
        self.take_votes_of_range(block)
    }

    /// Votes for a block that the next one of the range under way carries: a chain that went on over a twin shows that
    /// seats stand behind it. Whether there are any.
    fn take_votes_of_range(&mut self, block: &Block) -> Result<bool, CoreError> {
        let hash = block.hash();
        let most = 2 * usize::from(self.spec.seats.window);
        let votes = self.imports.successor_votes(&hash).iter().take(most);
        let votes = votes.filter(|vote| vote.message.block == hash && self.machine.votes().wants(&vote.message));
        let verified = |vote: &SignedVote| Verified::check(&self.spec, &self.chain_hash, vote.clone()).ok();
        let votes: Vec<Verified<SignedVote>> = votes.filter_map(verified).collect();
        let any = !votes.is_empty();
        votes.into_iter().try_for_each(|vote| self.drive(Event::Vote(vote)))?;
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podl_consensus::testkit::{Harness, small_spec};

    /// Differing idle blocks of one seat on genesis.
    fn twins(count: u64) -> Vec<Block> {
        let h = Harness::new(small_spec(4, 8));
        let twin = |n| {
            let mut block = h.idle(h.genesis(), 0, None, h.parts(h.genesis()));
            block.header.message.time_ms += n;
            block
        };
        (0..count).map(twin).collect()
    }

    #[test]
    fn two_of_one_producer_are_taken_and_a_peer_may_pass_on_four() {
        let (mut siblings, blocks, peer) = (Siblings::default(), twins(7), PeerId::random());
        let taken: Vec<bool> = blocks.iter().map(|block| siblings.take(block)).collect();
        assert_eq!(taken, [true, true, false, false, false, false, false]);
        assert!(siblings.take(&blocks[1]), "the same again");
        let too_many: Vec<bool> = blocks.iter().map(|block| siblings.is_too_many(block, peer)).collect();
        assert_eq!(too_many, [false, false, false, false, true, true, true]);
        assert!(!siblings.is_too_many(&blocks[0], PeerId::random()), "each peer for itself");
        siblings.prune(1);
        assert!(siblings.0.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut siblings, block) = (Siblings::default(), twins(1).remove(0));
        for n in 0..5_000u64 {
            let mut other = block.clone();
            other.header.message.height = 1 + n;
            siblings.take(&other);
        }
        assert_eq!(siblings.0.len(), PLACES);
        assert!(siblings.0.keys().all(|(height, ..)| *height > 900), "the lowest go first");
        for _ in 0..200 {
            siblings.is_too_many(&block, PeerId::random());
        }
        let known = siblings.0.values().map(|known| known.relayed.len()).max();
        assert_eq!(known, Some(RELAYERS));
    }
}
