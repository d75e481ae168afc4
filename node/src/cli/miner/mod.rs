//! `podl miner`: mine for somebody else's pool.

mod check;
mod join;
mod line;
mod outlook;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::output::Out;
use crate::pool_miner::default_folder;

/// What `podl miner join --help` ends with.
const JOIN_HELP: &str = "\
Example: podl miner join /ip4/192.0.2.7/tcp/9743/p2p/12D3KooW… --threads 2

The line shows the lease and when it will be done; class and speed; the pool's best network, as a part of the images that it is
ranked by; the share of the pay window; PODL paid, pending until their blocks are final, and what a block won now would pay (in
brackets what the intervals of one pay window will likely bring); how many of the last intervals the pool won; results and
audits passed. What is zero is left out. With --json all of it, amounts in millionths of a PODL.";

#[derive(Debug, Subcommand)]
pub(super) enum MinerCommand {
    /// Test machine and connection before joining.
    #[command(after_help = "Example: podl miner check /ip4/192.0.2.7/tcp/9743/p2p/12D3KooW…")]
    Check(check::CheckArgs),
    /// Join a pool and mine until told to stop (Ctrl-C), which hands the lease back. No funds are needed.
    #[command(after_help = JOIN_HELP)]
    Join(join::JoinArgs),
}

/// Who the miner is, and on which chain.
#[derive(Debug, Args)]
pub(super) struct MinerArgs {
    /// dev, testnet or the path of a specification [default: whichever of the first two the pool is on].
    #[arg(long)]
    chain: Option<String>,
    /// Folder of the miner's identity and of fetched data; one a miner [default: miner in podl's data folder].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Training threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
}

impl MinerArgs {
    fn folder(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_folder)
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.map_or_else(cores, usize::from)
    }
}

pub(super) fn run(command: MinerCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        MinerCommand::Check(args) => check::run(&args, out),
        MinerCommand::Join(args) => join::run(&args, out),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("the system gives no threads for the network")
}
