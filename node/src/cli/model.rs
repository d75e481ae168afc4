//! `podl model`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::types::TaskId;
use podl_consensus::workload::Workload;
use podl_nas::artefact::decode;
use podl_nas::data::{DatasetSpec, input_table};
use podl_nas::engine::Engine;
use podl_rpc::NodeApiClient;
use podl_rpc::client::{CallError, NodeClient};
use podl_rpc::types::ModelEntry;
use serde::Serialize;
use serde_json::json;

use super::nas::{rounded, threads_or_all};
use super::output::{Out, grouped};
use super::progress::Progress;
use super::remote::{Explain, RemoteArgs, block_on};

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// List models that won blocks, newest first.
    #[command(after_help = "Example: podl model list --limit 10")]
    List(ListArgs),
    /// Bring a model home: a task's latest winner, or any model by its root.
    #[command(after_help = "Example: podl model fetch 5a1e… --out winner.podlmodel")]
    Fetch(FetchArgs),
    /// Count the images that a model classifies correctly, in integers, as every full node does.
    #[command(after_help = "Example: podl model eval winner.podlmodel --dataset cifar10:data/cifar10 --json")]
    Eval(EvalArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Of this task only.
    #[arg(long)]
    task: Option<TaskId>,
    /// Most models.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Id of a task, or root of a model.
    id: Hash32,
    /// A new file [default: the first digits of the root, .podlmodel].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// The model.
    file: PathBuf,
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long)]
    dataset: DatasetSpec,
    /// Which images.
    #[arg(long, value_enum, default_value = "test")]
    split: Part,
    /// Where the normalisation comes from: models of filler blocks were made for the filler's fixed one.
    #[arg(long, value_enum, default_value = "dataset")]
    normalisation: Normalisation,
    /// Threads; the result does not depend on them [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Training images.
    Train,
    /// Test images.
    Test,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Normalisation {
    /// Mean and deviation of the data set's training images, as tasks and `podl nas train` have it.
    Dataset,
    /// Byte 128 is 0 and 64 steps are 1.
    Filler,
}

/// What an evaluation found. The names are a stable interface.
#[derive(Serialize)]
struct Evaluation {
    correct: u32,
    images: usize,
    accuracy: f64,
    images_per_second: f64,
    model_root: Hash32,
}

pub(super) fn run(command: ModelCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        ModelCommand::List(args) => list(&args, out),
        ModelCommand::Fetch(args) => fetch(&args, out),
        ModelCommand::Eval(args) => eval(&args, out),
    }
}

fn list(args: &ListArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let models = block_on(async { Ok(client.public().model_list(args.task, args.limit).await.explain(&client)?) })?;
    models.iter().try_for_each(|model| out.record(model, || line(model)))
}

fn line(model: &ModelEntry) -> String {
    format!(
        "{:>8}  {}/{} images  {}  {} round {}  {} bytes",
        model.height,
        model.correct,
        model.images,
        model.model_root,
        model.task_name,
        model.round,
        grouped(model.artefact_bytes.into())
    )
}

/// The model that an id means: the winner of that task, or else the model itself.
async fn resolve(client: &NodeClient, id: Hash32) -> anyhow::Result<Hash32> {
    match client.public().task_get(id).await.explain(client) {
        Ok(task) => match task.summary.last_winner {
            Some(winner) => Ok(winner.model_root),
            None => bail!("task {id} has no winner yet; `podl task show {id}` says where it stands"),
        },
        Err(CallError::Refused(_)) => Ok(id),
        Err(other) => Err(other.into()),
    }
}

fn fetch(args: &FetchArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let (root, bytes) = block_on(async {
        let root = resolve(&client, args.id).await?;
        let spec = client.public().chain_spec().await.explain(&client)?;
        let mut progress = Progress::new("fetch", 0);
        let limit = spec.caps.artefact_bytes.into();
        let bytes = client.blob(root, limit, |done, length| progress.set(done, length, "bytes")).await?;
        Ok((root, bytes))
    })?;
    let path = args.out.clone().unwrap_or_else(|| format!("{}.podlmodel", root.short()).into());
    let mut file = std::fs::File::create_new(&path).with_context(|| format!("a new file {}", path.display()))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(|| format!("writing {}", path.display()))?;
    let object = json!({ "model_root": root, "bytes": bytes.len(), "file": path });
    out.record(&object, || format!("model {root}: {} bytes in {}", grouped(bytes.len() as u64), path.display()))
}

fn eval(args: &EvalArgs, out: &Out) -> anyhow::Result<()> {
    // The widest caps that a chain can have: what a model was trained for is not known here.
    let spec = ChainSpec::load("testnet")?;
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read the model {}", args.file.display()))?;
    let model = decode(&bytes, &spec.caps).with_context(|| format!("{} is not a model", args.file.display()))?;
    let source = args.dataset.load().with_context(|| format!("data set {}", args.dataset))?;
    let table = match args.normalisation {
        Normalisation::Dataset => input_table(&source.train),
        Normalisation::Filler => Workload::filler(&spec).input_table,
    };
    let data = match args.split {
        Part::Train => &source.train,
        Part::Test => &source.test,
    };
    let engine = Engine::new(&model, &table)?;
    let start = Instant::now();
    let correct = engine.count_correct(data, threads_or_all(args.threads))?;
    let seconds = start.elapsed().as_secs_f64();
    let evaluation = Evaluation {
        correct,
        images: data.len(),
        accuracy: f64::from(correct) / data.len().max(1) as f64,
        images_per_second: rounded(data.len() as f64 / seconds.max(1e-9)),
        model_root: Hash32(model.root()),
    };
    out.record(&evaluation, || {
        format!(
            "{correct} of {} images correct ({:.4}), {} images/s, model {}",
            evaluation.images, evaluation.accuracy, evaluation.images_per_second, evaluation.model_root
        )
    })
}
