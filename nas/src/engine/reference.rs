//! The rules of integer evaluation in their plainest form: 64-bit sums, obvious loops, one image at a time.
//!
//! Slow on purpose. Tests compare the engine to it; nothing else should call it.

use podl_consensus::workload::{ConvShape, Span};

use crate::artefact::{Model, Parameters};
use crate::engine::INPUT_FRAC_BITS;

/// Activations of one layer: `[channel][row][column]`.
struct Maps {
    height: usize,
    width: usize,
    values: Vec<i64>,
}

impl Maps {
    fn at(&self, channel: usize, row: usize, column: usize) -> i64 {
        self.values[(channel * self.height + row) * self.width + column]
    }
}

/// Rule 3: drops `shift` bits rounding half to even (or adds bits when negative), then clamps to `[0, 2^bits - 1]`.
pub fn requantise(accumulator: i64, shift: i32, bits: u32) -> i64 {
    let scaled = if shift > 0 {
        let (quotient, rest) = (accumulator >> shift, accumulator & ((1 << shift) - 1));
        let half = 1 << (shift - 1);
        let is_up = rest > half || (rest == half && quotient % 2 != 0);
        quotient + i64::from(is_up)
    } else {
        accumulator << -shift
    };
    scaled.clamp(0, (1 << bits) - 1)
}

/// The outputs of the last layer, one a class, for one image of bytes in channel, row, column order.
pub fn logits(model: &Model, input_table: &[Vec<i16>], image: &[u8]) -> Vec<i64> {
    let network = model.network();
    let (height, width) = (usize::from(network.input.height), usize::from(network.input.width));
    let values =
        image.iter().enumerate().map(|(index, &byte)| input_table[index / (height * width)][usize::from(byte)]);
    let mut maps = Maps { height, width, values: values.map(i64::from).collect() };
    let mut frac_bits = INPUT_FRAC_BITS;
    for (shape, parameters) in network.convs.iter().zip(model.layers()) {
        maps = pool(shape, &convolve(shape, parameters, &maps, frac_bits));
        frac_bits = shape.layer.act.frac_bits;
    }
    let dense = network.dense;
    let [.., hidden, output] = model.layers() else { return Vec::new() };
    let sums = multiply(hidden, &maps.values, frac_bits);
    let shift = i32::from(frac_bits) + i32::from(dense.weight.frac_bits) - i32::from(dense.act.frac_bits);
    let activations: Vec<i64> = sums.into_iter().map(|sum| requantise(sum, shift, dense.act.total_bits())).collect();
    multiply(output, &activations, dense.act.frac_bits)
}

/// The class of one image: the greatest output, the lowest class among equals.
pub fn classify(model: &Model, input_table: &[Vec<i16>], image: &[u8]) -> u16 {
    let logits = logits(model, input_table, image);
    let best = (0..logits.len()).rev().max_by_key(|&class| logits[class]).unwrap_or(0);
    u16::try_from(best).unwrap_or(u16::MAX)
}

/// Input position of tap `tap` of window `window`, `None` on padding.
fn tap(span: Span, window: usize, stride: u8, tap: usize) -> Option<usize> {
    let position = (window * usize::from(stride) + tap).checked_sub(span.pad_low as usize)?;
    (position < span.input as usize).then_some(position)
}

fn convolve(shape: &ConvShape, parameters: &Parameters, maps: &Maps, frac_bits: u8) -> Maps {
    let layer = &shape.layer;
    let [kernel_height, kernel_width] = layer.kernel.map(usize::from);
    let channels = shape.in_channels as usize;
    let (height, width) = (shape.rows.output as usize, shape.columns.output as usize);
    let shift = i32::from(frac_bits) + i32::from(layer.weight.frac_bits) - i32::from(layer.act.frac_bits);
    let mut values = Vec::new();
    for output in 0..usize::from(layer.filters) {
        for row in 0..height {
            for column in 0..width {
                let mut sum = i64::from(parameters.biases[output]) << frac_bits;
                for channel in 0..channels {
                    for ky in 0..kernel_height {
                        for kx in 0..kernel_width {
                            let y = tap(shape.rows, row, layer.stride[0], ky);
                            let x = tap(shape.columns, column, layer.stride[1], kx);
                            if let (Some(y), Some(x)) = (y, x) {
                                let at = ((output * channels + channel) * kernel_height + ky) * kernel_width + kx;
                                sum += maps.at(channel, y, x) * i64::from(parameters.weights[at]);
                            }
                        }
                    }
                }
                values.push(requantise(sum, shift, layer.act.total_bits()));
            }
        }
    }
    Maps { height, width, values }
}

fn pool(shape: &ConvShape, maps: &Maps) -> Maps {
    let window = usize::from(shape.layer.pool);
    let (height, width) = (shape.out_height() as usize, shape.out_width() as usize);
    let mut values = Vec::new();
    for channel in 0..shape.out_channels() as usize {
        for row in 0..height {
            for column in 0..width {
                let ys = (0..window).filter_map(|t| tap(shape.pool_rows, row, shape.layer.pool, t));
                let all = ys.flat_map(|y| {
                    let xs = (0..window).filter_map(|t| tap(shape.pool_columns, column, shape.layer.pool, t));
                    xs.map(move |x| maps.at(channel, y, x))
                });
                values.push(all.max().unwrap_or(0));
            }
        }
    }
    Maps { height, width, values }
}

fn multiply(parameters: &Parameters, inputs: &[i64], frac_bits: u8) -> Vec<i64> {
    let rows = parameters.weights.chunks(inputs.len());
    rows.zip(&parameters.biases)
        .map(|(weights, &bias)| {
            let products = weights.iter().zip(inputs).map(|(&weight, input)| i64::from(weight) * input);
            products.sum::<i64>() + (i64::from(bias) << frac_bits)
        })
        .collect()
}
