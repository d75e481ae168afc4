//! From trained variables to the integer artefact.

use podl_consensus::workload::{FixedPoint, Network};

use super::child::Child;
use super::kernels::quant::WeightQuantiser;
use super::ops::with_floats;
use super::trainer::TrainError;
use crate::artefact::{Model, Parameters};

/// The integer model of a child: every parameter rounded half to even onto its grid and clamped, as in training.
pub(super) fn quantise_child(network: &Network, child: &Child) -> Result<Model, TrainError> {
    let formats = network.convs.iter().map(|conv| conv.layer.weight).chain([network.dense.weight; 2]);
    let mut layers = Vec::with_capacity(child.layers().len());
    for (layer, format) in child.layers().iter().zip(formats) {
        let integers = |[values]: [&[f32]; 1]| integers(format, values);
        let weights = with_floats([layer.weights.as_tensor()], integers)?;
        let biases = with_floats([layer.bias.as_tensor()], integers)?;
        layers.push(Parameters { weights, biases });
    }
    Ok(Model::new(network.clone(), layers)?)
}

fn integers(format: FixedPoint, values: &[f32]) -> Vec<i16> {
    let quantiser = WeightQuantiser::new(format);
    // Formats beyond 16 bits saturate here and are refused by the model.
    values.iter().map(|&value| quantiser.integer(value).clamp(i16::MIN.into(), i16::MAX.into()) as i16).collect()
}
