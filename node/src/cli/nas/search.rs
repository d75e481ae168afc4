//! `podl nas search`: searches a space for networks, each trained and scored in integers; goes on where it was killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use clap::Args;
use podl_chain_spec::Hash32;
use podl_consensus::workload::{Architecture, Bounds, InputShape, Network, Space};
use podl_nas::artefact::Model;
use podl_nas::cost::{CostModel, evaluate};
use podl_nas::data::{Dataset, DatasetSpec, SplitPlan, input_table, split};
use podl_nas::engine::Engine;
use podl_nas::search::{MOST_REWARD, Search, SearchBox, SearchConfig, StrategyKind, starting_points};
use podl_nas::train::{Outcome, ThreadPool, TrainConfig, TrainError, TrainJob, train_child};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::bounds::SearchBoundsArgs;
use super::super::output::Out;
use super::super::progress::Progress;
use super::super::task::SpaceArgs;
use super::{rounded, seed_bytes, threads_or_all, write_replacing};

/// The search's events, in the output folder.
const JOURNAL: &str = "journal.jsonl";
/// What the search was started with; a search goes on with the same only.
const SETTINGS: &str = "settings.json";

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long, default_value = "builtin")]
    dataset: DatasetSpec,
    #[command(flatten)]
    space: SpaceArgs,
    /// hill-climb, evolution, random or reinforce.
    #[arg(long, default_value = "hill-climb")]
    strategy: StrategyKind,
    /// Networks to train, those of a search that goes on included.
    #[arg(long, default_value_t = 20)]
    episodes: u64,
    /// Seed of the strategy, the weights and the data order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder of the journal, the best architecture and the best model; a search found there goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    bounds: SearchBoundsArgs,
    /// Passes over the training images for each network.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Use N training images only.
    #[arg(long, value_name = "N")]
    train: Option<usize>,
    /// Training images held back to compare networks on [default: a tenth].
    #[arg(long, value_name = "N")]
    validation: Option<usize>,
    /// Threads; the result does not depend on them [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Everything that a search's results follow from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    dataset: String,
    space: Space,
    strategy: StrategyKind,
    seed: u64,
    bounds: Bounds,
    epochs: u32,
    train_images: usize,
    validation_images: usize,
}

impl Settings {
    /// Those of the folder if there are any, which must be these.
    fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(SETTINGS);
        let ours = serde_json::to_value(self)?;
        let Ok(text) = std::fs::read_to_string(&path) else {
            return write_replacing(&path, format!("{ours:#}\n").as_bytes());
        };
        let theirs: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        for (name, value) in ours.as_object().into_iter().flatten() {
            if theirs.get(name) != Some(value) {
                bail!(
                    "{} holds a search with another {name}; give another --out, or the same settings",
                    folder.display()
                );
            }
        }
        Ok(())
    }
}

/// The data of a search.
struct Material {
    table: Vec<Vec<i16>>,
    train: Dataset,
    validation: Dataset,
}

impl Material {
    fn load(args: &SearchArgs) -> anyhow::Result<Self> {
        let source = args.dataset.load().with_context(|| format!("data set {}", args.dataset))?;
        let validation_images = args.validation.unwrap_or(source.train.len() / 10);
        let plan = SplitPlan { validation_images, shards: 0, shard_images: 1, seed: seed_bytes(args.seed) };
        let cut = split(&source, &plan)?;
        if cut.validation.is_empty() {
            bail!("there are no images to compare networks on; give --validation at least 1");
        }
        let train = cut.train.head(args.train.unwrap_or(cut.train.len()));
        Ok(Self { table: input_table(&source.train), train, validation: cut.validation })
    }
}

/// One trained network. The names are a stable interface.
#[derive(Debug, Serialize)]
struct Episode<'a> {
    episode: u64,
    accuracy: f64,
    correct: u32,
    images: usize,
    best_accuracy: f64,
    is_best: bool,
    model_root: Option<Hash32>,
    train_images_per_second: f64,
    architecture: &'a Architecture,
}

pub(crate) fn run(args: &SearchArgs, out: &Out) -> anyhow::Result<()> {
    let space = args.space.read()?;
    let material = Material::load(args)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("the folder {}", args.out.display()))?;
    let bounds = args.bounds.read();
    let settings = Settings {
        dataset: args.dataset.to_string(),
        space: space.clone(),
        strategy: args.strategy,
        seed: args.seed,
        bounds,
        epochs: args.epochs,
        train_images: material.train.len(),
        validation_images: material.validation.len(),
    };
    settings.keep(&args.out)?;
    let search_box = SearchBox::from_space(&space)?;
    let starts = starting_points(&search_box).into_iter().map(|point| point.architecture).collect();
    let config = SearchConfig { strategy: args.strategy, search_box, seed: seed_bytes(args.seed), starts };
    let journal = args.out.join(JOURNAL);
    let mut search = Search::open(config, filter(bounds, material.train.shape), Some(&journal))?;
    if search.episodes() > 0 {
        out.note(format!("going on after {} episodes", search.episodes()))?;
    }
    let pool = Arc::new(ThreadPool::new(threads_or_all(args.threads))?);
    while search.episodes() < args.episodes {
        episode(args, &space, &material, &mut search, &pool, out)?;
    }
    let best = search.best().map(|(architecture, reward)| (architecture.clone(), reward));
    if let Some((_, reward)) = best {
        out.note(format!(
            "best of {} networks: {:.4} on {} images; {}",
            search.episodes(),
            f64::from(reward) / f64::from(MOST_REWARD),
            material.validation.len(),
            args.out.join("best.json").display()
        ))?;
    }
    Ok(())
}

fn filter(bounds: Bounds, input: InputShape) -> Box<dyn Fn(&Architecture) -> bool + Send> {
    Box::new(move |architecture| {
        // What the model cannot express is as good as infeasible.
        matches!(evaluate(CostModel::Corrected, architecture, input, bounds), Ok(Some(_)))
    })
}

/// Trains, scores and records one network.
fn episode(
    args: &SearchArgs,
    space: &Space,
    material: &Material,
    search: &mut Search,
    pool: &Arc<ThreadPool>,
    out: &Out,
) -> anyhow::Result<()> {
    let architecture = search.next()?;
    let before = search.best().map_or(0, |(_, reward)| reward);
    let network = Network::new(&architecture, material.train.shape, material.train.classes, space.dense)?;
    let trained = train(args, &network, material, pool, search.episodes())?;
    let images = material.validation.len();
    let (correct, root) = match &trained {
        Some(outcome) => {
            let engine = Engine::new(&outcome.model, &material.table)?;
            (engine.count_correct(&material.validation, pool.threads())?, Some(Hash32(outcome.model.root())))
        }
        None => (0, None),
    };
    let reward = u32::try_from(u64::from(correct) * u64::from(MOST_REWARD) / images as u64)?;
    let is_best = trained.is_some() && (reward > before || search.best().is_none());
    if let Some(outcome) = trained.as_ref().filter(|_| is_best) {
        write_best(&args.out, &architecture, &outcome.model)?;
    }
    let note = json!({ "correct": correct, "images": images, "model_root": root });
    let number = search.record(&architecture, reward, note)?;
    let line = Episode {
        episode: number,
        accuracy: f64::from(correct) / images as f64,
        correct,
        images,
        best_accuracy: f64::from(before.max(reward)) / f64::from(MOST_REWARD),
        is_best,
        model_root: root,
        train_images_per_second: rounded(trained.map_or(0.0, |outcome| outcome.images_per_second)),
        architecture: &architecture,
    };
    out.record(&line, || {
        let star = if is_best { "  best so far" } else { "" };
        let shape: Vec<String> =
            architecture.layers.iter().map(|l| format!("{}x{}:{}", l.kernel[0], l.kernel[1], l.filters)).collect();
        format!("{number:>5}  {:.4}  {}{star}", line.accuracy, shape.join(" "))
    })
}

/// The trained network, or `None` when training diverges: such a network earns nothing.
fn train(
    args: &SearchArgs,
    network: &Network,
    material: &Material,
    pool: &Arc<ThreadPool>,
    number: u64,
) -> anyhow::Result<Option<Outcome>> {
    let config = TrainConfig { epochs: args.epochs, ..TrainConfig::default() };
    let job = TrainJob {
        network,
        input_table: &material.table,
        data: &material.train,
        config: &config,
        seed: seed_bytes(args.seed),
    };
    let mut progress = Progress::new(&format!("network {number}"), 0);
    let cancel = Arc::new(AtomicBool::new(false));
    let trained = train_child(&job, pool, &cancel, &mut |p| {
        let done = u64::from(p.epoch) * p.of as u64 + p.batches as u64;
        progress.set(done, u64::from(args.epochs) * p.of as u64, &format!("loss {:.3}", p.loss));
    });
    match trained {
        Ok(outcome) => Ok(Some(outcome)),
        Err(TrainError::Diverged { epoch, batch }) => {
            tracing::warn!(epoch, batch, "training diverged; the network counts as 0");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_best(folder: &Path, architecture: &Architecture, model: &Model) -> anyhow::Result<()> {
    let text = format!("{}\n", serde_json::to_string(architecture)?);
    write_replacing(&folder.join("best.json"), text.as_bytes())?;
    write_replacing(&folder.join("best.podlmodel"), &model.encode())
}
