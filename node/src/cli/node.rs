//! `podl node`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use podl_rpc::NodeApiClient;
use podl_rpc::types::{IntervalStatus, NodeStatus};
use serde::Serialize;
use serde_json::json;

use super::LogChoice;
use super::output::Out;
use super::remote::{Explain, RemoteArgs, block_on};
use crate::config::{self, CONFIG_FILE};
use crate::paths;

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Run a full node until it is told to stop (Ctrl-C).
    #[command(after_help = "Example: podl node run --chain dev --wallet dev:seat-0 --mine")]
    Run(Box<super::run::RunArgs>),
    /// Write a configuration file with every key explained.
    #[command(after_help = "Example: podl node init --chain testnet --data-dir ~/podl-testnet")]
    Init(InitArgs),
    /// Ask a running node how it fares.
    #[command(after_help = "Example: podl node status --json")]
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// dev, testnet or the path of a specification.
    #[arg(long, default_value = "dev")]
    chain: String,
    /// Data folder of the node [default: that of the chain].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(command: NodeCommand, out: &Out, log: LogChoice) -> anyhow::Result<()> {
    match command {
        NodeCommand::Run(args) => super::run::run(&args, &log),
        NodeCommand::Init(args) => init(&args, out),
        NodeCommand::Status(args) => status(&args, out),
    }
}

fn init(args: &InitArgs, out: &Out) -> anyhow::Result<()> {
    // A name that cannot be loaded now would only fail later.
    podl_chain_spec::ChainSpec::load(&args.chain)?;
    let folder = args.data_dir.clone().unwrap_or_else(|| paths::default_data_dir(&args.chain));
    std::fs::create_dir_all(&folder).with_context(|| format!("the data folder {}", folder.display()))?;
    let path = folder.join(CONFIG_FILE);
    let text = config::template(&[("chain", args.chain.clone())]);
    crate::sealed::create_private(&path, text.as_bytes())?;
    let object = json!({ "config": path, "data_dir": folder, "chain": args.chain });
    out.record(&object, || {
        format!("{} written; start with: podl node run --data-dir {}", path.display(), folder.display())
    })
}

/// What `node status` prints.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    node: NodeStatus,
    interval: IntervalStatus,
}

fn status(args: &StatusArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let status = block_on(async {
        let node = client.public().node_status().await.explain(&client)?;
        let interval = client.public().interval_status().await.explain(&client)?;
        Ok(Status { node, interval })
    })?;
    out.record(&status, || status_text(&status))
}

fn status_text(status: &Status) -> String {
    let (node, interval) = (&status.node, &status.interval);
    let sync = if node.is_syncing { format!("catching up to {}", node.network_height) } else { "caught up".into() };
    let roles = [(node.is_seat, "seat"), (node.is_mining, "miner"), (node.is_pool_manager, "pool manager")];
    let roles: Vec<&str> = roles.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    let roles = if roles.is_empty() { "follows the chain".into() } else { roles.join(", ") };
    let account = node.account.map_or("none".into(), |account| account.to_string());
    let left = interval.remaining_ms.map_or(String::new(), |ms| format!(", {} s left", ms.div_ceil(1000)));
    let phase = format!("{:?}", interval.phase).to_lowercase();
    [
        format!("podl {} ({}) on {} {}", node.version, node.commit, node.chain_name, node.chain),
        format!("head      {} {}, final {}, {sync}", node.head.height, node.head.hash, node.finalised.height),
        format!("peers     {}, {} transactions waiting", node.peers, node.mempool_transactions),
        format!("account   {account}: {roles}"),
        format!("interval  {} {} round {}: {phase}{left}", interval.height, interval.task_name, interval.round),
        format!(
            "seen      {} commitments, {} closings, {} candidates, {} of {} votes",
            interval.commitments,
            interval.closings,
            interval.candidates.len(),
            interval.votes,
            interval.seats
        ),
    ]
    .join("\n")
}
