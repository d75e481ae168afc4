//! Convolution layer.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{LayerNumbers, floats, mask, quantised, tensor, with_floats};
use crate::train::kernels::conv::{ConvWeights, Gradients, Images, LayerRun, sum_weight_gradients};
use crate::train::kernels::gemm::aligned;
use crate::train::kernels::geometry::Geometry;
use crate::train::threads::{PARTS, ThreadPool, lock};

/// Filters whose weight gradients one task sums.
const FILTERS: usize = 8;

/// Convolution layer: (images, weights, bias) to pooled activations, channels-last with padded channels
/// ([`crate::train::kernels::geometry`]). The first layer takes channel planes.
pub struct ConvOp {
    pub pool: Arc<ThreadPool>,
    pub geometry: Arc<Geometry>,
    pub numbers: LayerNumbers,
    /// The first layer's input is data.
    pub is_first: bool,
    kept: Mutex<ConvKept>,
}

/// What forward leaves for backward.
#[derive(Default)]
struct ConvKept {
    weights: ConvWeights,
    marks: Vec<u8>,
}

impl ConvOp {
    /// An operation for one pass.
    pub fn new(pool: Arc<ThreadPool>, geometry: Arc<Geometry>, numbers: LayerNumbers, is_first: bool) -> Self {
        Self { pool, geometry, numbers, is_first, kept: Mutex::default() }
    }

    fn images<'a>(&self, input: &'a [f32]) -> Images<'a> {
        if self.is_first { Images::Planes(input) } else { Images::Pixels(input) }
    }

    fn run<'a>(&'a self, input: &'a [f32], weights: &'a ConvWeights) -> LayerRun<'a> {
        let (isa, activation, g) = (self.pool.isa(), self.numbers.activation, &*self.geometry);
        LayerRun { isa, g, weights, activation, input: self.images(input), images: input.len() / g.image_len() }
    }

    fn forward(&self, input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let (isa, g) = (self.pool.isa(), &*self.geometry);
        let images = input.len() / g.image_len();
        // Nothing is summed over images here, so they may be cut finer than gradients are: threads end together.
        let part = images.div_ceil(2 * PARTS).max(1);
        let mut kept = lock(&self.kept);
        let ConvKept { weights: prepared, marks } = &mut *kept;
        let quantiser = self.numbers.weights;
        prepared.pack(isa, g, &quantised(isa, quantiser, weights), &quantised(isa, quantiser, bias));
        marks.resize(images * g.out_len(), 0);
        let (mut out, prepared) = (vec![0.0; images * g.out_len()], &*prepared);
        let inputs = input.par_chunks(part * g.image_len());
        let outs = out.par_chunks_mut(part * g.out_len()).zip(marks.par_chunks_mut(part * g.out_len()));
        inputs.zip(outs).with_max_len(1).for_each(|(input, (out, marks))| {
            self.run(input, prepared).forward(out, marks, &mut self.pool.scratch());
        });
        out
    }

    /// (input, weight, bias) gradients.
    fn backward(&self, input: &[f32], weights: &[f32], bias: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let (isa, g, kept) = (self.pool.isa(), &*self.geometry, lock(&self.kept));
        let images = input.len() / g.image_len();
        let part = images.div_ceil(PARTS).max(1);
        let (count, weight_len) = (images.div_ceil(part), g.depth * g.out_pixel());
        let mut sums = self.pool.partial_sums();
        let sums = aligned(&mut sums, count * weight_len);
        let mut bias_sums = vec![0.0; count * g.out_pixel()];
        let mut input_gradient = vec![0.0; if self.is_first { 0 } else { input.len() }];
        let mut input_parts: Vec<Option<&mut [f32]>> = if self.is_first {
            std::iter::repeat_with(|| None).take(count).collect()
        } else {
            input_gradient.chunks_mut(part * g.image_len()).map(Some).collect()
        };
        let outputs = part * g.out_len();
        let data = input.par_chunks(part * g.image_len()).zip(gradient.par_chunks(outputs));
        let data = data.zip(kept.marks.par_chunks(outputs));
        let to = sums.par_chunks_mut(weight_len).zip(bias_sums.par_chunks_mut(g.out_pixel()));
        data.zip(to).zip(input_parts.par_iter_mut()).with_max_len(1).for_each(
            |((((input, gradient), marks), (dw, db)), dx)| {
                let mut to = Gradients { input: dx.as_deref_mut(), weights: dw, bias: db };
                self.run(input, &kept.weights).backward(marks, gradient, &mut to, &mut self.pool.scratch());
            },
        );
        let mut weight_gradient = vec![0.0; weights.len()];
        weight_gradient.par_chunks_mut(FILTERS * g.depth).enumerate().for_each(|(chunk, out)| {
            let first = chunk * FILTERS;
            sum_weight_gradients(g, sums, first..first + out.len() / g.depth, out);
        });
        mask(isa, self.numbers.weights, weights, &mut weight_gradient);
        let mut bias_gradient: Vec<f32> =
            (0..g.filters).map(|filter| bias_sums[filter..].iter().step_by(g.out_pixel()).sum()).collect();
        mask(isa, self.numbers.weights, bias, &mut bias_gradient);
        [input_gradient, weight_gradient, bias_gradient]
    }
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
        Ok((CpuStorage::F32(out), Shape::from((images, g.pooled[0], g.pooled[1], g.out_pixel()))))
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
        let dx = if self.is_first { None } else { Some(tensor(dx, input)?) };
        Ok((dx, Some(tensor(dw, weights)?), Some(tensor(db, bias)?)))
    }
}
