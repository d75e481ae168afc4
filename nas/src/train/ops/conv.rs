//! Convolution layer.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{LayerNumbers, floats, mask, quantised, tensor, with_floats};
use crate::train::kernels::conv::{ConvWeights, Gradients, LayerRun, Scratch, sum_lanes};
use crate::train::kernels::gemm::{Row, TILE};
use crate::train::kernels::simd::Isa;
use crate::train::kernels::window::{Block, Geometry};
use crate::train::threads::{PARTS, ThreadPool, lock};

/// Gradient elements that one task sums.
const CHUNK: usize = 16 * 1024;

/// Convolution layer: (images NCHW, weights, bias) to pooled activations.
pub struct ConvOp {
    pub pool: Arc<ThreadPool>,
    pub geometry: Arc<Geometry>,
    pub numbers: LayerNumbers,
    /// False for the first layer, whose input is data.
    pub input_gradient: bool,
    kept: Mutex<ConvKept>,
}

/// What forward leaves for backward.
#[derive(Default)]
struct ConvKept {
    weights: ConvWeights,
    marks: Vec<u16>,
}

impl ConvOp {
    /// An operation for one pass.
    pub fn new(pool: Arc<ThreadPool>, geometry: Arc<Geometry>, numbers: LayerNumbers, input_gradient: bool) -> Self {
        Self { pool, geometry, numbers, input_gradient, kept: Mutex::default() }
    }

    fn prepare(&self, weights: &[f32], bias: &[f32]) -> ConvWeights {
        let (isa, g) = (self.pool.isa(), &*self.geometry);
        let weights = quantised(isa, self.numbers.weights, weights);
        let mut prepared = ConvWeights { bias: quantised(isa, self.numbers.weights, bias), ..ConvWeights::default() };
        prepared.forward.pack(&weights, g.filters, g.depth, g.depth, 1);
        if self.input_gradient {
            prepared.backward.pack(&weights, g.depth, g.filters, 1, g.depth);
        }
        prepared
    }

    fn run<'a>(&'a self, blocks: &'a [Block], weights: &'a ConvWeights) -> LayerRun<'a> {
        let (isa, activation) = (self.pool.isa(), self.numbers.activation);
        LayerRun { isa, g: &self.geometry, blocks, weights, activation }
    }

    fn forward(&self, input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let g = &*self.geometry;
        let images = input.len() / g.image_len();
        let weights = self.prepare(weights, bias);
        let (mut out, mut marks) = (vec![0.0; images * g.out_len()], std::mem::take(&mut lock(&self.kept).marks));
        marks.resize(images * g.out_len(), 0);
        let parts = Parts::new(g, images);
        let inputs = input.par_chunks(parts.images * g.image_len());
        let outs = out.par_chunks_mut(parts.images * g.out_len());
        let all_marks = marks.par_chunks_mut(parts.images * g.out_len());
        inputs.zip(outs).zip(all_marks).with_max_len(1).for_each(|((input, out), marks)| {
            let blocks = parts.blocks(input.len() / g.image_len());
            let mut scratch = self.pool.scratch();
            self.run(blocks, &weights).forward(input, out, marks, &mut scratch);
        });
        *lock(&self.kept) = ConvKept { weights, marks };
        out
    }

    /// (input, weight, bias) gradients.
    fn backward(&self, input: &[f32], weights: &[f32], bias: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let (isa, g, kept) = (self.pool.isa(), &*self.geometry, lock(&self.kept));
        let images = input.len() / g.image_len();
        let parts = Parts::new(g, images);
        let (count, weight_len) = (images.div_ceil(parts.images), weights.len());
        let mut sums = self.pool.partial_sums();
        let sums = zeroed(&mut sums, count * weight_len);
        let mut bias_sums = vec![[0.0; TILE]; count * g.filters];
        let mut input_gradient = vec![0.0; if self.input_gradient { input.len() } else { 0 }];
        let mut input_parts: Vec<Option<&mut [f32]>> = if self.input_gradient {
            input_gradient.chunks_mut(parts.images * g.image_len()).map(Some).collect()
        } else {
            std::iter::repeat_with(|| None).take(count).collect()
        };
        let outputs = parts.images * g.out_len();
        let data = input.par_chunks(parts.images * g.image_len()).zip(gradient.par_chunks(outputs));
        let data = data.zip(kept.marks.par_chunks(outputs));
        let to = sums.par_chunks_mut(weight_len).zip(bias_sums.par_chunks_mut(g.filters));
        data.zip(to).zip(input_parts.par_iter_mut()).with_max_len(1).for_each(
            |((((input, gradient), marks), (dw, db)), dx)| {
                let blocks = parts.blocks(input.len() / g.image_len());
                let mut scratch = self.pool.scratch();
                let mut to = Gradients { input: dx.as_deref_mut(), weights: dw, bias: db };
                self.run(blocks, &kept.weights).backward(input, marks, gradient, &mut to, &mut scratch);
            },
        );
        let mut weight_gradient = sum_parts(isa, sums, weight_len);
        mask(isa, self.numbers.weights, weights, &mut weight_gradient);
        let mut bias_gradient = sum_bias(&bias_sums, g.filters);
        mask(isa, self.numbers.weights, bias, &mut bias_gradient);
        [input_gradient, weight_gradient, bias_gradient]
    }
}

/// How a batch is cut: runs of `images` images, the last one maybe shorter.
struct Parts {
    images: usize,
    whole: Vec<Block>,
    last: (usize, Vec<Block>),
}

impl Parts {
    fn new(g: &Geometry, images: usize) -> Self {
        let part = images.div_ceil(PARTS).max(1);
        let last = images % part;
        Self { images: part, whole: g.blocks(part), last: (last, g.blocks(last)) }
    }

    fn blocks(&self, images: usize) -> &[Block] {
        if images == self.last.0 { &self.last.1 } else { &self.whole }
    }
}

fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(len, 0.0);
    buffer
}

/// Sum of the parts' gradients in their order.
fn sum_parts(isa: Isa, sums: &[f32], len: usize) -> Vec<f32> {
    let mut out = vec![0.0; len];
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(index, out)| {
        let from = index * CHUNK;
        let parts: Vec<&[f32]> = sums.chunks_exact(len).map(|part| &part[from..from + out.len()]).collect();
        sum_lanes(isa, &parts, out);
    });
    out
}

/// Sum of the parts' bias gradients, parts in order, then lanes in order.
fn sum_bias(sums: &[Row], filters: usize) -> Vec<f32> {
    let filter_sum = |filter: usize| sums[filter..].iter().step_by(filters).flatten().sum();
    (0..filters).map(filter_sum).collect()
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "quantised-conv2d"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, weights, bias) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let out = self.pool.install(|| self.forward(input, weights, bias));
        let g = &self.geometry;
        let images = input.len() / g.image_len();
        Ok((CpuStorage::F32(out), Shape::from((images, g.filters, g.pooled[0], g.pooled[1]))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = with_floats([input, weights, bias, gradient], |[x, w, b, g]| {
            self.pool.install(|| self.backward(x, w, b, g))
        })?;
        let dx = if self.input_gradient { Some(tensor(dx, input)?) } else { None };
        Ok((dx, Some(tensor(dw, weights)?), Some(tensor(db, bias)?)))
    }
}

/// Bytes of scratch memory that one thread needs for a layer, with batches of that many images.
pub fn scratch_bytes(g: &Geometry, batch: usize) -> usize {
    Scratch::bytes(g, batch.div_ceil(PARTS))
}
