//! Faults and attacks on networks of real processes: what an operator fears, tried.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use podl_chain_spec::{Amount, ChainSpec};
use podl_consensus::state::TaskPhase;
use podl_consensus::types::OutcomeKind;
use podl_consensus::workload::{Bounds, Space};
use podl_rpc::NodeApiClient;
use podl_rpc::types::{BlockId, BlockView, IntervalPhase, SeatsView};
use serde::Serialize;

use super::manager_killed::manager_killed;
use super::measure::Measured;
use super::network::{LocalNetwork, Plan, Task};

/// How long a block may take in the worst case that the rules allow, several times over: a machine with few cores.
const BLOCK_LIMIT: Duration = Duration::from_secs(180);
/// How long a node may take to catch up.
pub(super) const SYNC_LIMIT: Duration = Duration::from_secs(120);
/// How often a node is killed.
const KILLS: usize = 10;
const POLL: Duration = Duration::from_millis(200);
/// Words that no log may hold after a crash.
const DAMAGE: [&str; 4] = ["panicked", "corrupt", "damaged", "Corruption"];

/// What befalls the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A fifth node is started later.
    LateNode,
    /// A node is killed (SIGKILL) ten times at random moments.
    Kills,
    /// The publisher is killed before it releases a key.
    PublisherStops,
    /// All miners are killed and the pool is closed.
    MinersStop,
    /// The pool's manager is killed in the middle of a training phase, and a third of its miners with it.
    ManagerKilled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LateNode, Self::Kills, Self::PublisherStops, Self::MinersStop, Self::ManagerKilled];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LateNode => "late-node",
            Self::Kills => "kills",
            Self::PublisherStops => "publisher-stops",
            Self::MinersStop => "miners-stop",
            Self::ManagerKilled => "manager-killed",
        }
    }
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| format!("no attack {name:?}; there are: {}, all", known()))
    }
}

/// How the network fared, as `podl testnet attack --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub attack: &'static str,
    /// Whether everything held that must hold.
    pub held: bool,
    /// What it cost the attacker, where there is one.
    pub attacker_cost: Option<Amount>,
    /// What honest participants lost.
    pub honest_loss: Option<Amount>,
    /// What was seen, or what did not hold.
    pub note: String,
    /// What was counted, where somebody attacked.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// What was seen when everything held.
pub(super) struct Seen {
    attacker_cost: Option<Amount>,
    honest_loss: Option<Amount>,
    note: String,
}

pub(super) fn seen(note: String) -> Seen {
    Seen { attacker_cost: None, honest_loss: Some(Amount::ZERO), note }
}

/// Runs a fault on a fresh network of the dev chain, with keys, chains and logs below `dir`.
///
/// # Errors
/// When the network cannot be started or stopped; what the fault breaks is in the verdict.
pub async fn run(fault: Fault, program: &Path, dir: PathBuf) -> anyhow::Result<Verdict> {
    let spec = ChainSpec::load("dev")?;
    let task = (fault == Fault::PublisherStops).then(|| Task {
        dataset: "builtin".into(),
        validation_images: None,
        rounds: 2,
        reward: Amount(spec.money.min_reward.0.saturating_mul(5)),
        bounds: Bounds { lut: spec.filler.lut, throughput: spec.filler.throughput },
        space: Space::full(spec.filler.conv_layers),
    });
    let miners = if fault == Fault::ManagerKilled { 3 } else { 2 };
    let plan = Plan { program: program.into(), chain: "dev".into(), nodes: 4, miners, budgets: Vec::new(), dir, task };
    let mut network = LocalNetwork::start(plan).await?;
    let outcome = match fault {
        Fault::LateNode => late_node(&mut network).await,
        Fault::Kills => kills(&mut network).await,
        Fault::PublisherStops => publisher_stops(&mut network).await,
        Fault::MinersStop => miners_stop(&mut network).await,
        Fault::ManagerKilled => manager_killed(&mut network).await,
    };
    let stopped = network.stop();
    let attack = fault.name();
    Ok(match outcome {
        Err(error) => {
            let note = format!("{error:#}");
            Verdict { attack, held: false, attacker_cost: None, honest_loss: None, note, measured: None }
        }
        Ok(Seen { attacker_cost, honest_loss, note }) => {
            stopped?;
            Verdict { attack, held: true, attacker_cost, honest_loss, note, measured: None }
        }
    })
}

/// The block of a height on a node, waited for.
pub(super) async fn block(network: &LocalNetwork, node: usize, height: u64) -> anyhow::Result<BlockView> {
    let client = network.nodes.get(node).context("no such node")?.client()?;
    let deadline = Instant::now() + BLOCK_LIMIT;
    loop {
        ensure!(Instant::now() < deadline, "no block {height} within {} s", BLOCK_LIMIT.as_secs());
        if client.public().chain_wait(height, 1000).await?.is_none() {
            continue;
        }
        // Siblings may still change places until the interval after it builds on one.
        match client.public().interval_status().await {
            Ok(status) if status.height > height => {
                return Ok(client.public().chain_block(BlockId::Height(height)).await?);
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

async fn head(network: &LocalNetwork, node: usize) -> anyhow::Result<u64> {
    let client = network.nodes.get(node).context("no such node")?.client()?;
    Ok(client.public().node_status().await?.head.height)
}

async fn seats(network: &LocalNetwork) -> anyhow::Result<SeatsView> {
    Ok(network.nodes.first().context("no node")?.client()?.public().chain_seats().await?)
}

/// Waits until a node has the first node's blocks up to a height, and all agree on every one of them.
pub(super) async fn agree(network: &LocalNetwork, height: u64, limit: Duration) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for height in 1..=height {
        while let Err(error) = network.agreed(height).await {
            ensure!(start.elapsed() < limit, "no agreement within {} s: {error:#}", limit.as_secs());
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(start.elapsed())
}

async fn late_node(network: &mut LocalNetwork) -> anyhow::Result<Seen> {
    block(network, 0, 4).await?;
    let start = Instant::now();
    network.add_observer("late").await?;
    let tip = head(network, 0).await?;
    agree(network, tip, SYNC_LIMIT).await?;
    let caught_up = start.elapsed();
    // And it goes on following.
    let next = block(network, 4, tip + 1).await?;
    agree(network, next.height, SYNC_LIMIT).await?;
    Ok(seen(format!(
        "a fifth node started at height {tip} had the same hashes and state roots after {:.1} s and follows",
        caught_up.as_secs_f32()
    )))
}

async fn kills(network: &mut LocalNetwork) -> anyhow::Result<Seen> {
    const VICTIM: usize = 3;
    block(network, 0, 1).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        tokio::time::sleep(random_pause()).await;
        network.nodes.get_mut(VICTIM).context("no fourth node")?.process.kill()?;
        let start = Instant::now();
        network.restart(VICTIM).await.context("a killed node does not open again")?;
        slowest = slowest.max(start.elapsed());
    }
    let tip = head(network, 0).await? + 1;
    block(network, 0, tip).await?;
    let caught_up = agree(network, tip, SYNC_LIMIT).await?;
    let log = std::fs::read_to_string(network.nodes.get(VICTIM).context("no fourth node")?.process.log())?;
    if let Some(word) = DAMAGE.into_iter().find(|word| log.contains(word)) {
        bail!("the killed node's log says {word:?}");
    }
    Ok(seen(format!(
        "{KILLS} kills within {tip} blocks, each time open again within {:.1} s, agreement {:.1} s after the last block",
        slowest.as_secs_f32(),
        caught_up.as_secs_f32()
    )))
}

/// Half a second to six: any moment of an interval. Not from a seed: the moment a process dies at is none either.
fn random_pause() -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(500 + number % 5_500)
}

async fn publisher_stops(network: &mut LocalNetwork) -> anyhow::Result<Seen> {
    let task = network.publish().await?.context("no task")?.task;
    let client = network.nodes.first().context("no node")?.client()?;
    let deadline = Instant::now() + BLOCK_LIMIT;
    // Late in the training phase of its first round: commitments are out, the key is not.
    let height = loop {
        ensure!(Instant::now() < deadline, "the task was never worked on");
        let status = client.public().interval_status().await?;
        let is_late = status.phase == IntervalPhase::Train && status.remaining_ms.is_some_and(|ms| ms < 2_500);
        if status.task == task && is_late {
            break status.height;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let bond = client.public().task_get(task).await?.bond;
    let burned = seats(network).await?.burned;
    network.publisher.take().context("no publisher")?.process.kill()?;
    let void = block(network, 0, height).await?;
    ensure!(void.kind == OutcomeKind::Void, "block {height} is {:?}, not void", void.kind);
    let after = client.public().task_get(task).await?;
    ensure!(
        after.summary.phase == TaskPhase::Void && after.bond == Amount::ZERO,
        "the task is {:?}",
        after.summary.phase
    );
    let burned = Amount(seats(network).await?.burned.0.saturating_sub(burned.0));
    ensure!(burned.0 >= bond.0, "{burned} burned of a bond of {bond}");
    let next = block(network, 0, height + 1).await?;
    ensure!(next.is_filler && next.kind == OutcomeKind::Scored, "block {} is {:?}", next.height, next.kind);
    agree(network, next.height, SYNC_LIMIT).await?;
    Ok(Seen {
        attacker_cost: Some(bond),
        honest_loss: Some(Amount::ZERO),
        note: format!("block {height} is void, {burned} PODL burned, block {} is scored filler", next.height),
    })
}

async fn miners_stop(network: &mut LocalNetwork) -> anyhow::Result<Seen> {
    let before = scored_after(network, 0).await?;
    for miner in &mut network.miners {
        miner.kill()?;
    }
    // A manager without miners would still try what they found for the intervals before.
    network.set_pool(false).await?;
    // What was committed before may still win the interval under way; the two after it have nothing.
    let first = head(network, 0).await?.max(before) + 2;
    for height in [first, first + 1] {
        let idle = block(network, 0, height).await?;
        ensure!(idle.kind == OutcomeKind::Idle, "block {height} is {:?} without miners", idle.kind);
    }
    network.set_pool(true).await?;
    for index in 0..network.miners.len() {
        network.restart_miner(index)?;
    }
    let height = scored_after(network, first + 1).await?;
    agree(network, height, SYNC_LIMIT).await?;
    Ok(seen(format!("blocks {first} and {} idle, block {height} scored again after the miners came back", first + 1)))
}

/// Height of the first scored block above a height; on a loaded machine miners may miss an interval.
async fn scored_after(network: &LocalNetwork, height: u64) -> anyhow::Result<u64> {
    for height in height + 1..=height + 4 {
        if block(network, 0, height).await?.kind == OutcomeKind::Scored {
            return Ok(height);
        }
    }
    bail!("no model within four blocks above height {height}")
}
