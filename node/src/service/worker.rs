//! The worker thread: everything that takes an inference pass. It needs no state, so the core never waits for it.
//!
//! # Correctness
//! A job that panics is a fault of this program that somebody's bytes found: it ends the job, not the thread, and its block
//! counts as one that this node cannot judge. Should the thread end all the same, the core hears of it and stops the node.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::chain::{Prepared, Proposed};
use podl_consensus::interval_context::IntervalContext;
use podl_consensus::rules::{BlobSource, BlockError, WorkJob};
use podl_consensus::types::{BlobRoot, ShardKey};
use podl_consensus::workload::WorkVerifier;
use podl_network::BlobStore;

use super::core::CoreError;
use super::input::{CoreHandle, Input};
use super::mining::{OwnModel, ScoredOwn};
use super::watch;

const NAME: &str = "podl-score";

/// A job for the worker.
pub(super) enum Job {
    /// Check a block's work.
    Check { prepared: Box<Prepared> },
    /// Check the work of a block of this node's own, before it is signed.
    CheckOwn { proposed: Box<Proposed> },
    /// Try a key on its shard.
    TryKey { shard: Box<WorkJob>, key: ShardKey, key_hash: Hash32 },
    /// Score this node's own models on the shard that the job opens, and find out whether the best may win.
    ScoreOwn { interval: Arc<IntervalContext>, key: Option<ShardKey>, shard: Box<WorkJob>, models: Vec<OwnModel> },
}

/// The worker. Dropping it ends the thread after the job in hand.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

struct Context {
    spec: Arc<ChainSpec>,
    blobs: Arc<BlobStore>,
    verifier: Box<dyn WorkVerifier>,
    core: CoreHandle,
}

impl Worker {
    /// Starts the thread.
    pub fn start(
        spec: Arc<ChainSpec>,
        blobs: Arc<BlobStore>,
        verifier: Box<dyn WorkVerifier>,
        core: CoreHandle,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let context = Context { spec, blobs, verifier, core: core.clone() };
        let thread = watch::spawn(NAME, core, move || work(&context, &queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job. Jobs are bounded by those who ask: the interval machine checks few candidates at a time.
    ///
    /// # Errors
    /// [`CoreError::ThreadEnded`] when nobody is there to do it.
    pub fn post(&self, job: Job) -> Result<(), CoreError> {
        let ended = || CoreError::ThreadEnded { name: NAME, reason: "it takes no more jobs".into() };
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(job).map_err(|_| ended())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        // The last job may take a second; joining keeps the blob store alive until then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(context: &Context, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        if context.core.send(context.run(job)).is_err() {
            return;
        }
    }
}

/// What a job gives, or `None` when it panicked; the panic itself is in the log.
fn contained<T>(what: &str, job: impl FnOnce() -> T) -> Option<T> {
    // Nothing of a job that panicked is used again; what jobs share keeps whole entries only.
    let done = catch_unwind(AssertUnwindSafe(job)).ok();
    if done.is_none() {
        tracing::error!(what, "a check has panicked: please report it with the lines above");
    }
    done
}

impl Context {
    fn run(&self, job: Job) -> Input {
        let source = |root: &BlobRoot| blob(&self.blobs, root);
        let verifier = self.verifier.as_ref();
        match job {
            Job::Check { prepared } => {
                let hash = prepared.hash();
                let checked = contained("the work of a block", || prepared.check_work(&source, verifier));
                Input::Worked { hash, result: Box::new(checked.unwrap_or(Err(BlockError::Panicked))) }
            }
            Job::CheckOwn { proposed } => {
                let name = proposed.unsigned().header.hash();
                let checked = contained("the work of an own block", || proposed.check_work(&source, verifier));
                let result = checked.unwrap_or(Err(BlockError::Panicked)).map_err(|error| (name, error));
                Input::OwnChecked(Box::new(result))
            }
            Job::TryKey { shard, key, key_hash } => {
                let opens = contained("a released key", || try_key(&shard, &source, verifier)).unwrap_or(Some(false));
                Input::ShardTried { key, key_hash, opens }
            }
            Job::ScoreOwn { interval, key, shard, models } => {
                let best = contained("own models", || self.score_own(&interval, &shard, models)).flatten();
                Input::ScoredOwn(ScoredOwn { parent: interval.parent.block, key, best })
            }
        }
    }

    /// The best of some models, if it may win: its count, and its multiply-accumulate bits.
    fn score_own(
        &self,
        interval: &IntervalContext,
        job: &WorkJob,
        models: Vec<OwnModel>,
    ) -> Option<(OwnModel, u32, u64)> {
        let (workload, caps, verifier) = (&interval.workload, &self.spec.caps, self.verifier.as_ref());
        let source = |root: &BlobRoot| blob(&self.blobs, root);
        let shard = job.shard(&source, verifier).inspect_err(|error| {
            tracing::warn!(%error, "the shard of this interval could not be opened, nothing to show");
        });
        let shard = shard.ok()?;
        let scored = models.into_iter().filter_map(|model| {
            let bytes = blob(&self.blobs, &model.model_root)?;
            let facts = verifier.model_facts(workload, caps, &bytes).ok()?;
            let correct = verifier.score(workload, caps, &bytes, &shard).ok()?;
            Some((correct, std::cmp::Reverse(facts.mac_bits), model))
        });
        let (correct, mac_bits, model) = scored.max_by_key(|(correct, mac_bits, _)| (*correct, *mac_bits))?;
        match job.check_gain(correct, &source, verifier) {
            // Others would refuse the block, and count it against this node.
            Err(BlockError::Work(error)) => {
                tracing::info!(%error, "the best of this node's models is not shown");
                None
            }
            // Without the model to beat the block cannot be checked, and is not signed; see the check that follows.
            Ok(_) | Err(_) => Some((model, correct, mac_bits.0)),
        }
    }
}

fn blob(blobs: &BlobStore, root: &BlobRoot) -> Option<Arc<Vec<u8>>> {
    match blobs.get(root) {
        Ok(bytes) => Some(Arc::new(bytes)),
        Err(error) => {
            tracing::debug!(%root, %error, "blob not to be had");
            None
        }
    }
}

/// Whether a key opens its shard; `None` when the shard is not here.
fn try_key(shard: &WorkJob, source: &dyn BlobSource, verifier: &dyn WorkVerifier) -> Option<bool> {
    match shard.shard(source, verifier) {
        Ok(_) => Some(true),
        Err(BlockError::NotAvailable(_)) => None,
        Err(error) => {
            tracing::warn!(%error, "the released key is no use");
            Some(false)
        }
    }
}
