//! The chain: the state on disk, the blocks above it with what each changes, and everything that is asked of them.
//!
//! Owns blocks and states. Which of them is the head is for fork choice ([`crate::fork_choice`]) over the tree
//! ([`crate::tree`]) that the interval machine keeps.
//!
//! # How blocks get in and down
//! 1. [`Verified`]: form and signatures, once, at the door.
//! 2. [`Chain::prepare_import`]: every rule of the parent's state but the work. Cheap, needs the chain.
//! 3. [`Prepared::check_work`]: artefact, shard, score. Slow, needs no chain: may run on another thread.
//! 4. [`Chain::commit`]: puts it into the tree and says which blocks it made final and which branches lost.
//! 5. The node writes the block with its delta and folds the deltas of the newly final blocks into its store, in one
//!    batch, then calls [`Chain::folded`]. Until then reads go through the deltas, so that neither order shows.

mod build;
mod import;
mod propose;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use podl_chain_spec::{ChainSpec, Hash32};

use crate::interval_context::IntervalContext;
use crate::rules::{ShardCache, WorkJob};
use crate::state::{Checkpoint, Meta, StateDelta, StateError, StateStore, StateView};
use crate::types::{Block, BlockHash, Height, ShardKey};
use crate::verified::{Verified, VerifiedBlock};

pub use build::{BlockParts, BuildError, LeftOut, UnsignedBlock};
pub use import::{Checked, FinalBlock, Imported, Prepared};
pub use propose::{CheckedProposal, Claim, ProposeError, Proposed};

/// A block above the stored state.
#[derive(Clone, Debug)]
pub struct ChainBlock {
    /// The block.
    pub block: VerifiedBlock,
    /// What it changes.
    pub delta: Arc<StateDelta>,
    /// Consensus part of the state after it.
    pub meta: Arc<Meta>,
}

/// Blocks from the last final one on, over the state in a store.
#[derive(Debug)]
pub struct Chain<S> {
    spec: Arc<ChainSpec>,
    chain: Hash32,
    store: S,
    /// The block whose state the store holds.
    stored: Checkpoint,
    stored_meta: Arc<Meta>,
    /// The last final block: `stored`, or above it until its delta is folded in.
    finalised: Checkpoint,
    blocks: BTreeMap<BlockHash, ChainBlock>,
    shards: Arc<ShardCache>,
    intervals: Mutex<VecDeque<Arc<IntervalContext>>>,
}

/// Parents whose intervals are kept: siblings of two heights.
const CACHED_INTERVALS: usize = 8;

impl<S: StateStore> Chain<S> {
    /// The chain over a store that holds the state of `stored` (for a new chain the state of
    /// [`crate::state::genesis_delta`]), with the blocks above it that were persisted, parents before children. They
    /// were checked before they were persisted and are not checked again.
    ///
    /// # Errors
    /// [`StateError`] when the store does not hold that state, or a block does not follow.
    pub fn open(
        spec: Arc<ChainSpec>,
        store: S,
        stored: Checkpoint,
        blocks: impl IntoIterator<Item = (Block, StateDelta)>,
    ) -> Result<Self, StateError> {
        let chain = spec.genesis_hash();
        let meta = StateView::new(&store, stored.height, Vec::new()).meta()?;
        if meta.height != stored.height {
            let reason = format!("the store holds the state of height {}, expected {}", meta.height, stored.height);
            return Err(StateError::Corrupt { key: stored.block.to_string(), reason });
        }
        let shards = Arc::new(ShardCache::default());
        let mut opened = Self {
            spec,
            chain,
            store,
            stored,
            stored_meta: Arc::new(meta),
            finalised: stored,
            blocks: BTreeMap::new(),
            shards,
            intervals: Mutex::default(),
        };
        for (block, delta) in blocks {
            opened.reload(block, delta)?;
        }
        Ok(opened)
    }

    fn reload(&mut self, block: Block, delta: StateDelta) -> Result<(), StateError> {
        let hash = block.hash();
        let header = &block.header.message;
        let follows = self.height(&header.parent).and_then(|height| height.checked_add(1)) == Some(header.height);
        if !follows || delta.height != header.height || delta.root != header.state_root {
            let reason = "the persisted block or its delta does not follow".into();
            return Err(StateError::Corrupt { key: hash.to_string(), reason });
        }
        let meta = Arc::new(delta.meta()?);
        // Its form and signatures were checked before it was persisted, as everything else of it was.
        let block = Arc::new(Verified::trusted(block));
        self.insert(hash, ChainBlock { block, delta: Arc::new(delta), meta });
        Ok(())
    }

    /// Parameters of the chain.
    pub fn spec(&self) -> &Arc<ChainSpec> {
        &self.spec
    }

    /// Genesis hash; stands in everything that is signed.
    pub fn chain_hash(&self) -> Hash32 {
        self.chain
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The block whose state the store holds.
    pub fn stored(&self) -> Checkpoint {
        self.stored
    }

    /// The last final block.
    pub fn finalised(&self) -> Checkpoint {
        self.finalised
    }

    /// A block above the stored one.
    pub fn block(&self, hash: &BlockHash) -> Option<&ChainBlock> {
        self.blocks.get(hash)
    }

    /// All blocks above the stored one, by hash.
    pub fn blocks(&self) -> impl Iterator<Item = (&BlockHash, &ChainBlock)> {
        self.blocks.iter()
    }

    /// Whether the state of the block can be read.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        *hash == self.stored.block || self.blocks.contains_key(hash)
    }

    /// Height of a block whose state can be read.
    pub fn height(&self, hash: &BlockHash) -> Option<Height> {
        if *hash == self.stored.block {
            return Some(self.stored.height);
        }
        self.blocks.get(hash).map(|entry| entry.block.height())
    }

    /// Consensus part of the state after a block.
    pub fn meta(&self, hash: &BlockHash) -> Option<&Arc<Meta>> {
        if *hash == self.stored.block { Some(&self.stored_meta) } else { self.blocks.get(hash).map(|b| &b.meta) }
    }

    /// The blocks from `hash` down to the first above the stored one; empty for the stored one itself.
    fn branch(&self, hash: &BlockHash) -> Option<Vec<(BlockHash, &ChainBlock)>> {
        let (mut at, mut branch) = (*hash, Vec::new());
        while at != self.stored.block {
            let entry = self.blocks.get(&at)?;
            branch.push((at, entry));
            at = entry.block.parent();
        }
        Some(branch)
    }

    /// The block at `height` on the branch of `hash`, if it is not below the stored one.
    pub fn ancestor(&self, hash: &BlockHash, height: Height) -> Option<BlockHash> {
        if height == self.stored.height && self.contains(hash) {
            return Some(self.stored.block);
        }
        let branch = self.branch(hash)?;
        branch.into_iter().find(|(_, entry)| entry.block.height() == height).map(|(hash, _)| hash)
    }

    /// The state after a block: accounts, tasks, proofs.
    pub fn state(&self, hash: &BlockHash) -> Option<StateView<'_>> {
        let height = self.height(hash)?;
        let deltas = self.branch(hash)?.into_iter().map(|(_, entry)| entry.delta.clone()).collect();
        Some(StateView::new(&self.store, height, deltas))
    }

    /// The interval on a block; `None` when its state is not here. Derived once for each of the last few parents:
    /// every commitment, closing and candidate of an interval asks for it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn shared_interval(&self, parent: &BlockHash) -> Result<Option<Arc<IntervalContext>>, StateError> {
        if !self.contains(parent) {
            return Ok(None);
        }
        // A poisoned lock means a panic between two writes of whole entries: the entries are still whole.
        let mut cached = self.intervals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interval) = cached.iter().find(|interval| interval.parent.block == *parent) {
            return Ok(Some(interval.clone()));
        }
        let Some(state) = self.state(parent) else { return Ok(None) };
        let interval = Arc::new(IntervalContext::derive(&self.spec, self.chain, *parent, &state)?);
        cached.push_front(interval.clone());
        cached.truncate(CACHED_INTERVALS);
        Ok(Some(interval))
    }

    /// A copy of [`Chain::shared_interval`].
    ///
    /// # Errors
    /// [`StateError`].
    pub fn interval_context(&self, parent: &BlockHash) -> Result<Option<IntervalContext>, StateError> {
        Ok(self.shared_interval(parent)?.map(|interval| (*interval).clone()))
    }

    /// The job of opening (or generating) an interval's shard, sharing what candidates opened before; `None` when a key
    /// is missing or stands where there is none.
    pub fn shard_job(&self, interval: &IntervalContext, key: Option<ShardKey>) -> Option<WorkJob> {
        WorkJob::shard_of(&self.spec.caps, interval, key, self.shards.clone())
    }
}
