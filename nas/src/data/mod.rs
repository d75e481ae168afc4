//! Data sets: in memory, on disk, generated, and cut into what a task publishes.

mod cifar;
mod generator;
mod normalise;
mod random;
mod shard;
mod spec;
mod split;

use std::path::PathBuf;

use podl_consensus::workload::InputShape;

pub use cifar::{CIFAR_TEST_FILE, read_cifar10};
pub use generator::{GENERATOR_CLASSES, GENERATOR_VERSION, generate};
pub use normalise::input_table;
pub use random::Random;
pub use shard::{decode_dataset, encode_dataset, encoded_dataset_bytes};
pub use spec::{BUILTIN_TEST_IMAGES, BUILTIN_TRAIN_IMAGES, DatasetSpec, Source};
pub use split::{Split, SplitPlan, split};

/// Labelled images of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Shape of every image.
    pub shape: InputShape,
    /// Number of classes; labels are below it.
    pub classes: u16,
    /// All images after one another, each channel by channel, row by row.
    pub images: Vec<u8>,
    /// One label an image.
    pub labels: Vec<u16>,
}

impl Dataset {
    /// An empty set of that form.
    pub fn new(shape: InputShape, classes: u16) -> Self {
        Self { shape, classes, images: Vec::new(), labels: Vec::new() }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of image `index`, which must be below [`Dataset::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let values = self.shape.values();
        &self.images[index * values..(index + 1) * values]
    }

    /// The images at these indices, in this order.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut chosen = Self::new(self.shape, self.classes);
        for index in indices {
            chosen.images.extend_from_slice(self.image(index));
            chosen.labels.push(self.labels[index]);
        }
        chosen
    }

    /// The first `count` images, or all if there are fewer.
    pub fn head(&self, count: usize) -> Self {
        self.select(0..count.min(self.len()))
    }
}

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The name of a data set is not of a known form.
    #[error("unknown data set {0:?}: expected builtin, builtin:SEED or cifar10:DIR")]
    UnknownSpec(String),
    /// A form that later versions will read.
    #[error("data sets of the form {0}: are not supported yet; use builtin, builtin:SEED or cifar10:DIR")]
    NotSupportedYet(&'static str),
    /// A folder or file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that must be there is not.
    #[error("{folder} holds no {what}; a CIFAR-10 folder has data_batch_1.bin (and more of them) and test_batch.bin")]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A file is damaged.
    #[error("{path} is damaged at record {record}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which record, from 0.
        record: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There are too few images to cut as asked.
    #[error("too few {what} images: {got}, the split needs {expected}")]
    TooFew {
        /// Of which part.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many are needed.
        expected: usize,
    },
}
