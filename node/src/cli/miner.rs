//! `podl miner`: mine for somebody else's pool.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use podl_chain_spec::AccountId;
use podl_consensus::workload::Network;
use podl_nas::search::{SearchBox, starting_points};
use podl_nas::train::{kernels, training_bytes};
use podl_pool::calibration;
use podl_pool::drivers::{MinerStatus, PoolTransport};
use podl_pool::protocol::{self, Reply, Request, Standing};
use podl_pool::types::Class;
use serde::Serialize;

use tokio::signal::unix::{SignalKind, signal};

use super::output::{Out, grouped};
use crate::pool_miner::{PoolLink, PoolUrl, default_folder};
use crate::wallet::{self, KdfCost, PassphraseSource, Wallet, WalletRef, wallet_folder};

/// How long a miner may take to hand in its lease: with the network's end within the ten seconds that stopping may take.
const STOP: Duration = Duration::from_secs(6);
/// How often the status is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Least time between two plain lines that say the same but for progress.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// How long the speed test of `podl miner check` takes, about.
const SPEED_TEST_MS: u64 = 2_000;
/// Name of the wallet that is made for a miner without one.
const WALLET: &str = "miner";

#[derive(Debug, Subcommand)]
pub(super) enum MinerCommand {
    /// Test machine and connection before joining.
    #[command(after_help = "Example: podl miner check /ip4/192.0.2.7/tcp/9743/p2p/12D3KooW…")]
    Check(CheckArgs),
    /// Join a pool and mine until told to stop (Ctrl-C), which hands the lease back. No funds are needed.
    #[command(after_help = "Example: podl miner join /ip4/192.0.2.7/tcp/9743/p2p/12D3KooW… --threads 2")]
    Join(JoinArgs),
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

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The pool [default: only the machine is tested].
    #[arg(value_name = "POOL-URL")]
    pool: Option<PoolUrl>,
    #[command(flatten)]
    miner: MinerArgs,
}

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
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

pub(super) fn run(command: MinerCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        MinerCommand::Check(args) => check(&args, out),
        MinerCommand::Join(args) => {
            let account = pay_to(&args, out)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.context("the system gives no threads for the network")?;
            let result = runtime.block_on(join(&args, account, out));
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        }
    }
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

/// What `podl miner join --json` prints, a line whenever something changes.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
struct Line {
    stage: String,
    class: Option<&'static str>,
    speed_macs_s: u64,
    strong_from_macs_s: u64,
    lease_permille: Option<u64>,
    pool_best_permille: Option<u16>,
    unpaid_macs: u64,
    share_ppm: u64,
    accepted: u32,
    refused: u32,
    refusal: Option<String>,
}

impl From<&MinerStatus> for Line {
    fn from(status: &MinerStatus) -> Self {
        let standing = status.standing.as_ref();
        let number = |read: fn(&Standing) -> u64| standing.map_or(0, read);
        let share = |s: &Standing| u128::from(s.unpaid_macs) * 1_000_000 / u128::from(s.pool_unpaid_macs.max(1));
        Self {
            stage: format!("{:?}", status.stage).to_lowercase(),
            class: standing.map(|s| if s.class == Class::Strong { "strong" } else { "weak" }),
            speed_macs_s: number(|s| s.speed_macs_s),
            strong_from_macs_s: number(|s| s.strong_from_macs_s),
            lease_permille: status.progress_permille.map(|p| p.min(1000)),
            pool_best_permille: status.best.as_ref().map(|best| best.permille),
            unpaid_macs: number(|s| s.unpaid_macs),
            share_ppm: standing.map_or(0, |s| u64::try_from(share(s)).unwrap_or(0)),
            accepted: standing.map_or(0, |s| s.accepted),
            refused: standing.map_or(0, |s| s.rejected),
            refusal: status.refusal.map(|r| r.to_string()),
        }
    }
}

impl Line {
    /// The line without what changes all the time.
    fn gist(&self) -> Self {
        Self {
            lease_permille: None,
            speed_macs_s: 0,
            unpaid_macs: 0,
            share_ppm: 0,
            strong_from_macs_s: 0,
            ..self.clone()
        }
    }

    fn text(&self) -> String {
        let mut parts = vec![self.stage.clone()];
        parts.extend(self.class.map(|class| {
            let (speed, border) =
                (grouped(self.speed_macs_s / 1_000_000), grouped(self.strong_from_macs_s / 1_000_000));
            format!("{class} ({speed} MMAC/s, strong from {border})")
        }));
        parts.extend(self.lease_permille.map(|p| format!("lease {} %", p / 10)));
        parts.extend(self.pool_best_permille.map(|p| format!("pool's best {}.{:03}", p / 1000, p % 1000)));
        if self.unpaid_macs > 0 {
            parts.push(format!(
                "{}.{} % of the pool's unpaid work",
                self.share_ppm / 10_000,
                self.share_ppm / 1000 % 10
            ));
        }
        parts.push(format!("{} results taken, {} refused", self.accepted, self.refused));
        parts.join(" · ")
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
async fn show(miner: &podl_pool::drivers::MinerHandle, out: &Out) -> anyhow::Result<()> {
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

/// One test of `podl miner check`.
#[derive(Debug, Serialize)]
struct Finding {
    test: &'static str,
    ok: bool,
    found: String,
    /// What to do when it is not well.
    remedy: Option<String>,
}

fn check(args: &CheckArgs, out: &Out) -> anyhow::Result<()> {
    let mut findings = vec![cores(args), kernel()];
    findings.extend([speed(args), memory(args), disk(args)]);
    if let Some(pool) = &args.pool {
        findings.extend(pool_findings(args, pool)?);
    }
    for finding in &findings {
        out.record(finding, || {
            let remedy = finding.remedy.as_ref().map_or(String::new(), |r| format!(": {r}"));
            format!("{}  {:<10} {}{remedy}", if finding.ok { "ok  " } else { "FAIL" }, finding.test, finding.found)
        })?;
    }
    let failed: Vec<&str> = findings.iter().filter(|f| !f.ok).map(|f| f.test).collect();
    anyhow::ensure!(failed.is_empty(), "not ready to mine: {}; see above", failed.join(", "));
    Ok(())
}

fn found(test: &'static str, ok: bool, found: String, remedy: &str) -> Finding {
    Finding { test, ok, found, remedy: (!ok).then(|| remedy.to_owned()) }
}

fn cores(args: &CheckArgs) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.miner.threads();
    let text = format!("{threads} training threads on {cores} cores");
    found("cores", threads <= cores, text, "more threads than cores train slower; lower --threads")
}

fn kernel() -> Finding {
    let text = format!("training kernels use {}", kernels::simd::Isa::detect().name());
    found("kernels", true, text, "")
}

fn speed(args: &CheckArgs) -> Finding {
    let one = calibration::CalibrationJob { seed: [7; 32], steps: 8 };
    let measure = |job: &calibration::CalibrationJob| {
        let start = Instant::now();
        let answered = calibration::answer(job, args.miner.threads()).is_some();
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        (answered, calibration::job_macs(job).saturating_mul(1000) / ms)
    };
    let (_, first) = measure(&one);
    let (answered, macs_s) = measure(&calibration::job_for([8; 32], first, SPEED_TEST_MS));
    let text = format!("{} million multiply-accumulates a second in the integer engine", grouped(macs_s / 1_000_000));
    found("speed", answered, text, "the integer engine failed; check for faulty memory")
}

/// Memory of the largest network that miners begin with on the paper's space.
fn memory(args: &CheckArgs) -> Finding {
    let space = podl_consensus::workload::Space::full(6);
    let starts = SearchBox::from_space(&space).map(|search_box| starting_points(&search_box)).unwrap_or_default();
    let input = podl_consensus::workload::InputShape::CIFAR;
    let networks = starts.iter().filter_map(|start| Network::new(&start.architecture, input, 10, space.dense).ok());
    let need = networks.map(|network| training_bytes(&network, 32, args.miner.threads())).max().unwrap_or(0) >> 20;
    let have = available_mib();
    let text = match have {
        Some(have) => format!("about {need} MiB for training and the data set, {have} MiB are free"),
        None => format!("about {need} MiB for training and the data set"),
    };
    found("memory", have.is_none_or(|have| have > need * 2), text, "close other programs")
}

fn available_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kib| kib >> 10)
}

fn disk(args: &CheckArgs) -> Finding {
    let folder = args.miner.folder();
    let made = std::fs::create_dir_all(&folder);
    let free = podl_storage::free_disk_bytes(&folder).unwrap_or(0) >> 20;
    let text = format!("{} MiB free in {}", grouped(free), folder.display());
    found("disk", made.is_ok() && free >= 1024, text, "choose another --data-dir with 1 GiB or more")
}

fn pool_findings(args: &CheckArgs, pool: &PoolUrl) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("the system gives no threads for the network")?;
    let opened =
        runtime.block_on(PoolLink::open(pool.clone(), args.miner.chain.as_deref(), &args.miner.folder(), false));
    let link = match opened {
        Ok(link) => link,
        Err(error) => {
            return Ok(vec![Finding { test: "connection", ok: false, found: error.to_string(), remedy: None }]);
        }
    };
    let text = format!("connected on {} as {}", link.spec.name, link.peer_id);
    let mut findings = vec![found("connection", true, text, "")];
    let transport = runtime.block_on(async { link.transport() });
    findings.push(greeting(&transport));
    runtime.block_on(link.close());
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(findings)
}

/// Says hello and good-bye.
fn greeting(transport: &dyn PoolTransport) -> Finding {
    let account = AccountId([0; 32]);
    let hello = Request::Hello { version: protocol::VERSION, account, agent: format!("podl/{} check", crate::VERSION) };
    let start = Instant::now();
    let answer = transport.request(protocol::encode(&hello)).map_err(|e| e.to_string());
    let ms = start.elapsed().as_millis();
    let reply = answer.and_then(|bytes| protocol::decode_reply(&bytes).map_err(|e| e.to_string()));
    // The pool forgets a miner that never worked.
    let _ = transport.request(protocol::encode(&Request::Leave));
    match reply {
        Ok(Reply::Welcome { fee_basis_points, .. }) => {
            let fee = format!("{}.{:02} %", fee_basis_points / 100, fee_basis_points % 100);
            found("pool", true, format!("welcomed in {ms} ms; it keeps {fee} of each reward"), "")
        }
        Ok(Reply::Refused { refusal, .. }) => {
            Finding { test: "pool", ok: false, found: refusal.to_string(), remedy: None }
        }
        Ok(other) => found("pool", false, format!("an answer that does not fit: {other:?}"), "update podl"),
        Err(reason) => found("pool", false, reason, "ask the pool's operator whether --pool-manager is on"),
    }
}

#[cfg(test)]
mod tests {
    use podl_pool::miner::Stage;

    use super::*;

    #[test]
    fn the_line_says_what_a_miner_wants_to_know() {
        let standing = Standing {
            class: Class::Weak,
            speed_macs_s: 1_234_000_000,
            strong_from_macs_s: 2_000_000_000,
            unpaid_macs: 25,
            pool_unpaid_macs: 100,
            accepted: 7,
            rejected: 1,
        };
        let status = MinerStatus {
            stage: Stage::Joined,
            progress_permille: Some(430),
            standing: Some(standing),
            best: None,
            refusal: None,
        };
        let line = Line::from(&status);
        assert_eq!(
            line.text(),
            "joined · weak (1,234 MMAC/s, strong from 2,000) · lease 43 % · 25.0 % of the pool's unpaid work · 7 results taken, 1 refused"
        );
        let later = Line::from(&MinerStatus { progress_permille: Some(900), ..status });
        assert!(later != line && later.gist() == line.gist());
    }
}
