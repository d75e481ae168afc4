//! `podl model export`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use podl_chain_spec::Hash32;
use podl_nas::artefact::Model;
use podl_nas::data::{DatasetSpec, Source};
use podl_nas::engine::Engine;
use podl_nas::export::{Card, CardFacts, Evaluation, InputForm, Provenance, QonnxOptions, qonnx};
use serde_json::json;

use super::super::bounds::ModelBoundsArgs;
use super::super::nas::threads_or_all;
use super::super::output::{Out, grouped};
use super::fetch::write_new;
use super::provenance;
use super::source::{Normalisation, Part, read_dataset, read_model, table};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The model. What a .provenance.json beside it says is taken up.
    file: PathBuf,
    /// What to write.
    #[arg(long, value_enum)]
    format: Format,
    /// A new file [default: the model's name with .onnx; cards go to standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What the graph takes.
    #[arg(long, value_enum, default_value = "pixels")]
    input: Input,
    /// Data set to evaluate a card's accuracy on, and to take the input table from unless the model's task is known:
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long)]
    dataset: Option<DatasetSpec>,
    /// Images to evaluate a card's accuracy on.
    #[arg(long, value_enum, default_value = "test")]
    split: Part,
    /// Where the input table comes from [default: task for a fetched model, else dataset].
    #[arg(long, value_enum)]
    normalisation: Option<Normalisation>,
    #[command(flatten)]
    bounds: ModelBoundsArgs,
    /// Threads of the evaluation; the result does not depend on them [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An ONNX file with the quantisers of qonnx.custom_op.general.
    Qonnx,
    /// A model card to read, in Markdown.
    Card,
    /// The model card as JSON.
    CardJson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Input {
    /// Pixels 0 to 255; normalisation is part of the graph.
    Pixels,
    /// Values of the input table divided by 256; normalisation is up to the caller.
    Values,
}

impl From<Input> for InputForm {
    fn from(input: Input) -> Self {
        match input {
            Input::Pixels => Self::Pixels,
            Input::Values => Self::Values,
        }
    }
}

/// What both exports begin with.
struct Material {
    model: Model,
    provenance: Option<Provenance>,
    source: Option<Source>,
    table: Option<Vec<Vec<i16>>>,
}

impl Material {
    fn gather(args: &ExportArgs) -> anyhow::Result<Self> {
        let model = read_model(&args.file)?;
        let provenance = provenance::read(&args.file, Hash32(model.root()))?;
        let source = args.dataset.as_ref().map(|spec| read_dataset(spec, &model)).transpose()?;
        let table = table(args.normalisation, provenance.as_ref(), source.as_ref())?;
        Ok(Self { model, provenance, source, table })
    }
}

pub(super) fn run(args: &ExportArgs, out: &Out) -> anyhow::Result<()> {
    let material = Material::gather(args)?;
    match args.format {
        Format::Qonnx => graph(args, &material, out),
        Format::Card | Format::CardJson => card(args, &material, out),
    }
}

fn graph(args: &ExportArgs, material: &Material, out: &Out) -> anyhow::Result<()> {
    let options = QonnxOptions {
        input_table: material.table.as_deref(),
        input: args.input.into(),
        provenance: material.provenance.as_ref(),
    };
    let exported =
        qonnx(&material.model, &options).context("give --dataset or --normalisation, or export with --input values")?;
    let path = args.out.clone().unwrap_or_else(|| args.file.with_extension("onnx"));
    write_new(&path, &exported.bytes)?;
    let (root, bytes, exact) = (Hash32(material.model.root()), exported.bytes.len(), exported.is_float32_exact());
    let object = json!({
        "file": path, "bytes": bytes, "model_root": root, "input": exported.input, "float32_exact": exact,
    });
    out.record(&object, || {
        let arithmetic = if exact { "exact in 32-bit floats" } else { "32-bit floats may round: see the model card" };
        format!("model {root}: {} bytes in {}, {arithmetic}", grouped(bytes as u64), path.display())
    })
}

fn card(args: &ExportArgs, material: &Material, out: &Out) -> anyhow::Result<()> {
    let provenance = material.provenance.as_ref();
    let facts = CardFacts {
        bounds: args.bounds.read().or_else(|| provenance.and_then(Provenance::bounds)),
        evaluation: evaluate(args, material)?,
        input_table: material.table.as_deref(),
        provenance,
    };
    let card = Card::new(&material.model, &facts)?;
    let Some(path) = &args.out else {
        return match args.format {
            Format::CardJson => out.line(serde_json::to_string(&card)?),
            _ => out.record(&card, || card.markdown().trim_end().into()),
        };
    };
    write_card(args.format, &card, path)?;
    let object = json!({ "file": path, "model_root": card.model_root, "float32_exact": card.float32_exact });
    out.record(&object, || format!("card of model {} in {}", card.model_root, path.display()))
}

fn write_card(format: Format, card: &Card, path: &Path) -> anyhow::Result<()> {
    let text = match format {
        Format::CardJson => serde_json::to_string(card)? + "\n",
        _ => card.markdown(),
    };
    write_new(path, text.as_bytes())
}

fn evaluate(args: &ExportArgs, material: &Material) -> anyhow::Result<Option<Evaluation>> {
    let (Some(spec), Some(source), Some(table)) = (&args.dataset, &material.source, &material.table) else {
        return Ok(None);
    };
    let data = args.split.of(source);
    let correct = Engine::new(&material.model, table)?.count_correct(data, threads_or_all(args.threads))?;
    Ok(Some(Evaluation {
        dataset: spec.to_string(),
        split: args.split.name().into(),
        correct,
        images: data.len(),
        accuracy: f64::from(correct) / data.len().max(1) as f64,
    }))
}
