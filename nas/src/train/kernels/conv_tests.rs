//! The convolution kernel against a plain one, and its gradients against finite differences.

// Sizes are small; indices are signed here where padding makes them negative.
#![allow(clippy::cast_possible_wrap)]

use podl_consensus::workload::{ConvShape, FixedPoint};

use super::conv::{ConvWeights, Gradients, Images, LayerRun, Scratch, sum_weight_gradients};
use super::gemm::padded;
use super::geometry::Geometry;
use super::quant::{Activation, BLOCKED};
use super::reference::{conv_shape, conv_sum, taps, values};
use super::simd::Isa;

const FORMAT: FixedPoint = FixedPoint::new(2, 4);
const IMAGES: usize = 3;

/// Input, kernel, filters, stride, pool.
type Layer = ([u8; 3], [u8; 2], u16, [u8; 2], u8);

/// Layers with non-square kernels, strides 1 to 5, pools 1 to 3, odd sizes, 1x1 outputs.
fn shapes() -> Vec<ConvShape> {
    let cases: [Layer; 16] = [
        ([3, 32, 32], [3, 3], 4, [1, 1], 2),
        ([2, 8, 8], [3, 3], 36, [1, 1], 1),
        ([1, 7, 9], [3, 5], 2, [1, 2], 2),
        ([3, 11, 6], [5, 1], 5, [3, 1], 2),
        ([2, 13, 10], [1, 7], 3, [2, 5], 1),
        ([4, 9, 9], [9, 9], 8, [4, 4], 1),
        ([2, 32, 31], [1, 1], 9, [5, 5], 1),
        ([2, 5, 5], [1, 1], 4, [5, 3], 2),
        ([3, 1, 1], [3, 3], 12, [1, 1], 2),
        ([3, 2, 1], [5, 3], 1, [2, 2], 2),
        ([1, 4, 4], [7, 3], 6, [1, 4], 2),
        ([5, 12, 12], [3, 9], 7, [1, 1], 3),
        ([2, 33, 17], [5, 5], 4, [1, 3], 2),
        ([1, 64, 64], [3, 1], 3, [1, 1], 1),
        ([64, 16, 16], [5, 5], 4, [1, 1], 2),
        ([2, 10, 10], [9, 1], 4, [3, 3], 3),
    ];
    cases.map(|(input, kernel, filters, stride, pool)| conv_shape(input, kernel, filters, stride, pool, FORMAT)).into()
}

/// Values of one layer, images and gradients in channel planes.
struct Case {
    shape: ConvShape,
    g: Geometry,
    input: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// Channels-last with padded channels, from channel planes.
fn to_pixels(planes: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let width = padded(channels);
    let mut out = vec![0.0; planes.len() / channels * width];
    for (image, from) in planes.chunks_exact(channels * pixels).enumerate() {
        for (i, &value) in from.iter().enumerate() {
            out[(image * pixels + i % pixels) * width + i / pixels] = value;
        }
    }
    out
}

/// Channel planes, from channels-last with padded channels.
fn to_planes<T: Copy>(from: &[T], channels: usize, pixels: usize) -> Vec<T> {
    let width = padded(channels);
    let images = from.chunks_exact(pixels * width);
    images.flat_map(|image| (0..channels * pixels).map(move |i| image[i % pixels * width + i / pixels])).collect()
}

impl Case {
    fn new(shape: ConvShape) -> Self {
        let g = Geometry::new(&shape, false);
        // Multiples of 2^-6: with them all sums are exact, so that a plain sum gives the same bits and the same marks.
        let grid = |values: Vec<f32>| values.into_iter().map(|v| (v * 64.0).round() / 64.0).collect::<Vec<_>>();
        let input = grid(values(1, IMAGES * g.channels * g.input[0] * g.input[1]));
        let (weights, bias) = (grid(values(2, g.filters * g.depth)), grid(values(3, g.filters)));
        Self { shape, g, input, weights, bias }
    }

    /// Values of one output image.
    fn out_len(&self) -> usize {
        self.g.filters * self.g.pooled[0] * self.g.pooled[1]
    }

    fn with_run<R>(&self, isa: Isa, activation: Activation, body: impl FnOnce(LayerRun<'_>) -> R) -> R {
        let mut weights = ConvWeights::default();
        weights.pack(isa, &self.g, &self.weights, &self.bias);
        let input = to_pixels(&self.input, self.g.channels, self.g.input[0] * self.g.input[1]);
        let input = Images::Pixels(&input);
        body(LayerRun { isa, g: &self.g, weights: &weights, activation, input, images: IMAGES })
    }

    fn forward(&self, isa: Isa, activation: Activation) -> (Vec<f32>, Vec<u8>) {
        let len = IMAGES * self.g.out_len();
        let (mut out, mut marks) = (vec![f32::NAN; len], vec![7; len]);
        self.with_run(isa, activation, |run| run.forward(&mut out, &mut marks, &mut Scratch::default()));
        let pixels = self.g.pooled[0] * self.g.pooled[1];
        let padding = out.chunks_exact(self.g.out_pixel()).flat_map(|pixel| &pixel[self.g.filters..]);
        assert!(padding.into_iter().all(|&value| value == 0.0));
        (to_planes(&out, self.g.filters, pixels), to_planes(&marks, self.g.filters, pixels))
    }

    /// (input, weights, bias) gradients.
    fn backward(&self, isa: Isa, marks: &[u8], gradient: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let g = &self.g;
        let pixels = g.pooled[0] * g.pooled[1];
        let gradient = to_pixels(gradient, g.filters, pixels);
        let marks: Vec<f32> = marks.iter().map(|&mark| mark.into()).collect();
        let marks: Vec<u8> = to_pixels(&marks, g.filters, pixels).into_iter().map(|mark| mark as u8).collect();
        let mut dx = vec![f32::NAN; IMAGES * g.image_len()];
        let (mut sums, mut db) = (vec![0.0; g.depth * g.out_pixel()], vec![0.0; g.out_pixel()]);
        self.with_run(isa, Activation::Relu, |run| {
            let mut to = Gradients { input: Some(&mut dx), weights: &mut sums, bias: &mut db };
            run.backward(&marks, &gradient, &mut to, &mut Scratch::default());
        });
        let mut dw = vec![0.0; self.weights.len()];
        sum_weight_gradients(g, &sums, 0..g.filters, &mut dw);
        db.truncate(g.filters);
        (to_planes(&dx, g.channels, g.input[0] * g.input[1]), dw, db)
    }

    /// The outputs of the pool window of output `index`: (sum, output row, output column), row by row.
    fn window(&self, index: usize) -> (usize, usize, Vec<(f64, i64, i64)>) {
        let [ph, pw] = self.g.pooled;
        let (image, filter) = (index / self.out_len(), index / (ph * pw) % self.g.filters);
        let (py, px) = ((index / pw % ph) as i64, (index % pw) as i64);
        let pool = i64::from(self.shape.layer.pool);
        let (top, left) = (i64::from(self.shape.pool_rows.pad_low), i64::from(self.shape.pool_columns.pad_low));
        let len = self.input.len() / IMAGES;
        let pixels = &self.input[image * len..][..len];
        let mut window = Vec::new();
        for (y, x) in (0..pool * pool).map(|i| (py * pool + i / pool - top, px * pool + i % pool - left)) {
            if y >= 0 && x >= 0 && y < i64::from(self.shape.rows.output) && x < i64::from(self.shape.columns.output) {
                let sum = conv_sum(&self.shape, pixels, &self.weights, filter, y, x) + f64::from(self.bias[filter]);
                window.push((sum, y, x));
            }
        }
        (image, filter, window)
    }
}

/// Quantised value and whether it passes a gradient, in double precision.
fn quantised(sum: f64) -> (f64, bool) {
    let high = 4.0 - 1.0 / 16.0;
    (((sum * 16.0).round_ties_even() / 16.0).clamp(0.0, high), (0.0..=high).contains(&sum))
}

#[test]
fn forward_agrees_with_a_plain_convolution() {
    for shape in shapes() {
        let case = Case::new(shape);
        for isa in Isa::available() {
            let (out, marks) = case.forward(isa, Activation::Quantised(FORMAT));
            for (index, (&got, &mark)) in out.iter().zip(&marks).enumerate() {
                let (_, _, window) = case.window(index);
                let mut best = (-1.0, false);
                for (sum, ..) in window {
                    let here = quantised(sum);
                    best = if here.0 > best.0 { here } else { best };
                }
                let name = isa.name();
                assert_eq!((f64::from(got), mark != BLOCKED), best, "{:?} {name} at {index}", case.shape.layer);
            }
        }
    }
}

#[test]
fn backward_agrees_with_a_plain_convolution() {
    for shape in shapes() {
        let case = Case::new(shape);
        let (_, marks) = case.forward(Isa::detect(), Activation::Quantised(FORMAT));
        let gradient = values(5, IMAGES * case.out_len());
        let (mut dx, mut dw) = (vec![0.0f64; case.input.len()], vec![0.0f64; case.weights.len()]);
        let mut db = vec![0.0f64; case.g.filters];
        for (index, &gradient) in gradient.iter().enumerate() {
            let (image, filter, window) = case.window(index);
            let mut best = (-1.0, false, 0, 0);
            for (sum, y, x) in window {
                let (value, passes) = quantised(sum);
                best = if value > best.0 { (value, passes, y, x) } else { best };
            }
            let gradient = if best.1 { f64::from(gradient) } else { 0.0 };
            db[filter] += gradient;
            for (w, x) in taps(&case.shape, filter, best.2, best.3) {
                let x = image * (case.input.len() / IMAGES) + x;
                dw[w] += gradient * f64::from(case.input[x]);
                dx[x] += gradient * f64::from(case.weights[w]);
            }
        }
        for isa in Isa::available() {
            let got = case.backward(isa, &marks, &gradient);
            for (got, expected) in [(&got.0, &dx), (&got.1, &dw), (&got.2, &db)] {
                for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
                    let error = (f64::from(got) - expected).abs();
                    assert!(error < 2e-3, "{:?} {} at {i}: {got}, {expected}", case.shape.layer, isa.name());
                }
            }
        }
    }
}

/// Loss = sum of outputs x fixed factors, in double precision; the layer is linear but for kinks.
#[test]
fn gradients_agree_with_finite_differences() {
    for shape in shapes() {
        let mut case = Case::new(shape);
        let factors = values(6, IMAGES * case.out_len());
        let isa = Isa::detect();
        let (_, marks) = case.forward(isa, Activation::Relu);
        let (dx, dw, db) = case.backward(isa, &marks, &factors);
        let loss = |case: &Case| -> (f64, Vec<u8>) {
            let (out, marks) = case.forward(isa, Activation::Relu);
            (out.iter().zip(&factors).map(|(&o, &f)| f64::from(o) * f64::from(f)).sum(), marks)
        };
        let mut checked = 0;
        for (part, gradients) in [(0, &dx), (1, &dw), (2, &db)] {
            for i in (0..gradients.len()).step_by(gradients.len().div_ceil(5)) {
                let mut around = [0.0, 0.0];
                let mut smooth = true;
                for (loss_at, step) in around.iter_mut().zip([1.0f32 / 256.0, -1.0 / 128.0]) {
                    [&mut case.input, &mut case.weights, &mut case.bias][part][i] += step;
                    let (value, at) = loss(&case);
                    (*loss_at, smooth) = (value, smooth && at == marks);
                }
                [&mut case.input, &mut case.weights, &mut case.bias][part][i] += 1.0 / 256.0;
                // Where the step crosses a kink, the two sides have different slopes: nothing to compare.
                if smooth {
                    let slope = (around[0] - around[1]) * 128.0;
                    let got = f64::from(gradients[i]);
                    assert!((slope - got).abs() < 1e-2 + 1e-3 * slope.abs(), "{part} {i}: {slope} {got}");
                    checked += 1;
                }
            }
        }
        assert!(checked >= 3, "{:?}: only {checked} smooth points", case.shape.layer);
    }
}
