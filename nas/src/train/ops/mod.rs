//! The kernels as candle operations with forward and backward.
//!
//! One operation does what the network does between two stored tensors: quantise the weights, convolve, add the bias,
//! apply the quantised ReLU, pool. Fewer tensors pass through memory, and what backward needs (marks of the pooled
//! outputs, quantised weights) stays inside the operation.

mod conv;
mod dense;
mod loss;
mod sgd;

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor};
use podl_consensus::workload::FixedPoint;

use super::kernels::quant::{Activation, WeightQuantiser, mask_weights, quantise_weights};
use super::kernels::simd::Isa;

pub use conv::ConvOp;
pub use dense::DenseOp;
pub use loss::CrossEntropyOp;
pub use sgd::SgdOp;

/// The floats of a contiguous tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a training operation got a tensor that is not contiguous"),
    }
}

/// Runs `body` on the floats of some tensors.
pub fn with_floats<R, const N: usize>(tensors: [&Tensor; N], body: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        match &**storage {
            Storage::Cpu(storage) => *slice = floats(storage, layout)?,
            _ => candle_core::bail!("training runs on the CPU only"),
        }
    }
    Ok(body(slices))
}

fn tensor(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}

/// Weights as the network uses them.
fn quantised(isa: Isa, quantiser: Option<WeightQuantiser>, values: &[f32]) -> Vec<f32> {
    let mut out = values.to_vec();
    if let Some(quantiser) = quantiser {
        quantise_weights(isa, quantiser, values, &mut out);
    }
    out
}

/// Straight-through mask of a gradient.
fn mask(isa: Isa, quantiser: Option<WeightQuantiser>, values: &[f32], gradient: &mut [f32]) {
    if let Some(quantiser) = quantiser {
        mask_weights(isa, quantiser, values, gradient);
    }
}

/// How a layer quantises; nothing is quantised in float training.
#[derive(Clone, Copy, Debug)]
pub struct LayerNumbers {
    /// Quantiser of weights and biases.
    pub weights: Option<WeightQuantiser>,
    /// What follows the sums.
    pub activation: Activation,
}

impl LayerNumbers {
    /// Numbers of quantised training; `act` is `None` for the last layer.
    pub fn quantised(weight: FixedPoint, act: Option<FixedPoint>) -> Self {
        let activation = act.map_or(Activation::Identity, Activation::Quantised);
        Self { weights: Some(WeightQuantiser::new(weight)), activation }
    }

    /// Numbers of float training.
    pub fn float(hidden: bool) -> Self {
        Self { weights: None, activation: if hidden { Activation::Relu } else { Activation::Identity } }
    }
}
