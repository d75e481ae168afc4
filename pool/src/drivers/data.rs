//! An interval's data: what is trained on, what claims are made on, and what only the manager knows.

use podl_chain_spec::Caps;
use podl_consensus::workload::{WorkError, WorkVerifier, Workload};
use podl_nas::Verifier;
use podl_nas::data::{Dataset, decode_dataset};

use crate::rng::SeededRng;
use crate::types::{DataSource, EvaluationPlan, Interval};

/// Data that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Not the task's data.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The blob of a published task was not given.
    #[error("the task's data are missing")]
    Missing,
    /// There is nothing to train on.
    #[error("the task has {got} images and declares {declared} for training")]
    Empty {
        /// Images in the blob.
        got: usize,
        /// Images declared.
        declared: u32,
    },
}

/// Data of an interval, decoded.
#[derive(Clone, Debug)]
pub struct IntervalData {
    /// What is trained on.
    pub train: Dataset,
    /// What counts are claimed and compared on: the search-validation images, or the filler shard.
    pub validation: Dataset,
}

impl IntervalData {
    /// Decodes a published task's blob, or generates a filler interval's shard. The blob's root is the caller's to
    /// check.
    ///
    /// # Errors
    /// [`DataError`] when the bytes are not such data.
    pub fn load(interval: &Interval, blob: Option<&[u8]>, caps: &Caps) -> Result<Self, DataError> {
        let work = &interval.workload;
        match interval.data {
            DataSource::Filler { seed } => {
                let shard = Verifier::new(1).filler_shard(work, caps, seed)?;
                let train = decode(work, &shard, caps)?;
                Ok(Self { validation: train.clone(), train })
            }
            DataSource::Published { train_images, .. } => {
                let all = decode(work, blob.ok_or(DataError::Missing)?, caps)?;
                let train = all.head(usize::try_from(train_images).unwrap_or(usize::MAX));
                if train.is_empty() {
                    return Err(DataError::Empty { got: all.len(), declared: train_images });
                }
                let validation = all.select(train.len()..all.len());
                // A task without search-validation images is compared on what it is trained on.
                let validation = if validation.is_empty() { train.clone() } else { validation };
                Ok(Self { train, validation })
            }
        }
    }

    /// How results of candidates that are trained for at most so many passes are judged on these data.
    pub fn plan(&self, interval: &Interval, most_passes: u32) -> EvaluationPlan {
        let images = |data: &Dataset| u32::try_from(data.len()).unwrap_or(u32::MAX);
        let (train, validation) = (images(&self.train), images(&self.validation));
        if interval.is_filler() {
            EvaluationPlan::for_filler(validation)
        } else {
            EvaluationPlan::for_validation(validation, u64::from(train) * u64::from(most_passes))
        }
    }

    /// The images that miners claim counts on.
    pub fn public(&self, plan: EvaluationPlan) -> Dataset {
        self.validation.head(count(plan.public_images))
    }

    /// The manager's secret images: drawn from the other search-validation images, the same in all rounds of a task,
    /// so that counts of different rounds compare.
    pub fn holdout(&self, plan: EvaluationPlan, secret: &[u8; 32], interval: &Interval) -> Dataset {
        let mut rng = SeededRng::new(&[secret.as_slice(), interval.task.as_bytes()].concat(), "hold-out");
        let mut rest: Vec<usize> = (count(plan.public_images)..self.validation.len()).collect();
        // The first draws of a Fisher-Yates shuffle.
        let wanted = count(plan.holdout_images).min(rest.len());
        for place in 0..wanted {
            let other = place + rng.index(rest.len() - place);
            rest.swap(place, other);
        }
        rest.truncate(wanted);
        self.validation.select(rest)
    }
}

fn decode(work: &Workload, bytes: &[u8], caps: &Caps) -> Result<Dataset, WorkError> {
    decode_dataset(bytes, work.input, work.classes, caps.data_bytes)
}

fn count(images: u32) -> usize {
    usize::try_from(images).unwrap_or(usize::MAX)
}
