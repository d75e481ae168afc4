//! Integer evaluation of models: the number of correct images that every node must agree on.
//!
//! No float takes part. Accumulators are 32 bits wide where the layer's own weights prove that no sum can leave them,
//! and 64 bits elsewhere; [`reference`] is the plain statement of the same rules, to which the fast path is compared.
//!
//! # Correctness
//! Integer sums are exact in any order, so results do not depend on the processor, the kernel chosen for it, the
//! batch size or the number of threads.

mod batch;
mod finish;
mod layer;
mod pack;
pub mod reference;
mod requantise;
mod simd;

use podl_consensus::workload::InputShape;

use crate::artefact::Model;
use crate::data::Dataset;
use batch::{Scratch, classify_batch};
use layer::Layer;
use simd::Isa;

/// Fraction bits of the values in a task's input table.
pub const INPUT_FRAC_BITS: u8 = 8;

/// Most images evaluated together: a multiple of the tiles' heights, which fills them in layers of a single position.
const MOST_BATCH: usize = 48;
/// Bytes that the activations of a batch may take; wider networks go in smaller batches.
const BATCH_BYTES: usize = 8 << 20;

/// Why images cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The input table is not one of 256 values for each channel.
    #[error("the input table has {got:?} values, expected 256 for each of {channels} channels")]
    InputTable {
        /// Values of each channel.
        got: Vec<usize>,
        /// Channels of the network.
        channels: u8,
    },
    /// The images have another form than the network's input.
    #[error("images of {got:?}, the network takes {expected:?}")]
    Shape {
        /// Shape of the data.
        got: InputShape,
        /// Shape of the network's input.
        expected: InputShape,
    },
    /// The bytes are not a whole number of images.
    #[error("{got} image bytes are not a multiple of {expected}")]
    PartialImage {
        /// Bytes.
        got: usize,
        /// Bytes of one image.
        expected: usize,
    },
}

/// A model prepared for evaluation under one input table.
pub struct Engine {
    input: InputShape,
    table: Vec<Vec<i16>>,
    layers: Vec<Layer>,
    batch: usize,
    isa: Isa,
}

impl Engine {
    /// Prepares a model. `input_table` holds for each channel the input values (8 fraction bits) of the bytes 0 to 255.
    ///
    /// # Errors
    /// [`EngineError::InputTable`] when the table does not fit the network.
    pub fn new(model: &Model, input_table: &[Vec<i16>]) -> Result<Self, EngineError> {
        Self::with_isa(model, input_table, Isa::detect())
    }

    /// As [`Engine::new`], for a given instruction set. All give the same results.
    fn with_isa(model: &Model, input_table: &[Vec<i16>], isa: Isa) -> Result<Self, EngineError> {
        let input = model.network().input;
        let lengths: Vec<usize> = input_table.iter().map(Vec::len).collect();
        if lengths != vec![256; usize::from(input.channels)] {
            return Err(EngineError::InputTable { got: lengths, channels: input.channels });
        }
        let largest_input = input_table.iter().flatten().map(|value| value.unsigned_abs()).max().unwrap_or(0);
        let layers = layer::prepare(model, largest_input.into(), isa);
        let image_bytes = layers.iter().map(Layer::image_bytes).sum::<usize>().max(1);
        let batch = (BATCH_BYTES / image_bytes).clamp(1, MOST_BATCH);
        Ok(Self { input, table: input_table.to_vec(), layers, batch, isa })
    }

    /// The class of every image: the greatest output, the lowest class among equals. `images` are of the network's
    /// input shape, one after the other; `threads` (0 counts as 1) does not change the result.
    ///
    /// # Errors
    /// [`EngineError::PartialImage`].
    pub fn classify(&self, images: &[u8], threads: usize) -> Result<Vec<u16>, EngineError> {
        let values = self.input.values();
        if !images.len().is_multiple_of(values) {
            return Err(EngineError::PartialImage { got: images.len(), expected: values });
        }
        let count = images.len() / values;
        let batches = count.div_ceil(self.batch);
        let mut classes = vec![0; count];
        // Whole batches a thread; the last thread may get fewer.
        let share = batches.div_ceil(threads.max(1)).max(1) * self.batch;
        std::thread::scope(|scope| {
            let mut parts = images.chunks(share * values).zip(classes.chunks_mut(share));
            let own = parts.next();
            for (images, classes) in parts {
                scope.spawn(move || self.classify_part(images, classes));
            }
            if let Some((images, classes)) = own {
                self.classify_part(images, classes);
            }
        });
        Ok(classes)
    }

    /// Number of images whose class is their label.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the data are of another form.
    pub fn count_correct(&self, data: &Dataset, threads: usize) -> Result<u32, EngineError> {
        if data.shape != self.input {
            return Err(EngineError::Shape { got: data.shape, expected: self.input });
        }
        let classes = self.classify(&data.images, threads)?;
        let correct = classes.iter().zip(&data.labels).filter(|(class, label)| class == label).count();
        // Labels of a set are counted in 32 bits wherever sets come from.
        Ok(u32::try_from(correct).unwrap_or(u32::MAX))
    }

    fn classify_part(&self, images: &[u8], classes: &mut [u16]) {
        let mut scratch = Scratch::new(&self.layers, self.batch.min(classes.len()));
        for (images, classes) in images.chunks(self.batch * self.input.values()).zip(classes.chunks_mut(self.batch)) {
            classify_batch(self, &mut scratch, images, classes);
        }
    }
}

#[cfg(test)]
mod tests;
