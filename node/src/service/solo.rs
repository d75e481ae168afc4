//! Mining without a pool: trains one network of the interval's space on its own threads and commits to it twice.
//!
//! Nothing here runs on the core or on the async runtime. Training threads have a lower priority than the rest of the
//! node, so that votes and blocks do not wait for them on few cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use podl_chain_spec::ChainSpec;
use podl_consensus::rules::IntervalContext;
use podl_consensus::types::{BlockHash, TaskId};
use podl_consensus::workload::{Architecture, ConvLayer, FixedPoint, Network, Space, WorkVerifier};
use podl_nas::cost::{CostModel, evaluate};
use podl_nas::data::{Dataset, Random, decode_dataset};
use podl_nas::engine::Engine;
use podl_nas::train::{ThreadPool, TrainConfig, TrainError, Trainer};
use podl_network::BlobStore;

use super::input::CoreHandle;
use super::mining::{Committed, MiningEvent, MiningPort};

/// Kept free at the end of the training phase: a commitment must reach a majority of the seats before they close.
const MARGIN: Duration = Duration::from_millis(1_500);
/// Hundredths of the training phase after which a first model is committed, in case the node stops before the end.
const FIRST_COMMIT_PERCENT: u32 = 60;
/// Networks drawn at random before the search for a feasible one is given up.
const DRAWS: u32 = 2_000;
/// Hundredths of the published images that are held back to judge the own models.
const VALIDATION_PERCENT: usize = 10;

/// What a solo miner needs.
pub struct SoloParts {
    /// Parameters of the chain.
    pub spec: Arc<ChainSpec>,
    /// Where the data are.
    pub blobs: Arc<BlobStore>,
    /// Where models go.
    pub core: CoreHandle,
    /// Training threads.
    pub threads: usize,
    /// Makes the initial weights differ between miners.
    pub seed: [u8; 32],
}

struct Work {
    interval: Arc<IntervalContext>,
    deadline: Instant,
    half: Instant,
    cancel: Arc<AtomicBool>,
}

/// The miner's side of the port.
pub struct SoloMiner {
    work: Sender<Work>,
    current: Option<(BlockHash, Arc<AtomicBool>)>,
}

impl SoloMiner {
    /// Starts the miner's thread. It ends when the miner is dropped, within one batch.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(parts: SoloParts) -> std::io::Result<Self> {
        let (work, queue) = channel();
        let pool = ThreadPool::with_start_hook(parts.threads, |_| lower_priority()).map_err(std::io::Error::other)?;
        std::thread::Builder::new().name("podl-mine".into()).spawn(move || {
            lower_priority();
            Session { parts, pool: Arc::new(pool), kept: None }.run(&queue);
        })?;
        Ok(Self { work, current: None })
    }

    fn cancel(&mut self) {
        if let Some((_, cancel)) = self.current.take() {
            cancel.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for SoloMiner {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Linux counts priority by thread, so this touches only the calling one. A system that refuses trains at full priority.
fn lower_priority() {
    let _ = rustix::process::nice(10);
}

impl MiningPort for SoloMiner {
    fn on_event(&mut self, event: MiningEvent) {
        match event {
            MiningEvent::Interval { interval, train_ms } => {
                self.cancel();
                let now = Instant::now();
                let train = Duration::from_millis(train_ms).saturating_sub(MARGIN);
                let cancel = Arc::new(AtomicBool::new(false));
                self.current = Some((interval.parent.block, cancel.clone()));
                let half = now + train * FIRST_COMMIT_PERCENT / 100;
                // The thread ends only with this sender.
                let _ = self.work.send(Work { interval, deadline: now + train, half, cancel });
            }
            MiningEvent::Closed { parent } => {
                if self.current.as_ref().is_some_and(|(at, _)| *at == parent) {
                    self.cancel();
                }
            }
            MiningEvent::Won { height, paid, .. } => tracing::info!(height, paid, "this node's model won"),
            MiningEvent::Final { .. } => {}
        }
    }
}

/// A network that is trained on from round to round of one task.
struct Kept {
    task: TaskId,
    network: Network,
    trainer: Trainer,
    train: Dataset,
    validation: Dataset,
}

struct Session {
    parts: SoloParts,
    pool: Arc<ThreadPool>,
    kept: Option<Kept>,
}

impl Session {
    fn run(mut self, queue: &Receiver<Work>) {
        while let Ok(mut work) = queue.recv() {
            // Only the newest interval counts.
            while let Ok(newer) = queue.try_recv() {
                work = newer;
            }
            if let Err(reason) = self.mine(&work) {
                tracing::warn!(height = work.interval.height, %reason, "nothing trained in this interval");
            }
        }
    }

    fn mine(&mut self, work: &Work) -> Result<(), String> {
        if self.kept.as_ref().is_none_or(|kept| kept.task != work.interval.task) {
            self.kept = Some(self.begin(&work.interval)?);
        }
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.trainer.set_cancel_flag(work.cancel.clone());
        let mut best: Option<(u32, Vec<u8>)> = None;
        let mut committed = 0;
        let (deadline, cancel) = (work.deadline, work.cancel.clone());
        while Instant::now() < deadline && !cancel.load(Ordering::Relaxed) {
            let stop = cancel.clone();
            let mut watch = move |_| {
                if Instant::now() >= deadline {
                    stop.store(true, Ordering::Relaxed);
                }
            };
            match kept.trainer.run_epoch(&kept.train, &mut watch) {
                // A cancelled epoch still moved the weights.
                Ok(_) | Err(TrainError::Cancelled) => {}
                Err(error) => return Err(error.to_string()),
            }
            let model = kept.trainer.quantised_model().map_err(|e| e.to_string())?;
            let engine = Engine::new(&model, &work.interval.workload.input_table).map_err(|e| e.to_string())?;
            let correct = engine.count_correct(&kept.validation, self.parts.threads).map_err(|e| e.to_string())?;
            if best.as_ref().is_none_or(|(most, _)| correct > *most) {
                best = Some((correct, model.encode()));
            }
            if committed == 0 && Instant::now() >= work.half {
                committed += usize::from(commit(&self.parts.core, &work.interval, best.as_ref()));
            }
        }
        let images = kept.validation.len();
        if let Some((correct, _)) = &best {
            let epochs = kept.trainer.epochs_done();
            tracing::info!(height = work.interval.height, correct, images, epochs, "trained");
        }
        commit(&self.parts.core, &work.interval, best.as_ref());
        Ok(())
    }

    fn begin(&self, interval: &IntervalContext) -> Result<Kept, String> {
        let workload = &interval.workload;
        let (train, validation) = self.data(interval)?;
        let mut random = Random::new("podl solo miner networks v1", &self.parts.seed, interval.height);
        let architecture = feasible(interval, &mut random).ok_or("no feasible network was found in the space")?;
        let network = Network::new(&architecture, workload.input, workload.classes, workload.space.dense)
            .map_err(|e| e.to_string())?;
        let config = TrainConfig { learning_rate: 0.02, ..TrainConfig::default() };
        let seed = *blake3::Hasher::new().update(&self.parts.seed).update(&interval.task.0).finalize().as_bytes();
        let trainer = Trainer::new(network.clone(), &workload.input_table, config, seed, self.pool.clone())
            .map_err(|e| e.to_string())?;
        Ok(Kept { task: interval.task, network, trainer, train, validation })
            .inspect(|kept| tracing::debug!(macs = kept.network.macs(), images = kept.train.len(), "network chosen"))
    }

    /// Training and validation images of the interval.
    fn data(&self, interval: &IntervalContext) -> Result<(Dataset, Dataset), String> {
        let (workload, caps) = (&interval.workload, &self.parts.spec.caps);
        let Some(round) = &interval.published else {
            // The filler's shard is public: fitting it is the task, so it also judges.
            let seed = interval.filler_seed().ok_or("no seed")?;
            let shard = podl_nas::Verifier::new(1).filler_shard(workload, caps, seed).map_err(|e| e.to_string())?;
            let data = decode_dataset(&shard, workload.input, workload.classes, caps.shard_bytes.into());
            let data = data.map_err(|e| e.to_string())?;
            return Ok((data.clone(), data));
        };
        let bytes = self.parts.blobs.get(&round.data.root).map_err(|e| e.to_string())?;
        let data =
            decode_dataset(&bytes, workload.input, workload.classes, caps.data_bytes).map_err(|e| e.to_string())?;
        let train = data.len() - data.len() * VALIDATION_PERCENT / 100;
        Ok((data.select(0..train), data.select(train..data.len())))
    }
}

/// Commits to the best model so far; whether there was one.
fn commit(core: &CoreHandle, interval: &IntervalContext, best: Option<&(u32, Vec<u8>)>) -> bool {
    let Some((_, artefact)) = best else { return false };
    core.commit(Committed { parent: interval.parent.block, artefact: artefact.clone() }).is_ok()
}

/// A network of the space within the bounds: one that is known to learn fast, else the first feasible one drawn.
fn feasible(interval: &IntervalContext, random: &mut Random) -> Option<Architecture> {
    let fits = |architecture: &Architecture| {
        let workload = &interval.workload;
        workload.space.contains(architecture)
            && matches!(evaluate(CostModel::Corrected, architecture, workload.input, workload.bounds), Ok(Some(_)))
    };
    let quick = quick_learner(&interval.workload.space);
    if fits(&quick) {
        return Some(quick);
    }
    (0..DRAWS).map(|_| draw(&interval.workload.space, random)).find(fits)
}

/// Kernel, filters, stride and pool, layer by layer, of a network that learns fast: wide kernels and a stride at first, so
/// that later layers are cheap; then 3x3 with more filters.
const QUICK: [(u8, u16, u8, u8); 6] =
    [(5, 24, 2, 1), (3, 36, 1, 2), (3, 64, 1, 1), (3, 64, 1, 2), (3, 64, 1, 1), (3, 64, 1, 1)];

/// The setting of the space nearest to [`QUICK`], with 2+4 bits for activations and 2+5 for weights.
fn quick_learner(space: &Space) -> Architecture {
    let bits = |ints: &[u8], fracs: &[u8], int: u8, frac: u8| FixedPoint {
        int_bits: nearest(ints, int),
        frac_bits: nearest(fracs, frac),
    };
    let layers = (0..usize::from(space.conv_layers)).map(|index| {
        let (kernel, filters, stride, pool) = QUICK[index.min(QUICK.len() - 1)];
        ConvLayer {
            kernel: [nearest(&space.kernel_height, kernel), nearest(&space.kernel_width, kernel)],
            filters: nearest(&space.filters, filters),
            stride: [nearest(&space.stride_height, stride), nearest(&space.stride_width, stride)],
            pool: nearest(&space.pool, pool),
            act: bits(&space.act_int, &space.act_frac, 2, 4),
            weight: bits(&space.weight_int, &space.weight_frac, 2, 5),
        }
    });
    Architecture { layers: layers.collect() }
}

/// The value of a range that is nearest to the one wished for; ranges of a valid space are not empty.
fn nearest<T: Copy + Ord + Default + Into<u32>>(range: &[T], wish: T) -> T {
    range.iter().copied().min_by_key(|value| ((*value).into().abs_diff(wish.into()), *value)).unwrap_or_default()
}

fn draw(space: &Space, random: &mut Random) -> Architecture {
    let layers = (0..space.conv_layers).map(|_| ConvLayer {
        kernel: [pick(random, &space.kernel_height), pick(random, &space.kernel_width)],
        filters: pick(random, &space.filters),
        stride: [pick(random, &space.stride_height), pick(random, &space.stride_width)],
        pool: pick(random, &space.pool),
        act: FixedPoint { int_bits: pick(random, &space.act_int), frac_bits: pick(random, &space.act_frac) },
        weight: FixedPoint { int_bits: pick(random, &space.weight_int), frac_bits: pick(random, &space.weight_frac) },
    });
    Architecture { layers: layers.collect() }
}

fn pick<T: Copy + Default>(random: &mut Random, range: &[T]) -> T {
    let count = u32::try_from(range.len()).unwrap_or(1).max(1);
    range.get(random.below(count) as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_learner_is_in_every_named_space_that_has_bits_for_it() {
        for layers in [1, 4, 6, 9] {
            let space = Space::full(layers);
            assert!(space.contains(&quick_learner(&space)), "{layers} layers");
        }
    }
}
