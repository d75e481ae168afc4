//! `podl dataset`: what is in a data set, and bringing public ones here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use podl_consensus::hash::blob_root;
use podl_nas::data::{Dataset, DatasetSpec, Source, channel_statistics, encode_dataset};
use serde::Serialize;

use super::output::{Out, grouped};
use super::progress::Progress;
use crate::fetch::{Collection, Http, catalogue, fetch};

#[derive(Debug, Subcommand)]
pub(super) enum DatasetCommand {
    /// Download a public data set and check it; an interrupted download goes on where it stopped.
    ///
    /// Sizes, MD5 and SHA-256 sums are built in. A set that is there already is left alone.
    #[command(after_help = "Example: podl dataset fetch cifar10 --dir data")]
    Fetch(FetchArgs),
    /// Count images and classes of a data set and name its bytes.
    ///
    /// idx:DIR holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with t10k, plain or .gz.
    /// images:DIR holds train/CLASS/*.png (or .jpg) and test/CLASS/*, or CLASS/* alone, of which a fifth is then for
    /// testing; every image is stretched to 32x32 pixels, or to images:DIR@HEIGHTxWIDTH, or with x1 (grey) or x3 (RGB)
    /// behind it. Grey files make a grey set.
    #[command(after_help = "Example: podl dataset inspect cifar10:~/data/cifar10 --json")]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Which.
    #[arg(value_parser = catalogue::NAMES)]
    name: String,
    /// Where; the set gets a folder of its name in it.
    #[arg(long, value_name = "DIR", default_value = "data")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    dataset: DatasetSpec,
}

pub(super) fn run(command: &DatasetCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        DatasetCommand::Fetch(args) => fetch_set(args, out),
        DatasetCommand::Inspect(args) => inspect(args, out),
    }
}

/// A set that is there. The names are a stable interface.
#[derive(Serialize)]
struct FetchReply {
    name: String,
    dataset: String,
    downloaded_bytes: u64,
}

fn fetch_set(args: &FetchArgs, out: &Out) -> anyhow::Result<()> {
    let set = Collection::find(&args.name).context("the command line takes known names only")?;
    let mut progress = Progress::new("fetch", 0);
    let fetched = fetch(&set, &args.dir, &Http::default(), &mut |file, done, bytes| progress.set(done, bytes, file))?;
    let dataset = format!("{}:{}", set.kind, fetched.folder.display());
    let reply = FetchReply { name: args.name.clone(), dataset, downloaded_bytes: fetched.downloaded_bytes };
    out.record(&reply, || {
        let how = match reply.downloaded_bytes {
            0 => "was there".into(),
            bytes => format!("downloaded and checked, {} bytes", grouped(bytes)),
        };
        format!("{} {how}; use it as --dataset {}", reply.name, reply.dataset)
    })
}

/// What a data set is. The names are a stable interface.
#[derive(Serialize)]
struct Report {
    dataset: String,
    kind: &'static str,
    channels: u8,
    height: u8,
    width: u8,
    classes: Vec<Class>,
    /// For each channel, of the bytes (0 to 255) of the training images.
    normalisation: Vec<Channel>,
    train: Part,
    test: Part,
}

/// One class.
#[derive(Serialize)]
struct Class {
    label: u16,
    name: String,
    train: usize,
    test: usize,
}

/// Normalisation of one channel.
#[derive(Serialize)]
struct Channel {
    mean: f64,
    deviation: f64,
}

/// One part of a data set, in its canonical form.
#[derive(Serialize)]
struct Part {
    images: usize,
    bytes: usize,
    root: String,
}

impl Part {
    fn new(data: &Dataset) -> Self {
        let bytes = encode_dataset(data);
        Self { images: data.len(), bytes: bytes.len(), root: blob_root(&bytes).to_string() }
    }

    fn text(&self, name: &str) -> String {
        let (images, bytes) = (grouped(self.images as u64), grouped(self.bytes as u64));
        format!("{name:<11} {images} images, {bytes} bytes, root {}", self.root)
    }
}

fn inspect(args: &InspectArgs, out: &Out) -> anyhow::Result<()> {
    let source = args.dataset.load().with_context(|| format!("data set {}", args.dataset))?;
    let report = Report::new(&args.dataset, &source);
    out.record(&report, || report.text())
}

/// Images of each label.
fn counts(data: &Dataset) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    data.labels.iter().for_each(|&label| *counts.entry(label).or_default() += 1);
    counts
}

impl Report {
    fn new(spec: &DatasetSpec, source: &Source) -> Self {
        let (train, test) = (counts(&source.train), counts(&source.test));
        let of = |counts: &BTreeMap<u16, usize>, label| counts.get(&label).copied().unwrap_or(0);
        let class = |(label, name): (u16, &String)| {
            let (train, test) = (of(&train, label), of(&test, label));
            Class { label, name: name.clone(), train, test }
        };
        let channel = |of: podl_nas::data::ChannelStatistics| {
            let digits = |value: f64| (value * 1e4).round() / 1e4;
            Channel { mean: digits(of.mean), deviation: digits(of.deviation) }
        };
        let shape = source.train.shape;
        Self {
            dataset: spec.to_string(),
            kind: spec.kind(),
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
            classes: (0..).zip(&source.class_names).map(class).collect(),
            normalisation: channel_statistics(&source.train).into_iter().map(channel).collect(),
            train: Part::new(&source.train),
            test: Part::new(&source.test),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "{}: {}x{}x{}, {} classes",
                self.dataset,
                self.channels,
                self.height,
                self.width,
                self.classes.len()
            ),
            self.train.text("train"),
            self.test.text("test"),
        ];
        for (index, channel) in self.normalisation.iter().enumerate() {
            lines.push(format!("channel {index}   mean {:.2}, deviation {:.2}", channel.mean, channel.deviation));
        }
        for class in &self.classes {
            let (train, test) = (grouped(class.train as u64), grouped(class.test as u64));
            lines.push(format!("class {:<5} {train} train, {test} test  {}", class.label, class.name));
        }
        lines.join("\n")
    }
}
