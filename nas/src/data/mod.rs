//! Data sets: in memory, on disk, generated, and cut into what a task publishes.
//!
//! Consensus-critical are the canonical bytes (`shard`), the generator and the normalisation table: integers only. What
//! reads files (`cifar`, `idx`, `images`) runs on the publisher's machine alone. Once a task is published its data are
//! named by their root, and nobody reads the files again.

mod cifar;
mod error;
mod generator;
mod idx;
mod images;
mod normalise;
mod random;
mod shard;
mod spec;
mod split;

use podl_consensus::workload::InputShape;

pub use cifar::{CIFAR_TEST_FILE, read_cifar10};
pub use error::DataError;
pub use generator::{GENERATOR_CLASSES, GENERATOR_VERSION, generate};
pub use idx::read_idx;
pub use images::{ImageForm, read_image_folder};
pub use normalise::{ChannelStatistics, channel_statistics, input_table};
pub use random::Random;
pub use shard::{decode_dataset, encode_dataset, encoded_dataset_bytes};
pub use spec::{BUILTIN_TEST_IMAGES, BUILTIN_TRAIN_IMAGES, DatasetSpec, Source};
pub use split::{Split, SplitPlan, split};

/// Greatest height and width of an image, in pixels. This and the other limits are the widest caps that a chain of ours
/// has: what exceeds them could be trained on but never published.
pub const MOST_SIDE: u8 = 64;
/// Most channels of an image.
pub const MOST_CHANNELS: u8 = 4;
/// Most classes of a data set.
pub const MOST_CLASSES: u16 = 256;
/// Most bytes of one part (training or test images) of a data set in its canonical form.
pub const MOST_PART_BYTES: u64 = 1 << 30;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_chain() {
        let caps = crate::testing::caps();
        assert_eq!((MOST_SIDE, MOST_CHANNELS, MOST_CLASSES), (caps.input_side, caps.input_channels, caps.classes));
        assert_eq!(MOST_PART_BYTES, caps.data_bytes);
    }
}
