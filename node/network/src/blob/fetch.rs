//! Fetching a blob from several peers at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use libp2p::PeerId;
use podl_chain_spec::Hash32;
use tokio::sync::{Semaphore, mpsc};

use super::geometry::PIECE_BYTES;
use super::job::Job;
use super::partial::hex;
use super::store::BlobStore;
use crate::config::BlobConfig;
use crate::error::{BlobError, FetchError};
use crate::handle::NetworkHandle;
use crate::rate::Bucket;

/// Blobs fetched at a time; others wait for their turn.
pub(super) const FETCHES: usize = 8;

/// What all fetches of a node share.
pub(crate) struct Fetcher {
    store: Arc<BlobStore>,
    pub(crate) config: BlobConfig,
    rate: Mutex<Bucket>,
    slots: Semaphore,
    /// One lock a root: whoever comes second waits, and finds the blob there.
    active: Mutex<BTreeMap<Hash32, Weak<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    pub(crate) fn new(store: Arc<BlobStore>, config: BlobConfig) -> Self {
        let per_s = config.fetch_bytes_per_s;
        let rate = Bucket::new(per_s, per_s.max(4 * PIECE_BYTES), Instant::now());
        Self {
            store,
            config,
            rate: Mutex::new(rate),
            slots: Semaphore::new(FETCHES),
            active: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn store(&self) -> &Arc<BlobStore> {
        &self.store
    }

    /// Whether one more piece is within the rate now.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now()).is_ok()
    }

    fn turn(&self, root: Hash32) -> Arc<tokio::sync::Mutex<()>> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = active.get(&root).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        active.insert(root, Arc::downgrade(&turn));
        turn
    }

    fn is_here(&self, root: Hash32, bytes: u64) -> Result<bool, FetchError> {
        match self.store.size(&root) {
            Some(begun) if begun != bytes => Err(BlobError::OtherLength { root: hex(&root), begun, got: bytes }.into()),
            here => Ok(here.is_some()),
        }
    }

    pub(crate) async fn fetch(
        &self,
        handle: &NetworkHandle,
        root: Hash32,
        bytes: u64,
        providers: &[PeerId],
    ) -> Result<(), FetchError> {
        if self.is_here(root, bytes)? {
            return Ok(());
        }
        let turn = self.turn(root);
        let _mine = turn.lock().await;
        if self.is_here(root, bytes)? {
            return Ok(());
        }
        let _slot = self.slots.acquire().await.map_err(|_| FetchError::Closed)?;
        let store = Arc::clone(&self.store);
        let partial = blocking(move || store.begin(root, bytes)).await??;
        let (outcomes, incoming) = mpsc::unbounded_channel();
        let job = Job::new(handle.clone(), self, Arc::clone(&partial), providers, outcomes);
        let fetched = Box::pin(job.run(incoming)).await;
        if fetched.is_err() {
            let store = Arc::clone(&self.store);
            blocking(move || store.abandon_empty(&partial)).await?;
        }
        fetched
    }
}

/// Runs disk work beside the network's task.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FetchError> {
    // It fails only while the runtime is shutting down, or after a panic that has been reported.
    tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Closed)
}
