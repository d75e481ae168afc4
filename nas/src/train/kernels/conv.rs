//! Convolution with bias, activation and max-pool as one kernel, forward and backward, for a run of images.
//!
//! Nothing but the pooled outputs and one mark per output is kept between the two directions: patches are made again,
//! which costs less than to write and read them.

use super::gemm::{Packed, Row, TILE, add_products, multiply};
use super::quant::{Activation, BLOCKED, activate, add, route};
use super::simd::Isa;
use super::window::{Block, Geometry, col2im, collect, im2col, spread};

/// Memory that one thread reuses from layer to layer.
#[derive(Debug, Default)]
pub struct Scratch {
    phases: Vec<f32>,
    phase_gradient: Vec<f32>,
    patches: Vec<Row>,
    patch_gradient: Vec<Row>,
    sums: Vec<Row>,
}

impl Scratch {
    /// Bytes that a layer needs at most of one scratch, for runs of up to `images` images.
    pub fn bytes(g: &Geometry, images: usize) -> usize {
        let of = |block: &Block| {
            let tiles = block.tiles(g) * TILE;
            2 * block.images[1] * g.phases_len() + tiles * (2 * g.depth + g.filters)
        };
        g.blocks(images).iter().map(of).max().unwrap_or(0) * size_of::<f32>()
    }
}

/// Makes a buffer that long; what it holds is of no matter.
fn resize<T: Copy>(buffer: &mut Vec<T>, len: usize, zero: T) -> &mut [T] {
    buffer.resize(len.max(buffer.len()), zero);
    &mut buffer[..len]
}

/// Weights of a layer, prepared once a batch.
#[derive(Debug, Default)]
pub struct ConvWeights {
    /// (filters) x (channels x kernel), packed.
    pub forward: Packed,
    /// Its transpose, packed; left empty where no input gradient is wanted.
    pub backward: Packed,
    /// One a filter.
    pub bias: Vec<f32>,
}

/// One layer over one run of images: what forward and backward share.
#[derive(Clone, Copy, Debug)]
pub struct LayerRun<'a> {
    /// Instruction set.
    pub isa: Isa,
    /// Sizes.
    pub g: &'a Geometry,
    /// How the run is cut ([`Geometry::blocks`] of its number of images).
    pub blocks: &'a [Block],
    /// Weights as the network uses them.
    pub weights: &'a ConvWeights,
    /// What follows the sums.
    pub activation: Activation,
}

/// Where [`LayerRun::backward`] puts its results.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the input, NCHW; overwritten. None where it is not wanted.
    pub input: Option<&'a mut [f32]>,
    /// Of the weights, row-major like them; added to.
    pub weights: &'a mut [f32],
    /// Of the bias: a [`Row`] of partial sums for each filter; added to.
    pub bias: &'a mut [Row],
}

impl LayerRun<'_> {
    /// `input` and `out` are NCHW, `marks` has the layout of `out`.
    pub fn forward(&self, input: &[f32], out: &mut [f32], marks: &mut [u16], scratch: &mut Scratch) {
        let (isa, g) = (self.isa, self.g);
        for block in self.blocks {
            let patches = load_patches(isa, g, block, input, &mut scratch.phases, &mut scratch.patches);
            let sums = resize(&mut scratch.sums, block.tiles(g) * g.filters, [0.0; TILE]);
            multiply(isa, &self.weights.forward, patches, sums);
            for &(tile, lane) in &block.outside {
                sums[tile * g.filters..][..g.filters].iter_mut().for_each(|row| row[lane] = f32::NEG_INFINITY);
            }
            self.activate_block(block, sums, out, marks);
        }
    }

    /// Bias, activation and pool of a block's sums.
    fn activate_block(&self, block: &Block, sums: &[Row], out: &mut [f32], marks: &mut [u16]) {
        let g = self.g;
        let stride = block.plane_tiles * g.filters;
        for segments in block.segments.chunk_by(|a, b| a.tile == b.tile) {
            for (filter, &bias) in self.weights.bias.iter().enumerate() {
                let (mut values, mut sources) = ([0.0; TILE], [BLOCKED; TILE]);
                let first = segments[0].tile * g.filters + filter;
                activate(self.isa, self.activation, bias, &sums[first..], stride, &mut values, &mut sources);
                for s in segments {
                    let at = place(g, block, s.image, filter) + s.offset;
                    out[at..at + s.len].copy_from_slice(&values[s.lane..][..s.len]);
                    marks[at..at + s.len].copy_from_slice(&sources[s.lane..][..s.len]);
                }
            }
        }
    }

    /// Gradients over the run from that of its outputs.
    pub fn backward(
        &self,
        input: &[f32],
        marks: &[u16],
        gradient: &[f32],
        to: &mut Gradients<'_>,
        scratch: &mut Scratch,
    ) {
        let (isa, g) = (self.isa, self.g);
        for block in self.blocks {
            let patches = load_patches(isa, g, block, input, &mut scratch.phases, &mut scratch.patches);
            let sums = resize(&mut scratch.sums, block.tiles(g) * g.filters, [0.0; TILE]);
            route_block(isa, g, block, marks, gradient, sums, to.bias);
            add_products(isa, sums, g.filters, patches, g.depth, to.weights);
            if let Some(input_gradient) = to.input.as_deref_mut() {
                let patches = resize(&mut scratch.patch_gradient, block.tiles(g) * g.depth, [0.0; TILE]);
                multiply(isa, &self.weights.backward, sums, patches);
                return_patches(isa, g, block, patches, &mut scratch.phase_gradient, input_gradient);
            }
        }
    }
}

/// Start of a channel plane in the pooled output of a run.
fn place(g: &Geometry, block: &Block, image: usize, filter: usize) -> usize {
    ((block.images[0] + image) * g.filters + filter) * g.pooled[0] * g.pooled[1]
}

/// Spreads the images of a block and makes its patches.
fn load_patches<'a>(
    isa: Isa,
    g: &Geometry,
    block: &Block,
    input: &[f32],
    phases: &mut Vec<f32>,
    patches: &'a mut Vec<Row>,
) -> &'a [Row] {
    let [first, images] = block.images;
    let phases = resize(phases, images * g.phases_len(), 0.0);
    // The strips of one image share its phases.
    if block.rows[0] == 0 {
        let images = input[first * g.image_len()..].chunks_exact(g.image_len());
        for (phases, image) in phases.chunks_exact_mut(g.phases_len()).zip(images) {
            spread(isa, g, image, phases);
        }
    }
    let patches = resize(patches, block.tiles(g) * g.depth, [0.0; TILE]);
    im2col(isa, g, block, phases, patches);
    patches
}

/// Gradient of a block's sums from the gradient of the pooled outputs.
fn route_block(
    isa: Isa,
    g: &Geometry,
    block: &Block,
    marks: &[u16],
    gradient: &[f32],
    sums: &mut [Row],
    bias: &mut [Row],
) {
    let stride = block.plane_tiles * g.filters;
    for segments in block.segments.chunk_by(|a, b| a.tile == b.tile) {
        for (filter, bias) in bias.iter_mut().enumerate() {
            let (mut values, mut sources) = ([0.0; TILE], [BLOCKED; TILE]);
            for s in segments {
                let at = place(g, block, s.image, filter) + s.offset;
                values[s.lane..][..s.len].copy_from_slice(&gradient[at..at + s.len]);
                sources[s.lane..][..s.len].copy_from_slice(&marks[at..at + s.len]);
            }
            let first = segments[0].tile * g.filters + filter;
            route(isa, &values, &sources, &mut sums[first..], stride, bias);
        }
    }
}

/// Adds a block's patch gradients up to the images' gradients, which are complete after an image's last strip.
fn return_patches(
    isa: Isa,
    g: &Geometry,
    block: &Block,
    patches: &[Row],
    phases: &mut Vec<f32>,
    input_gradient: &mut [f32],
) {
    let [first, images] = block.images;
    let phases = resize(phases, images * g.phases_len(), 0.0);
    if block.rows[0] == 0 {
        phases.fill(0.0);
    }
    col2im(isa, g, block, patches, phases);
    if block.rows[0] + block.rows[1] == g.pooled[0] {
        let images = input_gradient[first * g.image_len()..].chunks_exact_mut(g.image_len());
        for (phases, image) in phases.chunks_exact(g.phases_len()).zip(images) {
            collect(isa, g, phases, image);
        }
    }
}

/// Adds up the lanes of a sum in their order.
pub fn sum_lanes(isa: Isa, lanes: &[&[f32]], out: &mut [f32]) {
    out.fill(0.0);
    for lane in lanes {
        add(isa, lane, out);
    }
}
