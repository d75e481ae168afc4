//! A made-up accuracy of networks, for simulations: smooth enough to climb, rough enough to be worth searching.

use podl_chain_spec::Hash32;
use podl_consensus::types::BlobRef;
use podl_consensus::workload::Architecture;

use crate::manager::architecture_name;

/// A simulated model.
#[derive(Clone, Debug)]
pub struct SimModel {
    /// Its network.
    pub architecture: Architecture,
    /// Training images that its weights have seen.
    pub images: u64,
    /// Its name.
    pub artefact: BlobRef,
}

/// Images after which half of what a network can learn is learned.
const HALF_IMAGES: u64 = 12_000;

/// What a network reaches in the end, in thousandths: more filters, kernels of 3 to 5, small strides and enough bits
/// help, and every network has luck of its own.
pub fn ceiling_permille(architecture: &Architecture) -> u64 {
    let layers = architecture.layers.len().max(1) as u64;
    let good: u64 = architecture
        .layers
        .iter()
        .map(|layer| {
            let filters = match layer.filters {
                0..=8 => 10,
                9..=24 => 45,
                25..=36 => 70,
                _ => 80,
            };
            let kernel: u64 = layer.kernel.iter().map(|k| if matches!(k, 3 | 5) { 30 } else { 12 }).sum();
            let stride: u64 = layer.stride.iter().map(|&s| 30 / u64::from(s.max(1))).sum();
            let bits = u64::from(layer.act.total_bits().min(5) + layer.weight.total_bits().min(5)) * 8;
            filters + kernel + stride + bits
        })
        .sum();
    // At most 280 a layer.
    let luck = u64::from(architecture_name(architecture).0[0]) * 60 / 255;
    150 + good / layers * 2 + luck
}

/// Accuracy after so many images, in thousandths.
pub fn accuracy_permille(model: &SimModel) -> u64 {
    let gain = ceiling_permille(&model.architecture).saturating_sub(100);
    100 + gain * model.images / (model.images + HALF_IMAGES)
}

/// A model's count on one set of images: its accuracy, with the same luck whenever it is asked.
pub fn count(model: &SimModel, set: &str, images: u32) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool simulated count");
    hasher.update(model.artefact.root.as_bytes());
    hasher.update(set.as_bytes());
    let luck = i64::from(hasher.finalize().as_bytes()[0]) - 128;
    // Up to two standard deviations of a fair coin either way: sqrt(images) / 2 each.
    let spread = i64::from(images.isqrt()) * luck / 128;
    let expected = i64::try_from(u64::from(images) * accuracy_permille(model) / 1000).unwrap_or(0);
    u32::try_from((expected + spread).clamp(0, i64::from(images))).unwrap_or(0)
}

/// The name of a model that these choices lead to.
pub fn train(architecture: Architecture, base: Option<&SimModel>, seed: u64, images: u64) -> SimModel {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool simulated model");
    hasher.update(architecture_name(&architecture).as_bytes());
    hasher.update(base.map_or(&[0; 32], |b| b.artefact.root.as_bytes()));
    hasher.update(&seed.to_le_bytes());
    hasher.update(&images.to_le_bytes());
    let artefact = BlobRef { root: Hash32(*hasher.finalize().as_bytes()), bytes: 1000 };
    SimModel { architecture, images: images + base.map_or(0, |b| b.images), artefact }
}
