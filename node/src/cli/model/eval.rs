//! `podl model eval`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use podl_chain_spec::Hash32;
use podl_nas::data::DatasetSpec;
use podl_nas::engine::Engine;
use serde::Serialize;

use super::super::nas::{rounded, threads_or_all};
use super::super::output::Out;
use super::fetch::write_new;
use super::provenance;
use super::source::{Normalisation, Part, read_dataset, read_model, table};

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The model.
    file: PathBuf,
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long)]
    dataset: DatasetSpec,
    /// Which images.
    #[arg(long, value_enum, default_value = "test")]
    split: Part,
    /// Where the normalisation comes from [default: task for a fetched model, else dataset].
    #[arg(long, value_enum)]
    normalisation: Option<Normalisation>,
    /// Threads; the result does not depend on them [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Write the class of every image to a new file, one a line.
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Write the images to a new file: bytes, image after image, each by channel, row, column.
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
}

/// What an evaluation found. The names are a stable interface.
#[derive(Serialize)]
struct Found {
    correct: u32,
    images: usize,
    accuracy: f64,
    images_per_second: f64,
    model_root: Hash32,
}

pub(super) fn run(args: &EvalArgs, out: &Out) -> anyhow::Result<()> {
    let model = read_model(&args.file)?;
    let root = Hash32(model.root());
    let provenance = provenance::read(&args.file, root)?;
    let source = read_dataset(&args.dataset, &model)?;
    let table = table(args.normalisation, provenance.as_ref(), Some(&source))?.context("there is no normalisation")?;
    let data = args.split.of(&source);
    let engine = Engine::new(&model, &table)?;
    let start = Instant::now();
    let classes = engine.classify(&data.images, threads_or_all(args.threads))?;
    let seconds = start.elapsed().as_secs_f64();
    let correct = classes.iter().zip(&data.labels).filter(|(class, label)| class == label).count();
    if let Some(path) = &args.classes {
        write_new(path, lines(&classes)?.as_bytes())?;
    }
    if let Some(path) = &args.images {
        write_new(path, &data.images)?;
    }
    let found = Found {
        correct: u32::try_from(correct)?,
        images: data.len(),
        accuracy: correct as f64 / data.len().max(1) as f64,
        images_per_second: rounded(data.len() as f64 / seconds.max(1e-9)),
        model_root: root,
    };
    out.record(&found, || {
        format!(
            "{correct} of {} images correct ({:.4}), {} images/s, model {root}",
            found.images, found.accuracy, found.images_per_second
        )
    })
}

fn lines(classes: &[u16]) -> anyhow::Result<String> {
    let mut text = String::new();
    classes.iter().try_for_each(|class| writeln!(text, "{class}"))?;
    Ok(text)
}
