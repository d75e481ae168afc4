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

struct Lines {
    own: Sender<Job>,
    others: Sender<Job>,
    posted: Sender<()>,
}

/// The worker. Dropping it ends the thread after the job in hand.
pub(super) struct Worker {
    jobs: Option<Lines>,
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
        let ((own, own_jobs), (others, other_jobs), (posted, words)) = (channel(), channel(), channel());
        let queue = Jobs { own: own_jobs, others: other_jobs, posted: words };
        let context = Context { spec, blobs, verifier, core: core.clone() };
        let thread = watch::spawn(NAME, core, move || work(&context, &queue))?;
        Ok(Self { jobs: Some(Lines { own, others, posted }), thread: Some(thread) })
    }

    /// Queues a job. Jobs are bounded by those who ask: the interval machine checks few candidates at a time.
    ///
    /// # Errors
    /// [`CoreError::ThreadEnded`] when nobody is there to do it.
    pub fn post(&self, job: Job) -> Result<(), CoreError> {
        let ended = || CoreError::ThreadEnded { name: NAME, reason: "it takes no more jobs".into() };
        let lines = self.jobs.as_ref().ok_or_else(ended)?;
        let is_own = matches!(job, Job::CheckOwn { .. } | Job::ScoreOwn { .. } | Job::TryKey { .. });
        let line = if is_own { &lines.own } else { &lines.others };
        line.send(job).map_err(|_| ended())?;
        lines.posted.send(()).map_err(|_| ended())
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

/// Jobs in two lines: what this node's own block waits for goes before what others made it check.
struct Jobs {
    own: Receiver<Job>,
    others: Receiver<Job>,
    /// One word for each job in either.
    posted: Receiver<()>,
}

impl Jobs {
    /// The next job; none when nobody can post any more.
    fn next(&self) -> Option<Job> {
        self.posted.recv().ok()?;
        self.own.try_recv().or_else(|_| self.others.try_recv()).ok()
    }
}

fn work(context: &Context, queue: &Jobs) {
    while let Some(job) = queue.next() {
        if context.run(job).is_some_and(|done| context.core.send(done).is_err()) {
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
    fn run(&self, job: Job) -> Option<Input> {
        let source = |root: &BlobRoot| blob(&self.blobs, root);
        let verifier = self.verifier.as_ref();
        match job {
            Job::Check { prepared } => {
                let (hash, height) = (prepared.hash(), prepared.block().height());
                let checked = contained("the work of a block", || prepared.check_work(&source, verifier));
                Some(Input::Worked { hash, height, result: Box::new(checked.unwrap_or(Err(BlockError::Panicked))) })
            }
            Job::CheckOwn { proposed } => {
                let header = &proposed.unsigned().header;
                let (parent, name) = (header.parent, header.hash());
                let checked = contained("the work of an own block", || proposed.check_work(&source, verifier));
                let result = checked.unwrap_or(Err(BlockError::Panicked)).map_err(|error| (name, error));
                Some(Input::OwnChecked { parent, result: Box::new(result) })
            }
            Job::TryKey { shard, key, key_hash } => {
                // Without an answer the key counts as released: a fault of this node is no reason to call a round void.
                let opens = contained("a released key", || try_key(&shard, &source, verifier))?;
                Some(Input::ShardTried { key, key_hash, opens })
            }
            Job::ScoreOwn { interval, key, shard, models } => {
                let best = contained("own models", || self.score_own(&interval, &shard, models)).flatten();
                Some(Input::ScoredOwn(ScoredOwn { parent: interval.parent.block, key, best }))
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
