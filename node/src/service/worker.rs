//! The worker thread: everything that takes an inference pass. It needs no state, so the core never waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::chain::Prepared;
use podl_consensus::rules::IntervalContext;
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
    /// Score this node's own models on the opened shard.
    ScoreOwn { interval: Arc<IntervalContext>, key: Option<ShardKey>, models: Vec<OwnModel> },
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
            Job::ScoreOwn { interval, key, models } => Input::ScoredOwn(score_own(context, &interval, key, models)),
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

fn score_own(context: &Context, interval: &IntervalContext, key: Option<ShardKey>, models: Vec<OwnModel>) -> ScoredOwn {
    let parent = interval.parent.block;
    let Ok(shard) = open_shard(context, interval, key.as_ref()) else {
        tracing::warn!("the shard of this interval could not be opened, nothing to show");
        return ScoredOwn { parent, key, best: None };
    };
    let (workload, caps) = (&interval.workload, &context.spec.caps);
    let scored = models.into_iter().filter_map(|model| {
        let bytes = blob(&context.blobs, &model.model_root)?;
        let facts = context.verifier.model_facts(workload, caps, &bytes).ok()?;
        let correct = context.verifier.score(workload, caps, &bytes, &shard).ok()?;
        Some((correct, std::cmp::Reverse(facts.mac_bits), model))
    });
    let best = scored.max_by_key(|(correct, mac_bits, _)| (*correct, *mac_bits));
    ScoredOwn { parent, key, best: best.map(|(correct, mac_bits, model)| (model, correct, mac_bits.0)) }
}
