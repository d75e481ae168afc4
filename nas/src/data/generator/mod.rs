//! The built-in data set: generated 32x32 colour images of 10 classes.
//!
//! Consensus-critical (filler blocks are scored on it), so integers only and versioned: [`GENERATOR_VERSION`] changes
//! with every change of any pixel.
//!
//! A class is one of five shapes in one of two textures. Everything else varies freely and says nothing about the
//! class: place, size, rotation, all colours, a smooth background, small distracting shapes, a line across, noise. Both
//! textures use the same two colours in equal parts, and either may be the lighter one, so that neither colour
//! histograms nor linear classifiers get far; textures need kernels and strides that see single pixels, shapes need
//! several layers of enough filters.

mod scene;

use podl_consensus::workload::InputShape;

use super::{Dataset, Random};

/// Version of the generator that chain specifications name.
pub const GENERATOR_VERSION: u16 = 1;

/// Classes of the generated set.
pub const GENERATOR_CLASSES: u16 = 10;

/// The first `images` images of that seed. Image `i` depends on the seed and `i` alone.
pub fn generate(seed: &[u8; 32], images: u32) -> Dataset {
    let mut data = Dataset::new(InputShape::CIFAR, GENERATOR_CLASSES);
    data.images.reserve(images as usize * InputShape::CIFAR.values());
    for index in 0..images {
        let mut random = Random::new("podl v1 generated image", seed, index.into());
        let label = random.below(GENERATOR_CLASSES.into());
        data.images.extend_from_slice(&scene::draw(&mut random, label));
        data.labels.push(u16::try_from(label).unwrap_or(0));
    }
    data
}

#[cfg(test)]
mod tests;
