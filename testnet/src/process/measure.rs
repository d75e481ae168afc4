//! How a network fares while somebody works against it: which processes live, when blocks come, whether honest nodes
//! turn against each other.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use podl_consensus::types::OutcomeKind;
use podl_rpc::NodeApiClient;
use podl_rpc::types::{BlockId, NodeStatus};
use serde::Serialize;

use super::faults::agree;
use super::network::{LocalNetwork, NodeProcess};

/// How often the nodes are asked.
const POLL: Duration = Duration::from_millis(200);
/// A node that takes longer to answer is asked again later.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);
/// A block later than the slowest of the calm by more than this counts as late.
const LATE: Duration = Duration::from_secs(3);
/// Nodes may differ at the top for so long.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// What was counted, beside the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Processes that still live.
    pub alive: usize,
    /// Processes in whose log a thread panicked.
    pub panicked: usize,
    /// Blocks that all living nodes took while the network was attacked, and after.
    pub blocks: u64,
    /// How long that took.
    pub seconds: u64,
    /// Longest time between two blocks in the calm before.
    pub calm_ms: u64,
    /// The same under attack; up to now where no block came any more.
    pub longest_ms: u64,
    /// Blocks that came more than three seconds later than the slowest of the calm.
    pub late: u64,
    /// Blocks without a model.
    pub idle: u64,
    /// Blocks without a model in the calm.
    pub calm_idle: u64,
    /// Pairs of honest nodes of which one banned the other.
    pub honest_bans: usize,
    /// Connections between honest nodes that were there before and are gone.
    pub links_lost: usize,
}

/// When all living nodes had a block.
#[derive(Debug)]
pub struct Watch {
    /// Peer ids of the nodes, in their order.
    peers: Vec<String>,
    arrivals: BTreeMap<u64, Instant>,
    links: usize,
}

impl Watch {
    /// Starts to watch a network whose nodes all answer.
    ///
    /// # Errors
    /// When one does not.
    pub async fn start(network: &LocalNetwork) -> anyhow::Result<Self> {
        let mut peers = Vec::new();
        for node in &network.nodes {
            peers.push(status(node).await.with_context(|| format!("{} is silent", node.process.name()))?.peer_id);
        }
        Ok(Self { peers, arrivals: BTreeMap::new(), links: 0 })
    }

    /// Notes who is connected before anybody attacks.
    pub async fn note_links(&mut self, network: &LocalNetwork) {
        self.links = self.links(network).await;
    }

    /// Highest block that all living nodes have.
    pub fn height(&self) -> u64 {
        self.arrivals.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// Looks once; `false` when no process is left.
    pub async fn look(&mut self, network: &mut LocalNetwork) -> bool {
        tokio::time::sleep(POLL).await;
        let mut heads = Vec::new();
        for node in &mut network.nodes {
            if is_alive(node) {
                // A node that does not answer has nothing to show.
                heads.push(status(node).await.map_or(0, |status| status.head.height));
            }
        }
        let now = Instant::now();
        let first = self.height() + 1;
        if let Some(all) = heads.iter().min() {
            self.arrivals.extend((first..=*all).map(|height| (height, now)));
        }
        !heads.is_empty()
    }

    /// Watches until all living nodes have a block, or until none has come for `patience`. Returns whether it came.
    pub async fn until(&mut self, network: &mut LocalNetwork, height: u64, patience: Duration) -> bool {
        let (mut top, mut since) = (self.height(), Instant::now());
        while self.height() < height {
            if !self.look(network).await || since.elapsed() > patience {
                return false;
            }
            if self.height() > top {
                (top, since) = (self.height(), Instant::now());
            }
        }
        true
    }

    /// Watches while something else happens.
    pub async fn during<T>(&mut self, network: &mut LocalNetwork, act: impl Future<Output = T>) -> T {
        let mut act = std::pin::pin!(act);
        loop {
            tokio::select! {
                result = &mut act => return result,
                _ = self.look(network) => {}
            }
        }
    }

    /// Sums up what came after the block `calm`, compared with what came before it. `since` is when the attack began.
    /// What a node no longer tells is counted as not there.
    pub async fn sum_up(&self, network: &mut LocalNetwork, calm: u64, since: Instant) -> Measured {
        let gaps = |from: u64, to: u64| -> Vec<Duration> {
            let times: Vec<Instant> = self.arrivals.range(from..=to).map(|(_, at)| *at).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        let slowest = gaps(0, calm).into_iter().max().unwrap_or_default();
        let attacked = gaps(calm, u64::MAX);
        let waiting = self.arrivals.last_key_value().map(|(_, at)| at.elapsed()).unwrap_or_default();
        let longest = attacked.iter().copied().chain([waiting]).max().unwrap_or_default();
        let alive = network.nodes.iter_mut().filter_map(|node| is_alive(node).then_some(())).count();
        Measured {
            alive,
            panicked: logs(network).filter(|log| log.contains("panicked")).count(),
            blocks: self.height().saturating_sub(calm),
            seconds: since.elapsed().as_secs(),
            calm_ms: millis(slowest),
            longest_ms: millis(longest),
            late: attacked.iter().filter(|gap| **gap > slowest + LATE).count() as u64,
            idle: idle(network, calm + 1, self.height()).await,
            calm_idle: idle(network, 1, calm).await,
            honest_bans: self.honest_bans(network),
            links_lost: self.links.saturating_sub(self.links(network).await),
        }
    }

    /// Whether all nodes have the same blocks, given a while.
    ///
    /// # Errors
    /// In words: which differ.
    pub async fn agree(&self, network: &LocalNetwork) -> anyhow::Result<()> {
        ensure!(self.height() > 0, "no node has a block");
        agree(network, self.height(), AGREE_LIMIT).await.map(drop)
    }

    /// Connections from one honest node to another.
    async fn links(&self, network: &LocalNetwork) -> usize {
        let mut links = 0;
        for node in &network.nodes {
            let Ok(client) = node.client() else { continue };
            if let Ok(Ok(peers)) = tokio::time::timeout(ANSWER_LIMIT, client.public().node_peers()).await {
                links += peers.iter().filter(|peer| self.peers.contains(&peer.peer_id)).count();
            }
        }
        links
    }

    fn honest_bans(&self, network: &LocalNetwork) -> usize {
        logs(network).map(|log| banned(&log, &self.peers)).sum()
    }
}

/// How many of these peers a log says were banned.
fn banned(log: &str, peers: &[String]) -> usize {
    let bans: Vec<&str> = log.lines().filter(|line| line.contains("peer banned")).collect();
    peers.iter().filter(|peer| bans.iter().any(|line| line.contains(peer.as_str()))).count()
}

fn is_alive(node: &mut NodeProcess) -> bool {
    node.process.ended().is_ok_and(|ended| ended.is_none())
}

async fn status(node: &NodeProcess) -> Option<NodeStatus> {
    let client = node.client().ok()?;
    tokio::time::timeout(ANSWER_LIMIT, client.public().node_status()).await.ok()?.ok()
}

fn logs(network: &LocalNetwork) -> impl Iterator<Item = String> {
    network.nodes.iter().map(|node| std::fs::read_to_string(node.process.log()).unwrap_or_default())
}

/// Blocks without a model among these heights, as the first node that answers has them.
async fn idle(network: &LocalNetwork, from: u64, to: u64) -> u64 {
    let mut idle = 0;
    for height in from..=to {
        for node in &network.nodes {
            let Ok(client) = node.client() else { continue };
            let asked = client.public().chain_block(BlockId::Height(height));
            if let Ok(Ok(block)) = tokio::time::timeout(ANSWER_LIMIT, asked).await {
                idle += u64::from(block.kind != OutcomeKind::Scored);
                break;
            }
        }
    }
    idle
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bans_of_honest_peers_are_counted() {
        let honest = ["12D3KooWa".to_owned(), "12D3KooWb".to_owned()];
        let log = "INFO connected peer=12D3KooWa\n\
                   WARN peer banned peer=12D3KooWb why=\"false promise\"\n\
                   WARN peer banned peer=12D3KooWstranger why=\"flood\"\n\
                   WARN peer banned peer=12D3KooWb why=\"false promise\"\n";
        assert_eq!(banned(log, &honest), 1);
        assert_eq!(banned("", &honest), 0);
    }
}
