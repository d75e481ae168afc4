//! The fault that a pool fears most: its manager is killed in the middle of a training phase, and a third of its miners with
//! it. What counts is what miners were told before: their own logs say which work was acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use podl_chain_spec::{AccountId, Amount};
use podl_consensus::types::{Height, OutcomeKind};
use podl_rpc::NodeApiClient;
use podl_rpc::types::{BlockId, BlockView, IntervalPhase, PayoutView, PoolStatus};
use serde_json::Value;

use super::faults::{SYNC_LIMIT, Seen, agree, block, seen};
use super::network::LocalNetwork;
use super::report::payouts;

/// The manager dies with so much of the training phase left.
const LEFT_MS: u64 = 5_000;
const POLL: Duration = Duration::from_millis(50);
/// How long a pool may take to read its journal.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// What a miner had been told of itself when the manager died.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    account: AccountId,
    accepted: u64,
    /// Work that the next blocks pay.
    window_macs: u64,
    /// Work that they pay once a first audit has passed.
    kept_back_macs: u64,
}

pub(super) async fn manager_killed(network: &mut LocalNetwork) -> anyhow::Result<Seen> {
    let height = block(network, 0, 2).await?.height + 1;
    wait_for_the_middle(network, height).await?;
    let killed = network.miners.len().div_ceil(3);
    network.nodes.first_mut().context("no manager")?.process.kill()?;
    for miner in network.miners.iter_mut().take(killed) {
        miner.kill()?;
    }
    let told = network.miners.iter().map(|miner| told(miner.log())).collect::<anyhow::Result<Vec<Told>>>()?;
    network.restart(0).await.context("the manager does not open again")?;
    let kept = books(network).await?;
    for index in 0..killed {
        network.restart_miner(index)?;
    }
    check_kept(&told, &kept)?;
    let struck = block(network, 1, height).await?;
    // Won blocks are final two heights later, and paid in the one after.
    let last = block(network, 1, height + 3).await?.height;
    agree(network, last, SYNC_LIMIT).await?;
    let paid = payouts(network).await?;
    let won = won_up_to(network, height).await?;
    let unpaid = never_paid(&won, &paid);
    ensure!(unpaid.is_empty(), "blocks {unpaid:?} of the pool were never paid out");
    let rows = check_paid(&told, &paid, &struck)?;
    check_trusted(&books(network).await?)?;
    let results: u64 = told.iter().map(|t| t.accepted).sum();
    let macs: u64 = told.iter().map(|t| t.window_macs + t.kept_back_macs).sum();
    Ok(seen(format!(
        "manager and {killed} of {} miners killed in the interval of block {height}, which came ({:?}); {results} results and {macs} MACs acknowledged before, 0 lost; {} won blocks, {} paid; {rows}",
        told.len(),
        struck.kind,
        won.len(),
        won.iter().filter(|height| is_paid(&paid, **height)).count(),
    )))
}

async fn wait_for_the_middle(network: &LocalNetwork, height: Height) -> anyhow::Result<()> {
    let client = network.nodes.get(1).context("no second node")?.client()?;
    loop {
        let status = client.public().interval_status().await?;
        let is_late = status.phase == IntervalPhase::Train && status.remaining_ms.is_some_and(|ms| ms < LEFT_MS);
        if status.height >= height && is_late {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a miner's log says that its pool told it last.
fn told(log: &Path) -> anyhow::Result<Told> {
    let text = std::fs::read_to_string(log).with_context(|| format!("the log {}", log.display()))?;
    read_told(&text).with_context(|| format!("{} does not say what the miner was told", log.display()))
}

fn read_told(log: &str) -> Option<Told> {
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let account = lines.iter().find_map(|line| line.get("account")?.as_str()?.parse().ok())?;
    let last = lines.iter().rev().find(|line| line.get("accepted").is_some())?;
    let number = |name: &str| last.get(name).and_then(Value::as_u64);
    Some(Told {
        account,
        accepted: number("accepted")?,
        window_macs: number("window_macs")?,
        kept_back_macs: number("kept_back_macs")?,
    })
}

/// What the manager that came back remembers; its node answers a little sooner than its pool.
async fn books(network: &LocalNetwork) -> anyhow::Result<PoolStatus> {
    let client = network.nodes.first().context("no manager")?.client()?;
    let deadline = Instant::now() + OPEN_LIMIT;
    loop {
        match client.public().pool_status().await {
            Ok(status) => return Ok(status),
            Err(error) if Instant::now() >= deadline => return Err(error).context("the pool does not open again"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Every result and every multiply-accumulate that was acknowledged must be in the books of the manager that came back.
fn check_kept(told: &[Told], kept: &PoolStatus) -> anyhow::Result<()> {
    for told in told {
        let view = kept.miners.iter().find(|miner| miner.account == told.account);
        let view = view.with_context(|| format!("the manager forgot the miner of {}", told.account))?;
        ensure!(
            view.accepted >= told.accepted
                && view.window_macs >= told.window_macs
                && view.window_macs + view.kept_back_macs >= told.window_macs + told.kept_back_macs,
            "the manager had acknowledged {told:?} and remembers {} results, {} MACs and {} kept back",
            view.accepted,
            view.window_macs,
            view.kept_back_macs
        );
    }
    Ok(())
}

/// Nobody cheated: that a miner was killed, or its manager, must not look as if it had.
fn check_trusted(after: &PoolStatus) -> anyhow::Result<()> {
    let failed = after.miners.iter().find(|miner| miner.audits_failed > 0);
    ensure!(failed.is_none(), "an honest miner failed an audit: {failed:?}");
    Ok(())
}

/// Where the pool won the block of the interval in which its manager died, every miner is paid for at least what was
/// acknowledged before.
fn check_paid(told: &[Told], paid: &[PayoutView], struck: &BlockView) -> anyhow::Result<String> {
    let Some(payout) = paid.iter().find(|payout| payout.block == struck.hash) else {
        return Ok("the block itself was not the pool's".into());
    };
    for told in told.iter().filter(|told| told.window_macs > 0) {
        let row = payout.payments.iter().find(|(account, ..)| *account == told.account);
        let (_, macs, amount) =
            row.with_context(|| format!("{} is not paid for block {}", told.account, struck.height))?;
        ensure!(
            *macs >= told.window_macs && *amount > Amount::ZERO,
            "block {} pays {} for {macs} MACs, {} were acknowledged",
            struck.height,
            told.account,
            told.window_macs
        );
    }
    Ok(format!("that of block {} covers all of them", struck.height))
}

/// Won blocks without a payout. Those from before the first replay has passed, which takes longer than an interval on a
/// busy machine, have nobody to pay: all work was kept back then, and later blocks pay it.
fn never_paid(won: &[Height], paid: &[PayoutView]) -> Vec<Height> {
    let first = paid.iter().map(|payout| payout.height).min().unwrap_or(0);
    won.iter().copied().filter(|height| *height > first && !is_paid(paid, *height)).collect()
}

fn is_paid(paid: &[PayoutView], height: Height) -> bool {
    paid.iter().any(|payout| payout.height == height)
}

/// Heights up to `height` at which the pool's manager won.
async fn won_up_to(network: &LocalNetwork, height: Height) -> anyhow::Result<Vec<Height>> {
    let client = network.nodes.first().context("no node")?.client()?;
    let account = client.public().node_status().await?.account;
    let mut heights = Vec::new();
    for height in 1..=height {
        let block = client.public().chain_block(BlockId::Height(height)).await?;
        if block.kind == OutcomeKind::Scored && Some(block.producer) == account {
            heights.push(height);
        }
    }
    Ok(heights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miners_log_says_what_it_was_told_last() {
        let account = AccountId([7; 32]);
        let log = format!(
            "2026 INFO connected\n{{\"chain\":\"dev\",\"account\":\"{account}\"}}\n\
             {{\"accepted\":1,\"window_macs\":5,\"kept_back_macs\":0}}\n\
             {{\"accepted\":2,\"window_macs\":9,\"kept_back_macs\":3}}\n{{\"accep"
        );
        assert_eq!(read_told(&log), Some(Told { account, accepted: 2, window_macs: 9, kept_back_macs: 3 }));
        assert_eq!(read_told("2026 INFO connected\n"), None);
    }
}
