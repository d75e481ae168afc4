//! Following a local network block by block, and what is said of it at the end.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use podl_chain_spec::Amount;
use podl_consensus::types::OutcomeKind;
use podl_rpc::NodeApiClient;
use podl_rpc::types::{BlockId, BlockView, IntervalStatus, PayoutView, TxState};
use serde::Serialize;

use super::network::LocalNetwork;

/// One wait for a block; in between the view is refreshed.
const WAIT_MS: u64 = 250;

/// A block, as `podl testnet up --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct BlockLine {
    /// Its number.
    pub height: u64,
    /// Its name.
    pub hash: String,
    /// The interval's task.
    pub task: String,
    /// `task`, `filler`, `void` or `idle`.
    pub kind: &'static str,
    /// Share of the shard's images that the model classifies correctly.
    pub score: Option<f64>,
    /// Images of the shard.
    pub images: Option<u32>,
    /// Who made it.
    pub miner: String,
}

impl From<&BlockView> for BlockLine {
    fn from(block: &BlockView) -> Self {
        let kind = match (block.kind, block.is_filler) {
            (OutcomeKind::Scored, false) => "task",
            (OutcomeKind::Scored, true) => "filler",
            (OutcomeKind::Void, _) => "void",
            (OutcomeKind::Idle, _) => "idle",
        };
        Self {
            height: block.height,
            hash: block.hash.to_string(),
            task: block.task.to_string(),
            kind,
            score: block.score.map(|s| f64::from(s.correct) / f64::from(s.images.max(1))),
            images: block.score.map(|s| s.images),
            miner: block.producer.to_string(),
        }
    }
}

/// What is said at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Blocks followed.
    pub blocks: u64,
    /// Full nodes.
    pub nodes: usize,
    /// Whether all nodes had the same hash and state root at every height.
    pub agreed: bool,
    /// Median time from block to block.
    pub interval_ms_p50: Option<u64>,
    /// Median time from the opening of candidates to the block.
    pub reveal_to_block_ms_p50: Option<u64>,
    /// All money of the last final state, recounted from every balance, bond and escrow.
    pub supply: Amount,
    /// Payouts that the pool has sent, on the chain.
    pub pool_payouts: u64,
    /// What they paid to miners in all.
    pub pool_paid: Amount,
}

/// Follows the first node.
#[derive(Debug, Default)]
pub struct Follower {
    height: u64,
    last_block: Option<Instant>,
    intervals_ms: Vec<u64>,
    reveals_ms: Vec<u64>,
}

fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Follower {
    /// Waits for the next block on which the interval after it builds: until then the votes are not in, and a better
    /// candidate may take its place. `view` is called with the interval under way.
    ///
    /// # Errors
    /// When the first node does not answer.
    pub async fn next(
        &mut self,
        network: &LocalNetwork,
        mut view: impl FnMut(&IntervalStatus),
    ) -> anyhow::Result<BlockView> {
        let client = network.nodes.first().context("the network has no nodes")?.client()?;
        let height = self.height + 1;
        loop {
            let waited = client.public().chain_wait(height, WAIT_MS).await.context("the first node does not answer")?;
            let Ok(status) = client.public().interval_status().await else { continue };
            if waited.is_some() && status.height > height {
                let block = client.public().chain_block(BlockId::Height(height)).await?;
                // The node measured it, unless it is further on already.
                let revealed = status.previous_reveal_ms.filter(|_| status.height == height + 1);
                self.note(&block, revealed);
                return Ok(block);
            }
            view(&status);
            if waited.is_some() {
                tokio::time::sleep(Duration::from_millis(WAIT_MS / 5)).await;
            }
        }
    }

    fn note(&mut self, block: &BlockView, revealed_ms: Option<u64>) {
        self.height = block.height;
        self.intervals_ms.extend(self.last_block.replace(Instant::now()).map(millis));
        self.reveals_ms.extend(revealed_ms);
    }

    /// Compares all nodes at every height followed, waiting for the slowest, and sums up.
    ///
    /// # Errors
    /// When nodes differ or one is missing a block for too long.
    pub async fn finish(&self, network: &LocalNetwork) -> anyhow::Result<Summary> {
        let deadline = Instant::now() + Duration::from_secs(30);
        for height in 1..=self.height {
            while let Err(error) = network.agreed(height).await {
                ensure!(Instant::now() < deadline, "the nodes do not agree: {error:#}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let payouts = payouts(network).await?;
        let supply = network.nodes.first().context("the network has no nodes")?.client()?;
        let supply = supply.public().chain_supply().await.context("the first node does not count its money")?;
        ensure!(supply.adds_up, "the balances do not add up to the supply: {supply:?}");
        Ok(Summary {
            blocks: self.height,
            nodes: network.nodes.len(),
            agreed: true,
            interval_ms_p50: median(&self.intervals_ms),
            reveal_to_block_ms_p50: median(&self.reveals_ms),
            supply: supply.supply,
            pool_payouts: payouts.len() as u64,
            pool_paid: Amount(payouts.iter().flat_map(|p| &p.payments).map(|(_, _, amount)| amount.0).sum()),
        })
    }
}

/// Payouts of the first node's pool whose transactions are in a block.
pub(super) async fn payouts(network: &LocalNetwork) -> anyhow::Result<Vec<PayoutView>> {
    if network.miners.is_empty() {
        return Ok(Vec::new());
    }
    let client = network.nodes.first().context("the network has no nodes")?.client()?;
    let mut included = Vec::new();
    for payout in client.public().pool_payouts(1000).await.context("the pool's manager does not answer")? {
        let Some(tx) = payout.tx else { continue };
        let status = client.public().tx_status(tx).await?;
        if matches!(status.state, TxState::Included | TxState::Final) {
            included.push(payout);
        }
    }
    Ok(included)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(super::median(&[]), None);
        assert_eq!(super::median(&[9]), Some(9));
        assert_eq!(super::median(&[4, 1, 9, 7]), Some(4));
    }
}
