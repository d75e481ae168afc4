//! What decides the bits of a training: a rule of the manager's in integers, a seed that follows from the lease, a
//! schedule over images rather than time. With an interval's data and a state to start from, the same recipe gives the
//! same network on every machine, so that a manager can replay what a miner says it trained.

use podl_chain_spec::Hash32;
use podl_consensus::codec;
use podl_consensus::types::ModelRoot;
use podl_consensus::workload::{Architecture, Network};
use serde::{Deserialize, Serialize};

/// Fewest images worth a training run of its own.
pub const LEAST_IMAGES: u64 = 128;
/// Most bytes of a training state that a miner goes on from: it must upload that state if the manager asks. A larger
/// network's training is continued from its artefact.
pub const STATE_BYTES: u64 = 16 << 20;
/// Batches that are trained at one rate; training ends early only between such slices.
const SLICE_BATCHES: u64 = 8;
/// Bytes of a state before its values.
const STATE_HEADER_BYTES: u64 = 8;

/// How the manager has shares trained. Rates and decay are in millionths, since floats have no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainRule {
    /// Images of a batch; fewer when there are fewer.
    pub batch: u32,
    /// Learning rate at the beginning of a phase. It falls to `last_rate_millionths` with the phase.
    pub first_rate_millionths: u32,
    /// Learning rate at the end of a phase.
    pub last_rate_millionths: u32,
    /// Weight decay.
    pub weight_decay_millionths: u32,
    /// Batches over which a fresh network's rate rises.
    pub warm_up_batches: u32,
}

impl Default for TrainRule {
    fn default() -> Self {
        Self {
            batch: 32,
            first_rate_millionths: 20_000,
            last_rate_millionths: 500,
            weight_decay_millionths: 500,
            warm_up_batches: 20,
        }
    }
}

impl TrainRule {
    /// Whether every number is one that training takes; a miner refuses leases of which this is not true.
    pub fn is_usable(&self) -> bool {
        let rates = [self.first_rate_millionths, self.last_rate_millionths, self.weight_decay_millionths];
        (1..=1024).contains(&self.batch) && rates.iter().all(|&n| n <= 1_000_000) && self.warm_up_batches <= 10_000
    }

    /// The rule for a network that an earlier interval trained: its first rate would undo what was learned.
    pub fn resumed(self, permille: u16) -> Self {
        let first = u64::from(self.first_rate_millionths) * u64::from(permille.min(1000)) / 1000;
        let first_rate_millionths = u32::try_from(first).unwrap_or(u32::MAX).max(self.last_rate_millionths);
        Self { first_rate_millionths, ..self }
    }
}

/// The seed of one training run of a lease. Nothing in it is the miner's to choose but the network, so that a network
/// cannot be trained under many seeds and the luckiest handed in.
pub fn order_seed(lease_seed: u64, architecture: &Architecture, base: Option<ModelRoot>) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool training seed");
    hasher.update(&lease_seed.to_le_bytes());
    hasher.update(&codec::encode(&(architecture, base)));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Bytes of a network's training state: every parameter and its momentum, four bytes each.
pub fn state_bytes(network: &Network) -> u64 {
    network.parameters().saturating_mul(8).saturating_add(STATE_HEADER_BYTES)
}

/// All that decides a training but the interval's data and the state that it starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The network.
    pub architecture: Architecture,
    /// Decides first weights and data order.
    pub seed: u64,
    /// Batches and rates.
    pub rule: TrainRule,
    /// Images ordered. A training that ends early has trained fewer, but its rates follow these.
    pub images: u64,
    /// Thousandths of the phase that are left at the first and after the last ordered image.
    pub left_permille: (u16, u16),
    /// Whether the network is new, so that its rate rises first.
    pub fresh: bool,
}

impl Recipe {
    /// Images of a batch when there are so many to train on.
    pub fn batch(&self, data_images: usize) -> usize {
        usize::try_from(self.rule.batch).unwrap_or(usize::MAX).min(data_images).max(1)
    }

    /// Batches of the slice that begins after so many images; none when the order is done. The first slice is trained
    /// in any case.
    pub fn slice(&self, done_images: u64, batch: usize) -> Option<usize> {
        let batches = self.images.saturating_sub(done_images) / (batch.max(1) as u64);
        if batches == 0 && done_images > 0 {
            return None;
        }
        usize::try_from(batches.clamp(1, SLICE_BATCHES)).ok()
    }

    /// Millionths of the phase that are over after so many images.
    pub fn gone_millionths(&self, done_images: u64) -> u32 {
        let (from, to) = (u128::from(self.left_permille.0.min(1000)), u128::from(self.left_permille.1.min(1000)));
        let (done, of) = (u128::from(done_images.min(self.images)), u128::from(self.images.max(1)));
        let left = from * 1000 - from.saturating_sub(to) * 1000 * done / of;
        u32::try_from(1_000_000u128.saturating_sub(left)).unwrap_or(1_000_000)
    }
}

/// Hashes of a training's state before and after a share, which the miner commits to with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// Before its first image.
    pub start: Hash32,
    /// After its last.
    pub end: Hash32,
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::{ConvLayer, FixedPoint};
    use proptest::prelude::*;

    use super::*;

    fn network(filters: u16) -> Architecture {
        let act = FixedPoint::new(1, 4);
        let layer = ConvLayer { kernel: [3, 3], filters, stride: [1, 1], pool: 2, act, weight: act };
        Architecture { layers: vec![layer; 2] }
    }

    fn recipe(images: u64) -> Recipe {
        let rule = TrainRule::default();
        Recipe { architecture: network(8), seed: 1, rule, images, left_permille: (900, 400), fresh: true }
    }

    #[test]
    fn seeds_follow_from_lease_network_and_base_alone() {
        let seed = order_seed(1, &network(8), None);
        assert_eq!(seed, order_seed(1, &network(8), None));
        for other in [
            order_seed(2, &network(8), None),
            order_seed(1, &network(9), None),
            order_seed(1, &network(8), Some(Hash32::ZERO)),
        ] {
            assert_ne!(seed, other);
        }
    }

    #[test]
    fn rates_fall_with_images() {
        let recipe = recipe(1000);
        let gone: Vec<u32> = [0, 500, 1000, 2000].into_iter().map(|n| recipe.gone_millionths(n)).collect();
        assert_eq!(gone, [100_000, 350_000, 600_000, 600_000]);
        let rising = Recipe { left_permille: (1, u16::MAX), images: 0, ..recipe };
        assert_eq!(rising.gone_millionths(u64::MAX), 999_000);
    }

    #[test]
    fn resumed_networks_begin_lower_but_never_below_the_last_rate() {
        let rule = TrainRule::default();
        assert_eq!(rule.resumed(500).first_rate_millionths, 10_000);
        assert_eq!(rule.resumed(1).first_rate_millionths, 500);
        assert!(rule.is_usable() && !TrainRule { batch: 0, ..rule }.is_usable());
        assert!(!TrainRule { batch: 1025, ..rule }.is_usable());
        assert!(!TrainRule { first_rate_millionths: 1_000_001, ..rule }.is_usable());
    }

    proptest! {
        #[test]
        fn slices_end_and_cover_whole_batches_of_the_order(images in 0u64..5000, batch in 1usize..200) {
            let recipe = recipe(images);
            let (mut done, mut slices) = (0u64, 0);
            while let Some(batches) = recipe.slice(done, batch) {
                prop_assert!((1..=8).contains(&batches));
                done += (batches * batch) as u64;
                slices += 1;
                prop_assert!(slices <= 5001);
            }
            prop_assert_eq!(done, (images / batch as u64).max(1) * batch as u64);
        }
    }
}
