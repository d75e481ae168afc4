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
use podl_consensus::workload::{Architecture, Network, WorkVerifier};
use podl_nas::cost::{CostModel, evaluate};
use podl_nas::data::{Dataset, decode_dataset};
use podl_nas::engine::Engine;
use podl_nas::search::{SearchBox, StartingPoint, starting_points};
use podl_nas::train::{ThreadPool, TrainConfig, TrainError, Trainer};
use podl_network::BlobStore;

use super::input::CoreHandle;
use super::mining::{Committed, MiningEvent, MiningPort};

/// Kept free at the end of the training phase: a commitment must reach a majority of the seats before they close.
const MARGIN: Duration = Duration::from_millis(1_500);
/// Hundredths of the training phase after which a first model is committed, in case the node stops before the end.
const FIRST_COMMIT_PERCENT: u32 = 60;
/// Hundredths of the published images that are held back to judge the own models.
const VALIDATION_PERCENT: usize = 10;

/// Images at most on which the own models are judged after each epoch: a standard deviation of two points is enough to
/// choose between epochs, and costs a fraction of one.
const JUDGED_IMAGES: usize = 500;

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
            if best.is_none() && Instant::now() >= deadline {
                // No time to judge it, and nothing better at hand: an unjudged model may still win, none cannot.
                best = Some((0, model.encode()));
                break;
            }
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
        let start = feasible(interval).ok_or("no known starting point of the space is within the bounds")?;
        let network = Network::new(&start.architecture, workload.input, workload.classes, workload.space.dense)
            .map_err(|e| e.to_string())?;
        let config = TrainConfig { learning_rate: start.learning_rate, batch: start.batch, ..TrainConfig::default() };
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
        let judged = data.len().min(train + JUDGED_IMAGES);
        Ok((data.select(0..train), data.select(train..judged)))
    }
}

/// Commits to the best model so far; whether there was one.
fn commit(core: &CoreHandle, interval: &IntervalContext, best: Option<&(u32, Vec<u8>)>) -> bool {
    let Some((_, artefact)) = best else { return false };
    core.commit(Committed { parent: interval.parent.block, artefact: artefact.clone() }).is_ok()
}

/// The first known quick learner of the space that is within the bounds.
fn feasible(interval: &IntervalContext) -> Option<StartingPoint> {
    let workload = &interval.workload;
    let fits = |architecture: &Architecture| {
        workload.space.contains(architecture)
            && matches!(evaluate(CostModel::Corrected, architecture, workload.input, workload.bounds), Ok(Some(_)))
    };
    // A space that was published can be searched; one that cannot has no feasible network either.
    let search_box = SearchBox::from_space(&workload.space).ok()?;
    starting_points(&search_box).into_iter().find(|point| fits(&point.architecture))
}
