//! A child network as candle variables.

use std::sync::Arc;

use candle_core::{CustomOp1, CustomOp3, Device, Result, Tensor, Var};
use podl_consensus::workload::Network;

use super::config::Precision;
use super::initial::{Parameters, initial_parameters};
use super::kernels::geometry::Geometry;
use super::ops::{ConvOp, CrossEntropyOp, DenseOp, LayerNumbers};
use super::threads::ThreadPool;

/// Weights and bias of one layer, in floating point.
pub struct LayerVars {
    /// `[outputs, inputs of one output]`, in the order of the artefact.
    pub weights: Var,
    /// `[outputs]`.
    pub bias: Var,
    op: LayerOp,
}

/// The operation of a layer.
enum LayerOp {
    Conv(ConvOp),
    Dense(DenseOp),
}

impl LayerOp {
    fn forward(&self, x: &Tensor, weights: &Tensor, bias: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(op) => x.apply_op3_no_bwd(weights, bias, op),
            Self::Dense(op) => x.apply_op3_no_bwd(weights, bias, op),
        }
    }

    fn op(&self) -> &dyn CustomOp3 {
        match self {
            Self::Conv(op) => op,
            Self::Dense(op) => op,
        }
    }
}

/// The network under training.
pub struct Child {
    layers: Vec<LayerVars>,
}

/// Loss of a batch with the gradients of all variables, in the order of [`Child::vars`].
pub struct LossAndGradients {
    pub loss: f32,
    pub gradients: Vec<Tensor>,
}

impl Child {
    /// A fresh network with the initial parameters of the seed.
    pub fn new(network: &Network, precision: Precision, seed: &[u8; 32], pool: Arc<ThreadPool>) -> Result<Self> {
        let numbers = |weight, act: Option<_>| match precision {
            Precision::Quantised => LayerNumbers::quantised(weight, act),
            Precision::Float => LayerNumbers::float(act.is_some()),
        };
        let mut ops = Vec::with_capacity(network.convs.len() + 2);
        for (index, conv) in network.convs.iter().enumerate() {
            let numbers = numbers(conv.layer.weight, Some(conv.layer.act));
            let geometry = Arc::new(Geometry::new(conv, index == 0));
            ops.push(LayerOp::Conv(ConvOp::new(pool.clone(), geometry, numbers, index == 0)));
        }
        let dense = network.dense;
        let channels = network.convs.last().map_or(1, |conv| conv.out_channels() as usize);
        let hidden = [channels, network.hidden.inputs as usize / channels];
        for (act, [channels, positions]) in [(Some(dense.act), hidden), (None, [network.hidden.outputs as usize, 1])] {
            ops.push(LayerOp::Dense(DenseOp::new(pool.clone(), numbers(dense.weight, act), channels, positions)));
        }
        let parameters = initial_parameters(network, seed, &Device::Cpu)?;
        let layer = |([weights, bias], op): (Parameters, LayerOp)| LayerVars { weights, bias, op };
        Ok(Self { layers: parameters.into_iter().zip(ops).map(layer).collect() })
    }

    /// All variables, layer by layer, weights first.
    pub fn vars(&self) -> impl Iterator<Item = &Var> {
        self.layers.iter().flat_map(|layer| [&layer.weights, &layer.bias])
    }

    /// Logits (images x classes) of a batch of images (NCHW, values as the input table gives them).
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(images.clone(), |x, layer| layer.op.forward(&x, &layer.weights, &layer.bias))
    }

    /// Mean cross-entropy of a batch and its gradients; the gradients are left out where the loss is not finite.
    ///
    /// The network is a chain, so it is walked back here. candle's own walk would add every gradient to fresh zeros,
    /// large ones on threads of its own, which no caller can bound.
    pub fn loss_and_gradients(&self, images: &Tensor, labels: Vec<u16>) -> Result<LossAndGradients> {
        let mut inputs = vec![images.clone()];
        for layer in &self.layers {
            let out = layer.op.forward(&inputs[inputs.len() - 1], &layer.weights, &layer.bias)?;
            inputs.push(out);
        }
        let logits = &inputs[inputs.len() - 1];
        let entropy = CrossEntropyOp::new(labels);
        let loss = logits.apply_op1_no_bwd(&entropy)?;
        let value = loss.to_scalar::<f32>()?;
        let mut gradients = Vec::with_capacity(2 * self.layers.len());
        if value.is_finite() {
            let mut gradient = entropy.bwd(logits, &loss, &loss.ones_like()?)?;
            for (layer, pair) in self.layers.iter().zip(inputs.windows(2)).rev() {
                let Some(of_out) = gradient else { break };
                let (dx, dw, db) = layer.op.op().bwd(&pair[0], &layer.weights, &layer.bias, &pair[1], &of_out)?;
                gradients.extend(db.into_iter().chain(dw));
                gradient = dx;
            }
            gradients.reverse();
        }
        Ok(LossAndGradients { loss: value, gradients })
    }
}

#[cfg(test)]
mod tests {
    use super::super::initial::normal;
    use super::*;

    #[test]
    fn walking_back_gives_the_bits_of_candles_own_backward() {
        use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape};
        let act = FixedPoint::new(1, 4);
        let layer = |kernel, stride, pool| ConvLayer { kernel, filters: 6, stride, pool, act, weight: act };
        let layers = vec![layer([3, 5], [2, 1], 2), layer([5, 1], [1, 1], 1)];
        let input = InputShape { channels: 2, height: 13, width: 11 };
        let network = Network::new(&Architecture { layers }, input, 5, DenseConfig::default()).unwrap();
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let child = || Child::new(&network, Precision::Quantised, &[3; 32], pool.clone()).unwrap();
        let values = normal(&[9; 32], 0, 20 * input.values(), 1.0);
        let images = Tensor::from_vec(values, (20, 2, 13, 11), &Device::Cpu).unwrap();
        let labels: Vec<u16> = (0..20).map(|i| i % 5).collect();

        let ours = child();
        let walked = ours.loss_and_gradients(&images, labels.clone()).unwrap();
        let theirs = child();
        let vars: Vec<Var> = theirs.vars().cloned().collect();
        let mut x = images;
        for layer in theirs.layers {
            x = match layer.op {
                LayerOp::Conv(op) => x.apply_op3(&layer.weights, &layer.bias, op).unwrap(),
                LayerOp::Dense(op) => x.apply_op3(&layer.weights, &layer.bias, op).unwrap(),
            };
        }
        let loss = x.apply_op1(CrossEntropyOp::new(labels)).unwrap();
        let store = loss.backward().unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap().to_bits(), walked.loss.to_bits());
        assert_eq!(walked.gradients.len(), vars.len());
        for (var, walked) in vars.iter().zip(&walked.gradients) {
            let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let expected = bits(store.get(var).unwrap());
            assert!(expected.iter().any(|&g| g != 0.0));
            // Adding to zeros turns -0 into 0, which compares equal.
            assert_eq!(bits(walked), expected);
        }
    }
}
