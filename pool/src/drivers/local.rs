//! A miner in the manager's own process: lone mining is a pool of one over the same code.

use std::sync::Arc;

use podl_consensus::types::BlobRef;

use super::{ManagerDriver, PoolTransport, TransportError};
use crate::types::MinerId;

/// Calls a manager directly.
pub struct LocalTransport {
    manager: Arc<ManagerDriver>,
    miner: MinerId,
}

impl LocalTransport {
    /// A transport over which `miner` talks.
    pub fn new(manager: Arc<ManagerDriver>, miner: MinerId) -> Self {
        Self { manager, miner }
    }
}

impl PoolTransport for LocalTransport {
    fn request(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Ok(self.manager.handle(self.miner, &bytes))
    }

    fn fetch_blob(&self, blob: BlobRef) -> Result<Vec<u8>, TransportError> {
        let bytes = self.manager.blob(&blob.root);
        bytes.map(|b| b.to_vec()).ok_or_else(|| TransportError(format!("no blob {} here", blob.root.short())))
    }
}
