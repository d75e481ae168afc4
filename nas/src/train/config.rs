//! What a miner may choose about training.

use serde::{Deserialize, Serialize};

/// How the learning rate moves over the planned epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same rate throughout.
    #[default]
    Constant,
    /// Half a cosine, from the full rate down to 0 at the end.
    Cosine,
}

/// Whether the network is trained as it will be scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// With quantised weights and activations, gradients straight through.
    #[default]
    Quantised,
    /// In floating point; quantised only when a model is made.
    Float,
}

/// Training settings. The default is the published set-up: 30 epochs of SGD at 0.01, Nesterov momentum 0.9, weight
/// decay 5e-4, batches of 128.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Epochs planned; the schedule ends with them.
    pub epochs: u32,
    /// Images of a batch. What is left of the data after whole batches is not used in that epoch.
    pub batch: usize,
    /// Greatest learning rate.
    pub learning_rate: f32,
    /// Its course.
    pub schedule: Schedule,
    /// Batches over which the rate first rises linearly.
    pub warm_up_batches: u32,
    /// Nesterov momentum.
    pub momentum: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Quantised or float.
    pub precision: Precision,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 30,
            batch: 128,
            learning_rate: 0.01,
            schedule: Schedule::Constant,
            warm_up_batches: 0,
            momentum: 0.9,
            weight_decay: 5e-4,
            precision: Precision::Quantised,
        }
    }
}

impl TrainConfig {
    /// Learning rate of batch `step` (from 0) of `total`.
    pub fn rate(&self, step: u64, total: u64) -> f32 {
        let rising = ((step + 1) as f32 / (self.warm_up_batches as f32 + 1.0)).min(1.0);
        let falling = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                let done = step.min(total) as f64 / total.max(1) as f64;
                (0.5 * (1.0 + libm::cos(std::f64::consts::PI * done))) as f32
            }
        };
        self.learning_rate * rising * falling
    }

    /// Whether every number is usable.
    pub(super) fn check(&self) -> Result<(), String> {
        let finite = |what: &str, value: f32, most: f32| {
            if (0.0..=most).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}, expected 0 to {most}")) }
        };
        if self.batch == 0 {
            return Err("batch is 0, expected at least 1".into());
        }
        finite("learning_rate", self.learning_rate, 100.0)?;
        finite("momentum", self.momentum, 1.0)?;
        finite("weight_decay", self.weight_decay, 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls() {
        let config = TrainConfig {
            learning_rate: 1.0,
            schedule: Schedule::Cosine,
            warm_up_batches: 3,
            ..TrainConfig::default()
        };
        let rates: Vec<f32> = (0..100).map(|step| config.rate(step, 100)).collect();
        assert!((rates[0] - 0.25).abs() < 1e-3 && (rates[3] - 1.0).abs() < 1e-2);
        assert!((rates[50] - 0.5).abs() < 1e-6 && rates[99] < 1e-3);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn unusable_numbers_are_named() {
        let config = TrainConfig { learning_rate: f32::NAN, ..TrainConfig::default() };
        assert!(config.check().unwrap_err().contains("learning_rate"));
        assert!(TrainConfig { batch: 0, ..TrainConfig::default() }.check().is_err());
        assert!(TrainConfig::default().check().is_ok());
    }
}
