//! Dense layer.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{LayerNumbers, floats, mask, quantised, tensor, with_floats};
use crate::train::kernels::dense;
use crate::train::kernels::gemm::{Packed, Row, TILE, multiply, tile_rows, tile_transposed, tiles};
use crate::train::kernels::quant::BLOCKED;
use crate::train::kernels::simd::Isa;
use crate::train::threads::{ThreadPool, lock};

/// Dense layer: (images x inputs, weights outputs x inputs, bias) to activations.
pub struct DenseOp {
    pub pool: Arc<ThreadPool>,
    pub numbers: LayerNumbers,
    kept: Mutex<DenseKept>,
}

#[derive(Default)]
struct DenseKept {
    weights: Vec<f32>,
    marks: Vec<u16>,
}

impl DenseOp {
    /// An operation for one pass.
    pub fn new(pool: Arc<ThreadPool>, numbers: LayerNumbers) -> Self {
        Self { pool, numbers, kept: Mutex::default() }
    }

    fn forward(&self, input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let (isa, outputs) = (self.pool.isa(), bias.len());
        let inputs = weights.len() / outputs;
        let images = input.len() / inputs;
        let weights = quantised(isa, self.numbers.weights, weights);
        let bias = quantised(isa, self.numbers.weights, bias);
        let mut right = Vec::new();
        tile_transposed(&weights, inputs, &mut right);
        let mut left = Packed::default();
        left.pack(input, images, inputs, inputs, 1);
        let mut out = product(isa, &left, &right, inputs, outputs);
        let mut marks = vec![0; out.len()];
        for (sums, marks) in out.chunks_exact_mut(outputs).zip(marks.chunks_exact_mut(outputs)) {
            dense::activate_row(self.numbers.activation, &bias, sums, marks);
        }
        *lock(&self.kept) = DenseKept { weights, marks };
        out
    }

    /// (input, weight, bias) gradients.
    fn backward(&self, input: &[f32], weights: &[f32], bias: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let (isa, outputs, kept) = (self.pool.isa(), bias.len(), lock(&self.kept));
        let inputs = weights.len() / outputs;
        let images = input.len() / inputs;
        let pass = |(&g, &mark): (&f32, &u16)| if mark == BLOCKED { 0.0 } else { g };
        let gradient: Vec<f32> = gradient.iter().zip(&kept.marks).map(pass).collect();
        let (mut left, mut right) = (Packed::default(), Vec::new());
        left.pack(&gradient, images, outputs, outputs, 1);
        tile_rows(&kept.weights, inputs, &mut right);
        let input_gradient = product(isa, &left, &right, outputs, inputs);
        left.pack(&gradient, outputs, images, 1, outputs);
        tile_rows(input, inputs, &mut right);
        let mut weight_gradient = product(isa, &left, &right, images, inputs);
        mask(isa, self.numbers.weights, weights, &mut weight_gradient);
        let mut bias_gradient = vec![0.0; outputs];
        for row in gradient.chunks_exact(outputs) {
            bias_gradient.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
        mask(isa, self.numbers.weights, bias, &mut bias_gradient);
        [input_gradient, weight_gradient, bias_gradient]
    }
}

/// `left` times the tiled `right`, row-major; tiles are shared out among the threads.
fn product(isa: Isa, left: &Packed, right: &[Row], depth: usize, columns: usize) -> Vec<f32> {
    let mut tiled = vec![[0.0; TILE]; tiles(columns) * left.rows()];
    right.par_chunks(depth).zip(tiled.par_chunks_mut(left.rows())).for_each(|(right, out)| {
        multiply(isa, left, right, out);
    });
    let mut out = vec![0.0; left.rows() * columns];
    dense::untile(&tiled, left.rows(), columns, &mut out);
    out
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
        let outputs = bias.len();
        let images = out.len() / outputs;
        Ok((CpuStorage::F32(out), Shape::from((images, outputs))))
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
