//! A whole training in one call.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podl_consensus::workload::Network;

use super::config::TrainConfig;
use super::threads::ThreadPool;
use super::trainer::{Progress, TrainError, Trainer};
use crate::artefact::Model;
use crate::data::Dataset;

/// What determines a trained model: two jobs that are equal give the same artefact bytes.
#[derive(Clone, Debug)]
pub struct TrainJob<'a> {
    /// The network to train.
    pub network: &'a Network,
    /// The task's input values: 256 for each channel.
    pub input_table: &'a [Vec<i16>],
    /// Training images.
    pub data: &'a Dataset,
    /// Settings; all their epochs are run.
    pub config: &'a TrainConfig,
    /// Seed of initial weights and data order.
    pub seed: [u8; 32],
}

/// A finished training.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The quantised network.
    pub model: Model,
    /// Wall time of the epochs.
    pub seconds: f64,
    /// Images trained on a second.
    pub images_per_second: f64,
    /// Mean loss of the last epoch; NaN without epochs.
    pub loss: f32,
}

/// Trains a network for the epochs of its settings.
///
/// # Errors
/// [`TrainError`]; [`TrainError::Cancelled`] within a batch after `cancel` is raised.
pub fn train_child(
    job: &TrainJob<'_>,
    pool: &Arc<ThreadPool>,
    cancel: &Arc<AtomicBool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::new(job.network.clone(), job.input_table, job.config.clone(), job.seed, pool.clone())?;
    trainer.set_cancel_flag(cancel.clone());
    let (mut seconds, mut images, mut loss) = (0.0, 0, f32::NAN);
    for _ in 0..job.config.epochs {
        let report = trainer.run_epoch(job.data, progress)?;
        seconds += report.seconds;
        images += report.images;
        loss = report.loss;
    }
    let images_per_second = if seconds > 0.0 { images as f64 / seconds } else { 0.0 };
    Ok(Outcome { model: trainer.quantised_model()?, seconds, images_per_second, loss })
}
