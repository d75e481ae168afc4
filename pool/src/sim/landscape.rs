//! What networks reach in a simulation: the accuracy after full training is a landscape's to say, how much of it so
//! many images bring follows one curve, and what is counted has luck.

use podl_chain_spec::Hash32;
use podl_consensus::types::BlobRef;
use podl_consensus::workload::Architecture;

use crate::manager::architecture_name;

/// Accuracy of a network of a landscape that guesses among ten classes, in millionths.
pub const CHANCE_PPM: u32 = 100_000;
/// A network has learned half of what it can learn after this part of its full training. Measured: quantisation-aware
/// training on CIFAR-10 reaches .76, .92 and 1 of the gain over chance after 3, 10 and 30 epochs.
const HALF_LEARNED: u64 = 28;

/// Accuracies of fully trained networks.
pub trait Landscape: Send + Sync {
    /// Accuracy after full training, in millionths.
    fn accuracy_ppm(&self, network: &Architecture) -> u32;
}

/// A made-up landscape: smooth enough to climb, rough enough to be worth searching. More filters, kernels of 3 to 5,
/// small strides and enough bits help, and every network has luck of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeUp;

impl Landscape for MadeUp {
    fn accuracy_ppm(&self, network: &Architecture) -> u32 {
        let layers = network.layers.len().max(1) as u64;
        let good: u64 = network
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
        // At most 280 a layer, so 770 thousandths in all.
        let luck = u64::from(architecture_name(network).0[0]) * 60 / 255;
        u32::try_from((150 + good / layers * 2 + luck) * 1000).unwrap_or(u32::MAX)
    }
}

/// A simulated model.
#[derive(Clone, Debug)]
pub struct SimModel {
    /// Its network.
    pub architecture: Architecture,
    /// Accuracy of the network after full training, in millionths.
    pub full_ppm: u32,
    /// Training images that its weights have seen.
    pub images: u64,
    /// Its name.
    pub artefact: BlobRef,
}

impl SimModel {
    /// The model that these choices lead to.
    pub fn train(network: &Architecture, full_ppm: u32, base: Option<&Self>, seed: u64, images: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool simulated model");
        hasher.update(architecture_name(network).as_bytes());
        hasher.update(base.map_or(&[0; 32], |b| b.artefact.root.as_bytes()));
        hasher.update(&seed.to_le_bytes());
        hasher.update(&images.to_le_bytes());
        let artefact = BlobRef { root: Hash32(*hasher.finalize().as_bytes()), bytes: 1000 };
        let images = images.saturating_add(base.map_or(0, |b| b.images));
        Self { architecture: network.clone(), full_ppm, images, artefact }
    }

    /// Accuracy in millionths, when `full_images` are a full training.
    pub fn accuracy_ppm(&self, full_images: u64) -> u32 {
        let gain = u128::from(self.full_ppm.saturating_sub(CHANCE_PPM));
        let (seen, full) = (u128::from(self.images), u128::from(full_images.max(1)));
        let half = u128::from(HALF_LEARNED);
        // gain x (1 + h) x / (x + h) with x = seen / full and h = 1 / half, all in whole numbers.
        let reached = gain * seen * (half + 1) / (seen * half + full);
        let base = self.full_ppm.min(CHANCE_PPM);
        base.saturating_add(u32::try_from(reached).unwrap_or(u32::MAX)).min(1_000_000)
    }

    /// Count on one set of images: the accuracy, with the same luck whenever it is asked.
    pub fn count(&self, full_images: u64, set: &str, images: u32) -> u32 {
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool simulated count");
        hasher.update(self.artefact.root.as_bytes());
        hasher.update(set.as_bytes());
        let bytes = hasher.finalize();
        // Four uniform bytes are nearly normal; their deviation is 148, that of n throws of which a part p hits
        // sqrt(p (1 - p) n).
        let luck: i64 = bytes.as_bytes()[..4].iter().map(|&b| i64::from(b)).sum::<i64>() - 510;
        let ppm = u64::from(self.accuracy_ppm(full_images));
        let deviation_ppm = (ppm * (1_000_000 - ppm.min(1_000_000)) * u64::from(images)).isqrt();
        let spread = i64::try_from(deviation_ppm).unwrap_or(0) * luck / 148_000_000;
        let expected = u64::from(images) * ppm / 1_000_000;
        let expected = i64::try_from(expected).unwrap_or(0);
        u32::try_from((expected + spread).clamp(0, i64::from(images))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::Space;

    use super::*;
    use crate::partition::Subspace;
    use crate::rng::SeededRng;

    #[test]
    fn training_brings_what_real_training_brought() {
        let network = Subspace::whole(Space::full(2)).draw(&mut SeededRng::new(b"x", "test")).unwrap();
        let reached = |images| SimModel::train(&network, 600_000, None, 1, images).accuracy_ppm(30_000);
        assert_eq!(reached(0), 100_000);
        assert_eq!(reached(30_000), 600_000);
        // 3 and 10 of 30 epochs: .48 and .56 in real searches.
        assert!((470_000..495_000).contains(&reached(3000)), "{}", reached(3000));
        assert!((555_000..575_000).contains(&reached(10_000)), "{}", reached(10_000));
        assert!(reached(300_000) < 620_000);
    }

    #[test]
    fn counts_scatter_as_counts_do() {
        let network = Subspace::whole(Space::full(2)).draw(&mut SeededRng::new(b"x", "test")).unwrap();
        let counts: Vec<f64> = (0..400)
            .map(|seed| f64::from(SimModel::train(&network, 500_000, None, seed, 1000).count(1000, "public", 1000)))
            .collect();
        let mean = counts.iter().sum::<f64>() / 400.0;
        let deviation = (counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 400.0).sqrt();
        assert!((mean - 500.0).abs() < 3.0 && (13.0..19.0).contains(&deviation), "{mean} {deviation}");
    }
}
