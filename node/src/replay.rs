//! Replaying a chain from its first block with every rule, in memory: what `podl chain verify` does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use podl_chain_spec::ChainSpec;
use podl_consensus::chain::{Chain, Imported};
use podl_consensus::hash::blob_root;
use podl_consensus::rules::{BlobSource, BlockError};
use podl_consensus::state::{Checkpoint, MemoryStore, StateError, StateStore, genesis_checkpoint, genesis_delta};
use podl_consensus::types::{BlobRoot, Block, Height};
use podl_consensus::workload::WorkVerifier;

/// Blobs of a file that are kept for the blocks behind them: a block needs its model, its shard and perhaps the model
/// that it must beat, which is some rounds old.
const BLOBS_KEPT: usize = 64;

/// What a replay found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks taken.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Scores counted again.
    pub scores_checked: u64,
    /// Scores that had to be believed, because a model or a shard is not here any more.
    pub scores_believed: u64,
}

/// Why a chain is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A block breaks a rule.
    #[error("block {height} is not valid: {source}")]
    Block {
        /// Its height.
        height: Height,
        /// Which rule.
        source: Box<BlockError>,
    },
    /// The state cannot be made or read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A stored value is another than the replay's.
    #[error("the stored state under key {key} is not what the blocks make")]
    OtherState {
        /// Hexadecimal key.
        key: String,
    },
}

/// Takes a block in. A score is believed only if `may_believe` and one of its blobs is not there.
///
/// # Errors
/// [`ReplayError::Block`].
pub fn take<S: StateStore>(
    chain: &mut Chain<S>,
    block: Block,
    blobs: &dyn BlobSource,
    verifier: &dyn WorkVerifier,
    may_believe: bool,
    tally: &mut Tally,
) -> Result<Imported, ReplayError> {
    let height = block.height();
    let refuse = |source| ReplayError::Block { height, source: Box::new(source) };
    let transactions = block.body.transactions.len() as u64;
    let prepared = chain.verify(block).and_then(|block| chain.prepare_import(block)).map_err(refuse)?;
    let has_work = prepared.job().is_some();
    let is_missing = prepared.job().is_some_and(|job| job.blobs().iter().any(|b| blobs.blob(&b.root).is_none()));
    let checked = if is_missing && may_believe {
        tally.scores_believed += 1;
        prepared.trust_work()
    } else {
        tally.scores_checked += u64::from(has_work);
        prepared.check_work(blobs, verifier).map_err(refuse)?
    };
    tally.blocks += 1;
    tally.transactions += transactions;
    chain.commit(checked).map_err(refuse)
}

/// A chain under replay.
pub struct Replay {
    chain: Chain<MemoryStore>,
    verifier: Box<dyn WorkVerifier>,
    tally: Tally,
    head: Checkpoint,
}

impl Replay {
    /// A chain that has only its genesis.
    ///
    /// # Errors
    /// [`ReplayError::State`].
    pub fn new(spec: Arc<ChainSpec>, verifier: Box<dyn WorkVerifier>) -> Result<Self, ReplayError> {
        let mut store = MemoryStore::default();
        store.apply(&genesis_delta(&spec)?);
        let head = genesis_checkpoint(&spec);
        let chain = Chain::open(spec, store, head, [])?;
        Ok(Self { chain, verifier, tally: Tally::default(), head })
    }

    /// Takes the next block; its parent must have been taken before.
    ///
    /// # Errors
    /// [`ReplayError::Block`].
    pub fn take(&mut self, block: Block, blobs: &dyn BlobSource) -> Result<(), ReplayError> {
        let imported = take(&mut self.chain, block, blobs, self.verifier.as_ref(), true, &mut self.tally)?;
        if imported.block.height() > self.head.height {
            self.head = Checkpoint { height: imported.block.height(), block: imported.hash };
        }
        self.chain.fold_with(|store, deltas| deltas.iter().for_each(|delta| store.apply(delta)));
        Ok(())
    }

    /// What was found so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The highest block taken.
    pub fn head(&self) -> Checkpoint {
        self.head
    }

    /// The last final block.
    pub fn finalised(&self) -> Checkpoint {
        self.chain.finalised()
    }

    /// Compares the state of the last final block with stored rows, both ways; returns how many there are.
    ///
    /// # Errors
    /// [`ReplayError::OtherState`] for the first key that differs.
    pub fn compare(&self, rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<usize, ReplayError> {
        let stored: BTreeSet<(Vec<u8>, Vec<u8>)> = rows.into_iter().collect();
        let ours: BTreeSet<(Vec<u8>, Vec<u8>)> =
            self.chain.store().values().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        match stored.symmetric_difference(&ours).next() {
            Some((key, _)) => Err(ReplayError::OtherState { key: hex::encode(key) }),
            None => Ok(ours.len()),
        }
    }
}

/// The latest blobs of a chain file.
#[derive(Default)]
pub struct RecentBlobs(VecDeque<(BlobRoot, Arc<Vec<u8>>)>);

impl RecentBlobs {
    /// Remembers a blob, and forgets the oldest when there are too many.
    pub fn insert(&mut self, bytes: Vec<u8>) {
        self.0.push_back((blob_root(&bytes), Arc::new(bytes)));
        if self.0.len() > BLOBS_KEPT {
            self.0.pop_front();
        }
    }
}

impl BlobSource for RecentBlobs {
    fn blob(&self, root: &BlobRoot) -> Option<Arc<Vec<u8>>> {
        self.0.iter().find(|(name, _)| name == root).map(|(_, bytes)| bytes.clone())
    }
}
