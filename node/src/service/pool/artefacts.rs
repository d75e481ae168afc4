//! The pool's artefacts in the node's blob store, from where miners fetch them and blocks are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use podl_consensus::types::ModelRoot;
use podl_network::BlobStore;
use podl_pool::drivers::ArtefactStore;

/// Artefacts that the pool's manager keeps.
pub(super) struct PoolArtefacts {
    blobs: Arc<BlobStore>,
    /// Length of what the manager put here since the start; what an earlier run left is found in the store.
    kept: BTreeMap<ModelRoot, u64>,
}

impl PoolArtefacts {
    pub fn new(blobs: Arc<BlobStore>) -> Self {
        Self { blobs, kept: BTreeMap::new() }
    }
}

impl ArtefactStore for PoolArtefacts {
    fn put(&mut self, root: ModelRoot, bytes: Arc<Vec<u8>>) -> io::Result<()> {
        self.blobs.insert(&bytes).map_err(io::Error::other)?;
        self.kept.insert(root, bytes.len() as u64);
        Ok(())
    }

    fn get(&self, root: &ModelRoot) -> Option<Arc<Vec<u8>>> {
        self.blobs.get(root).ok().map(Arc::new)
    }

    fn bytes(&self) -> u64 {
        self.kept.values().sum()
    }

    fn retain(&mut self, wanted: &BTreeSet<ModelRoot>) {
        // Only forgotten here: a block may carry any of them, and the node's own pruning knows which.
        self.kept.retain(|root, _| wanted.contains(root));
    }
}
