//! The training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use podl_consensus::workload::{InputShape, Network};

use super::config::TrainConfig;
use super::device::TrainDevice;
use super::export::quantised_model;
use super::kernels::dense::SgdStep;
use super::learner::Learner;
use super::memory::{available_bytes, training_bytes};
use super::threads::ThreadPool;
use crate::artefact::{Model, ModelError};
use crate::data::{Dataset, Random};
use crate::engine::INPUT_FRAC_BITS;

/// Domain of the streams that data order comes from.
const ORDER_DOMAIN: &str = "podl train data order v1";

/// Why training ended without a network.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting that cannot be used.
    #[error("training settings: {0}")]
    Config(String),
    /// Data of another form than the network's input.
    #[error("images of {got:?} with {got_classes} classes, the network takes {expected:?} with {classes}")]
    Shape {
        /// Shape of the data.
        got: InputShape,
        /// Classes of the data.
        got_classes: u16,
        /// Shape of the network's input.
        expected: InputShape,
        /// Classes of the network.
        classes: u16,
    },
    /// Too few images for one batch.
    #[error("{got} training images, expected at least a batch of {batch}")]
    TooFewImages {
        /// Images there are.
        got: usize,
        /// Images of a batch.
        batch: usize,
    },
    /// The input table does not fit.
    #[error("the input table has {got:?} values, expected 256 for each of {channels} channels")]
    InputTable {
        /// Values of each channel.
        got: Vec<usize>,
        /// Channels of the network.
        channels: u8,
    },
    /// The loss is no number any more: the learning rate is too high for this network.
    #[error("training diverged at batch {batch} of epoch {epoch}; try a lower learning rate")]
    Diverged {
        /// Epoch, from 0.
        epoch: u32,
        /// Batch, from 0.
        batch: usize,
    },
    /// A checkpoint of another training.
    #[error("the checkpoint is of another network, input table, settings or seed")]
    OtherCheckpoint,
    /// Bytes that are no training state of the network, or a state that cannot be written.
    #[error("a training state {0}")]
    State(String),
    /// The cancel flag was raised.
    #[error("training was cancelled")]
    Cancelled,
    /// Threads could not be started.
    #[error("cannot start training threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The trained parameters make no model (formats beyond the engine's).
    #[error(transparent)]
    Model(#[from] ModelError),
    /// More memory than there is.
    #[error(
        "training this network takes about {need_mib} MiB, {available_mib} MiB are free; a smaller batch takes less"
    )]
    Memory {
        /// What training takes, in MiB.
        need_mib: u64,
        /// What there is, in MiB.
        available_mib: u64,
    },
    /// The device that was asked for is not there.
    #[error("{0}")]
    Device(String),
    /// An error inside candle.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}

/// What the progress callback sees after every batch.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Batches done in this epoch.
    pub batches: usize,
    /// Batches of an epoch.
    pub of: usize,
    /// Loss of the last batch.
    pub loss: f32,
}

/// Result of one epoch.
#[derive(Clone, Copy, Debug)]
pub struct EpochReport {
    /// Images trained on.
    pub images: usize,
    /// Mean loss of the batches.
    pub loss: f32,
    /// Wall time.
    pub seconds: f64,
}

/// A network in training. Everything is determined by network, data, settings and seed; not by threads. That holds on
/// the CPU; other devices sum in orders of their own.
pub struct Trainer {
    pub(super) network: Network,
    pub(super) learner: Box<dyn Learner>,
    pub(super) table: Vec<[f32; 256]>,
    pub(super) config: TrainConfig,
    pub(super) seed: [u8; 32],
    pool: Arc<ThreadPool>,
    pub(super) epoch: u32,
    pub(super) step: u64,
    cancel: Arc<AtomicBool>,
}

impl Trainer {
    /// A fresh network from the seed, trained on the CPU. `input_table` is the task's: the network trains on the very
    /// values that the integer engine feeds it.
    ///
    /// # Errors
    /// [`TrainError::Config`], [`TrainError::InputTable`], [`TrainError::Memory`].
    pub fn new(
        network: Network,
        input_table: &[Vec<i16>],
        config: TrainConfig,
        seed: [u8; 32],
        pool: Arc<ThreadPool>,
    ) -> Result<Self, TrainError> {
        Self::on_device(TrainDevice::Cpu, network, input_table, config, seed, pool)
    }

    /// As [`Trainer::new`], on that device. Only training on the CPU gives the same bits every time.
    ///
    /// # Errors
    /// As [`Trainer::new`], and [`TrainError::Device`] when the device is not there.
    pub fn on_device(
        device: TrainDevice,
        network: Network,
        input_table: &[Vec<i16>],
        config: TrainConfig,
        seed: [u8; 32],
        pool: Arc<ThreadPool>,
    ) -> Result<Self, TrainError> {
        config.check().map_err(TrainError::Config)?;
        let table = float_table(input_table, network.input.channels)?;
        if device == TrainDevice::Cpu {
            check_memory(&network, config.batch, pool.threads(), available_bytes())?;
        }
        let learner = device.learner(&network, config.precision, &seed, &pool)?;
        let cancel = Arc::new(AtomicBool::new(false));
        Ok(Self { network, learner, table, config, seed, pool, epoch: 0, step: 0, cancel })
    }

    /// Raising this flag ends a running epoch after its current batch.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancel.clone()
    }

    /// Uses a flag of the caller's, for example one that several trainers share.
    pub fn set_cancel_flag(&mut self, cancel: Arc<AtomicBool>) {
        self.cancel = cancel;
    }

    /// Another greatest learning rate from the next epoch on, for schedules that the settings do not know.
    ///
    /// # Errors
    /// [`TrainError::Config`] when it is not usable; the old one then stays.
    pub fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), TrainError> {
        let config = TrainConfig { learning_rate, ..self.config.clone() };
        config.check().map_err(TrainError::Config)?;
        self.config = config;
        Ok(())
    }

    /// Epochs done.
    pub fn epochs_done(&self) -> u32 {
        self.epoch
    }

    /// Trains on every whole batch of the data once, in an order that follows from seed and epoch.
    ///
    /// # Errors
    /// [`TrainError::Shape`], [`TrainError::TooFewImages`], [`TrainError::Cancelled`] (the network is then in the
    /// midst of an epoch), [`TrainError::Diverged`].
    pub fn run_epoch(
        &mut self,
        data: &Dataset,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<EpochReport, TrainError> {
        self.check_data(data)?;
        let pool = self.pool.clone();
        // On the pool's threads altogether, so that the caller's priority and cores are not touched.
        pool.install(|| self.epoch_on_pool(data, progress))
    }

    fn check_data(&self, data: &Dataset) -> Result<(), TrainError> {
        let (expected, classes) = (self.network.input, self.network.classes);
        if data.shape != expected || data.classes > classes {
            return Err(TrainError::Shape { got: data.shape, got_classes: data.classes, expected, classes });
        }
        if data.len() < self.config.batch {
            return Err(TrainError::TooFewImages { got: data.len(), batch: self.config.batch });
        }
        Ok(())
    }

    fn epoch_on_pool(
        &mut self,
        data: &Dataset,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<EpochReport, TrainError> {
        let start = Instant::now();
        let mut order: Vec<usize> = (0..data.len()).collect();
        Random::new(ORDER_DOMAIN, &self.seed, self.epoch.into()).shuffle(&mut order);
        let of = data.len() / self.config.batch;
        let total = u64::from(self.config.epochs) * of as u64;
        let mut sum = 0.0f64;
        for (batch, indices) in order.chunks_exact(self.config.batch).enumerate() {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(TrainError::Cancelled);
            }
            let loss = self.train_batch(data, indices, self.config.rate(self.step, total))?;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch: self.epoch, batch });
            }
            self.step += 1;
            sum += f64::from(loss);
            progress(Progress { epoch: self.epoch, batches: batch + 1, of, loss });
        }
        self.epoch += 1;
        let loss = (sum / of as f64) as f32;
        Ok(EpochReport { images: of * self.config.batch, loss, seconds: start.elapsed().as_secs_f64() })
    }

    fn train_batch(&mut self, data: &Dataset, indices: &[usize], rate: f32) -> Result<f32, TrainError> {
        let labels = indices.iter().map(|&index| data.labels[index]).collect();
        let TrainConfig { momentum, weight_decay, .. } = self.config;
        let images = self.batch(data, indices)?;
        Ok(self.learner.train_batch(&images, labels, SgdStep { rate, momentum, weight_decay })?)
    }

    /// The images at these indices as a tensor, through the input table.
    fn batch(&self, data: &Dataset, indices: &[usize]) -> Result<Tensor, TrainError> {
        let InputShape { channels, height, width } = data.shape;
        let plane = usize::from(height) * usize::from(width);
        let mut values = Vec::with_capacity(indices.len() * data.shape.values());
        for &index in indices {
            for (bytes, table) in data.image(index).chunks_exact(plane).zip(&self.table) {
                values.extend(bytes.iter().map(|&byte| table[usize::from(byte)]));
            }
        }
        let shape = (indices.len(), usize::from(channels), usize::from(height), usize::from(width));
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// The class that the network as trained (quantised or float) gives each image.
    ///
    /// # Errors
    /// [`TrainError::Shape`], [`TrainError::Candle`].
    pub fn classify(&self, data: &Dataset) -> Result<Vec<u16>, TrainError> {
        if data.shape != self.network.input {
            let (expected, classes) = (self.network.input, self.network.classes);
            return Err(TrainError::Shape { got: data.shape, got_classes: data.classes, expected, classes });
        }
        let mut found = Vec::with_capacity(data.len());
        let all: Vec<usize> = (0..data.len()).collect();
        self.pool.install(|| {
            for indices in all.chunks(self.config.batch) {
                let logits = self.learner.logits(&self.batch(data, indices)?)?;
                for logits in logits.to_vec2::<f32>()? {
                    found.push(first_greatest(&logits));
                }
            }
            Ok(found)
        })
    }

    /// The integer model of the network as it is now; its weights are those that quantised training computes with.
    ///
    /// # Errors
    /// [`TrainError::Model`] when the network's formats are beyond the engine's.
    pub fn quantised_model(&self) -> Result<Model, TrainError> {
        quantised_model(&self.network, &self.learner.vars())
    }

    /// The variables, layer by layer, weights first.
    pub fn vars(&self) -> impl Iterator<Item = &Var> {
        self.learner.vars().into_iter()
    }
}

/// Refuses what would not fit; where the system does not say what there is, nothing is refused.
fn check_memory(network: &Network, batch: usize, threads: usize, available: Option<u64>) -> Result<(), TrainError> {
    let need = training_bytes(network, batch, threads);
    match available {
        Some(available) if need > available => {
            Err(TrainError::Memory { need_mib: need >> 20, available_mib: available >> 20 })
        }
        _ => Ok(()),
    }
}

/// The input table in floating point: `value / 256`, exact.
fn float_table(table: &[Vec<i16>], channels: u8) -> Result<Vec<[f32; 256]>, TrainError> {
    let got: Vec<usize> = table.iter().map(Vec::len).collect();
    if got != vec![256; usize::from(channels)] {
        return Err(TrainError::InputTable { got, channels });
    }
    let step = libm::ldexpf(1.0, -i32::from(INPUT_FRAC_BITS));
    Ok(table.iter().map(|values| std::array::from_fn(|byte| f32::from(values[byte]) * step)).collect())
}

/// Index of the greatest value, the first among equals.
fn first_greatest(values: &[f32]) -> u16 {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] {
            best = index;
        }
    }
    // Classes are counted in 16 bits.
    best as u16
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint};

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let act = FixedPoint::new(1, 4);
        let layer = ConvLayer { kernel: [3, 3], filters: 128, stride: [1, 1], pool: 1, act, weight: act };
        let architecture = Architecture { layers: vec![layer; 6] };
        let network = Network::new(&architecture, InputShape::CIFAR, 10, DenseConfig::default()).unwrap();
        let check = |available| check_memory(&network, 128, 2, available);
        assert!(check(None).is_ok() && check(Some(1 << 40)).is_ok());
        let text = check(Some(100 << 20)).unwrap_err().to_string();
        assert!(text.contains("100 MiB are free") && text.contains("smaller batch"), "{text}");
    }
}
