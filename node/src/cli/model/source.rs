//! What commands on model files begin with: the model, the data set, the input table that belongs to it.

use std::path::Path;

use anyhow::{Context, bail};
use clap::ValueEnum;
use podl_chain_spec::ChainSpec;
use podl_consensus::workload::Workload;
use podl_nas::artefact::{Model, decode};
use podl_nas::data::{Dataset, DatasetSpec, Source, input_table};
use podl_nas::export::Provenance;

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Training images.
    Train,
    /// Test images.
    Test,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }

    pub(super) fn of(self, source: &Source) -> &Dataset {
        match self {
            Self::Train => &source.train,
            Self::Test => &source.test,
        }
    }
}

/// Where a normalisation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Normalisation {
    /// The task's, from the .provenance.json beside a fetched model.
    Task,
    /// Mean and deviation of the data set's training images, as tasks and `podl nas train` have it.
    Dataset,
    /// Byte 128 is 0 and 64 steps are 1: what models of filler blocks were made for.
    Filler,
}

/// Reads a model file under the widest caps that a chain can have: which one it is for is not known here.
pub(super) fn read_model(path: &Path) -> anyhow::Result<Model> {
    let caps = ChainSpec::load("testnet")?.caps;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the model {}", path.display()))?;
    decode(&bytes, &caps).with_context(|| format!("{} is not a model", path.display()))
}

/// Reads a data set whose images the model can take.
pub(super) fn read_dataset(spec: &DatasetSpec, model: &Model) -> anyhow::Result<Source> {
    let source = spec.load().with_context(|| format!("data set {spec}"))?;
    let (found, network) = (&source.test, model.network());
    if (found.shape, found.classes) != (network.input, network.classes) {
        let form = |shape: podl_consensus::workload::InputShape, classes: u16| {
            format!("{} x {} x {} images of {classes} classes", shape.channels, shape.height, shape.width)
        };
        let (got, expected) = (form(found.shape, found.classes), form(network.input, network.classes));
        bail!("data set {spec} has {got}, the model takes {expected}; name the data set that it was trained on");
    }
    Ok(source)
}

/// The input table as asked for; by default the task's, else the data set's. `None` when neither is there.
pub(super) fn table(
    asked: Option<Normalisation>,
    provenance: Option<&Provenance>,
    source: Option<&Source>,
) -> anyhow::Result<Option<Vec<Vec<i16>>>> {
    let of_task = || provenance.and_then(Provenance::input_table).map(<[_]>::to_vec);
    let of_source = || source.map(|source| input_table(&source.train));
    match asked {
        None => Ok(of_task().or_else(of_source)),
        Some(Normalisation::Filler) => Ok(Some(Workload::filler(&ChainSpec::load("testnet")?).input_table)),
        Some(Normalisation::Task) => of_task().map(Some).context(
            "no .provenance.json beside the model says the task's normalisation; `podl model fetch` writes one",
        ),
        Some(Normalisation::Dataset) => {
            of_source().map(Some).context("the normalisation of a data set needs one: give --dataset")
        }
    }
}
