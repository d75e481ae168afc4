//! `podl nas train`: trains one network and scores it as every full node would.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use podl_chain_spec::Hash32;
use podl_consensus::workload::{Architecture, DenseConfig, Network};
use podl_nas::artefact::Model;
use podl_nas::data::{Dataset, DatasetSpec, input_table};
use podl_nas::engine::Engine;
use podl_nas::train::{Precision, ThreadPool, TrainDevice, Trainer};
use serde::Serialize;

use super::super::output::Out;
use super::super::progress::Progress;
use super::training::TrainingArgs;
use super::{seed_bytes, threads_or_all, write_replacing};

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Architecture file, or its JSON text.
    arch: String,
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long, default_value = "builtin")]
    dataset: DatasetSpec,
    /// Passes over the training images.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Use the first N training images only.
    #[arg(long, value_name = "N")]
    train: Option<usize>,
    /// Use the first N test images only.
    #[arg(long, value_name = "N")]
    test: Option<usize>,
    /// Threads; the result does not depend on them [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Seed of weights and data order: the same seed makes the same model.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    training: TrainingArgs,
    /// Train in floating point; the model that is written is quantised afterwards.
    #[arg(long)]
    float: bool,
    /// Where the integer model goes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What training brought. The names are a stable interface.
#[derive(Serialize)]
struct Outcome {
    train_images_per_second: f64,
    evaluate_images_per_second: f64,
    accuracy: f64,
    correct: u32,
    images: usize,
    model_root: Option<Hash32>,
    epochs: u32,
}

pub(crate) fn run(args: &TrainArgs, out: &Out) -> anyhow::Result<()> {
    // Before the data set is read, which may take a while.
    args.training.device.check()?;
    let architecture = read_architecture(&args.arch)?;
    let source = args.dataset.load().with_context(|| format!("data set {}", args.dataset))?;
    // Of the whole training set, so that `podl model eval` feeds the model the same values.
    let table = input_table(&source.train);
    let [train, test] = [(&source.train, args.train), (&source.test, args.test)]
        .map(|(part, count)| part.head(count.unwrap_or(part.len())));
    if test.is_empty() {
        bail!("there are no test images to score on; give --test at least 1");
    }
    let network = Network::new(&architecture, train.shape, train.classes, DenseConfig::default())?;
    let threads = threads_or_all(args.threads);
    let mut trainer = trainer(args, network, &table, threads)?;
    let train_images_per_second = train_all(&mut trainer, args, &train)?;
    let result = if args.float && args.out.is_none() {
        score_float(&trainer, &test)?
    } else {
        score_integers(&trainer.quantised_model()?, &table, &test, threads, args.out.as_ref())?
    };
    let Scored { correct, evaluate_images_per_second, model_root } = result;
    let outcome = Outcome {
        train_images_per_second,
        evaluate_images_per_second,
        accuracy: f64::from(correct) / test.len() as f64,
        correct,
        images: test.len(),
        model_root,
        epochs: trainer.epochs_done(),
    };
    out.record(&outcome, || text(&outcome, args.training.device))
}

/// An architecture from a file or from text that is JSON already.
pub(crate) fn read_architecture(arch: &str) -> anyhow::Result<Architecture> {
    if arch.trim_start().starts_with('{') {
        return serde_json::from_str(arch).context("the text is not an architecture");
    }
    let text = std::fs::read_to_string(arch).with_context(|| format!("cannot read the architecture file {arch}"))?;
    serde_json::from_str(&text).with_context(|| format!("{arch} is not an architecture file"))
}

fn trainer(args: &TrainArgs, network: Network, table: &[Vec<i16>], threads: usize) -> anyhow::Result<Trainer> {
    let precision = if args.float { Precision::Float } else { Precision::Quantised };
    let config = args.training.config(args.epochs, precision);
    let pool = Arc::new(ThreadPool::new(threads)?);
    Ok(Trainer::on_device(args.training.device, network, table, config, seed_bytes(args.seed), pool)?)
}

/// Trains all epochs and returns images a second of the fastest, which is what others state: it is the least disturbed one.
fn train_all(trainer: &mut Trainer, args: &TrainArgs, train: &Dataset) -> anyhow::Result<f64> {
    let total = u64::from(args.epochs) * (train.len() / args.training.batch) as u64;
    let mut progress = Progress::new("train", total);
    let mut fastest = 0.0f64;
    for epoch in 0..args.epochs {
        let report = trainer.run_epoch(train, &mut |p| {
            let done = u64::from(epoch) * p.of as u64 + p.batches as u64;
            progress.set(done, total, &format!("epoch {} of {}, loss {:.3}", epoch + 1, args.epochs, p.loss));
        })?;
        fastest = fastest.max(report.images as f64 / report.seconds.max(1e-9));
        tracing::info!(epoch = epoch + 1, loss = report.loss, seconds = report.seconds, "epoch done");
    }
    Ok(rounded(fastest))
}

struct Scored {
    correct: u32,
    evaluate_images_per_second: f64,
    model_root: Option<Hash32>,
}

fn score_float(trainer: &Trainer, test: &Dataset) -> anyhow::Result<Scored> {
    let start = Instant::now();
    let classes = trainer.classify(test)?;
    let seconds = start.elapsed().as_secs_f64();
    let correct = classes.iter().zip(&test.labels).filter(|(class, label)| class == label).count();
    let evaluate_images_per_second = rounded(test.len() as f64 / seconds.max(1e-9));
    Ok(Scored { correct: u32::try_from(correct)?, evaluate_images_per_second, model_root: None })
}

fn score_integers(
    model: &Model,
    table: &[Vec<i16>],
    test: &Dataset,
    threads: usize,
    file: Option<&PathBuf>,
) -> anyhow::Result<Scored> {
    let engine = Engine::new(model, table)?;
    let start = Instant::now();
    let correct = engine.count_correct(test, threads)?;
    let evaluate_images_per_second = rounded(test.len() as f64 / start.elapsed().as_secs_f64().max(1e-9));
    if let Some(path) = file {
        write_replacing(path, &model.encode())?;
    }
    Ok(Scored { correct, evaluate_images_per_second, model_root: Some(Hash32(model.root())) })
}

fn text(outcome: &Outcome, device: TrainDevice) -> String {
    let root = outcome.model_root.map_or("none (trained in floating point)".into(), |root| root.to_string());
    let where_trained = match device {
        TrainDevice::Cpu => String::new(),
        other => format!(" on {other} (not reproducible bit for bit)"),
    };
    format!(
        "{} of {} test images correct ({:.4}) after {} epochs{where_trained}\nmodel  {root}\nspeed  {} images/s trained, {} evaluated",
        outcome.correct,
        outcome.images,
        outcome.accuracy,
        outcome.epochs,
        outcome.train_images_per_second,
        outcome.evaluate_images_per_second,
    )
}

/// One decimal: more would be noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
