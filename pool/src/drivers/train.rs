//! The workbench of a real miner: quantisation-aware training on threads of its own, with weights kept between leases.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::types::{BlobRef, ModelRoot};
use podl_consensus::workload::{Network, Workload};
use podl_nas::artefact::{self, Model};
use podl_nas::data::Dataset;
use podl_nas::engine::Engine;
use podl_nas::train::{Progress, ThreadPool, TrainConfig, Trainer};

use super::{BenchError, IntervalData, Workbench, lower_priority};
use crate::calibration::{self, CalibrationJob};
use crate::miner::{TrainOrder, Trained};
use crate::rng::SeededRng;
use crate::types::{DataSource, EvaluationPlan, Interval};

/// Networks whose weights are kept; the best of a miner is always among its last few results.
const KEPT_NETWORKS: usize = 4;
/// Batches between looks at the clock and changes of the learning rate.
const SLICE_BATCHES: usize = 8;

/// Settings of training that a miner chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Images of a batch.
    pub batch: usize,
    /// Learning rate at the beginning of a phase, for a fresh network. It falls to `last_rate` with the phase.
    pub first_rate: f32,
    /// Learning rate at the end of a phase.
    pub last_rate: f32,
    /// Factor on the rates for a network that an earlier interval trained: higher ones would undo what it learned.
    pub resumed_factor: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Batches over which a fresh network's rate rises.
    pub warm_up_batches: u32,
    /// Niceness of the training threads.
    pub niceness: i32,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            batch: 32,
            first_rate: 0.02,
            last_rate: 0.0005,
            resumed_factor: 0.5,
            weight_decay: 5e-4,
            warm_up_batches: 20,
            niceness: 10,
        }
    }
}

/// A network with its weights and momentum as training left them, under the root of its artefact.
struct Kept {
    root: ModelRoot,
    trainer: Trainer,
    parent: Hash32,
    pass: Pass,
}

/// The position in the current pass over the data.
struct Pass {
    seed: u64,
    number: u64,
    order: Vec<usize>,
    next: usize,
}

impl Pass {
    fn new(seed: u64) -> Self {
        Self { seed, number: 0, order: Vec::new(), next: 0 }
    }

    /// The next `count` indices below `len`: passes over all of them in an order drawn anew for each.
    fn take(&mut self, count: usize, len: usize) -> Vec<usize> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && len > 0 {
            if self.next >= self.order.len() || self.order.len() != len {
                let bytes = [self.seed.to_le_bytes(), self.number.to_le_bytes()].concat();
                let mut rng = SeededRng::new(&bytes, "data order");
                self.order = (0..len).collect();
                for place in 0..len {
                    self.order.swap(place, place + rng.index(len - place));
                }
                (self.number, self.next) = (self.number + 1, 0);
            }
            taken.push(self.order[self.next]);
            self.next += 1;
        }
        taken
    }
}

/// The data of an interval at hand.
struct Ready {
    parent: Hash32,
    data_root: Option<Hash32>,
    data: IntervalData,
    public: Dataset,
    workload: Workload,
    is_filler: bool,
}

/// Trains with candle on a bounded pool of threads.
pub struct TrainBench {
    pool: Arc<ThreadPool>,
    settings: TrainSettings,
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
        Ok(Self { pool: Arc::new(pool), settings, caps, ready: None, kept: VecDeque::new() })
    }

    /// The trainer to go on with: the one kept, one with the artefact's weights, or a fresh one.
    fn trainer(&mut self, order: &TrainOrder, base: Option<&[u8]>, ready: &Ready) -> Result<Kept, BenchError> {
        if let Some(index) = order.base.and_then(|b| self.kept.iter().position(|k| k.root == b.root)) {
            // It is put back under its new root; the old state is of no more use to this miner.
            return self.kept.remove(index).ok_or_else(|| BenchError("the weights are gone".into()));
        }
        let work = &ready.workload;
        let network = Network::new(&order.architecture, work.input, work.classes, work.space.dense)
            .map_err(|e| BenchError(e.to_string()))?;
        let batch = self.settings.batch.min(ready.data.train.len()).max(1);
        let config = TrainConfig {
            epochs: 1,
            batch,
            learning_rate: self.settings.first_rate,
            weight_decay: self.settings.weight_decay,
            warm_up_batches: if order.base.is_none() { self.settings.warm_up_batches } else { 0 },
            ..TrainConfig::default()
        };
        let seed = SeededRng::new(&order.seed.to_le_bytes(), "weights").next_bytes();
        let mut trainer =
            Trainer::new(network, &work.input_table, config, seed, self.pool.clone()).map_err(train_error)?;
        if order.base.is_some() {
            let bytes = base.ok_or_else(|| BenchError("the base's artefact is missing".into()))?;
            let model = artefact::decode(bytes, &self.caps).map_err(|e| BenchError(e.to_string()))?;
            if model.network().architecture() != order.architecture {
                return Err(BenchError("the base's artefact is of another architecture".into()));
            }
            trainer.load_model(&model).map_err(train_error)?;
        }
        Ok(Kept { root: Hash32::ZERO, trainer, parent: Hash32::ZERO, pass: Pass::new(order.seed) })
    }

    /// Learning rate at a point of the order: half a cosine over the phase.
    fn rate(&self, order: &TrainOrder, done: f32, resumed: bool) -> f32 {
        let (from, to) = order.left_permille;
        let left = (f32::from(from) + (f32::from(to) - f32::from(from)) * done) / 1000.0;
        let shape = 0.5 - 0.5 * (std::f32::consts::PI * left.clamp(0.0, 1.0)).cos();
        let TrainSettings { first_rate, last_rate, resumed_factor, .. } = self.settings;
        let factor = if resumed { resumed_factor } else { 1.0 };
        last_rate + (first_rate * factor - last_rate).max(0.0) * shape
    }
}

fn train_error(error: podl_nas::train::TrainError) -> BenchError {
    BenchError(error.to_string())
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
            is_filler: interval.is_filler(),
        });
        Ok(())
    }

    fn holds(&self, blob: &BlobRef) -> bool {
        self.kept.iter().any(|k| k.root == blob.root)
            || self.ready.as_ref().is_some_and(|r| r.data_root == Some(blob.root))
    }

    fn train(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(Vec<u8>, Trained), BenchError> {
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
    ) -> Result<(Vec<u8>, Trained), BenchError> {
        if ready.parent != order.parent {
            return Err(BenchError("the data are of another interval".into()));
        }
        let mut kept = self.trainer(order, base, ready)?;
        kept.trainer.set_cancel_flag(cancel.clone());
        // A network from an earlier interval, or from another miner, was trained to the end of a schedule before.
        let resumed = order.base.is_some() && kept.parent != order.parent && !ready.is_filler;
        let images = self.run(order, &mut kept, ready, resumed, progress, start)?;
        if cancel.load(Ordering::Relaxed) {
            return Err(BenchError("cancelled".into()));
        }
        let model = kept.trainer.quantised_model().map_err(train_error)?;
        let correct = claim(&model, ready)?;
        let bytes = model.encode();
        let root = Hash32(model.root());
        // Within one interval the schedule goes on where it was, as long as the network began in it.
        if !resumed {
            kept.parent = order.parent;
        }
        kept.root = root;
        self.kept.push_back(kept);
        if self.kept.len() > KEPT_NETWORKS {
            self.kept.pop_front();
        }
        let artefact = BlobRef { root, bytes: bytes.len() as u64 };
        Ok((bytes, Trained { artefact, images, correct }))
    }

    /// Trains slice by slice until images or time are spent; returns the images spent.
    fn run(
        &self,
        order: &TrainOrder,
        kept: &mut Kept,
        ready: &Ready,
        resumed: bool,
        progress: &mut (dyn FnMut(u64) + Send),
        start: Instant,
    ) -> Result<u64, BenchError> {
        let batch = self.settings.batch.min(ready.data.train.len()).max(1);
        let (mut images, mut slice_ms) = (0u64, 0u64);
        // What follows training: quantising, and counting on the public images, about a third of a pass over as many.
        let after_ms = 50 + order.due_ms / 20;
        loop {
            let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let left_images = order.images.saturating_sub(images);
            let too_late = images > 0 && elapsed_ms.saturating_add(slice_ms).saturating_add(after_ms) > order.due_ms;
            if too_late || (left_images < batch as u64 && images > 0) {
                return Ok(images);
            }
            let batches = usize::try_from(left_images / batch as u64).unwrap_or(SLICE_BATCHES).clamp(1, SLICE_BATCHES);
            let done = (images as f32 / order.images.max(1) as f32).max(elapsed_ms as f32 / order.due_ms.max(1) as f32);
            kept.trainer.set_learning_rate(self.rate(order, done.min(1.0), resumed)).map_err(train_error)?;
            let slice = ready.data.train.select(kept.pass.take(batches * batch, ready.data.train.len()));
            let report = kept.trainer.run_epoch(&slice, &mut |_: Progress| ()).map_err(train_error)?;
            images += report.images as u64;
            let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            slice_ms = slice_ms.max(now_ms.saturating_sub(elapsed_ms));
            progress(images);
        }
    }
}
