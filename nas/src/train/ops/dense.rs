//! Dense layer.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{LayerNumbers, floats, mask, quantised, tensor, with_floats};
use crate::train::kernels::dense;
use crate::train::kernels::gemm::{Left, Out, Packed, Places, Right, padded, product};
use crate::train::kernels::quant::{Activation, BLOCKED};
use crate::train::kernels::simd::Isa;
use crate::train::threads::{ThreadPool, lock};

/// Images, or outputs, that one task computes.
const ROWS: usize = 16;

/// Dense layer: (images, weights outputs x inputs, bias) to activations.
///
/// Images are channels-last with padded channels ([`crate::train::kernels::geometry`]), weights in the order of the
/// artefact: input = channel x positions + position. Hidden activations have padded outputs, logits have not.
pub struct DenseOp {
    pub pool: Arc<ThreadPool>,
    pub numbers: LayerNumbers,
    /// Where each input lies within an image.
    inputs: Vec<u32>,
    /// Which input lies at each place of an image; none where channels are padded.
    sources: Vec<Option<usize>>,
    kept: Mutex<DenseKept>,
}

/// What forward leaves for backward, and memory to work in.
#[derive(Default)]
struct DenseKept {
    weights: Vec<f32>,
    marks: Vec<u8>,
    packed: Packed,
}

impl DenseOp {
    /// An operation for one pass over images of so many channels and positions.
    pub fn new(pool: Arc<ThreadPool>, numbers: LayerNumbers, channels: usize, positions: usize) -> Self {
        let place = |input: usize| (input % positions * padded(channels) + input / positions) as u32;
        let inputs: Vec<u32> = (0..channels * positions).map(place).collect();
        let mut sources = vec![None; positions * padded(channels)];
        inputs.iter().enumerate().for_each(|(input, &place)| sources[place as usize] = Some(input));
        Self { pool, numbers, inputs, sources, kept: Mutex::default() }
    }

    /// Floats of an image.
    fn image(&self) -> usize {
        self.sources.len()
    }

    /// Floats of one output row.
    fn width(&self, outputs: usize) -> usize {
        if self.numbers.activation == Activation::Identity { outputs } else { padded(outputs) }
    }

    fn forward(&self, input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let (isa, outputs, inputs) = (self.pool.isa(), bias.len(), self.inputs.len());
        let (images, width) = (input.len() / self.image(), self.width(bias.len()));
        let mut kept = lock(&self.kept);
        let DenseKept { weights: used, marks, packed } = &mut *kept;
        *used = quantised(isa, self.numbers.weights, weights);
        let weight = |input: usize, output: usize| used[output * inputs + input];
        packed.panels(isa, inputs, outputs).into_par_iter().for_each(|panel| panel.fill(&weight));
        let bias = quantised(isa, self.numbers.weights, bias);
        let mut sums = vec![0.0; images * padded(outputs)];
        let rows = starts(ROWS, self.image());
        input.par_chunks(ROWS * self.image()).zip(sums.par_chunks_mut(ROWS * padded(outputs))).for_each(
            |(input, sums)| {
                let left = Left { values: input, rows: &rows[..input.len() / self.image()], depth: &self.inputs };
                multiply(isa, left, Right::Packed(packed), sums, padded(outputs));
            },
        );
        marks.resize(images * width, 0);
        let mut out = vec![0.0; images * width];
        let rows = out.chunks_exact_mut(width).zip(marks.chunks_exact_mut(width));
        for ((out, marks), sums) in rows.zip(sums.chunks_exact(padded(outputs))) {
            out[..outputs].copy_from_slice(&sums[..outputs]);
            dense::activate_row(self.numbers.activation, &bias, out, marks);
        }
        out
    }

    /// (input, weight, bias) gradients.
    fn backward(&self, input: &[f32], weights: &[f32], bias: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let (isa, outputs, width, mut kept) = (self.pool.isa(), bias.len(), self.width(bias.len()), lock(&self.kept));
        let DenseKept { weights: used, marks, packed } = &mut *kept;
        let pass = |(&g, &mark): (&f32, &u8)| if mark == BLOCKED { 0.0 } else { g };
        let gradient: Vec<f32> = gradient.iter().zip(&*marks).map(pass).collect();
        let input_gradient = self.input_gradient(isa, used, packed, &gradient, outputs);
        let mut weight_gradient = self.weight_gradient(isa, input, &gradient, outputs);
        mask(isa, self.numbers.weights, weights, &mut weight_gradient);
        let mut bias_gradient = vec![0.0; outputs];
        for row in gradient.chunks_exact(width) {
            bias_gradient.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
        mask(isa, self.numbers.weights, bias, &mut bias_gradient);
        [input_gradient, weight_gradient, bias_gradient]
    }

    fn input_gradient(
        &self,
        isa: Isa,
        weights: &[f32],
        packed: &mut Packed,
        gradient: &[f32],
        outputs: usize,
    ) -> Vec<f32> {
        let (width, inputs) = (self.width(outputs), self.inputs.len());
        let weight =
            |output: usize, place: usize| self.sources[place].map_or(0.0, |input| weights[output * inputs + input]);
        packed.panels(isa, outputs, self.image()).into_par_iter().for_each(|panel| panel.fill(&weight));
        let mut out = vec![0.0; gradient.len() / width * self.image()];
        let (rows, depth) = (starts(ROWS, width), starts(outputs, 1));
        gradient.par_chunks(ROWS * width).zip(out.par_chunks_mut(ROWS * self.image())).for_each(|(gradient, out)| {
            let left = Left { values: gradient, rows: &rows[..gradient.len() / width], depth: &depth };
            multiply(isa, left, Right::Packed(packed), out, self.image());
        });
        out
    }

    fn weight_gradient(&self, isa: Isa, input: &[f32], gradient: &[f32], outputs: usize) -> Vec<f32> {
        let (width, inputs) = (self.width(outputs), self.inputs.len());
        let (rows, depth) = (starts(outputs, 1), starts(gradient.len() / width, width));
        let mut out = vec![0.0; outputs * inputs];
        out.par_chunks_mut(ROWS * inputs).zip(rows.par_chunks(ROWS)).for_each(|(out, rows)| {
            let mut sums = vec![0.0; rows.len() * self.image()];
            let left = Left { values: gradient, rows, depth: &depth };
            multiply(isa, left, Right::Rows(input, self.image()), &mut sums, self.image());
            for (out, sums) in out.chunks_exact_mut(inputs).zip(sums.chunks_exact(self.image())) {
                out.iter_mut().zip(&self.inputs).for_each(|(to, &place)| *to = sums[place as usize]);
            }
        });
        out
    }
}

/// Starts of `count` rows that are `step` floats apart.
fn starts(count: usize, step: usize) -> Vec<u32> {
    // Within one batch, whose memory has been checked before.
    (0..count).map(|row| (row * step) as u32).collect()
}

/// `out = left * right` with rows of `columns` floats.
fn multiply(isa: Isa, left: Left<'_>, right: Right<'_>, values: &mut [f32], columns: usize) {
    product(isa, left, right, &mut Out { values, places: Places::Every(columns), columns, resume: false });
}

impl CustomOp3 for DenseOp {
    fn name(&self) -> &'static str {
        "quantised-dense"
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
        let width = self.width(bias.len());
        let shape = Shape::from((out.len() / width, width));
        Ok((CpuStorage::F32(out), shape))
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
        Ok((Some(tensor(dx, input)?), Some(tensor(dw, weights)?), Some(tensor(db, bias)?)))
    }
}
