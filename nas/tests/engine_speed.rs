//! Speed of scoring, a measurement rather than a check:
//! `cargo test --release -p podl-nas --test engine_speed -- --ignored --nocapture`.
//! `PODL_CIFAR10` may name a folder with CIFAR-10's binary files; otherwise the generated images are scored.

use std::time::Instant;

use podl_consensus::workload::{Architecture, DenseConfig, FixedPoint, InputShape, Network};
use podl_nas::artefact::{Model, Parameters};
use podl_nas::data::{Dataset, Random, generate, input_table};
use podl_nas::engine::Engine;

const IMAGES: usize = 2_500;
/// Runs of which the median counts.
const RUNS: usize = 9;

/// Layers as (kernel, filters, stride, pool).
type Shapes = [([u8; 2], u16, u8, u8); 6];

const GOLDEN: Shapes = [([3, 3], 36, 1, 2); 6];
const MIXED: Shapes = [
    ([5, 5], 24, 2, 1),
    ([3, 5], 36, 1, 2),
    ([3, 3], 48, 1, 1),
    ([1, 3], 64, 1, 2),
    ([3, 1], 64, 1, 1),
    ([3, 3], 48, 1, 1),
];
const WIDE: Shapes = [
    ([3, 3], 24, 1, 1),
    ([3, 3], 36, 1, 2),
    ([3, 3], 48, 1, 1),
    ([3, 3], 48, 1, 2),
    ([3, 3], 64, 1, 1),
    ([3, 3], 64, 1, 2),
];

/// A network of those shapes; `int` is the number of integer bits of activations and weights.
fn network(shapes: Shapes, int: u8) -> Network {
    let layer = |(kernel, filters, stride, pool)| podl_consensus::workload::ConvLayer {
        kernel,
        filters,
        stride: [stride, stride],
        pool,
        act: FixedPoint::new(int, 4),
        weight: FixedPoint::new(int, 5),
    };
    let layers = shapes.map(layer).to_vec();
    Network::new(&Architecture { layers }, InputShape::CIFAR, 10, DenseConfig::default()).unwrap()
}

/// Weights anywhere in their range: the worst case for the bounds on sums.
fn model(network: Network) -> Model {
    let mut random = Random::new("engine speed", &[1; 32], 0);
    let mut layer = |outputs: u32, weights: u64, format: FixedPoint| {
        let most = i32::try_from(format.signed_range().1.max(1)).unwrap();
        let mut tensor = |count: u64| (0..count).map(|_| i16::try_from(random.between(-most, most)).unwrap()).collect();
        Parameters { weights: tensor(weights), biases: tensor(outputs.into()) }
    };
    let mut layers: Vec<Parameters> = network
        .convs
        .iter()
        .map(|conv| layer(conv.out_channels(), u64::from(conv.out_channels()) * conv.fan_in(), conv.layer.weight))
        .collect();
    let dense = network.dense.weight;
    layers.extend([network.hidden, network.output].map(|shape| layer(shape.outputs, shape.macs(), dense)));
    Model::new(network, layers).unwrap()
}

fn images() -> Dataset {
    match std::env::var("PODL_CIFAR10") {
        Ok(folder) => format!("cifar10:{folder}").parse::<podl_nas::data::DatasetSpec>().unwrap().load().unwrap().test,
        Err(_) => generate(&[1; 32], u32::try_from(IMAGES).unwrap()),
    }
    .head(IMAGES)
}

#[test]
#[ignore = "a measurement, not a check"]
fn images_per_second() {
    let data = images();
    let table = input_table(&data);
    for (name, shapes, int) in [("golden-36x6", GOLDEN, 1), ("mixed-strided", MIXED, 2), ("wide-64x6", WIDE, 1)] {
        let model = model(network(shapes, int));
        let start = Instant::now();
        let engine = Engine::new(&model, &table).unwrap();
        eprintln!("{name} prepared in {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
        for threads in [1, 2] {
            let mut correct = 0;
            let mut seconds: Vec<f64> = (0..RUNS)
                .map(|_| {
                    let start = Instant::now();
                    correct = engine.count_correct(&data, threads).unwrap();
                    start.elapsed().as_secs_f64()
                })
                .collect();
            seconds.sort_by(f64::total_cmp);
            let [best, median] = [seconds[0], seconds[RUNS / 2]].map(|s| data.len() as f64 / s);
            eprintln!("{name} {threads} {median:.0} median, {best:.0} best images/s ({correct} correct)");
        }
    }
}
