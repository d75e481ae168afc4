//! The network of layers.

use candle_core::{Device, Result, Tensor, Var};
use podl_consensus::workload::Network;

use super::super::child::LossAndGradients;
use super::super::config::Precision;
use super::super::initial::initial_parameters;
use super::super::kernels::dense::SgdStep;
use super::super::learner::Learner;
use super::layer::{Kept, Layer};
use super::loss::cross_entropy;

/// A network in training on a candle device.
pub struct DeviceChild {
    layers: Vec<Layer>,
    device: Device,
}

impl DeviceChild {
    /// A fresh network with the initial parameters of the seed, those of the CPU.
    pub fn new(network: &Network, precision: Precision, seed: &[u8; 32], device: Device) -> Result<Self> {
        let dense = network.dense;
        let convs = network.convs.iter().map(|conv| (conv.layer.weight, Some(conv.layer.act), Some(conv)));
        let plan = convs.chain([(dense.weight, Some(dense.act), None), (dense.weight, None, None)]);
        let parameters = initial_parameters(network, seed, &device)?;
        let layers = parameters
            .into_iter()
            .zip(plan)
            .map(|(parameters, (weight, act, conv))| Layer::new(parameters, weight, act, precision, conv, &device));
        Ok(Self { layers: layers.collect::<Result<_>>()?, device })
    }

    /// Logits (classes x images), and what each layer keeps.
    fn forward(&self, images: &Tensor) -> Result<(Tensor, Vec<Kept>)> {
        let (count, channels, height, width) = images.dims4()?;
        let images = images.to_device(&self.device)?.reshape((count, channels, height * width))?;
        let mut x = images.permute((1, 2, 0))?.contiguous()?;
        let convs = self.layers.len() - 2;
        let mut kept = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            if index == convs {
                // Channels x positions are the inputs of the first dense layer.
                x = x.reshape(((), count))?;
            }
            let (out, keep) = layer.forward(&x)?;
            kept.push(keep);
            x = out;
        }
        Ok((x, kept))
    }

    /// Mean loss of a batch and the gradients of all variables, in the order of [`Learner::vars`]; the gradients are
    /// left out where the loss is not finite.
    pub fn loss_and_gradients(&self, images: &Tensor, labels: &[u16]) -> Result<LossAndGradients> {
        let (logits, kept) = self.forward(images)?;
        let (loss, mut gradient) = cross_entropy(&logits, labels)?;
        let mut gradients = Vec::with_capacity(2 * self.layers.len());
        if !loss.is_finite() {
            return Ok(LossAndGradients { loss, gradients });
        }
        let convs = self.layers.len() - 2;
        for (index, (layer, kept)) in self.layers.iter().zip(&kept).enumerate().rev() {
            if index + 1 == convs {
                gradient = gradient.reshape((layer.vars()[1].elem_count(), (), labels.len()))?;
            }
            let of_layer = layer.backward(kept, &gradient, index > 0)?;
            let [weights, bias] = of_layer.parameters;
            gradients.extend([bias, weights]);
            gradient = of_layer.input.unwrap_or(gradient);
        }
        gradients.reverse();
        Ok(LossAndGradients { loss, gradients })
    }
}

impl Learner for DeviceChild {
    fn train_batch(&mut self, images: &Tensor, labels: Vec<u16>, step: SgdStep) -> Result<f32> {
        let LossAndGradients { loss, gradients } = self.loss_and_gradients(images, &labels)?;
        for (layer, pair) in self.layers.iter_mut().zip(gradients.chunks_exact(2)) {
            layer.step(&[pair[0].clone(), pair[1].clone()], step)?;
        }
        Ok(loss)
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.forward(images)?.0.t()?.contiguous()
    }

    fn vars(&self) -> Vec<&Var> {
        self.layers.iter().flat_map(Layer::vars).collect()
    }
    fn velocity(&self) -> Result<Vec<Vec<f32>>> {
        let tensors = self.layers.iter().flat_map(Layer::velocity);
        tensors.map(|tensor| tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()).collect()
    }

    fn set_velocity(&mut self, velocity: &[Vec<f32>]) -> Result<()> {
        let tensors = self.layers.iter_mut().flat_map(Layer::velocity_mut);
        for (tensor, values) in tensors.zip(velocity) {
            *tensor = Tensor::from_slice(values, tensor.shape(), &self.device)?;
        }
        Ok(())
    }
}
