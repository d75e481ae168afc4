//! How large the sums of a model can grow, and so whether arithmetic in 32-bit floats is exact.

use podl_consensus::workload::FixedPoint;

use crate::artefact::{Model, Parameters};
use crate::engine::INPUT_FRAC_BITS;

/// Every integer up to this magnitude is a 32-bit float.
pub const FLOAT32_INTEGERS: i64 = 1 << 24;

/// Least and greatest value that a sum of a layer can take on the way, in whatever order it is added up, for any
/// image: in steps of `2^-frac_bits`. Every term's sign counts, the model's own weights and biases, and the range of
/// the layer's input; 0 is always inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumBound {
    /// Least.
    pub low: i64,
    /// Greatest.
    pub high: i64,
    /// Fraction bits of the sum: those of input and weights together.
    pub frac_bits: u8,
}

impl SumBound {
    /// Whether every product and every partial sum is a 32-bit float, so that nothing is ever rounded.
    pub fn is_float32_exact(&self) -> bool {
        -FLOAT32_INTEGERS <= self.low && self.high <= FLOAT32_INTEGERS
    }

    /// Bits of a two's complement accumulator that holds every partial sum.
    pub fn accumulator_bits(&self) -> u32 {
        let magnitude = self.high.max(-(self.low + 1)).cast_unsigned();
        u64::BITS - magnitude.leading_zeros() + 1
    }
}

/// Least and greatest input of a channel; 0, which is what padding puts in, is within.
#[derive(Clone, Copy)]
struct Range {
    low: i64,
    high: i64,
}

/// What a layer takes in.
struct Input {
    channels: Vec<Range>,
    frac_bits: u8,
}

impl Input {
    fn of_table(channels: u8, table: Option<&[Vec<i16>]>) -> Self {
        let widest = Range { low: i16::MIN.into(), high: i16::MAX.into() };
        let range = |values: &Vec<i16>| {
            let ends = values.iter().fold((0, 0), |(low, high), &value| (value.min(low), value.max(high)));
            Range { low: ends.0.into(), high: ends.1.into() }
        };
        let channels = match table {
            Some(table) => table.iter().map(range).collect(),
            None => vec![widest; channels.into()],
        };
        Self { channels, frac_bits: INPUT_FRAC_BITS }
    }

    fn of_activations(channels: usize, act: FixedPoint) -> Self {
        Self { channels: vec![Range { low: 0, high: act.unsigned_max() }; channels], frac_bits: act.frac_bits }
    }
}

/// The bounds of every layer in order, hidden and output layer last. Without an input table the input can be any 16-bit
/// value.
pub fn sum_bounds(model: &Model, input_table: Option<&[Vec<i16>]>) -> Vec<SumBound> {
    let network = model.network();
    let mut input = Input::of_table(network.input.channels, input_table);
    let convs = network.convs.iter().map(|conv| (conv.layer.weight, conv.layer.act));
    let formats = convs.chain([(network.dense.weight, network.dense.act); 2]);
    let mut bounds = Vec::with_capacity(model.layers().len());
    for (parameters, (weight, act)) in model.layers().iter().zip(formats) {
        bounds.push(layer_bound(&input, parameters, weight.frac_bits));
        input = Input::of_activations(parameters.biases.len(), act);
    }
    bounds
}

fn layer_bound(input: &Input, parameters: &Parameters, weight_frac_bits: u8) -> SumBound {
    let outputs = parameters.biases.len().max(1);
    let fan_in = (parameters.weights.len() / outputs).max(1);
    // Weights lie input channel by input channel, so many of each; a flattened map has all channels alike.
    let taps = (fan_in / input.channels.len().max(1)).max(1);
    let mut bound = SumBound { low: 0, high: 0, frac_bits: input.frac_bits + weight_frac_bits };
    for (weights, &bias) in parameters.weights.chunks(fan_in).zip(&parameters.biases) {
        let bias = i64::from(bias) << input.frac_bits;
        let (mut low, mut high) = (bias.min(0), bias.max(0));
        for (weights, range) in weights.chunks(taps).zip(&input.channels) {
            for weight in weights.iter().map(|&weight| i64::from(weight)) {
                let ends = [weight * range.low, weight * range.high];
                low += ends[0].min(ends[1]);
                high += ends[0].max(ends[1]);
            }
        }
        (bound.low, bound.high) = (bound.low.min(low), bound.high.max(high));
    }
    bound
}
