//! `podl task`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use podl_chain_spec::Amount;
use podl_consensus::types::TaskId;
use podl_consensus::workload::{PRESET_NAMES, Space};
use podl_nas::data::DatasetSpec;
use podl_rpc::types::{LIST_LIMIT, PublishRequest, TaskDetail, TaskSummary};
use podl_rpc::{AdminApiClient, NodeApiClient};
use serde_json::json;

use super::bounds::BoundsArgs;
use super::output::{Out, grouped};
use super::remote::{Explain, OperatorArgs, RemoteArgs, absolute, block_on};
use super::wallet::wait_final;

#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    /// Publish a data set as a task; the node's wallet pays.
    #[command(after_help = "Example: podl task publish --name birds --dataset cifar10:data/cifar10 --space S2 \
                            --lut 100000 --throughput 1000 --reward 20 --rounds 5")]
    Publish(Box<PublishArgs>),
    /// List tasks.
    #[command(after_help = "Example: podl task list --all --json")]
    List(ListArgs),
    /// Show a task.
    #[command(after_help = "Example: podl task show 5a1e…")]
    Show(ShowArgs),
    /// Withdraw a task of the node's account; unspent rewards and the bond return.
    #[command(after_help = "Example: podl task cancel 5a1e…")]
    Cancel(CancelArgs),
}

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// For people, 1 to 64 characters.
    #[arg(long)]
    name: String,
    /// builtin[:SEED], cifar10:DIR, idx:DIR or images:DIR[@HxW].
    #[arg(long)]
    dataset: DatasetSpec,
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    bounds: BoundsArgs,
    /// What each round pays, in PODL.
    #[arg(long)]
    reward: Amount,
    /// Number of rounds, each with a test shard of its own.
    #[arg(long)]
    rounds: u32,
    /// Images of each test shard [default: the test images shared out evenly].
    #[arg(long)]
    shard_images: Option<u32>,
    /// Training images held back for search [default: a tenth].
    #[arg(long)]
    validation_images: Option<u32>,
    /// Epochs that you reckon with; more make the task harder, and so later in rank.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: u16,
    /// Bond in PODL, burned if a key is not released [default: one round's reward].
    #[arg(long)]
    bond: Option<Amount>,
    /// By how many images a later winner must beat the one before.
    #[arg(long, default_value_t = 1)]
    min_gain: u32,
    /// Where the second copy of the shard keys goes [default: beside the first].
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    /// Wait until the task is in a final block.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// A search space.
#[derive(Debug, Args)]
pub(super) struct SpaceArgs {
    /// Search space: full, S1 to S9, or a JSON file.
    #[arg(long, default_value = "full")]
    pub(super) space: String,
    /// Convolution layers of a named space.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(super) layers: u8,
}

impl SpaceArgs {
    /// The space that is meant.
    pub(super) fn read(&self) -> anyhow::Result<Space> {
        if let Some(space) = Space::preset(&self.space, self.layers) {
            return Ok(space);
        }
        let names = PRESET_NAMES.join(", ");
        let text = std::fs::read_to_string(&self.space)
            .with_context(|| format!("--space {}: neither one of {names} nor a file that can be read", self.space))?;
        serde_json::from_str(&text).with_context(|| format!("--space {} is not a search space", self.space))
    }
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Those that ended, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The task's id.
    id: TaskId,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The task's id.
    id: TaskId,
    #[command(flatten)]
    operator: OperatorArgs,
}

pub(super) fn run(command: TaskCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        TaskCommand::Publish(args) => publish(&args, out),
        TaskCommand::List(args) => list(&args, out),
        TaskCommand::Show(args) => show(&args, out),
        TaskCommand::Cancel(args) => cancel(&args, out),
    }
}

fn publish(args: &PublishArgs, out: &Out) -> anyhow::Result<()> {
    let request = PublishRequest {
        name: args.name.clone(),
        // The node may work in another folder.
        dataset: args.dataset.clone().absolute().context("--dataset")?.to_string(),
        space: args.space.read()?,
        bounds: args.bounds.read(),
        reward: args.reward,
        rounds: args.rounds,
        shard_images: args.shard_images,
        validation_images: args.validation_images,
        epochs: args.epochs,
        bond: args.bond,
        min_gain: args.min_gain,
        backup: args.backup.as_deref().map(absolute).transpose()?,
    };
    let client = args.operator.connect()?;
    block_on(async {
        let reply = client.admin()?.admin_publish_task(request).await.explain(&client)?;
        out.record(&reply, || {
            format!(
                "task {} published for {} PODL\nshard keys  {}\ncopy        {}  (keep it elsewhere: without keys the bond is burned)",
                reply.task,
                reply.cost,
                reply.key_file.display(),
                reply.backup_file.display()
            )
        })?;
        if args.wait { wait_final(&client, reply.tx, out).await } else { Ok(()) }
    })
}

fn list(args: &ListArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let tasks = block_on(async { Ok(client.public().task_list(args.all, LIST_LIMIT).await.explain(&client)?) })?;
    if tasks.is_empty() {
        out.note("no tasks; `podl task publish` makes one, until then intervals work on filler data")?;
    }
    tasks.iter().try_for_each(|task| out.record(task, || summary_text(task)))
}

fn summary_text(task: &TaskSummary) -> String {
    let phase = format!("{:?}", task.phase).to_lowercase();
    let spent = task.next_round.saturating_sub(1).min(task.rounds);
    format!("{}  {phase:<9} {spent}/{} rounds  {} PODL each  {}", task.id, task.rounds, task.reward, task.name)
}

fn show(args: &ShowArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let task = block_on(async { Ok(client.public().task_get(args.id).await.explain(&client)?) })?;
    out.record(&task, || detail_text(&task))
}

fn detail_text(task: &TaskDetail) -> String {
    let summary = &task.summary;
    let mut text = format!(
        "{}\npublisher   {}\ndata        {} training images of {}x{}x{}, {} classes, {} bytes\nshards      {} of {} images\n\
         bounds      {} LUT, over {} images/s\nmoney       {} PODL in escrow, {} PODL bond\nready       {} seats",
        summary_text(summary),
        summary.publisher,
        grouped(task.train_images.into()),
        task.input.channels,
        task.input.height,
        task.input.width,
        task.classes,
        grouped(task.data.bytes),
        summary.rounds,
        task.shard_images,
        grouped(task.bounds.lut),
        grouped(task.bounds.throughput),
        task.escrow,
        task.bond,
        summary.ready,
    );
    if let Some(winner) = &summary.last_winner {
        text += &format!(
            "\nwinner      round {}: {} of {} images, model {} of {}",
            winner.round, winner.correct, task.shard_images, winner.model_root, winner.owner
        );
    }
    text
}

fn cancel(args: &CancelArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.operator.connect()?;
    let tx = block_on(async { Ok(client.admin()?.admin_cancel_task(args.id).await.explain(&client)?) })?;
    let object = json!({ "task": args.id, "tx": tx });
    out.record(&object, || format!("task {} will be cancelled: transaction {tx}", args.id))
}
