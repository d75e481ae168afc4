//! Initial weights: the same on every device.

use candle_core::{Device, Result, Var};
use podl_consensus::workload::Network;

use crate::data::Random;

/// Domain of the streams that initial weights come from.
const WEIGHT_DOMAIN: &str = "podl train initial weights v1";

/// Weights (outputs x inputs of one output, in the order of the artefact) and bias (outputs) of one layer.
pub type Parameters = [Var; 2];

/// Parameters of every layer: He-normal weights from the seed (deviation `sqrt(2 / inputs)`), biases 0.
pub fn initial_parameters(network: &Network, seed: &[u8; 32], device: &Device) -> Result<Vec<Parameters>> {
    let size = |n: u32| n as usize;
    let conv = network.convs.iter().map(|conv| {
        let taps: usize = conv.layer.kernel.map(usize::from).iter().product();
        (size(conv.out_channels()), size(conv.in_channels) * taps)
    });
    let dense = [network.hidden, network.output].map(|shape| (size(shape.outputs), size(shape.inputs)));
    let layer = |(index, (outputs, inputs)): (u64, (usize, usize))| {
        let values = normal(seed, index, outputs * inputs, libm::sqrt(2.0 / inputs as f64));
        let weights = Var::from_vec(values, (outputs, inputs), device)?;
        Ok([weights, Var::from_vec(vec![0.0f32; outputs], outputs, device)?])
    };
    (0..).zip(conv.chain(dense)).map(layer).collect()
}

/// `count` values of a normal distribution with that deviation (Box-Muller on a seeded stream, `libm` only).
pub(super) fn normal(seed: &[u8; 32], tensor: u64, count: usize, deviation: f64) -> Vec<f32> {
    let mut random = Random::new(WEIGHT_DOMAIN, seed, tensor);
    let mut uniform = move || (f64::from(random.u32()) + 0.5) / 4_294_967_296.0;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = libm::sqrt(-2.0 * libm::log(uniform())) * deviation;
        let angle = 2.0 * std::f64::consts::PI * uniform();
        values.extend([(radius * libm::cos(angle)) as f32, (radius * libm::sin(angle)) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_are_normal_and_follow_the_seed() {
        let values = normal(&[1; 32], 0, 20_001, 0.5);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let tail = values.iter().filter(|v| v.abs() > 0.98).count() as f64 / n;
        assert!(mean.abs() < 0.02 && (variance - 0.25).abs() < 0.01, "{mean} {variance}");
        assert!((tail - 0.05).abs() < 0.01, "{tail} beyond 1.96 deviations");
        assert_eq!(values, normal(&[1; 32], 0, 20_001, 0.5));
        assert_ne!(values, normal(&[1; 32], 1, 20_001, 0.5));
        assert_ne!(values, normal(&[2; 32], 0, 20_001, 0.5));
    }
}
