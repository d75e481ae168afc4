//! Candidates and fallback proposals of one interval, and the order in which they are checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::AccountId;

use crate::tree::Rank;
use crate::types::{Block, BlockHash};

/// Blocks kept of one producer on one parent. Honest keys sign one; the others are evidence.
const BLOCKS_PER_PRODUCER: usize = 3;

/// How far the checking of a block got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Not asked for.
    Waiting,
    /// Asked for, no answer yet.
    Running,
    /// Valid, in the tree.
    Valid,
    /// Not valid.
    Refused,
    /// Lacks blobs; asked for again at this time.
    Unavailable {
        /// When.
        retry: u64,
    },
}

/// A block on the interval's parent.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub hash: BlockHash,
    pub block: Arc<Block>,
    pub rank: Rank,
    /// When it came.
    pub arrived: u64,
    pub check: Check,
}

impl Candidate {
    pub fn view(&self) -> u32 {
        self.block.header.message.view
    }

    pub fn producer(&self) -> AccountId {
        self.block.header.message.producer
    }

    /// Whether it may be asked for now.
    fn is_due(&self, now: u64) -> bool {
        match self.check {
            Check::Waiting => true,
            Check::Unavailable { retry } => retry <= now,
            Check::Running | Check::Valid | Check::Refused => false,
        }
    }
}

/// All blocks known on the interval's parent.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    blocks: BTreeMap<BlockHash, Candidate>,
}

impl Candidates {
    /// Notes a block. Returns whether it is new and within the bounds: `most_scored` scored ones, and a few of each
    /// producer. Fallback proposals are bounded by their producers, who are seats, so candidates cannot crowd them out.
    pub fn add(&mut self, block: Arc<Block>, now: u64, most_scored: usize) -> bool {
        let (hash, producer, rank) = (block.hash(), block.header.message.producer, Rank::of(&block));
        let of_producer = self.blocks.values().filter(|c| c.producer() == producer).count();
        let scored = self.blocks.values().filter(|c| c.rank.is_scored()).count();
        let full = of_producer >= BLOCKS_PER_PRODUCER || (rank.is_scored() && scored >= most_scored);
        if full || self.blocks.contains_key(&hash) {
            return false;
        }
        self.blocks.insert(hash, Candidate { hash, block, rank, arrived: now, check: Check::Waiting });
        true
    }

    /// Notes that a block is valid, whether or not it was known.
    pub fn set_valid(&mut self, block: Arc<Block>, now: u64) {
        let (hash, rank) = (block.hash(), Rank::of(&block));
        let fresh = Candidate { hash, block, rank, arrived: now, check: Check::Valid };
        self.blocks.entry(hash).or_insert(fresh).check = Check::Valid;
    }

    /// Notes the answer to a check.
    pub fn set(&mut self, hash: &BlockHash, check: Check) {
        if let Some(candidate) = self.blocks.get_mut(hash).filter(|c| c.check != Check::Valid) {
            candidate.check = check;
        }
    }

    pub fn get(&self, hash: &BlockHash) -> Option<&Candidate> {
        self.blocks.get(hash)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.blocks.values()
    }

    /// Whether the owner has shown a scored candidate, valid or not.
    pub fn has_scored_by(&self, owner: &AccountId) -> bool {
        self.blocks.values().any(|c| c.rank.is_scored() && c.producer() == *owner)
    }

    /// Another block of the same producer, which together with this one is evidence.
    pub fn twin(&self, block: &Block) -> Option<&Arc<Block>> {
        let (hash, producer) = (block.hash(), block.header.message.producer);
        self.blocks.values().find(|c| c.producer() == producer && c.hash != hash).map(|c| &c.block)
    }

    /// Marks the best-ranked block that `wanted` wants and that may be checked now as running, and returns it. At most
    /// `parallel` scored ones run at a time; the others cost no scoring.
    pub fn next_check(&mut self, now: u64, parallel: usize, wanted: impl Fn(&Candidate) -> bool) -> Option<Arc<Block>> {
        let running = self.blocks.values().filter(|c| c.check == Check::Running && c.rank.is_scored()).count();
        let free = |c: &Candidate| !c.rank.is_scored() || running < parallel;
        let due = self.blocks.values_mut().filter(|c| c.is_due(now) && free(c) && wanted(c));
        let next = due.min_by_key(|c| c.rank)?;
        next.check = Check::Running;
        Some(next.block.clone())
    }

    /// Whether the best-ranked scored candidates that came in time have been checked, down to the first valid one.
    pub fn best_is_checked(&self, in_time: impl Fn(&Candidate) -> bool) -> bool {
        let mut scored: Vec<&Candidate> = self.blocks.values().filter(|c| c.rank.is_scored() && in_time(c)).collect();
        scored.sort_by_key(|c| c.rank);
        let undecided = scored.into_iter().find(|c| c.check != Check::Refused);
        undecided.is_none_or(|c| c.check == Check::Valid)
    }

    /// Ranks that blocks claim which are not known to be invalid.
    pub fn unrefuted(&self) -> impl Iterator<Item = &Rank> {
        self.blocks.values().filter(|c| c.check != Check::Refused).map(|c| &c.rank)
    }

    /// When an unavailable block is asked for again.
    pub fn retries(&self) -> impl Iterator<Item = u64> {
        self.blocks.values().filter_map(|c| match c.check {
            Check::Unavailable { retry } => Some(retry),
            _ => None,
        })
    }
}
