//! `podl nas search`: searches a space for networks, each trained and scored in integers; goes on where it was killed.

mod checkpoints;
mod episode;
mod material;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use podl_consensus::workload::{Architecture, Bounds, InputShape};
use podl_nas::cost::{CostModel, evaluate};
use podl_nas::data::DatasetSpec;
use podl_nas::search::{
    MOST_REWARD, Rungs, Search, SearchBox, SearchConfig, StrategyKind, chance_reward, starting_points,
};
use podl_nas::train::{Precision, ThreadPool, TrainConfig};

use super::super::bounds::SearchBoundsArgs;
use super::super::output::Out;
use super::super::task::SpaceArgs;
use super::training::TrainingArgs;
use super::{seed_bytes, threads_or_all};
use checkpoints::Checkpoints;
use episode::Workshop;
use material::Material;
pub(super) use settings::{SETTINGS, Settings};

/// The search's events, in the output folder.
pub(super) const JOURNAL: &str = "journal.jsonl";
const BEST_ARCHITECTURE: &str = "best.json";
const BEST_MODEL: &str = "best.podlmodel";

/// Rungs of `--rungs` without a list.
const USUAL_RUNGS: &str = "1,3,10,30";

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long, default_value = "builtin")]
    dataset: DatasetSpec,
    #[command(flatten)]
    space: SpaceArgs,
    /// predictor, hill-climb, evolution, random or reinforce.
    #[arg(long, default_value = "predictor")]
    strategy: StrategyKind,
    /// Networks to try, those of a search that goes on included.
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
    /// Stop early (ASHA): networks are compared after these epochs, the best third of each rung is trained on.
    #[arg(long, value_name = "LIST", num_args = 0..=1, default_missing_value = USUAL_RUNGS, conflicts_with = "epochs")]
    rungs: Option<Rungs>,
    /// When weights and activations are quantised.
    #[arg(long, value_enum, default_value = "aware")]
    quantisation: Quantisation,
    #[command(flatten)]
    training: TrainingArgs,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Quantisation {
    /// While training, so that networks learn with the bits they have.
    Aware,
    /// After training in floating point only, as the published curves were made: most networks stay at chance level.
    Post,
}

impl SearchArgs {
    fn rungs(&self) -> Rungs {
        self.rungs.clone().unwrap_or_else(|| Rungs::one(self.epochs))
    }

    /// Training to the last rung. A set smaller than a batch is one batch.
    fn training(&self, images: usize) -> TrainConfig {
        let precision = match self.quantisation {
            Quantisation::Aware => Precision::Quantised,
            Quantisation::Post => Precision::Float,
        };
        let config = self.training.config(self.rungs().last(), precision);
        TrainConfig { batch: config.batch.min(images), ..config }
    }
}

pub(crate) fn run(args: &SearchArgs, out: &Out) -> anyhow::Result<()> {
    // Before the data set is read, which may take a while.
    args.training.device.check()?;
    let space = args.space.read()?;
    let material = Material::load(args)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("the folder {}", args.out.display()))?;
    let settings = Settings {
        dataset: args.dataset.to_string(),
        input: material.train.shape,
        space,
        strategy: args.strategy,
        seed: args.seed,
        bounds: args.bounds.read(),
        rungs: args.rungs(),
        training: args.training(material.train.len()),
        device: args.training.device.to_string(),
        train_images: material.train.len(),
        validation_images: material.validation.len(),
    };
    settings.keep(&args.out)?;
    let mut search = open(args, &settings, &material)?;
    if search.episodes() > 0 {
        out.note(format!("going on after {} networks", search.episodes()))?;
    }
    let pool = Arc::new(ThreadPool::new(threads_or_all(args.threads))?);
    let (folder, checkpoints) = (args.out.as_path(), Checkpoints::open(&args.out)?);
    let device = args.training.device;
    let workshop = Workshop { settings: &settings, material: &material, device, folder, checkpoints, pool };
    while search.episodes() < args.episodes {
        let job = search.next()?;
        workshop.run(&mut search, &job, out)?;
    }
    while let Some(job) = search.next_to_the_end() {
        workshop.run(&mut search, &job, out)?;
    }
    conclusion(args, &search, &material, out)
}

fn open(args: &SearchArgs, settings: &Settings, material: &Material) -> anyhow::Result<Search> {
    let search_box = SearchBox::from_space(&settings.space)?;
    let starts = starting_points(&search_box).into_iter().map(|point| point.architecture).collect();
    let config = SearchConfig {
        strategy: settings.strategy,
        search_box,
        seed: seed_bytes(settings.seed),
        starts,
        rungs: settings.rungs.clone(),
        chance: chance_reward(material.train.classes, material.validation.len()),
    };
    let filter = filter(settings.bounds, material.train.shape);
    Ok(Search::open(config, filter, Some(&args.out.join(JOURNAL)))?)
}

fn filter(bounds: Bounds, input: InputShape) -> Box<dyn Fn(&Architecture) -> bool + Send> {
    Box::new(move |architecture| {
        // What the model cannot express is as good as infeasible.
        matches!(evaluate(CostModel::Corrected, architecture, input, bounds), Ok(Some(_)))
    })
}

fn conclusion(args: &SearchArgs, search: &Search, material: &Material, out: &Out) -> anyhow::Result<()> {
    let Some((_, reward)) = search.best() else { return Ok(()) };
    out.note(format!(
        "best of {} networks: {:.4} on {} images; {}",
        search.episodes(),
        f64::from(reward) / f64::from(MOST_REWARD),
        material.validation.len(),
        args.out.join(BEST_MODEL).display()
    ))
}
