//! Layers prepared for evaluation: the form of their numbers, packed weights, scaled biases, and where everything lies.

use podl_consensus::workload::{ConvShape, FixedPoint, Network};

use super::INPUT_FRAC_BITS;
use super::pack::{Kernel, Panel, Range, Words};
use super::requantise::Requantise;
use super::simd::{Form, Isa};
use crate::artefact::{Model, Parameters};

/// Fewest taps, on average, that byte products must be summed in 16 bits for; with fewer, folding the sums costs more
/// than the 16-bit form does.
const LEAST_SEGMENT: usize = 2;

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
    /// Length of the pool's window, never longer than the output.
    pub(super) window: usize,
    /// How far the first window sticks out.
    pub(super) window_low: usize,
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
    /// Form of its input and weights.
    pub(super) form: Form,
    pub(super) channels: usize,
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    pub(super) outputs: usize,
    pub(super) finish: Finish,
    pub(super) panels: Vec<Panel>,
    /// For each output (whole panels) the bias in the accumulator's scale.
    pub(super) biases: Vec<i64>,
    /// Whether the sums of all taps, bias and rounding surely fit 32 bits.
    pub(super) is_narrow: bool,
    /// Offset of each word of the kernel from its first.
    pub(super) taps: Vec<u32>,
    /// Ends of the runs of taps whose partial sums fit; of wide layers those that fit 32 bits.
    pub(super) segments: Vec<usize>,
    /// Offset in an image's input of the kernel at each position, window by window of the pool.
    pub(super) positions: Vec<usize>,
    /// Offset in an image of the next layer's input of each window's result.
    pub(super) targets: Vec<usize>,
}

/// What a layer takes in.
#[derive(Clone, Copy)]
struct Input {
    channels: usize,
    frac_bits: u8,
    range: Range,
}

impl Layer {
    /// Bytes of one image's padded input.
    pub(super) fn image_bytes(&self) -> usize {
        self.offset(self.rows.padded, 0)
    }

    /// Positions of one window of the pool.
    pub(super) fn window(&self) -> usize {
        self.rows.window * self.columns.window
    }

    /// Where a pixel of the padded input lies in its image.
    pub(super) fn offset(&self, row: usize, column: usize) -> usize {
        (row * self.columns.padded + column) * self.channels * self.form.size()
    }

    fn new(isa: Isa, input: Input, [rows, columns]: [Axis; 2], parameters: &Parameters, finish: Finish) -> Self {
        let biases: Vec<i64> = parameters.biases.iter().map(|&bias| i64::from(bias) << input.frac_bits).collect();
        let kernel = Kernel {
            weights: &parameters.weights,
            outputs: parameters.biases.len(),
            channels: input.channels,
            rows: rows.kernel,
            columns: columns.kernel,
            padded_columns: columns.padded,
        };
        let is_narrow = is_narrow(input, kernel, &biases, finish);
        let (form, words, segments) = packed(isa, kernel, input.range, is_narrow);
        let mut layer = Self {
            form,
            channels: input.channels,
            rows,
            columns,
            outputs: kernel.outputs,
            finish,
            panels: words.panels(isa),
            biases,
            is_narrow,
            taps: words.taps,
            segments,
            positions: Vec::new(),
            targets: Vec::new(),
        };
        let padded = layer.panels.last().map_or(0, |panel| panel.first + panel.width);
        layer.biases.resize(padded, 0);
        layer.positions = layer.list_positions();
        layer
    }

    /// Positions window by window, so that pooling is the maximum of neighbours. Windows that stick out repeat their
    /// first or last row or column, which does not change a maximum.
    fn list_positions(&self) -> Vec<usize> {
        let mut positions = Vec::with_capacity(self.rows.pooled * self.columns.pooled * self.window());
        for pooled_row in 0..self.rows.pooled {
            for pooled_column in 0..self.columns.pooled {
                for row in 0..self.rows.window {
                    for column in 0..self.columns.window {
                        let row = self.rows.member(pooled_row, row) * self.rows.stride;
                        let column = self.columns.member(pooled_column, column) * self.columns.stride;
                        positions.push(self.offset(row, column));
                    }
                }
            }
        }
        positions
    }

    /// Targets in that input, in the order of the positions.
    fn list_targets(&self, next: &Layer) -> Vec<usize> {
        let mut targets = Vec::with_capacity(self.rows.pooled * self.columns.pooled);
        for row in 0..self.rows.pooled {
            for column in 0..self.columns.pooled {
                targets.push(next.offset(row + next.rows.pad_low, column + next.columns.pad_low));
            }
        }
        targets
    }
}

impl Axis {
    /// An axis that the kernel covers whole.
    fn whole(length: usize) -> Self {
        Self {
            input: length,
            pad_low: 0,
            padded: length,
            kernel: length,
            stride: 1,
            output: 1,
            pooled: 1,
            window: 1,
            window_low: 0,
        }
    }

    fn of_conv(shape: &ConvShape, axis: usize) -> Self {
        let (span, pool) = if axis == 0 { (shape.rows, shape.pool_rows) } else { (shape.columns, shape.pool_columns) };
        let output = span.output as usize;
        Self {
            input: span.input as usize,
            pad_low: span.pad_low as usize,
            padded: span.padded() as usize,
            kernel: shape.layer.kernel[axis].into(),
            stride: shape.layer.stride[axis].into(),
            output,
            pooled: pool.output as usize,
            window: output.min(shape.layer.pool.into()),
            window_low: pool.pad_low as usize,
        }
    }

    /// Output index of a window's member. What sticks out repeats the edge.
    fn member(self, window: usize, index: usize) -> usize {
        if self.pooled == 1 {
            return index;
        }
        (window * self.window + index).saturating_sub(self.window_low).min(self.output - 1)
    }
}

/// The form of a layer, its packed weights and the segments of their sums.
fn packed(isa: Isa, kernel: Kernel<'_>, range: Range, is_narrow: bool) -> (Form, Words, Vec<usize>) {
    let fits = |&weight: &i16| i8::try_from(weight).is_ok();
    if is_narrow && !range.is_signed && range.largest <= u8::MAX.into() && kernel.weights.iter().all(fits) {
        let words = Words::new(kernel, Form::Bytes);
        let segments = words.segments(isa, range);
        let is_long = |segments: &Vec<usize>| segments.len() == 1 || segments.len() * LEAST_SEGMENT <= words.taps.len();
        if let Some(segments) = segments.filter(is_long) {
            return (Form::Bytes, words, segments);
        }
    }
    let words = Words::new(kernel, Form::Halves);
    // Two products of 16 and 14 bits always fit 32.
    let segments = words.segments(isa, range).unwrap_or_else(|| (1..=words.taps.len()).collect());
    (Form::Halves, words, segments)
}

/// Whether every output's sum, with its bias and the rounding term, stays within 32 bits for all inputs: the greatest
/// input times the sum of the absolute weights bounds it, and every partial sum too.
fn is_narrow(input: Input, kernel: Kernel<'_>, biases: &[i64], finish: Finish) -> bool {
    let headroom = match finish {
        Finish::Activations(requantise) => requantise.headroom(),
        Finish::Logits => 0,
    };
    let fan_in = kernel.channels * kernel.rows * kernel.columns;
    kernel.weights.chunks(fan_in.max(1)).zip(biases).all(|(weights, bias)| {
        let total: i64 = weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum();
        input.range.largest * total + bias.abs() + headroom <= i64::from(i32::MAX)
    })
}

/// Prepares all layers of a model whose inputs are at most `largest_input`.
pub(super) fn prepare(model: &Model, largest_input: i64, isa: Isa) -> Vec<Layer> {
    let network = model.network();
    let range = Range { largest: largest_input, is_signed: true };
    let mut input = Input { channels: network.input.channels.into(), frac_bits: INPUT_FRAC_BITS, range };
    let mut layers: Vec<Layer> = Vec::with_capacity(network.convs.len() + 2);
    for (shape, parameters) in network.convs.iter().zip(model.layers()) {
        let format = shape.layer.act;
        let finish = activations(input, shape.layer.weight, format);
        let axes = [0, 1].map(|axis| Axis::of_conv(shape, axis));
        layers.push(Layer::new(isa, input, axes, parameters, finish));
        input = after(shape.out_channels() as usize, format);
    }
    if let [.., hidden, output] = model.layers() {
        let dense = network.dense;
        let finish = activations(input, dense.weight, dense.act);
        layers.push(Layer::new(isa, input, last_axes(network).map(Axis::whole), hidden, finish));
        let input = after(hidden.biases.len(), dense.act);
        layers.push(Layer::new(isa, input, [1, 1].map(Axis::whole), output, Finish::Logits));
    }
    for index in 1..layers.len() {
        layers[index - 1].targets = layers[index - 1].list_targets(&layers[index]);
    }
    layers
}

fn after(channels: usize, act: FixedPoint) -> Input {
    Input { channels, frac_bits: act.frac_bits, range: Range { largest: act.unsigned_max(), is_signed: false } }
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
