//! A simulated node's chain: the real one, with artefacts that name their own score.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use podl_chain_spec::{AccountId, ChainSpec};
use podl_consensus::chain::{BlockParts, Chain, Checked, CheckedProposal, Claim, UnsignedBlock};
use podl_consensus::interval::ChainView;
use podl_consensus::rules::BlockError;
use podl_consensus::state::{Checkpoint, MemoryStore, Meta, genesis_checkpoint, genesis_delta};
use podl_consensus::testkit::{Blobs, FakeVerifier};
use podl_consensus::types::{BlockHash, Outcome, ShardKey};
use podl_consensus::verified::VerifiedBlock;

/// Artefacts and sealed shards, served to everybody at once.
pub type SharedBlobs = Rc<RefCell<Blobs>>;

/// Blocks that some node validated. Validity is a pure function of a block and its ancestors, so the others need not
/// repeat the signatures, the execution and the score; whether a block fits their own tree they check themselves.
pub type Validated = Rc<RefCell<BTreeMap<BlockHash, Checked>>>;

/// The chain of one simulated node.
pub struct Ledger {
    chain: Chain<MemoryStore>,
    blobs: SharedBlobs,
    validated: Option<Validated>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({:?})", self.chain.finalised())
    }
}

impl Ledger {
    /// A chain that holds its genesis only. Without `validated` it validates every block itself.
    ///
    /// # Panics
    /// When the specification makes no genesis, which is a mistake in the scenario.
    pub fn new(spec: &Arc<ChainSpec>, blobs: SharedBlobs, validated: Option<Validated>) -> Self {
        let mut store = MemoryStore::default();
        store.apply(&genesis_delta(spec).expect("a genesis"));
        let chain = Chain::open(spec.clone(), store, genesis_checkpoint(spec), []).expect("a chain");
        Self { chain, blobs, validated }
    }

    /// The machine's port.
    pub fn view(&self) -> &dyn ChainView {
        &self.chain
    }

    /// Whether the block can be built on.
    pub fn contains(&self, block: &BlockHash) -> bool {
        self.chain.contains(block)
    }

    /// The last final block with its state, and the valid blocks above it, parents before children: what a restarted
    /// machine is told.
    ///
    /// # Panics
    /// When the chain lost the state of its final block.
    #[allow(clippy::type_complexity, reason = "root, its meta, and the blocks above: read once, right here")]
    pub fn reload(&self) -> (Checkpoint, Arc<Meta>, Vec<(VerifiedBlock, Arc<Meta>)>) {
        let root = self.chain.finalised();
        let meta = self.chain.meta(&root.block).expect("the final block's state").clone();
        let mut above: Vec<_> = self
            .chain
            .blocks()
            .filter(|(_, entry)| entry.block.height() > root.height)
            .map(|(_, entry)| (entry.block.clone(), entry.meta.clone()))
            .collect();
        above.sort_by_key(|(block, _)| (block.height(), block.hash()));
        (root, meta, above)
    }

    /// Validates a block with all rules and takes it in; returns the consensus part of the state after it.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn import(&mut self, block: &VerifiedBlock) -> Result<Arc<Meta>, BlockError> {
        let imported = self.chain.commit(self.checked(block)?)?;
        self.chain.fold_with(|store, deltas| deltas.iter().for_each(|delta| store.apply(delta)));
        Ok(imported.meta)
    }

    fn checked(&self, block: &VerifiedBlock) -> Result<Checked, BlockError> {
        let shared = self.validated.as_ref().map(|validated| validated.borrow_mut());
        let known = shared.as_ref().and_then(|validated| validated.get(&block.hash()).cloned());
        if let Some(checked) = known {
            return Ok(checked);
        }
        let prepared = self.chain.prepare_import(block.clone())?;
        let checked = prepared.check_work(&*self.blobs.borrow(), &FakeVerifier)?;
        if let Some(mut validated) = shared {
            validated.insert(checked.hash(), checked.clone());
        }
        Ok(checked)
    }

    /// A block that others will take, to be signed; `None` when there can be none.
    pub fn propose(
        &self,
        parent: BlockHash,
        producer: AccountId,
        view: u32,
        claim: Claim,
        parts: BlockParts,
    ) -> Option<CheckedProposal> {
        let proposed = self.chain.propose(parent, producer, view, claim, parts).ok()?;
        proposed.check_work(&*self.blobs.borrow(), &FakeVerifier).ok()
    }

    /// A block to be signed by who does not care whether others take it; `None` when the rules allow none.
    pub fn build(
        &self,
        parent: BlockHash,
        producer: AccountId,
        view: u32,
        outcome: Outcome,
        parts: BlockParts,
    ) -> Option<UnsignedBlock> {
        match outcome {
            Outcome::Scored { closings, opening, key } => {
                self.chain.build_scored(parent, producer, parts, closings, opening, key)
            }
            Outcome::Void { closings } => self.chain.build_void(parent, producer, view, parts, closings),
            Outcome::Idle { key } => self.chain.build_idle(parent, producer, view, parts, key),
        }
        .ok()
    }

    /// Whether a key opens the shard of the interval on `parent`.
    pub fn shard_opens(&self, parent: &BlockHash, key: ShardKey) -> bool {
        let Ok(Some(interval)) = self.chain.interval_context(parent) else { return false };
        let Some(job) = self.chain.shard_job(&interval, Some(key)) else { return false };
        job.run(&*self.blobs.borrow(), &FakeVerifier).is_ok()
    }

    /// How many images a model must at least get right on `parent`, and how many there are.
    pub fn goal(&self, parent: &BlockHash) -> Option<(u32, u32)> {
        let interval = self.chain.interval_context(parent).ok()??;
        let images = interval.workload.shard_images;
        let baseline = interval.published.as_ref().and_then(|round| Some((round.baseline?, round.min_gain)));
        let least = baseline.map_or(0, |(blob, gain)| {
            let artefact = podl_consensus::rules::BlobSource::blob(&*self.blobs.borrow(), &blob.root);
            let correct = artefact.and_then(|bytes| Some(u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?)));
            correct.unwrap_or(0) + gain
        });
        Some((least, images))
    }
}
