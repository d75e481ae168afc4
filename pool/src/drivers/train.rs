//! The workbench of a real miner: quantisation-aware training on threads of its own, with weights kept between leases.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::{BlobRef, ModelRoot};
use podl_consensus::workload::Workload;
use podl_nas::artefact::Model;
use podl_nas::data::Dataset;
use podl_nas::engine::Engine;
use podl_nas::train::ThreadPool;

use super::replay::{Origin, Run, RunError};
use super::{BenchError, IntervalData, Product, Workbench, lower_priority};
use crate::calibration::{self, CalibrationJob};
use crate::miner::{TrainOrder, Trained};
use crate::training::{STATE_BYTES, States};
use crate::types::{DataSource, EvaluationPlan, Interval};

/// Networks whose weights are kept; the best of a miner is always among its last few results.
const KEPT_NETWORKS: usize = 4;
/// Settings of training that a miner chooses; none of them shows in what is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Niceness of the training threads.
    pub niceness: i32,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self { niceness: 10 }
    }
}

/// The state that a training ended with, under the root of its artefact.
struct Kept {
    root: ModelRoot,
    end: Hash32,
    state: Arc<Vec<u8>>,
}

/// The data of an interval at hand.
struct Ready {
    parent: Hash32,
    data_root: Option<Hash32>,
    data: IntervalData,
    public: Dataset,
    workload: Workload,
}

/// Trains with candle on a bounded pool of threads.
pub struct TrainBench {
    pool: Arc<ThreadPool>,
    caps: Caps,
    ready: Option<Ready>,
    kept: VecDeque<Kept>,
}

impl TrainBench {
    /// A bench with so many training threads.
    ///
    /// # Errors
    /// [`BenchError`] when threads cannot be started.
    pub fn new(threads: usize, caps: Caps, settings: TrainSettings) -> Result<Self, BenchError> {
        let niceness = settings.niceness;
        let pool = ThreadPool::with_start_hook(threads, move |_| lower_priority(niceness))
            .map_err(|e| BenchError(format!("cannot start training threads: {e}")))?;
        Ok(Self { pool: Arc::new(pool), caps, ready: None, kept: VecDeque::new() })
    }

    /// The state that the order's base ended with, if it is still here. It is the last to be forgotten then.
    fn kept_state(&mut self, order: &TrainOrder) -> Option<Arc<Vec<u8>>> {
        let (base, end) = order.base.zip(order.base_end)?;
        let index = self.kept.iter().position(|k| k.root == base.root && k.end == end)?;
        let kept = self.kept.remove(index)?;
        let state = kept.state.clone();
        self.kept.push_back(kept);
        Some(state)
    }

    /// Keeps the state that a training ended with, unless it is too large to be uploaded for an audit.
    fn keep(&mut self, root: ModelRoot, end: Hash32, state: Vec<u8>) {
        if state.len() as u64 > STATE_BYTES {
            return;
        }
        self.kept.retain(|k| k.root != root);
        self.kept.push_back(Kept { root, end, state: Arc::new(state) });
        if self.kept.len() > KEPT_NETWORKS {
            self.kept.pop_front();
        }
    }
}

impl From<RunError> for BenchError {
    fn from(error: RunError) -> Self {
        Self(error.to_string())
    }
}

fn claim(model: &Model, ready: &Ready) -> Result<u32, BenchError> {
    let engine = Engine::new(model, &ready.workload.input_table).map_err(|e| BenchError(e.to_string()))?;
    engine.count_correct(&ready.public, 1).map_err(|e| BenchError(e.to_string()))
}

impl Workbench for TrainBench {
    fn calibrate(&mut self, job: &CalibrationJob) -> Option<Hash32> {
        let threads = self.pool.threads();
        calibration::answer(job, threads)
    }

    fn prepare(&mut self, interval: &Interval, plan: EvaluationPlan, blob: Option<&[u8]>) -> Result<(), BenchError> {
        let data_root = match &interval.data {
            DataSource::Published { data, .. } => Some(data.root),
            DataSource::Filler { .. } => None,
        };
        let old = self.ready.take().filter(|r| data_root.is_some() && r.data_root == data_root);
        let data = match old {
            Some(ready) => ready.data,
            None => IntervalData::load(interval, blob, &self.caps).map_err(|e| BenchError(e.to_string()))?,
        };
        self.ready = Some(Ready {
            parent: interval.parent,
            data_root,
            public: data.public(plan),
            data,
            workload: interval.workload.clone(),
        });
        Ok(())
    }

    fn holds(&self, blob: &BlobRef, end: Option<Hash32>) -> bool {
        self.kept.iter().any(|k| k.root == blob.root && Some(k.end) == end)
            || self.ready.as_ref().is_some_and(|r| r.data_root == Some(blob.root))
    }

    fn train(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Product, BenchError> {
        let start = Instant::now();
        let ready = self.ready.take().ok_or_else(|| BenchError("no data".into()))?;
        let result = self.train_on(order, base, &ready, cancel, progress, start);
        self.ready = Some(ready);
        result
    }
}

impl TrainBench {
    fn train_on(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        ready: &Ready,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
        start: Instant,
    ) -> Result<Product, BenchError> {
        if ready.parent != order.parent {
            return Err(BenchError("the data are of another interval".into()));
        }
        let recipe = order.recipe();
        let kept = self.kept_state(order);
        let origin = match (&kept, order.base) {
            (Some(state), _) => Origin::State(state),
            (None, None) => Origin::Seed,
            (None, Some(_)) => {
                Origin::Artefact(base.ok_or_else(|| BenchError("the base's artefact is missing".into()))?)
            }
        };
        let mut run = Run::new(&recipe, origin, &ready.data.train, (&ready.workload, &self.caps), &self.pool)?;
        run.set_cancel_flag(cancel.clone());
        let start_hash = blob_root(&run.state()?);
        train_in_time(&mut run, order.due_ms, start, progress)?;
        if cancel.load(Ordering::Relaxed) {
            return Err(BenchError("cancelled".into()));
        }
        let (model, state) = (run.model()?, run.state()?);
        let states = States { start: start_hash, end: blob_root(&state) };
        let correct = claim(&model, ready)?;
        let bytes = model.encode();
        let root = Hash32(model.root());
        let trained =
            Trained { artefact: BlobRef { root, bytes: bytes.len() as u64 }, images: run.images(), correct, states };
        self.keep(root, states.end, state);
        Ok(Product { artefact: bytes, start: kept, trained })
    }
}

/// Trains slice by slice until images or time are spent.
fn train_in_time(
    run: &mut Run<'_>,
    due_ms: u64,
    start: Instant,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), BenchError> {
    // What follows training: quantising, and counting on the public images, about a third of a pass over as many.
    let after_ms = 50 + due_ms / 20;
    let (mut slice_ms, mut before_ms) = (0u64, 0u64);
    while run.slice()? {
        progress(run.images());
        let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        slice_ms = slice_ms.max(elapsed_ms.saturating_sub(before_ms));
        before_ms = elapsed_ms;
        if elapsed_ms.saturating_add(slice_ms).saturating_add(after_ms) > due_ms {
            break;
        }
    }
    Ok(())
}
