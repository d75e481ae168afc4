//! `podl testnet`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use podl_attacker::Attack;
use podl_chain_spec::{Amount, ChainSpec};
use podl_consensus::workload::{Bounds, Space};
use podl_nas::data::DatasetSpec;
use podl_rpc::types::{BlockView, IntervalStatus};
use podl_testnet::process::{BlockLine, Fault, Follower, LocalNetwork, Plan, Task, Verdict, run_fault};
use tokio::signal::unix::{SignalKind, signal};

use super::output::Out;

#[derive(Debug, Subcommand)]
pub(super) enum TestnetCommand {
    /// Run a local network of real nodes, a pool with miners, and a publisher; Ctrl-C stops it cleanly.
    #[command(after_help = "Example: podl testnet up --nodes 4 --miners 3 --blocks 5 --dataset builtin")]
    Up(UpArgs),
    /// Try a fault or an attack on a network of real nodes, and see whether it holds.
    #[command(after_help = "Example: podl testnet attack kills --json")]
    Attack(AttackArgs),
}

#[derive(Debug, Args)]
pub(super) struct AttackArgs {
    /// A fault: late-node, kills, publisher-stops, miners-stop, manager-killed; or the attack of a stranger or a seat:
    /// range-overflow, false-status, twice-ready, ghost-votes, bad-votes, bad-closings, hollow-closings, far-future,
    /// unknown-parents, false-offers, false-candidates, twin-blocks, malformed, key-flood, commitment-flood,
    /// transaction-flood, request-flood, silent-peers, reconnect; or all.
    name: String,
    /// Where keys, chains and logs go [default: a temporary folder, kept when something did not hold].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The program that the nodes run [default: this one]: an older one shows what has changed.
    #[arg(long, value_name = "PATH", hide = true)]
    program: Option<PathBuf>,
}

/// What is tried on a network.
#[derive(Clone, Copy, Debug)]
enum Trial {
    Fault(Fault),
    Attack(Attack),
}

impl Trial {
    fn all() -> Vec<Self> {
        Fault::ALL.map(Self::Fault).into_iter().chain(Attack::ALL.map(Self::Attack)).collect()
    }

    fn named(name: &str) -> anyhow::Result<Self> {
        if let Ok(fault) = name.parse() {
            return Ok(Self::Fault(fault));
        }
        name.parse().map(Self::Attack).map_err(|_| {
            let known: Vec<&str> = Self::all().into_iter().map(Self::name).collect();
            anyhow::anyhow!("no attack {name:?}; there are: {}, all", known.join(", "))
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.name(),
            Self::Attack(attack) => attack.name(),
        }
    }

    async fn run(self, program: &Path, dir: PathBuf) -> anyhow::Result<Verdict> {
        match self {
            Self::Fault(fault) => run_fault(fault, program, dir).await,
            Self::Attack(attack) => podl_attacker::run(attack, program, dir).await,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Full nodes with a seat each, 1 to 7.
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Miners of the pool that the first node manages, one training thread each; 0 to 9.
    #[arg(long, default_value_t = 3)]
    miners: usize,
    /// Most training multiply-accumulates a second of each miner, in their order, separated by commas; the others train as
    /// fast as they can.
    #[arg(long, value_name = "N,N..", value_delimiter = ',')]
    budgets: Vec<u64>,
    /// Stop after so many blocks; 0 runs until Ctrl-C.
    #[arg(long, default_value_t = 0)]
    blocks: u64,
    /// What the publisher posts: builtin[:SEED], cifar10:DIR, idx:DIR, images:DIR[@HxW], or none for filler data only.
    #[arg(long, default_value = "builtin")]
    dataset: String,
    /// dev, testnet or a specification file [default: dev for the built-in data set, testnet for others].
    #[arg(long)]
    chain: Option<String>,
    /// Rounds of the published task.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Training images of the published task that are held back for search [default: a tenth].
    #[arg(long, value_name = "N")]
    validation_images: Option<u32>,
    /// Where keys, chains and logs go [default: a temporary folder, removed at the end].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(command: TestnetCommand, out: &Out) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("the system gives no threads")?;
    match command {
        TestnetCommand::Up(args) => runtime.block_on(up(&args, out)),
        TestnetCommand::Attack(args) => runtime.block_on(attack(&args, out)),
    }
}

async fn up(args: &UpArgs, out: &Out) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir().context("a temporary folder")?;
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().into());
    let plan = plan(args, dir.clone())?;
    out.note(format!(
        "starting {} nodes and a pool with {} miners; logs in {}",
        args.nodes,
        args.miners,
        dir.display()
    ))?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut network = LocalNetwork::start(plan).await?;
    let result = tokio::select! {
        result = follow(args, out, &network) => result,
        _ = tokio::signal::ctrl_c() => out.note("stopping"),
        // A service manager or `timeout` must not leave the nodes behind.
        _ = terminate.recv() => out.note("stopping"),
    };
    if result.is_err() {
        // The logs are what explains it.
        let kept = temporary.keep();
        out.note(format!("logs are kept in {}", args.data_dir.as_ref().unwrap_or(&kept).display()))?;
    }
    let stopped = network.stop();
    result.and(stopped)
}

async fn attack(args: &AttackArgs, out: &Out) -> anyhow::Result<()> {
    let trials = match args.name.as_str() {
        "all" => Trial::all(),
        name => vec![Trial::named(name)?],
    };
    let temporary = tempfile::tempdir().context("a temporary folder")?;
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().into());
    let own = || std::env::current_exe().context("this program's own path");
    let program = args.program.clone().map_or_else(own, Ok)?;
    let mut broken = Vec::new();
    for trial in trials {
        let verdict = trial.run(&program, dir.join(trial.name())).await?;
        out.record(&verdict, || {
            format!("{}  {:<16} {}", if verdict.held { "held " } else { "BROKE" }, verdict.attack, verdict.note)
        })?;
        if !verdict.held {
            broken.push(verdict.attack);
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    let kept = temporary.keep();
    let logs = args.data_dir.as_ref().unwrap_or(&kept);
    anyhow::bail!("did not hold: {}; logs are in {}", broken.join(", "), logs.display())
}

fn plan(args: &UpArgs, dir: PathBuf) -> anyhow::Result<Plan> {
    let is_builtin = args.dataset.starts_with("builtin") || args.dataset == "none";
    let chain = args.chain.clone().unwrap_or_else(|| if is_builtin { "dev" } else { "testnet" }.into());
    let spec = ChainSpec::load(&chain)?;
    let task = match args.dataset.as_str() {
        "none" => None,
        dataset => Some(Task {
            dataset: absolute(dataset)?,
            rounds: args.rounds,
            validation_images: args.validation_images,
            reward: Amount(spec.money.min_reward.0.saturating_mul(5)),
            bounds: Bounds { lut: spec.filler.lut, throughput: spec.filler.throughput },
            space: Space::full(spec.filler.conv_layers),
        }),
    };
    let program = std::env::current_exe().context("this program's own path")?;
    Ok(Plan { program, chain, nodes: args.nodes, miners: args.miners, budgets: args.budgets.clone(), dir, task })
}

/// The data set with an absolute path: the publisher's node has its own working folder.
fn absolute(dataset: &str) -> anyhow::Result<String> {
    let spec: DatasetSpec = dataset.parse()?;
    Ok(spec.absolute().with_context(|| format!("--dataset {dataset}"))?.to_string())
}

async fn follow(args: &UpArgs, out: &Out, network: &LocalNetwork) -> anyhow::Result<()> {
    if let Some(reply) = network.publish().await? {
        out.note(format!("task {} published, {} rounds", reply.task, args.rounds))?;
    }
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    if let Some(bar) = &bar {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    let mut follower = Follower::default();
    let mut followed = 0;
    while args.blocks == 0 || followed < args.blocks {
        let block = follower.next(network, |status| show(bar.as_ref(), status)).await?;
        followed += 1;
        if let Some(bar) = &bar {
            bar.suspend(|| print_block(out, &block))?;
        } else {
            print_block(out, &block)?;
        }
    }
    let summary = follower.finish(network).await?;
    out.record(&summary, || {
        let ms = |value: Option<u64>| value.map_or("-".into(), |ms| format!("{ms} ms"));
        format!(
            "{} blocks, {} nodes agree on every hash and state root; interval {}, reveal to block {}; {} payouts of {} PODL; all balances add up to {} PODL",
            summary.blocks,
            summary.nodes,
            ms(summary.interval_ms_p50),
            ms(summary.reveal_to_block_ms_p50),
            summary.pool_payouts,
            summary.pool_paid,
            summary.supply
        )
    })
}

fn show(bar: Option<&ProgressBar>, status: &IntervalStatus) {
    let Some(bar) = bar else { return };
    let phase = format!("{:?}", status.phase).to_lowercase();
    let left = status.remaining_ms.map_or(String::new(), |ms| format!(", {} s left", ms.div_ceil(1000)));
    let best = status.candidates.first().map_or(String::new(), |best| {
        format!(", best {:.3}", f64::from(best.claimed) / f64::from(status.shard_images.max(1)))
    });
    bar.set_message(format!(
        "block {} ({} round {}): {phase}{left}{best}",
        status.height, status.task_name, status.round
    ));
}

fn print_block(out: &Out, block: &BlockView) -> anyhow::Result<()> {
    let line = BlockLine::from(block);
    out.record(&line, || {
        let score = line.score.map_or("no model".into(), |score| format!("score {score:.3}"));
        let miner = &line.miner[line.miner.len().saturating_sub(6)..];
        format!("block {:>4}  {:<6}  {score}  by …{miner}  {}", line.height, line.kind, &line.hash[..8])
    })
}
