//! From trained variables to the integer artefact.

use candle_core::{Device, Var};
use podl_consensus::workload::{FixedPoint, Network};

use super::kernels::quant::WeightQuantiser;
use super::ops::with_floats;
use super::trainer::TrainError;
use crate::artefact::{Model, Parameters};

/// The integer model of trained variables (layer by layer, weights first): every parameter rounded half to even onto
/// its grid and clamped, as in training.
pub(super) fn quantised_model(network: &Network, vars: &[&Var]) -> Result<Model, TrainError> {
    let formats = network.convs.iter().map(|conv| conv.layer.weight).chain([network.dense.weight; 2]);
    let mut layers = Vec::with_capacity(vars.len() / 2);
    for (pair, format) in vars.chunks_exact(2).zip(formats) {
        let integers = |[values]: [&[f32]; 1]| integers(format, values);
        let [weights, biases] = [pair[0], pair[1]].map(|var| var.to_device(&Device::Cpu));
        let (weights, biases) = (with_floats([&weights?], integers)?, with_floats([&biases?], integers)?);
        layers.push(Parameters { weights, biases });
    }
    Ok(Model::new(network.clone(), layers)?)
}

fn integers(format: FixedPoint, values: &[f32]) -> Vec<i16> {
    let quantiser = WeightQuantiser::new(format);
    // Formats beyond 16 bits saturate here and are refused by the model.
    values.iter().map(|&value| quantiser.integer(value).clamp(i16::MIN.into(), i16::MAX.into()) as i16).collect()
}
