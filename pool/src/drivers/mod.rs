//! Thin drivers around the machines: threads, clocks, bytes. No async: the node calls in from where it likes, and all
//! work runs on threads of the pool's own.

mod audit;
mod data;
mod evaluate;
mod journal;
mod local;
mod manager;
mod miner;
mod overview;
mod pace;
mod queue;
mod recent;
pub(crate) mod records;
#[cfg(feature = "miner")]
mod replay;
mod status;
mod store;
#[cfg(all(test, feature = "miner"))]
mod tests;
mod threads;
mod throttle;
#[cfg(feature = "miner")]
mod train;
mod upload;

use std::sync::Arc;

use podl_chain_spec::Caps;
use podl_consensus::types::BlobRef;

use crate::calibration::CalibrationJob;
use crate::miner::{TrainOrder, Trained};
use crate::types::{EvaluationPlan, Interval};

pub use data::{DataError, IntervalData};
pub use journal::{Journal, JournalError};
pub use local::LocalTransport;
pub use manager::{ManagerConfig, ManagerDriver, PoolAction};
pub use miner::{MinerConfig, MinerHandle, MinerStopped, start_miner};
pub use overview::{Coverage, MinerOverview, PoolOverview};
pub use status::{LeaseStatus, MinerStatus, OfflineStatus, RefusalStatus};
pub use store::{ArtefactStore, DirStore, MemoryStore};
pub use throttle::Throttled;
#[cfg(feature = "miner")]
pub use train::{TrainBench, TrainSettings};

/// The drivers' clock: milliseconds that never run backward, across restarts of a journaled manager neither. Unix time
/// at start plus monotonic time since is a good one.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A clock of Unix time at its creation plus monotonic time since.
pub fn system_clock() -> Clock {
    let start = std::time::Instant::now();
    let unix_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let unix_ms = u64::try_from(unix_ms).unwrap_or(0);
    Arc::new(move || unix_ms.saturating_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// No answer, or no blob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool cannot be reached: {0}")]
pub struct TransportError(pub String);

/// How a miner reaches its pool. Calls block; the miner's driver makes them from threads of its own, so an adapter may
/// wait on an async runtime, but not from within it.
pub trait PoolTransport: Send + Sync {
    /// Sends a request and waits for the reply.
    ///
    /// # Errors
    /// [`TransportError`] when there is none.
    fn request(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError>;

    /// Fetches a blob: a task's data, or another miner's artefact. The caller checks its root.
    ///
    /// # Errors
    /// [`TransportError`] when it cannot be had.
    fn fetch_blob(&self, blob: BlobRef) -> Result<Vec<u8>, TransportError>;
}

/// A training that led to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);

/// What a training made.
#[derive(Clone, Debug)]
pub struct Product {
    /// The artefact's bytes.
    pub artefact: Vec<u8>,
    /// The state that was gone on from, if it was one: what an audit wants uploaded.
    pub start: Option<Arc<Vec<u8>>>,
    /// The result.
    pub trained: Trained,
}

/// What a miner computes with. [`TrainBench`] is the real one.
pub trait Workbench: Send {
    /// Computes a calibration.
    fn calibrate(&mut self, job: &CalibrationJob) -> Option<podl_chain_spec::Hash32>;

    /// Makes an interval's data ready. `blob` is the task's blob for published data.
    ///
    /// # Errors
    /// [`BenchError`] when the data are not usable.
    fn prepare(&mut self, interval: &Interval, plan: EvaluationPlan, blob: Option<&[u8]>) -> Result<(), BenchError>;

    /// Whether an interval's data are at hand, cut and shaped as it wants them, so that the blob need not be fetched.
    fn has_data(&self, interval: &Interval) -> bool;

    /// Whether the state that the training of this model ended with is at hand, so that the blob need not be fetched.
    fn holds(&self, blob: &BlobRef, end: Option<podl_chain_spec::Hash32>) -> bool;

    /// The chain's caps: more bytes than they allow are not fetched, whatever a manager says.
    fn caps(&self) -> &Caps;

    /// Trains until the order's images or its time are spent or `cancel` is raised, calling `progress` with the images
    /// so far. The result follows from the interval's data, the order, and how many images were trained.
    ///
    /// # Errors
    /// [`BenchError`] when it was cancelled, diverged, or cannot be done.
    fn train(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<std::sync::atomic::AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Product, BenchError>;
}

/// Lowers the calling thread's priority, so that votes and blocks do not wait for training. On Linux a niceness is a
/// thread's own; where it cannot be lowered, training runs at normal priority.
pub fn lower_priority(niceness: i32) {
    if let Err(error) = rustix::process::nice(niceness) {
        tracing::debug!(%error, "the priority of a training thread stays as it is");
    }
}
