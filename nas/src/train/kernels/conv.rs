//! Convolution with bias, activation and max-pool as one kernel, forward and backward, for a run of images.
//!
//! Nothing but the pooled outputs and one mark per output is kept between the two directions.

use std::ops::Range;

use super::gemm::{Left, Out, Packed, Places, Right, aligned, product};
use super::geometry::{Geometry, Padding};
use super::pool::{Activate, Route, activate, route};
use super::quant::Activation;
use super::simd::{Isa, Lanes, dispatch};

/// Memory that one thread reuses from layer to layer.
#[derive(Debug, Default)]
pub struct Scratch {
    images: Vec<f32>,
    gradients: Vec<f32>,
    sums: Vec<f32>,
}

impl Scratch {
    /// Bytes that a layer needs at most of one scratch.
    pub fn bytes(g: &Geometry) -> usize {
        let images = g.padding.image_len() + g.gradient_padding.image_len() + g.image_positions() * g.out_pixel();
        images * g.group * size_of::<f32>()
    }
}

/// Weights of a layer, prepared once a batch.
#[derive(Debug, Default)]
pub struct ConvWeights {
    /// Taps x filters.
    pub forward: Packed,
    /// For each phase of the input gradient its taps and filters x channels.
    pub backward: Vec<Packed>,
    /// One a filter, padded with zeros.
    pub bias: Vec<f32>,
}

impl ConvWeights {
    /// Packs weights (filters x channels x kernel rows x kernel columns) and biases.
    pub fn pack(&mut self, isa: Isa, g: &Geometry, weights: &[f32], bias: &[f32]) {
        let [height, width] = g.kernel;
        let at = |filter: usize, channel: usize, ky: usize, kx: usize| {
            weights[((filter * g.channels + channel) * height + ky) * width + kx]
        };
        self.forward.pack(isa, g.depth, g.filters, |k, filter| {
            let (tap, channel) = (k / g.channels, k % g.channels);
            at(filter, channel, tap / width, tap % width)
        });
        self.backward.resize_with(g.phases.len(), Packed::default);
        for (packed, phase) in self.backward.iter_mut().zip(&g.phases) {
            packed.pack(isa, phase.depth.len(), g.channels, |k, channel| {
                let [ky, kx] = phase.taps[k / g.filters];
                at(k % g.filters, channel, ky, kx)
            });
        }
        self.bias.clear();
        self.bias.extend_from_slice(bias);
        self.bias.resize(g.out_pixel(), 0.0);
    }
}

/// Adds up weight gradients as the kernel makes them (taps x padded filters), part by part in order, and writes those
/// of some filters in the order of the weights.
pub fn sum_weight_gradients(g: &Geometry, parts: &[f32], filters: Range<usize>, out: &mut [f32]) {
    let [height, width] = g.kernel;
    let (pixel, part_len) = (g.out_pixel(), g.depth * g.out_pixel());
    let mut sum = vec![0.0; filters.len()];
    for k in 0..g.depth {
        sum.fill(0.0);
        for part in parts.chunks_exact(part_len) {
            let row = &part[k * pixel..][filters.clone()];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let (tap, channel) = (k / g.channels, k % g.channels);
        for (filter, sum) in sum.iter().enumerate() {
            out[((filter * g.channels + channel) * height + tap / width) * width + tap % width] = *sum;
        }
    }
}

/// The images that a layer takes in.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// Data: channel planes.
    Planes(&'a [f32]),
    /// What another layer gave out: channels-last.
    Pixels(&'a [f32]),
}

/// One layer over one run of images: what forward and backward share.
#[derive(Clone, Copy, Debug)]
pub struct LayerRun<'a> {
    /// Instruction set.
    pub isa: Isa,
    /// Sizes.
    pub g: &'a Geometry,
    /// Weights as the network uses them.
    pub weights: &'a ConvWeights,
    /// What follows the sums.
    pub activation: Activation,
    /// The run's images.
    pub input: Images<'a>,
    /// Their number.
    pub images: usize,
}

/// Where [`LayerRun::backward`] puts its results.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the input, channels-last; overwritten. None where it is not wanted.
    pub input: Option<&'a mut [f32]>,
    /// Of the weights: taps x padded filters; overwritten.
    pub weights: &'a mut [f32],
    /// Of the bias, padded; added to.
    pub bias: &'a mut [f32],
}

impl LayerRun<'_> {
    /// Groups of images: (first, number).
    fn groups(&self) -> impl Iterator<Item = (usize, usize)> + use<'_> {
        let step = self.g.group;
        (0..self.images).step_by(step).map(move |first| (first, step.min(self.images - first)))
    }

    /// `out` and `marks` are channels-last.
    pub fn forward(&self, out: &mut [f32], marks: &mut [u8], scratch: &mut Scratch) {
        let (isa, g) = (self.isa, self.g);
        for (first, images) in self.groups() {
            let values = self.load(first, images, &mut scratch.images);
            for block in g.blocks(first, images) {
                let rows = g.block_positions(&block);
                let sums = aligned(&mut scratch.sums, rows.len() * g.out_pixel());
                let left = Left { values: &values[g.first_pixel(&block)..], rows, depth: &g.taps };
                let places = Places::Every(g.out_pixel());
                let mut to = Out { values: sums, places, columns: g.out_pixel(), resume: false };
                product(isa, left, Right::Packed(&self.weights.forward), &mut to);
                let (activation, bias) = (self.activation, &self.weights.bias);
                let (out, marks) = (&mut *out, &mut *marks);
                activate(isa, g, &block, Activate { activation, bias, sums, out, marks });
            }
        }
    }

    /// Gradients over the run from that of its outputs.
    pub fn backward(&self, marks: &[u8], gradient: &[f32], to: &mut Gradients<'_>, scratch: &mut Scratch) {
        let (isa, g) = (self.isa, self.g);
        for (first, images) in self.groups() {
            let sums = aligned(&mut scratch.sums, images * g.image_positions() * g.out_pixel());
            let values = self.load(first, images, &mut scratch.images);
            for block in g.blocks(first, images) {
                // A block has all rows of several images, or some of one.
                let start = block.rows[0] * g.output[1];
                let depth = g.block_positions(&block);
                let sums = &mut sums[start * g.out_pixel()..][..depth.len() * g.out_pixel()];
                route(isa, g, &block, Route { gradient, marks, sums, bias: &mut *to.bias });
                let left = Left { values: &values[g.first_pixel(&block)..], rows: &g.taps, depth };
                let places = Places::Every(g.out_pixel());
                let resume = first > 0 || block.rows[0] > 0;
                let mut out = Out { values: to.weights, places, columns: g.out_pixel(), resume };
                product(isa, left, Right::Rows(sums, g.out_pixel()), &mut out);
            }
            if let Some(input) = to.input.as_deref_mut() {
                let input = &mut input[first * g.image_len()..][..images * g.image_len()];
                self.input_gradient(images, sums, &mut scratch.gradients, input);
            }
        }
    }

    /// Gradient of a group's input from that of its sums.
    fn input_gradient(&self, images: usize, sums: &[f32], buffer: &mut Vec<f32>, input: &mut [f32]) {
        let (isa, g) = (self.isa, self.g);
        let to = &g.gradient_padding;
        let values = aligned(buffer, images * to.image_len());
        let size = g.image_positions() * g.out_pixel();
        for (image, padded) in sums.chunks_exact(size).zip(values.chunks_exact_mut(to.image_len())) {
            pad(isa, to, g.output[1], image, padded);
        }
        for (phase, weights) in g.phases.iter().zip(&self.weights.backward) {
            let count = phase.places.len() / g.group * images;
            let left = Left { values, rows: &phase.rows[..count], depth: &phase.depth };
            let places = Places::At(&phase.places[..count]);
            let mut out = Out { values: input, places, columns: g.padding.pixel, resume: false };
            product(isa, left, Right::Packed(weights), &mut out);
        }
    }

    /// The images of a group with their zero padding.
    fn load<'b>(&self, first: usize, images: usize, buffer: &'b mut Vec<f32>) -> &'b [f32] {
        let (isa, g) = (self.isa, self.g);
        let values = aligned(buffer, images * g.padding.image_len());
        let all = match self.input {
            Images::Planes(all) | Images::Pixels(all) => all,
        };
        let from = all[first * g.image_len()..].chunks_exact(g.image_len());
        for (image, padded) in from.zip(values.chunks_exact_mut(g.padding.image_len())) {
            match self.input {
                Images::Planes(_) => pad_planes(isa, g, image, padded),
                Images::Pixels(_) => pad(isa, &g.padding, g.input[1], image, padded),
            }
        }
        values
    }
}

dispatch!(
    /// Copies a channels-last image, `width` pixels a row, and puts zeros around it.
    pub fn pad(to: &Padding, width: usize, image: &[f32], padded: &mut [f32]) = pad_body
);

#[inline(always)]
fn pad_body<V: Lanes>(to: &Padding, width: usize, image: &[f32], padded: &mut [f32]) {
    let [rows, columns] = to.kept;
    let (left, run) = (to.low[1] * to.pixel, columns * to.pixel);
    for (y, row) in padded.chunks_exact_mut(to.size[1] * to.pixel).enumerate() {
        let inside = y.checked_sub(to.low[0]).filter(|&y| y < rows);
        let Some(y) = inside else {
            row.fill(0.0);
            continue;
        };
        row[..left].fill(0.0);
        row[left..left + run].copy_from_slice(&image[y * width * to.pixel..][..run]);
        row[left + run..].fill(0.0);
    }
}

dispatch!(
    /// Interleaves the channel planes of an image and puts zeros around it.
    pub fn pad_planes(g: &Geometry, image: &[f32], padded: &mut [f32]) = pad_planes_body
);

#[inline(always)]
fn pad_planes_body<V: Lanes>(g: &Geometry, image: &[f32], padded: &mut [f32]) {
    let (to, [height, width]) = (&g.padding, g.input);
    padded.fill(0.0);
    for (channel, plane) in image.chunks_exact(height * width).enumerate() {
        for y in 0..to.kept[0] {
            let first = ((y + to.low[0]) * to.size[1] + to.low[1]) * to.pixel;
            let row = padded[first..].chunks_exact_mut(to.pixel);
            for (pixel, &value) in row.zip(&plane[y * width..][..to.kept[1]]) {
                pixel[channel] = value;
            }
        }
    }
}
