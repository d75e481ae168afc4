//! Taking blocks in: rules, finality, pruning.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Chain, ChainBlock};
use crate::execute::{BlockInput, Event, Executed, execute};
use crate::interval_context::IntervalContext;
use crate::rules::{BlobSource, BlockError, ContextError, WorkDone, WorkJob, context_rules, header};
use crate::state::{Checkpoint, Meta, StateDelta, StateStore, StateView};
use crate::types::{Block, BlockHash, Height};
use crate::verified::{Verified, VerifiedBlock};
use crate::workload::WorkVerifier;

/// A block that keeps every rule but perhaps those of the work.
#[derive(Clone, Debug)]
pub struct Prepared {
    hash: BlockHash,
    block: VerifiedBlock,
    executed: Executed,
    job: Option<WorkJob>,
}

impl Prepared {
    pub(super) fn new(block: VerifiedBlock, executed: Executed, job: Option<WorkJob>) -> Self {
        Self { hash: block.hash(), block, executed, job }
    }

    /// Its hash.
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The block.
    pub fn block(&self) -> &VerifiedBlock {
        &self.block
    }

    /// The work to check; `None` when it claims none.
    pub fn job(&self) -> Option<&WorkJob> {
        self.job.as_ref()
    }

    /// Checks the work: the slow part, which may run on any thread.
    ///
    /// # Errors
    /// [`BlockError::Work`], or [`BlockError::NotAvailable`] when a blob is not here.
    pub fn check_work(self, blobs: &dyn BlobSource, verifier: &dyn WorkVerifier) -> Result<Checked, BlockError> {
        let done = self.job.as_ref().map(|job| job.run(blobs, verifier)).transpose()?;
        Ok(self.with_work(done))
    }

    /// Takes the work for checked without checking it.
    ///
    /// # Correctness
    /// Only where seats that are trusted did check it: on a block so old that its blobs are pruned
    /// (`limits.retain_blocks`), with votes of a quorum of both sets for it.
    pub fn trust_work(self) -> Checked {
        self.with_work(None)
    }

    pub(super) fn with_work(self, done: Option<WorkDone>) -> Checked {
        Checked { prepared: self, done }
    }
}

/// A block that keeps every rule.
#[derive(Clone, Debug)]
pub struct Checked {
    prepared: Prepared,
    done: Option<WorkDone>,
}

impl Checked {
    /// Its hash.
    pub fn hash(&self) -> BlockHash {
        self.prepared.hash
    }

    /// The block.
    pub fn block(&self) -> &VerifiedBlock {
        &self.prepared.block
    }

    /// What the check of its work found, where there was one.
    pub fn work(&self) -> Option<WorkDone> {
        self.done
    }
}

/// A block that became final.
#[derive(Clone, Debug)]
pub struct FinalBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: Height,
    /// The block.
    pub block: VerifiedBlock,
    /// What it changes; to be folded into the store.
    pub delta: Arc<StateDelta>,
}

/// A block that entered the chain, to be written in one batch with the folding of what it made final.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Its hash.
    pub hash: BlockHash,
    /// The block.
    pub block: VerifiedBlock,
    /// What it changes; to be persisted with it.
    pub delta: Arc<StateDelta>,
    /// Consensus part of the state after it.
    pub meta: Arc<Meta>,
    /// What happened in it.
    pub events: Vec<Event>,
    /// Blocks that it made final, by rising height.
    pub newly_final: Vec<FinalBlock>,
    /// Blocks on branches that lost, which may be forgotten.
    pub pruned: Vec<VerifiedBlock>,
}

impl<S: StateStore> Chain<S> {
    /// Form and signatures of a block, unless it has no place here: then not even those are looked at.
    ///
    /// # Errors
    /// [`BlockError`]; its [`BlockError::blame`] says who is at fault.
    pub fn verify(&self, block: Block) -> Result<VerifiedBlock, BlockError> {
        self.check_place(&block.hash(), &block)?;
        Ok(Arc::new(Verified::check(&self.spec, &self.chain, block)?))
    }

    /// Everything but form, signatures and work: header, parent's state, execution, state root.
    ///
    /// # Errors
    /// [`BlockError`]; its [`BlockError::blame`] says who is at fault.
    pub fn prepare_import(&self, block: VerifiedBlock) -> Result<Prepared, BlockError> {
        let (executed, job) = self.check_block(&block)?;
        Ok(Prepared::new(block, executed, job))
    }

    /// The rules of the parent's state for a block whose form and signatures stand.
    pub(super) fn check_block(&self, block: &Block) -> Result<(Executed, Option<WorkJob>), BlockError> {
        let (hash, parent) = (block.hash(), block.parent());
        self.check_place(&hash, block)?;
        let state = self.state(&parent).ok_or(BlockError::UnknownParent { block: hash, parent })?;
        let interval = self.shared_interval(&parent)?.ok_or(BlockError::UnknownParent { block: hash, parent })?;
        header::check(&self.spec, &interval, &block.header.message)?;
        context_rules::check(&interval, &state, |height| self.ancestor(&parent, height), block)?;
        let executed = self.execute(&interval, &state, block)?;
        let job = WorkJob::new(&self.spec.caps, &interval, &block.body.outcome, self.shards.clone());
        Ok((executed, job))
    }

    fn execute(
        &self,
        interval: &IntervalContext,
        state: &StateView<'_>,
        block: &Block,
    ) -> Result<Executed, BlockError> {
        let header = &block.header.message;
        let (time_ms, producer) = (header.time_ms, header.producer);
        let executed =
            execute(state, &BlockInput { spec: &self.spec, interval, time_ms, producer, body: &block.body })?;
        let (got, expected) = (executed.delta.root, header.state_root);
        if got == expected { Ok(executed) } else { Err(ContextError::StateRoot { got, expected }.into()) }
    }

    /// Whether the block is new and its parent is on a branch that can still be followed.
    fn check_place(&self, hash: &BlockHash, block: &Block) -> Result<(), BlockError> {
        if self.contains(hash) {
            return Err(BlockError::Known(*hash));
        }
        let (height, final_height) = (block.height(), self.finalised.height);
        if height <= final_height {
            return Err(BlockError::NotAboveFinal { block: *hash, height, final_height });
        }
        let parent = block.parent();
        // A lying height would pass the rule above; the parent's own height decides.
        match self.height(&parent) {
            Some(height) if height >= final_height => Ok(()),
            Some(height) => Err(BlockError::NotAboveFinal { block: *hash, height: height + 1, final_height }),
            None => Err(BlockError::UnknownParent { block: *hash, parent }),
        }
    }

    /// Puts a checked block into the tree.
    ///
    /// # Errors
    /// [`BlockError::Known`], [`BlockError::UnknownParent`] or [`BlockError::NotAboveFinal`] when the chain moved on
    /// since the block was prepared.
    pub fn commit(&mut self, checked: Checked) -> Result<Imported, BlockError> {
        let Prepared { hash, block, executed, .. } = checked.prepared;
        self.check_place(&hash, &block)?;
        let Executed { delta, meta, events } = executed;
        let entry = ChainBlock { block, delta: Arc::new(delta), meta: Arc::new(meta) };
        let (block, delta, meta) = (entry.block.clone(), entry.delta.clone(), entry.meta.clone());
        let (newly_final, pruned) = self.insert(hash, entry);
        Ok(Imported { hash, block, delta, meta, events, newly_final, pruned })
    }

    /// All of it at once: prepare, check the work, commit.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn import(
        &mut self,
        block: Block,
        blobs: &dyn BlobSource,
        verifier: &dyn WorkVerifier,
    ) -> Result<Imported, BlockError> {
        let checked = self.prepare_import(self.verify(block)?)?.check_work(blobs, verifier)?;
        self.commit(checked)
    }

    /// Inserts a block and moves the final one to where the block's state puts it.
    pub(super) fn insert(&mut self, hash: BlockHash, entry: ChainBlock) -> (Vec<FinalBlock>, Vec<VerifiedBlock>) {
        let finalised = entry.meta.finalised;
        self.blocks.insert(hash, entry);
        if finalised.height <= self.finalised.height {
            return (Vec::new(), Vec::new());
        }
        let before = std::mem::replace(&mut self.finalised, finalised);
        let branch = self.branch(&hash).unwrap_or_default();
        let fresh = |height: Height| height > before.height && height <= finalised.height;
        let newly_final = branch.iter().rev().filter(|(_, entry)| fresh(entry.block.height()));
        let newly_final = newly_final
            .map(|(hash, entry)| FinalBlock {
                hash: *hash,
                height: entry.block.height(),
                block: entry.block.clone(),
                delta: entry.delta.clone(),
            })
            .collect();
        let kept: BTreeSet<BlockHash> = branch.iter().map(|(hash, _)| *hash).collect();
        (newly_final, self.prune(&kept))
    }

    /// Drops the branches that do not descend from the final block; `kept` is the branch that made it final.
    fn prune(&mut self, kept: &BTreeSet<BlockHash>) -> Vec<VerifiedBlock> {
        let finalised = self.finalised;
        let alive = |hash: &BlockHash, entry: &ChainBlock| {
            kept.contains(hash)
                || (entry.block.height() > finalised.height
                    && self.ancestor(hash, finalised.height) == Some(finalised.block))
        };
        let dead: Vec<BlockHash> =
            self.blocks.iter().filter(|(hash, entry)| !alive(hash, entry)).map(|(hash, _)| *hash).collect();
        dead.iter().filter_map(|hash| self.blocks.remove(hash)).map(|entry| entry.block).collect()
    }

    /// Final blocks whose deltas the store does not hold yet, by rising height: after a restart between the two writes
    /// of a store that does not fold in the same batch, or before [`Chain::folded`] was called.
    pub fn unfolded(&self) -> Vec<FinalBlock> {
        let branch = self.branch(&self.finalised.block).unwrap_or_default();
        let entry = |(hash, entry): &(BlockHash, &ChainBlock)| FinalBlock {
            hash: *hash,
            height: entry.block.height(),
            block: entry.block.clone(),
            delta: entry.delta.clone(),
        };
        branch.iter().rev().map(entry).collect()
    }

    /// Says that the store holds the state of the final block `upto` now; its deltas are dropped.
    ///
    /// # Correctness
    /// Call after the batch is written and before any other import. A block that is not final is ignored.
    pub fn folded(&mut self, upto: Checkpoint) {
        let is_final = upto.height <= self.finalised.height
            && self.ancestor(&self.finalised.block, upto.height) == Some(upto.block);
        let Some(meta) = self.meta(&upto.block).cloned().filter(|_| is_final) else { return };
        self.stored = upto;
        self.stored_meta = meta;
        self.blocks.retain(|_, entry| entry.block.height() > upto.height);
    }

    /// Folds the deltas of all final blocks into a store that this chain owns, by `write`, and forgets them. For stores
    /// in memory; a node's storage does it in the batch that also holds the block.
    pub fn fold_with(&mut self, write: impl FnOnce(&mut S, &[Arc<StateDelta>])) {
        let due = self.unfolded();
        let Some(last) = due.last() else { return };
        let upto = Checkpoint { height: last.height, block: last.hash };
        let deltas: Vec<_> = due.into_iter().map(|block| block.delta).collect();
        write(&mut self.store, &deltas);
        self.folded(upto);
    }
}
