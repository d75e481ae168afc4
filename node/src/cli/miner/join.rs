//! `podl miner join`: mines until told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use podl_chain_spec::AccountId;
use podl_pool::drivers::MinerHandle;
use tokio::signal::unix::{SignalKind, signal};

use super::line::Line;
use super::{MinerArgs, Out, runtime};
use crate::pool_miner::{PoolLink, PoolUrl};
use crate::wallet::{self, KdfCost, PassphraseSource, Wallet, WalletRef, wallet_folder};

/// How long a miner may take to hand in its lease: with the network's end within the ten seconds that stopping may take.
const STOP: Duration = Duration::from_secs(6);
/// How often the status is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Least time between two plain lines that say the same but for progress.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// Name of the wallet that is made for a miner without one.
const WALLET: &str = "miner";

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The pool: a multiaddress that ends in /p2p/ and the manager's peer id.
    #[arg(value_name = "POOL-URL")]
    pool: PoolUrl,
    /// Whom to pay: an address, a wallet, or dev:NAME [default: the wallet `miner`, made on the first run].
    #[arg(long, value_name = "ACCOUNT")]
    pay_to: Option<String>,
    /// File that holds the passphrase for a wallet made now; else PODL_PASSWORD, else podl asks.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    miner: MinerArgs,
}

pub(super) fn run(args: &JoinArgs, out: &Out) -> anyhow::Result<()> {
    let account = pay_to(args, out)?;
    let runtime = runtime()?;
    let result = runtime.block_on(join(args, account, out));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The account that is paid. Only its address is needed, so no passphrase is, unless a wallet is made.
fn pay_to(args: &JoinArgs, out: &Out) -> anyhow::Result<AccountId> {
    let named = args.pay_to.as_deref();
    if let Some(account) = named.and_then(|name| name.parse().ok()) {
        return Ok(account);
    }
    let folder = wallet_folder();
    let place = WalletRef::parse(named.unwrap_or(WALLET), &folder);
    match &place {
        WalletRef::File(path) if named.is_none() && !path.exists() => {
            std::fs::create_dir_all(&folder).with_context(|| format!("the wallet folder {}", folder.display()))?;
            let source = PassphraseSource::new(args.password_file.clone());
            let prompt = "This first run makes a wallet for your pay. A passphrase for it (8 characters or more): ";
            let passphrase = source.choose(prompt).context("name an account with --pay-to, or give a passphrase")?;
            let wallet = Wallet::generate()?;
            wallet::create(path, &wallet, &passphrase, KdfCost::default())?;
            out.note(format!("wallet {} made; back it up with: podl wallet backup miner FILE", path.display()))?;
            Ok(wallet.account())
        }
        _ => Ok(place.account()?),
    }
}

async fn join(args: &JoinArgs, account: AccountId, out: &Out) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let folder = args.miner.folder();
    let opening = PoolLink::open(args.pool.clone(), args.miner.chain.as_deref(), &folder, true);
    let mut link = tokio::select! {
        link = opening => link?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let threads = args.miner.threads();
    let (chain, peer) = (link.spec.name.clone(), link.peer_id);
    out.note(format!("joined on {chain} as {peer} with {threads} threads; pay goes to {account}"))?;
    let miner = link.mine(account, threads)?;
    let result = tokio::select! {
        () = link.watch() => Err(anyhow::anyhow!("the network has stopped")),
        shown = show(&miner, out) => shown,
        _ = tokio::signal::ctrl_c() => out.note("stopping: the lease is handed back"),
        _ = terminate.recv() => out.note("stopping: the lease is handed back"),
    };
    let stopped = tokio::task::spawn_blocking(move || miner.stop_within(STOP)).await?;
    link.close().await;
    result?;
    Ok(stopped?)
}

/// Shows the miner's state until it has stopped by itself: on a terminal one live line, elsewhere a line when something
/// changes and now and then.
async fn show(miner: &MinerHandle, out: &Out) -> anyhow::Result<()> {
    let bar = (std::io::stderr().is_terminal() && !out.is_json()).then(ProgressBar::new_spinner);
    let (mut last, mut at): (Option<Line>, Instant) = (None, Instant::now());
    while !miner.is_stopped() {
        let line = Line::from(&miner.status());
        if let Some(bar) = &bar {
            bar.set_message(line.text());
            bar.tick();
        } else if last.as_ref().is_none_or(|last| last.gist() != line.gist() || at.elapsed() >= LINE_EVERY) {
            out.record(&line, || line.text())?;
            (last, at) = (Some(line), Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
