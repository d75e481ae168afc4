//! What training on an image costs.

use podl_consensus::workload::{Architecture, DenseConfig, InputShape, Network, NetworkError, Workload};
use serde::{Deserialize, Serialize};

/// What an image costs whatever the network (reading, shifting and quantising it, the loss), as multiply-accumulates in
/// the same time: for every image, and for every value of it.
const IMAGE_MACS: u64 = 120_000;
const VALUE_MACS: u64 = 190;

/// What networks of a task cost to train, in multiply-accumulates an image: the network's own, and what an image costs
/// besides. Without the latter the smallest networks would count as next to nothing.
///
/// Measured on a core that trains 36 G multiply-accumulates a second in middling networks: 20 us for 32x32x3 values and
/// 4.5 us for 8x8x3 in networks that hardly have any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingCosts {
    /// Shape of an image.
    pub input: InputShape,
    /// Classes of the task.
    pub classes: u16,
    /// Dense layers after the convolutions.
    pub dense: DenseConfig,
}

impl TrainingCosts {
    /// The costs of a task.
    pub fn of_task(work: &Workload) -> Self {
        Self { input: work.input, classes: work.classes, dense: work.space.dense }
    }

    /// What a network costs.
    ///
    /// # Errors
    /// [`NetworkError`] when the architecture has no network.
    pub fn of(&self, architecture: &Architecture) -> Result<u64, NetworkError> {
        let network = Network::new(architecture, self.input, self.classes, self.dense)?;
        Ok(network.training_macs().saturating_add(self.image()))
    }

    /// What an image costs whatever the network.
    pub fn image(&self) -> u64 {
        let InputShape { channels, height, width } = self.input;
        IMAGE_MACS + VALUE_MACS * u64::from(height) * u64::from(width) * u64::from(channels)
    }
}
