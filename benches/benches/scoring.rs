//! Images a second of the integer engine on one thread, with models of random weights.

mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use podl_consensus::workload::{Architecture, DenseConfig, InputShape, Network};
use podl_nas::data::{generate, input_table};
use podl_nas::engine::Engine;

use common::random_model;

/// Enough for a few batches of the engine's.
const IMAGES: u32 = 192;

const ARCHITECTURES: [(&str, &str); 3] = [
    ("golden-36x6", include_str!("../architectures/golden-36x6.json")),
    ("mixed-strided", include_str!("../architectures/mixed-strided.json")),
    ("wide-64x6", include_str!("../architectures/wide-64x6.json")),
];

fn scoring(c: &mut Criterion) {
    let data = generate(&[5; 32], IMAGES);
    let table = input_table(&data);
    let mut group = c.benchmark_group("scoring");
    for (name, json) in ARCHITECTURES {
        let architecture: Architecture = serde_json::from_str(json).expect("an architecture");
        let network = Network::new(&architecture, InputShape::CIFAR, 10, DenseConfig::default()).expect("a network");
        let model = random_model(network);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{name}: preparing the model"), |b| b.iter(|| Engine::new(&model, &table)));
        let engine = Engine::new(&model, &table).expect("an engine");
        group.throughput(Throughput::Elements(IMAGES.into()));
        group.bench_function(format!("{name}: images"), |b| b.iter(|| engine.count_correct(&data, 1)));
    }
    group.finish();
}

criterion_group!(benches, scoring);
criterion_main!(benches);
