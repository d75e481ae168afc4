//! `podl node run`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use podl_chain_spec::ChainSpec;
use tokio::signal::unix::{SignalKind, signal};

use super::LogChoice;
use crate::config::{self, NodeConfig};
use crate::logging;
use crate::service::Node;
use crate::wallet::{PassphraseSource, Wallet, WalletRef, wallet_folder};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// dev, testnet, or the path of a specification.
    #[arg(long)]
    chain: Option<String>,
    /// Where chain, keys, blobs and the RPC token lie.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file [default: podl.toml in the data folder].
    #[arg(long, value_name = "FILE", env = "PODL_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Address to listen on for peers; may be given more than once.
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Peer to find the network through (…/p2p/PEER-ID); may be given more than once.
    #[arg(long, value_name = "MULTIADDR")]
    bootnode: Vec<String>,
    /// Address of JSON-RPC, or off.
    #[arg(long, value_name = "ADDR")]
    rpc: Option<String>,
    /// Address of a second server with metrics and health only, or off.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// The account that signs: a file, a name in the wallet folder, or dev:NAME on development chains.
    #[arg(long, value_name = "WALLET")]
    wallet: Option<String>,
    /// File that holds the wallet's passphrase.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Mine with this node's own threads, alone or beside the miners of its pool.
    #[arg(long)]
    mine: bool,
    /// Training threads of that; 0 takes one less than there are cores.
    #[arg(long, value_name = "N")]
    mine_threads: Option<u16>,
    /// Manage a pool that miners join with `podl miner join`.
    #[arg(long)]
    pool_manager: bool,
    /// Any key of the configuration; may be given more than once. `podl node init` writes a file with all of them.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
}

/// Reads `KEY=VALUE`.
fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, got {text:?}"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl RunArgs {
    /// The flags that were given, as the configuration's sources take them.
    fn flags(&self) -> Vec<(String, &str, Vec<String>)> {
        let one =
            |flag: &str, key: &'static str, value: Option<String>| value.map(|v| (format!("--{flag}"), key, vec![v]));
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
        let many = |flag: &str, key: &'static str, list: &Vec<String>| {
            (!list.is_empty()).then(|| (format!("--{flag}"), key, list.clone()))
        };
        let set = self.set.iter().map(|(key, value)| ("--set".to_owned(), key.as_str(), vec![value.clone()]));
        [
            one("chain", "chain", self.chain.clone()),
            one("data-dir", "data_dir", path(&self.data_dir)),
            many("listen", "listen", &self.listen),
            many("bootnode", "bootnodes", &self.bootnode),
            one("rpc", "rpc", self.rpc.clone()),
            one("metrics", "metrics", self.metrics.clone()),
            one("wallet", "wallet", self.wallet.clone()),
            one("password-file", "password_file", path(&self.password_file)),
            one("mine", "mine", self.mine.then(|| "true".to_owned())),
            one("pool-manager", "pool_manager", self.pool_manager.then(|| "true".to_owned())),
            one("mine-threads", "mine_threads", self.mine_threads.map(|n| n.to_string())),
        ]
        .into_iter()
        .flatten()
        .chain(set)
        .collect()
    }
}

pub(super) fn run(args: &RunArgs, log: &LogChoice) -> anyhow::Result<()> {
    let mut flags = args.flags();
    flags.extend(log.filter.iter().map(|filter| ("--log".to_owned(), "log", vec![filter.clone()])));
    flags.extend(log.format.iter().map(|format| ("--log-format".to_owned(), "log_format", vec![format.to_string()])));
    let (config, warnings) = config::load(args.config.as_deref(), config::environment(), &flags)?;
    logging::start(&config.log, config.log_format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let wallet = open_wallet(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("the system gives no threads for the network")?;
    let result = runtime.block_on(serve(&config, wallet));
    // What still runs in the background (a fetch, a long poll) must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

fn open_wallet(config: &NodeConfig) -> anyhow::Result<Option<Wallet>> {
    let Some(name) = &config.wallet else {
        let needs = match (config.mine, config.pool_manager) {
            (true, _) => "mining needs",
            (false, true) => "managing a pool needs",
            (false, false) => return Ok(None),
        };
        anyhow::bail!("{needs} an account: give --wallet, or make one with `podl wallet new`");
    };
    let spec = ChainSpec::load(&config.chain)?;
    let source = PassphraseSource::new(config.password_file.clone());
    Ok(Some(WalletRef::parse(name, &wallet_folder()).open(&spec.name, &source)?))
}

async fn serve(config: &NodeConfig, wallet: Option<Wallet>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut node = Node::start(config, wallet).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = node.ended() => {}
    }
    Ok(node.stop().await?)
}
