//! `podl miner join`: mines until told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar};
use podl_chain_spec::AccountId;
use podl_nas::train::split::{self, Measured, Split};
use podl_pool::drivers::MinerHandle;
use serde::Serialize;
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
/// How long each way to share out the threads is tried.
const MEASURE: Duration = Duration::from_millis(1500);
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
    /// Networks to train at once, which share the threads; each is a miner of its own to the pool. `auto` measures what
    /// is fastest.
    #[arg(long, value_name = "N", default_value = "auto")]
    children: Children,
    /// Most training multiply-accumulates a second, over all children: leaves room for other work, and lets miners of
    /// known speeds run on one machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000_000..))]
    macs_per_second: Option<u64>,
    #[command(flatten)]
    miner: MinerArgs,
}

/// How many networks are trained at once.
#[derive(Clone, Copy, Debug)]
enum Children {
    Auto,
    Fixed(usize),
}

impl std::str::FromStr for Children {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(children @ 1..=64) => Ok(Self::Fixed(children)),
            _ => Err("expected auto, or a number from 1 to 64".into()),
        }
    }
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

/// The first line of a miner.
#[derive(Debug, Serialize)]
struct Joined {
    chain: String,
    /// The miner's name to the pool.
    peer_id: String,
    threads: usize,
    /// Where its pay goes.
    account: AccountId,
}

impl Joined {
    fn text(&self) -> String {
        let Self { chain, peer_id, threads, account } = self;
        format!("joined on {chain} as {peer_id} with {threads} threads; pay goes to {account}")
    }
}

async fn join(args: &JoinArgs, account: AccountId, out: &Out) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let split = split(args, out).await?;
    let mut links = tokio::select! {
        links = open(args, split) => links?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let mut miners = Vec::with_capacity(links.len());
    for link in &links {
        let joined = Joined {
            chain: link.spec.name.clone(),
            peer_id: link.peer_id.to_string(),
            threads: split.threads,
            account,
        };
        out.record(&joined, || joined.text())?;
        let budget = args.macs_per_second.map(|all| all / split.children.max(1) as u64);
        miners.push(link.mine(account, split.threads, budget)?);
    }
    let result = tokio::select! {
        () = watch(&mut links) => Err(anyhow::anyhow!("the network has stopped")),
        shown = show(&miners, out) => shown,
        _ = tokio::signal::ctrl_c() => out.note("stopping: the lease is handed back"),
        _ = terminate.recv() => out.note("stopping: the lease is handed back"),
    };
    let stopping: Vec<_> =
        miners.into_iter().map(|miner| tokio::task::spawn_blocking(move || miner.stop_within(STOP))).collect();
    let stopped = futures::future::join_all(stopping).await;
    futures::future::join_all(links.into_iter().map(PoolLink::close)).await;
    result?;
    stopped.into_iter().try_for_each(|stopped| Ok(stopped??))
}

/// How the threads are shared out: as asked, or as a measurement finds it fastest.
async fn split(args: &JoinArgs, out: &Out) -> anyhow::Result<Split> {
    let threads = args.miner.threads();
    match args.children {
        Children::Fixed(children) => {
            anyhow::ensure!(children <= threads, "{children} children on {threads} threads: each needs one at least");
            return Ok(Split { children, threads: threads / children });
        }
        Children::Auto if threads == 1 => return Ok(Split { children: 1, threads }),
        Children::Auto => {}
    }
    let measured = tokio::task::spawn_blocking(move || split::measure(threads, MEASURE)).await??;
    for Measured { split: Split { children, threads }, images_per_second } in &measured {
        out.note(format!("measured: {children} at once on {threads} threads each, {images_per_second:.0} images/s"))?;
    }
    Ok(split::fastest(&measured).unwrap_or(Split { children: 1, threads }))
}

/// A connection for every child. The first has the miner's own folder, the others have folders within it: each is a
/// miner of its own to the pool.
async fn open(args: &JoinArgs, split: Split) -> anyhow::Result<Vec<PoolLink>> {
    let folder = args.miner.folder();
    let mut links = Vec::with_capacity(split.children);
    for child in 1..=split.children {
        let folder = if child == 1 { folder.clone() } else { folder.join(format!("child-{child}")) };
        links.push(PoolLink::open(args.pool.clone(), args.miner.chain.as_deref(), &folder, true).await?);
    }
    Ok(links)
}

/// Returns when one of the networks has stopped.
async fn watch(links: &mut [PoolLink]) {
    futures::future::select_all(links.iter_mut().map(|link| Box::pin(link.watch()))).await;
}

/// Shows the miners' states until one has stopped by itself: on a terminal one live line each, elsewhere a line when
/// something changes and now and then.
async fn show(miners: &[MinerHandle], out: &Out) -> anyhow::Result<()> {
    let bars = (std::io::stderr().is_terminal() && !out.is_json()).then(MultiProgress::new);
    let bars: Vec<_> = bars.iter().flat_map(|all| miners.iter().map(|_| all.add(ProgressBar::new_spinner()))).collect();
    let mut told: Vec<Option<(Line, Instant)>> = vec![None; miners.len()];
    while !miners.iter().any(MinerHandle::is_stopped) {
        for (index, (miner, told)) in miners.iter().zip(&mut told).enumerate() {
            if let Err(reason) = miner.health() {
                anyhow::bail!("the miner cannot go on: {reason}; start it again");
            }
            let line = Line::new(&miner.status(), (miners.len() > 1).then_some(index + 1));
            if let Some(bar) = bars.get(index) {
                bar.set_message(line.text());
                bar.tick();
            } else if told.as_ref().is_none_or(|(last, at)| last.gist() != line.gist() || at.elapsed() >= LINE_EVERY) {
                out.record(&line, || line.text())?;
                *told = Some((line, Instant::now()));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
