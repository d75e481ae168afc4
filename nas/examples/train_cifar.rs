//! Trains one architecture on a CIFAR-10 folder and prints speed, loss and accuracy of every epoch.
//!
//! `cargo run --release -p podl-nas --example train_cifar -- ARCH.json FOLDER EPOCHS RATE constant|cosine THREADS [IMAGES] [SEED]`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use podl_consensus::workload::{Architecture, DenseConfig, Network};
use podl_nas::data::{input_table, read_cifar10};
use podl_nas::engine::Engine;
use podl_nas::train::{Schedule, ThreadPool, TrainConfig, Trainer, training_bytes};

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [arch, folder, epochs, rate, schedule, threads, ..] = args.as_slice() else {
        return Err("usage: ARCH.json FOLDER EPOCHS RATE constant|cosine THREADS [IMAGES] [SEED]".into());
    };
    let architecture: Architecture = serde_json::from_str(&std::fs::read_to_string(arch)?)?;
    let source = read_cifar10(Path::new(folder))?;
    let train = source.train.head(args.get(6).map_or(Ok(usize::MAX), |n| n.parse())?);
    let seed: u8 = args.get(7).map_or(Ok(1), |n| n.parse())?;
    let network = Network::new(&architecture, train.shape, train.classes, DenseConfig::default())?;
    let schedule = if schedule == "cosine" { Schedule::Cosine } else { Schedule::Constant };
    let config =
        TrainConfig { epochs: epochs.parse()?, learning_rate: rate.parse()?, schedule, ..TrainConfig::default() };
    let threads = threads.parse()?;
    println!("{} MMACs, {} MB", network.macs() / 1_000_000, training_bytes(&network, config.batch, threads) >> 20);
    let table = input_table(&train);
    let pool = Arc::new(ThreadPool::new(threads)?);
    let mut trainer = Trainer::new(network, &table, config.clone(), [seed; 32], pool)?;
    let start = Instant::now();
    let mut trained = 0.0;
    for epoch in 1..=config.epochs {
        let report = trainer.run_epoch(&train, &mut |_| ())?;
        trained += report.seconds;
        let model = trainer.quantised_model()?;
        let correct = Engine::new(&model, &table)?.count_correct(&source.test, threads)?;
        let accuracy = f64::from(correct) / source.test.len() as f64;
        let speed = report.images as f64 / report.seconds;
        println!("epoch {epoch}: {speed:.0} images/s, loss {:.4}, accuracy {accuracy:.4}, {trained:.1} s", report.loss);
    }
    println!("{:.1} s with evaluation", start.elapsed().as_secs_f64());
    Ok(())
}
