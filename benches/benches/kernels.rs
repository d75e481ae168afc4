//! Floating-point operations a second of the training kernels, on one thread, beside the limit of the machine.
//!
//! Criterion's elements are operations: `Gelem/s` reads as GFLOP/s. Layers are those of the networks that
//! `make bench-training` trains, and the corners of the search space.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use podl_consensus::workload::{Architecture, ConvLayer, ConvShape, DenseConfig, FixedPoint, InputShape, Network};
use podl_nas::data::Random;
use podl_nas::train::kernels::conv::{ConvWeights, Gradients, Images, LayerRun, Scratch};
use podl_nas::train::kernels::gemm::{Left, Out, Packed, Places, Right, product};
use podl_nas::train::kernels::geometry::Geometry;
use podl_nas::train::kernels::peak::{multiply_adds, operations};
use podl_nas::train::kernels::quant::{Activation, WeightQuantiser, quantise_weights};
use podl_nas::train::kernels::simd::Isa;

const FORMAT: FixedPoint = FixedPoint::new(2, 4);
/// What a thread trains on at a time: a sixteenth of a batch of 128.
const IMAGES: usize = 8;

/// Name, input (channels, rows, columns), kernel, filters, stride, pool.
type Case = (&'static str, [u8; 3], [u8; 2], u16, [u8; 2], u8);

const CASES: [Case; 9] = [
    ("golden 1: 3x3, 3 to 36, 32x32, pool", [3, 32, 32], [3, 3], 36, [1, 1], 2),
    ("golden 2: 3x3, 36 to 36, 16x16, pool", [36, 16, 16], [3, 3], 36, [1, 1], 2),
    ("wide 2: 3x3, 24 to 36, 32x32, pool", [24, 32, 32], [3, 3], 36, [1, 1], 2),
    ("wide 5: 3x3, 48 to 64, 8x8", [48, 8, 8], [3, 3], 64, [1, 1], 1),
    ("mixed 1: 5x5 stride 2, 3 to 24, 32x32", [3, 32, 32], [5, 5], 24, [2, 2], 1),
    ("mixed 4: 1x3, 48 to 64, 8x8, pool", [48, 8, 8], [1, 3], 64, [1, 1], 2),
    ("9x9 stride 5, 64 to 128, 32x32", [64, 32, 32], [9, 9], 128, [5, 5], 1),
    ("9x1 stride 1x4, 12 to 12, 32x32", [12, 32, 32], [9, 1], 12, [1, 4], 1),
    ("1x1, 128 to 4, 4x4", [128, 4, 4], [1, 1], 4, [1, 1], 1),
];

fn shape(case: &Case) -> ConvShape {
    let (_, [channels, height, width], kernel, filters, stride, pool) = *case;
    let layer = ConvLayer { kernel, filters, stride, pool, act: FORMAT, weight: FORMAT };
    let input = InputShape { channels, height, width };
    let network = Network::new(&Architecture { layers: vec![layer] }, input, 10, DenseConfig::default());
    network.expect("a network").convs.remove(0)
}

fn values(seed: u8, count: usize) -> Vec<f32> {
    let mut random = Random::new("podl benchmark values", &[seed; 32], 0);
    (0..count).map(|_| random.below(1 << 12) as f32 / 2048.0 - 1.0).collect()
}

fn peak(c: &mut Criterion) {
    const ROUNDS: u64 = 100_000;
    let mut group = c.benchmark_group("limit");
    for isa in Isa::available().into_iter().filter(|isa| isa.name() != "portable") {
        group.throughput(Throughput::Elements(operations(isa, ROUNDS)));
        group.bench_function(format!("multiply-adds, {}", isa.name()), |b| {
            let mut out = [0.5; 16];
            b.iter(|| multiply_adds(isa, black_box(ROUNDS), &mut out));
        });
    }
    group.finish();
}

/// Forward, and backward with the gradients of weights and input, each per operation that the layer needs.
fn convolutions(c: &mut Criterion) {
    let isa = Isa::detect();
    for case in &CASES {
        let shape = shape(case);
        let is_first = case.1[0] == 3;
        let g = Geometry::new(&shape, is_first);
        let mut weights = ConvWeights::default();
        weights.pack(isa, &g, &values(1, g.filters * g.depth), &values(2, g.filters));
        let (input, gradient) = (values(3, IMAGES * g.image_len()), values(4, IMAGES * g.out_len()));
        let (mut out, mut marks) = (vec![0.0; IMAGES * g.out_len()], vec![0; IMAGES * g.out_len()]);
        let input = if is_first { Images::Planes(&input) } else { Images::Pixels(&input) };
        let activation = Activation::Quantised(FORMAT);
        let run = LayerRun { isa, g: &g, weights: &weights, activation, input, images: IMAGES };
        let mut scratch = Scratch::default();
        let mut group = c.benchmark_group(case.0);
        let operations = 2 * IMAGES as u64 * shape.macs().expect("small");
        group.throughput(Throughput::Elements(operations));
        group.bench_function("forward", |b| b.iter(|| run.forward(&mut out, &mut marks, &mut scratch)));
        // Of data no gradient is wanted.
        let mut dx = (!is_first).then(|| vec![0.0; IMAGES * g.image_len()]);
        let (mut dw, mut db) = (vec![0.0; g.depth * g.out_pixel()], vec![0.0; g.out_pixel()]);
        group.throughput(Throughput::Elements(if is_first { operations } else { 2 * operations }));
        group.bench_function("backward", |b| {
            b.iter(|| {
                let mut to = Gradients { input: dx.as_deref_mut(), weights: &mut dw, bias: &mut db };
                run.backward(&marks, &gradient, &mut to, &mut scratch);
            });
        });
        group.finish();
    }
}

/// The product of a dense layer, and the quantiser of weights (an element is a weight there).
fn dense(c: &mut Criterion) {
    const SIZES: [usize; 3] = [16, 576, 256];
    let (isa, [images, inputs, outputs]) = (Isa::detect(), SIZES);
    let (left, right) = (values(5, images * inputs), values(6, inputs * outputs));
    let rows: Vec<u32> = (0..16).map(|row| row * 576).collect();
    let depth: Vec<u32> = (0..576).collect();
    let mut packed = Packed::default();
    packed.pack(isa, inputs, outputs, |input, output| right[output * inputs + input]);
    let mut sums = vec![0.0; images * outputs];
    let mut group = c.benchmark_group("dense 576 to 256");
    group.throughput(Throughput::Elements(2 * SIZES.iter().product::<usize>() as u64));
    group.bench_function("product", |b| {
        b.iter(|| {
            let places = Places::Every(outputs);
            let mut out = Out { values: &mut sums, places, columns: outputs, resume: false };
            product(isa, Left { values: &left, rows: &rows, depth: &depth }, Right::Packed(&packed), &mut out);
        });
    });
    group.throughput(Throughput::Elements(right.len() as u64));
    let mut out = right.clone();
    group.bench_function("quantise weights", |b| {
        b.iter(|| quantise_weights(isa, WeightQuantiser::new(FORMAT), black_box(&right), &mut out));
    });
    group.finish();
}

criterion_group!(benches, peak, convolutions, dense);
criterion_main!(benches);
