//! A child network as candle variables.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use podl_consensus::workload::Network;

use super::config::Precision;
use super::kernels::window::Geometry;
use super::ops::{ConvOp, DenseOp, LayerNumbers};
use super::threads::ThreadPool;
use crate::data::Random;

/// Domain of the streams that initial weights come from.
const WEIGHT_DOMAIN: &str = "podl train initial weights v1";

/// Weights and bias of one layer, in floating point.
pub struct LayerVars {
    /// `[outputs, inputs of one output]`, in the order of the artefact.
    pub weights: Var,
    /// `[outputs]`.
    pub bias: Var,
    numbers: LayerNumbers,
    /// Sizes of a convolution; none for dense layers.
    geometry: Option<Arc<Geometry>>,
}

/// The network under training.
pub struct Child {
    layers: Vec<LayerVars>,
    pool: Arc<ThreadPool>,
}

/// `count` values of a normal distribution with that deviation (Box-Muller on a seeded stream, `libm` only).
fn normal(seed: &[u8; 32], tensor: u64, count: usize, deviation: f64) -> Vec<f32> {
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

impl Child {
    /// A fresh network: He-normal weights from the seed (deviation `sqrt(2 / inputs)`), biases 0.
    pub fn new(network: &Network, precision: Precision, seed: &[u8; 32], pool: Arc<ThreadPool>) -> Result<Self> {
        let numbers = |weight, act: Option<_>| match precision {
            Precision::Quantised => LayerNumbers::quantised(weight, act),
            Precision::Float => LayerNumbers::float(act.is_some()),
        };
        let mut plan = Vec::with_capacity(network.convs.len() + 2);
        for conv in &network.convs {
            let geometry = Geometry::new(conv);
            let numbers = numbers(conv.layer.weight, Some(conv.layer.act));
            plan.push((geometry.filters, geometry.depth, numbers, Some(Arc::new(geometry))));
        }
        let dense = network.dense;
        for (shape, act) in [(network.hidden, Some(dense.act)), (network.output, None)] {
            plan.push((shape.outputs as usize, shape.inputs as usize, numbers(dense.weight, act), None));
        }
        let layer = |(index, (outputs, inputs, numbers, geometry)): (u64, (usize, usize, _, _))| {
            let values = normal(seed, index, outputs * inputs, libm::sqrt(2.0 / inputs as f64));
            let weights = Var::from_vec(values, (outputs, inputs), &Device::Cpu)?;
            let bias = Var::from_vec(vec![0.0f32; outputs], outputs, &Device::Cpu)?;
            Ok(LayerVars { weights, bias, numbers, geometry })
        };
        let layers = (0..).zip(plan).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, pool })
    }

    /// Layers in the order of the artefact.
    pub fn layers(&self) -> &[LayerVars] {
        &self.layers
    }

    /// All variables, layer by layer, weights first.
    pub fn vars(&self) -> impl Iterator<Item = &Var> {
        self.layers.iter().flat_map(|layer| [&layer.weights, &layer.bias])
    }

    /// Logits (images x classes) of a batch of images (NCHW, values as the input table gives them).
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = images.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let (pool, numbers) = (self.pool.clone(), layer.numbers);
            x = match &layer.geometry {
                Some(geometry) => {
                    let op = ConvOp::new(pool, geometry.clone(), numbers, index > 0);
                    x.apply_op3(&layer.weights, &layer.bias, op)?
                }
                None => x.apply_op3(&layer.weights, &layer.bias, DenseOp::new(pool, numbers))?,
            };
        }
        Ok(x)
    }
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
