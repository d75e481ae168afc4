//! `podl dataset`: what is in a data set.

use anyhow::Context;
use clap::{Args, Subcommand};
use podl_consensus::hash::blob_root;
use podl_nas::data::{Dataset, DatasetSpec, encode_dataset};
use serde::Serialize;

use super::output::{Out, grouped};

#[derive(Debug, Subcommand)]
pub(super) enum DatasetCommand {
    /// Count images and classes of a data set and name its bytes.
    #[command(after_help = "Example: podl dataset inspect cifar10:~/data/cifar10 --json")]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// builtin, builtin:SEED or cifar10:DIR.
    dataset: DatasetSpec,
}

/// One part of a data set.
#[derive(Serialize)]
struct Part {
    part: &'static str,
    images: usize,
    channels: u8,
    height: u8,
    width: u8,
    classes: u16,
    images_by_class: Vec<usize>,
    bytes: usize,
    root: String,
}

impl Part {
    fn new(part: &'static str, data: &Dataset) -> Self {
        let bytes = encode_dataset(data);
        let mut images_by_class = vec![0; data.classes.into()];
        data.labels.iter().for_each(|&label| images_by_class[usize::from(label)] += 1);
        Self {
            part,
            images: data.len(),
            channels: data.shape.channels,
            height: data.shape.height,
            width: data.shape.width,
            classes: data.classes,
            images_by_class,
            bytes: bytes.len(),
            root: blob_root(&bytes).to_string(),
        }
    }

    fn text(&self) -> String {
        let (least, most) = (self.images_by_class.iter().min(), self.images_by_class.iter().max());
        format!(
            "{}: {} images of {}x{}x{}, {} classes ({} to {} images each), {} bytes, root {}",
            self.part,
            grouped(self.images as u64),
            self.channels,
            self.height,
            self.width,
            self.classes,
            least.unwrap_or(&0),
            most.unwrap_or(&0),
            grouped(self.bytes as u64),
            self.root,
        )
    }
}

pub(super) fn run(command: &DatasetCommand, out: &Out) -> anyhow::Result<()> {
    let DatasetCommand::Inspect(args) = command;
    let source = args.dataset.load().with_context(|| format!("data set {}", args.dataset))?;
    for (name, data) in [("train", &source.train), ("test", &source.test)] {
        let part = Part::new(name, data);
        out.record(&part, || part.text())?;
    }
    Ok(())
}
