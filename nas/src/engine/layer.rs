//! Layers prepared for evaluation: packed weights, scaled biases, and a proof of how wide sums must be.

use podl_consensus::workload::{ConvShape, FixedPoint, Network};

use super::INPUT_FRAC_BITS;
use super::kernel::{COLUMNS, ROWS, WeightRow, pair};
use super::requantise::Requantise;
use crate::artefact::{Model, Parameters};

/// One axis of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Input length without padding.
    pub(super) input: usize,
    /// Zeros before the input.
    pub(super) pad_low: usize,
    /// Input length with padding.
    pub(super) padded: usize,
    /// Length of the kernel.
    pub(super) kernel: usize,
    /// Step of the kernel.
    pub(super) stride: usize,
    /// Output length before pooling.
    pub(super) output: usize,
    /// Output length after pooling.
    pub(super) pooled: usize,
}

/// How a layer's sums become results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// Activations of the next layer.
    Activations(Requantise),
    /// Outputs whose greatest is the class.
    Logits,
}

/// A layer as a convolution. Dense layers are convolutions whose kernel covers the whole input.
#[derive(Debug)]
pub(super) struct Layer {
    /// Input channels, two by two.
    pub(super) in_pairs: usize,
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    pub(super) outputs: usize,
    /// Max-pool window; 1 means none.
    pub(super) pool: usize,
    pub(super) finish: Finish,
    /// For each group of [`ROWS`] outputs the pairs of all taps.
    pub(super) weights: Vec<WeightRow>,
    /// For each output (whole groups) the bias in the accumulator's scale.
    pub(super) biases: Vec<i64>,
    /// Taps whose sums surely fit 32 bits.
    pub(super) safe_taps: usize,
    /// Whether the sums of all taps, bias and rounding surely fit 32 bits.
    pub(super) is_narrow: bool,
    /// Images whose outputs are computed before they are pooled.
    pub(super) group_images: usize,
}

/// What a layer takes in.
#[derive(Clone, Copy)]
struct Input {
    channels: usize,
    frac_bits: u8,
    /// Greatest absolute value.
    largest: i64,
}

impl Layer {
    /// Taps as pairs: input channel pairs x kernel.
    pub(super) fn taps(&self) -> usize {
        self.in_pairs * self.rows.kernel * self.columns.kernel
    }

    /// Words of one image's padded input.
    pub(super) fn image_words(&self) -> usize {
        self.in_pairs * self.rows.padded * self.columns.padded
    }

    /// Output positions of one image before pooling.
    pub(super) fn positions(&self) -> usize {
        self.rows.output * self.columns.output
    }

    pub(super) fn bytes_per_image(&self) -> usize {
        4 * self.image_words()
    }

    fn new(input: Input, [rows, columns]: [Axis; 2], pool: usize, parameters: &Parameters, finish: Finish) -> Self {
        let outputs = parameters.biases.len();
        let fan_in = input.channels * rows.kernel * columns.kernel;
        let safe_taps = safe_taps(input, &parameters.weights);
        let mut biases: Vec<i64> = parameters.biases.iter().map(|&bias| i64::from(bias) << input.frac_bits).collect();
        let is_narrow = is_narrow(input, &parameters.weights, &biases, fan_in, finish);
        biases.resize(outputs.next_multiple_of(ROWS), 0);
        Self {
            in_pairs: input.channels.div_ceil(2),
            rows,
            columns,
            outputs,
            pool,
            finish,
            weights: pack(&parameters.weights, outputs, input.channels, rows.kernel * columns.kernel),
            biases,
            safe_taps,
            is_narrow,
            group_images: (COLUMNS / (rows.output * columns.output).max(1)).max(1),
        }
    }
}

/// How many taps (pairs) may be summed in 32 bits, whatever the inputs; at least 1, since weights have 14 bits.
fn safe_taps(input: Input, weights: &[i16]) -> usize {
    let largest_weight = weights.iter().map(|weight| weight.unsigned_abs()).max().unwrap_or(0);
    let largest_pair = 2 * input.largest * i64::from(largest_weight);
    match i64::from(i32::MAX).checked_div(largest_pair) {
        None => usize::MAX,
        Some(taps) => usize::try_from(taps).unwrap_or(usize::MAX).max(1),
    }
}

/// Whether every output's sum, with its bias and the rounding term, stays within 32 bits for all inputs: the greatest
/// input times the sum of the absolute weights bounds it, and every partial sum too.
fn is_narrow(input: Input, weights: &[i16], biases: &[i64], fan_in: usize, finish: Finish) -> bool {
    let headroom = match finish {
        Finish::Activations(requantise) => requantise.headroom(),
        Finish::Logits => 0,
    };
    weights.chunks(fan_in.max(1)).zip(biases).all(|(weights, bias)| {
        let total: i64 = weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum();
        input.largest * total + bias.abs() + headroom <= i64::from(i32::MAX)
    })
}

/// Packs `[output][channel][tap]` to `[group][channel pair][tap][output of the group]`, zeros where there is none.
fn pack(weights: &[i16], outputs: usize, channels: usize, kernel: usize) -> Vec<WeightRow> {
    let mut packed = Vec::with_capacity(outputs.div_ceil(ROWS) * channels.div_ceil(2) * kernel);
    for group in (0..outputs).step_by(ROWS) {
        for channel in (0..channels).step_by(2) {
            for tap in 0..kernel {
                let mut row = [0; ROWS];
                for (output, word) in (group..outputs).zip(&mut row) {
                    let at = |channel| weights[(output * channels + channel) * kernel + tap];
                    *word = pair(at(channel), if channel + 1 < channels { at(channel + 1) } else { 0 });
                }
                packed.push(row);
            }
        }
    }
    packed
}

/// Prepares all layers of a model whose inputs are at most `largest_input`.
pub(super) fn prepare(model: &Model, largest_input: i64) -> Vec<Layer> {
    let network = model.network();
    let mut input =
        Input { channels: network.input.channels.into(), frac_bits: INPUT_FRAC_BITS, largest: largest_input };
    let mut layers = Vec::with_capacity(network.convs.len() + 2);
    for (shape, parameters) in network.convs.iter().zip(model.layers()) {
        let format = shape.layer.act;
        let finish = activations(input, shape.layer.weight, format);
        let axes = [conv_axis(shape, 0), conv_axis(shape, 1)];
        layers.push(Layer::new(input, axes, shape.layer.pool.into(), parameters, finish));
        input = after(shape.out_channels() as usize, format);
    }
    if let [.., hidden, output] = model.layers() {
        let dense = network.dense;
        let finish = activations(input, dense.weight, dense.act);
        layers.push(Layer::new(input, last_axes(network).map(whole_axis), 1, hidden, finish));
        let input = after(hidden.biases.len(), dense.act);
        layers.push(Layer::new(input, [1, 1].map(whole_axis), 1, output, Finish::Logits));
    }
    layers
}

fn after(channels: usize, act: FixedPoint) -> Input {
    Input { channels, frac_bits: act.frac_bits, largest: act.unsigned_max() }
}

fn activations(input: Input, weight: FixedPoint, act: FixedPoint) -> Finish {
    let shift = i32::from(input.frac_bits) + i32::from(weight.frac_bits) - i32::from(act.frac_bits);
    // Models hold formats of at most 14 bits.
    Finish::Activations(Requantise { shift, most: i32::try_from(act.unsigned_max()).unwrap_or(i32::MAX) })
}

/// Rows and columns of the last convolution's output.
fn last_axes(network: &Network) -> [usize; 2] {
    network.convs.last().map_or([1, 1], |shape| [shape.out_height() as usize, shape.out_width() as usize])
}

fn conv_axis(shape: &ConvShape, axis: usize) -> Axis {
    let (span, pooled) = match axis {
        0 => (shape.rows, shape.pool_rows.output),
        _ => (shape.columns, shape.pool_columns.output),
    };
    Axis {
        input: span.input as usize,
        pad_low: span.pad_low as usize,
        padded: span.padded() as usize,
        kernel: shape.layer.kernel[axis].into(),
        stride: shape.layer.stride[axis].into(),
        output: span.output as usize,
        pooled: pooled as usize,
    }
}

/// An axis that the kernel covers whole.
fn whole_axis(length: usize) -> Axis {
    Axis { input: length, pad_low: 0, padded: length, kernel: length, stride: 1, output: 1, pooled: 1 }
}
