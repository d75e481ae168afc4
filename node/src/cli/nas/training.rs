//! Flags of training that several commands share.

use clap::{Args, ValueEnum};
use podl_nas::train::{Precision, Schedule, TrainConfig, TrainDevice};

/// How networks are trained.
#[derive(Debug, Args)]
pub(super) struct TrainingArgs {
    /// Images of a batch.
    #[arg(long, default_value_t = 128, value_parser = parse_batch)]
    pub batch: usize,
    /// Greatest learning rate.
    #[arg(long, default_value_t = 0.01)]
    pub learning_rate: f32,
    /// Course of the learning rate.
    #[arg(long, value_enum, default_value = "constant")]
    pub schedule: Course,
    /// cpu, cuda or cuda:N (an NVIDIA card, in a podl that was built with the feature cuda). Only on the CPU does the
    /// same seed make the same model bit for bit.
    #[arg(long, default_value = "cpu")]
    pub device: TrainDevice,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Course {
    /// The same rate throughout.
    Constant,
    /// Half a cosine, down to 0 at the end.
    Cosine,
}

impl TrainingArgs {
    /// The settings for so many epochs.
    pub(super) fn config(&self, epochs: u32, precision: Precision) -> TrainConfig {
        let schedule = match self.schedule {
            Course::Constant => Schedule::Constant,
            Course::Cosine => Schedule::Cosine,
        };
        let Self { batch, learning_rate, .. } = *self;
        TrainConfig { epochs, batch, learning_rate, schedule, precision, ..TrainConfig::default() }
    }
}

fn parse_batch(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of at least 1".into())
}
