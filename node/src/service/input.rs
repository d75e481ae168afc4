//! The core's queue: what comes in, and the handle through which it comes.

use std::sync::mpsc::{SyncSender, TrySendError};

use libp2p::PeerId;
use podl_chain_spec::Hash32;
use podl_consensus::chain::{Checked, CheckedProposal};
use podl_consensus::rules::BlockError;
use podl_consensus::types::{BlockHash, Height, ShardKey};
use podl_engine::wire::SyncResponse;
use podl_network::NetworkEvent;
use tokio::sync::oneshot;

use super::core::Core;
use super::mining::{Committed, ScoredOwn};

/// Inputs that may wait. Gossip beyond that is dropped, as on a lossy network; everything else was asked for.
pub(super) const QUEUE: usize = 8192;

type Query = Box<dyn FnOnce(&mut Core) + Send>;

/// Something for the core.
pub(super) enum Input {
    /// From the network.
    Network(NetworkEvent),
    /// A peer answered a request of the sync machine (`None`: it failed).
    SyncAnswer { peer: PeerId, request: Option<u64>, answer: Option<SyncResponse> },
    /// A peer does not speak the sync protocol: a pool's miner, no node.
    NoNode(PeerId),
    /// The blobs that a block's check needs are here, or not to be had.
    BlobsReady { hash: BlockHash, all: bool },
    /// A task's blobs were fetched, or not.
    TaskBlobs { task: Hash32, all: bool },
    /// The worker checked a block.
    Worked { hash: BlockHash, height: Height, result: Box<Result<Checked, BlockError>> },
    /// The worker checked a block of this node's own before it is signed.
    OwnChecked { parent: BlockHash, result: Box<Result<CheckedProposal, (BlockHash, BlockError)>> },
    /// A thread that the node cannot do without has ended.
    ThreadEnded { name: &'static str, reason: String },
    /// The worker tried a key on its shard; `None` when the shard is not here.
    ShardTried { key: ShardKey, key_hash: Hash32, opens: Option<bool> },
    /// The worker scored this node's own committed models.
    ScoredOwn(ScoredOwn),
    /// This node's miner or pool has a model to commit to.
    Commit(Committed),
    /// Somebody asks.
    Query(Query),
    /// Stop cleanly.
    Stop,
}

/// The core has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// A cheap handle on the core's queue.
#[derive(Clone)]
pub struct CoreHandle {
    pub(super) queue: SyncSender<Input>,
}

impl std::fmt::Debug for CoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CoreHandle")
    }
}

impl CoreHandle {
    /// Asks the core and waits for the answer. What runs on the core must be quick.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let query: Query = Box::new(move |core| {
            // The asker may have gone meanwhile.
            let _ = answer.send(question(core));
        });
        let queue = self.queue.clone();
        // The queue may be full for a moment; waiting for it must not hold an async worker.
        match queue.try_send(Input::Query(query)) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => return Err(Stopped),
            Err(TrySendError::Full(input)) => {
                let sent = tokio::task::spawn_blocking(move || queue.send(input)).await;
                sent.map_err(|_| Stopped)?.map_err(|_| Stopped)?;
            }
        }
        answered.await.map_err(|_| Stopped)
    }

    /// Gives the core something to do and does not wait for it to be done: for threads that may wait for room in the
    /// queue.
    pub(super) fn post(&self, work: impl FnOnce(&mut Core) + Send + 'static) {
        // A core that has stopped does nothing more.
        let _ = self.send(Input::Query(Box::new(work)));
    }

    /// Gives the core a committed model.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn commit(&self, committed: Committed) -> Result<(), Stopped> {
        self.send(Input::Commit(committed))
    }

    /// Asks the core to stop; returns at once.
    pub fn stop(&self) {
        // A core that is gone has stopped already.
        let _ = self.send(Input::Stop);
    }

    /// Waits for room in the queue: for threads that may wait.
    pub(super) fn send(&self, input: Input) -> Result<(), Stopped> {
        self.queue.send(input).map_err(|_| Stopped)
    }

    /// Drops the input when the queue is full: for gossip. Tells whether it was taken.
    pub(super) fn offer(&self, input: Input) -> bool {
        self.queue.try_send(input).is_ok()
    }
}
