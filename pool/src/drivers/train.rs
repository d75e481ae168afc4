//! The workbench of a real miner: quantisation-aware training on threads of its own, with weights kept between leases.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::{BlobRef, ModelRoot};
use podl_consensus::workload::{InputShape, Workload};
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
    of: DataForm,
    data: Arc<IntervalData>,
    public: Dataset,
    workload: Workload,
}

/// What decoded data follow from: one blob can be the data of tasks that cut and read it differently.
#[derive(Clone, PartialEq, Eq)]
struct DataForm {
    source: DataSource,
    input: InputShape,
    classes: u16,
    shard_images: u32,
}

impl DataForm {
    fn of(interval: &Interval) -> Self {
        let Workload { input, classes, shard_images, .. } = interval.workload;
        Self { source: interval.data.clone(), input, classes, shard_images }
    }
}

/// Trains with candle on a bounded pool of threads.
pub struct TrainBench {
    pool: Arc<ThreadPool>,
    caps: Caps,
    ready: Option<Arc<Ready>>,
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
        // What no chain of these caps could publish is no work: its sizes are the manager's to choose.
        interval.workload.validate(&self.caps).map_err(|e| BenchError(e.to_string()))?;
        let of = DataForm::of(interval);
        // The data before go first: two intervals' are not held at once.
        let old = self.ready.take().filter(|ready| ready.of == of);
        let data = match old {
            Some(ready) => ready.data.clone(),
            None => {
                let loaded = IntervalData::load(interval, blob, &self.caps);
                Arc::new(loaded.map_err(|e| BenchError(e.to_string()))?)
            }
        };
        self.ready = Some(Arc::new(Ready {
            parent: interval.parent,
            of,
            public: data.public(plan),
            data,
            workload: interval.workload.clone(),
        }));
        Ok(())
    }

    fn has_data(&self, interval: &Interval) -> bool {
        self.ready.as_ref().is_some_and(|ready| ready.of == DataForm::of(interval))
    }

    fn holds(&self, blob: &BlobRef, end: Option<Hash32>) -> bool {
        self.kept.iter().any(|k| k.root == blob.root && Some(k.end) == end)
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn train(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Product, BenchError> {
        let start = Instant::now();
        let ready = self.ready.clone().ok_or_else(|| BenchError("no data".into()))?;
        self.train_on(order, base, &ready, cancel, progress, start)
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

#[cfg(test)]
mod tests {
    use podl_chain_spec::ChainSpec;
    use podl_nas::data::{encode_dataset, generate, input_table};

    use super::*;

    fn interval(train_images: u32) -> (Interval, Vec<u8>) {
        let spec = ChainSpec::load("dev").unwrap();
        let images = generate(&[1; 32], 60);
        let blob = encode_dataset(&images);
        let data = BlobRef { root: blob_root(&blob), bytes: blob.len() as u64 };
        let interval = Interval {
            parent: Hash32([u8::try_from(train_images).unwrap(); 32]),
            height: 1,
            task: Hash32([2; 32]),
            round: 0,
            workload: Workload { input_table: input_table(&images), ..Workload::filler(&spec) },
            data: DataSource::Published { data, train_images },
            score_macs: spec.caps.score_macs,
            baseline: None,
        };
        (interval, blob)
    }

    fn bench() -> TrainBench {
        TrainBench::new(1, ChainSpec::load("dev").unwrap().caps, TrainSettings::default()).unwrap()
    }

    const PLAN: EvaluationPlan = EvaluationPlan { public_images: 5, holdout_images: 0 };

    #[test]
    fn a_blob_that_another_task_cuts_elsewhere_is_other_data() {
        let mut bench = bench();
        let ((first, blob), (second, _)) = (interval(40), interval(30));
        let images = |bench: &TrainBench| bench.ready.as_ref().map(|ready| ready.data.train.len());
        assert!(!bench.has_data(&first));
        bench.prepare(&first, PLAN, Some(&blob)).unwrap();
        assert!(bench.has_data(&first) && !bench.has_data(&second));
        assert_eq!(images(&bench), Some(40));
        assert!(bench.prepare(&second, PLAN, None).is_err(), "its data are not here");
        bench.prepare(&second, PLAN, Some(&blob)).unwrap();
        assert_eq!(images(&bench), Some(30));
        let next_round = Interval { parent: Hash32([9; 32]), round: 1, ..second };
        bench.prepare(&next_round, PLAN, None).unwrap();
        assert_eq!(images(&bench), Some(30), "the next round has them");
    }

    #[test]
    fn workloads_that_no_chain_has_are_no_work() {
        let (mut interval, blob) = interval(40);
        interval.workload.space.filters = vec![u16::MAX];
        let refused = bench().prepare(&interval, PLAN, Some(&blob)).unwrap_err();
        assert!(refused.to_string().contains("filters"), "{refused}");
    }
}
