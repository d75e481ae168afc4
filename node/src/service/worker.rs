//! The worker thread: everything that takes an inference pass. It needs no state, so the core never waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::chain::Prepared;
use podl_consensus::rules::{BlockError, IntervalContext, WorkJob};
use podl_consensus::shard::open_checked;
use podl_consensus::types::{BlobRoot, Block, ShardKey};
use podl_consensus::workload::WorkVerifier;
use podl_network::BlobStore;

use super::input::{CoreHandle, Input};
use super::mining::{OwnModel, ScoredOwn};

/// A job for the worker.
pub(super) enum Job {
    /// Check a block's work.
    Check { block: Arc<Block>, prepared: Box<Prepared> },
    /// Try a key on its shard.
    TryKey { interval: Arc<IntervalContext>, key: ShardKey, key_hash: Hash32 },
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
        let context = Context { spec, blobs, verifier, core };
        let thread = std::thread::Builder::new().name("podl-score".into()).spawn(move || work(&context, &queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job. Jobs are bounded by those who ask: the interval machine checks few candidates at a time.
    pub fn post(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives as long as this sender.
            let _ = jobs.send(job);
        }
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
        let done = match job {
            Job::Check { block, prepared } => {
                let source = |root: &BlobRoot| blob(&context.blobs, root);
                let result = prepared.check_work(&source, context.verifier.as_ref());
                Input::Worked { block, result: Box::new(result) }
            }
            Job::TryKey { interval, key, key_hash } => {
                Input::ShardTried { key, key_hash, opens: try_key(context, &interval, &key) }
            }
            Job::ScoreOwn { interval, key, shard, models } => {
                let best = score_own(context, &interval, &shard, models);
                Input::ScoredOwn(ScoredOwn { parent: interval.parent.block, key, best })
            }
        };
        if context.core.send(done).is_err() {
            return;
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

/// The opened shard of an interval; `Err(None)` when it is not here, `Err(Some)` when the key does not open it.
fn open_shard(
    context: &Context,
    interval: &IntervalContext,
    key: Option<&ShardKey>,
) -> Result<Vec<u8>, Option<String>> {
    let (workload, caps) = (&interval.workload, &context.spec.caps);
    let plain = match (&interval.published, key, interval.filler_seed()) {
        (Some(round), Some(key), _) => {
            let sealed = blob(&context.blobs, &round.shard.sealed.root).ok_or(None)?;
            open_checked(&round.shard, key, &sealed).map_err(|e| Some(e.to_string()))?
        }
        (None, _, Some(seed)) => {
            context.verifier.filler_shard(workload, caps, seed).map_err(|e| Some(e.to_string()))?
        }
        _ => return Err(None),
    };
    context.verifier.parse_shard(workload, caps, &plain).map_err(|e| Some(e.to_string()))?;
    Ok(plain)
}

fn try_key(context: &Context, interval: &IntervalContext, key: &ShardKey) -> Option<bool> {
    match open_shard(context, interval, Some(key)) {
        Ok(_) => Some(true),
        Err(None) => None,
        Err(Some(reason)) => {
            tracing::warn!(task = %interval.task.short(), round = interval.round, %reason, "the released key is no use");
            Some(false)
        }
    }
}

/// The best of some models, if it may win: its count, and its multiply-accumulate bits.
fn score_own(
    context: &Context,
    interval: &IntervalContext,
    job: &WorkJob,
    models: Vec<OwnModel>,
) -> Option<(OwnModel, u32, u64)> {
    let (workload, caps, verifier) = (&interval.workload, &context.spec.caps, context.verifier.as_ref());
    let source = |root: &BlobRoot| blob(&context.blobs, root);
    let shard = job.shard(&source, verifier).inspect_err(|error| {
        tracing::warn!(%error, "the shard of this interval could not be opened, nothing to show");
    });
    let shard = shard.ok()?;
    let scored = models.into_iter().filter_map(|model| {
        let bytes = blob(&context.blobs, &model.model_root)?;
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
        // Whoever has the model to beat will know.
        Ok(_) | Err(_) => Some((model, correct, mac_bits.0)),
    }
}
