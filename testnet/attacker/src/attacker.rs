//! An attacker: its peers, the nodes it works against, and what it learns of the chain from anybody's RPC.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::state::Checkpoint;
use podl_engine::sync::Status;
use podl_network::{Keypair, Multiaddr, PeerId};
use podl_rpc::NodeApiClient;
use podl_rpc::client::NodeClient;
use podl_rpc::types::{IntervalStatus, NodeStatus, SeatsView};
use podl_testnet::process::LocalNetwork;
use tempfile::TempDir;

use crate::conduct::{Bystander, Conduct};
use crate::forge::{Place, Signer};
use crate::keys;
use crate::stranger::Stranger;

/// How long peers work where nothing else ends an attack: two intervals of the development chain.
const WORK: Duration = Duration::from_secs(25);
/// A node's RPC that takes longer is asked again.
const RPC_LIMIT: Duration = Duration::from_secs(2);
/// No node answers for so long: there is nobody left to learn from.
const SILENCE: Duration = Duration::from_secs(20);
/// Until the meshes of a new peer have formed: a beat after its subscriptions are known.
const MESH: Duration = Duration::from_millis(1_500);
/// The seat whose key the attacker has, where it has one.
pub(crate) const SEAT: &str = "seat-3";

/// A node to work against.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its peer id.
    pub peer: PeerId,
    /// Where it listens, with its peer id.
    pub address: Multiaddr,
    rpc: String,
}

/// The attacker.
#[derive(Debug)]
pub(crate) struct Attacker {
    /// The chain's specification, as everybody has it.
    pub spec: Arc<ChainSpec>,
    /// Genesis hash.
    pub chain: Hash32,
    /// The nodes.
    pub targets: Vec<Target>,
    /// What it did, counted: messages, requests, connections.
    pub done: u64,
    peers: u64,
    folder: TempDir,
    /// Accounts that it spends from, with what they had.
    purses: Vec<(AccountId, Amount)>,
    /// Peers that stay while the nodes are watched.
    kept: Vec<Stranger>,
}

impl Attacker {
    /// An attacker of a network whose nodes all answer.
    ///
    /// # Errors
    /// When one does not, or listens nowhere.
    pub(crate) async fn new(spec: ChainSpec, network: &LocalNetwork) -> anyhow::Result<Self> {
        let mut targets = Vec::new();
        for node in &network.nodes {
            let status = node.client()?.public().node_status().await?;
            targets.push(target(&status, node.rpc.clone())?);
        }
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let (chain, spec) = (spec.genesis_hash(), Arc::new(spec));
        Ok(Self { spec, chain, targets, done: 0, peers: 0, folder, purses: Vec::new(), kept: Vec::new() })
    }

    /// When an attack that could go on for ever ends.
    pub(crate) fn end() -> Instant {
        Instant::now() + WORK
    }

    /// A peer connected with every node, of which at least one must take it.
    ///
    /// # Errors
    /// When none does.
    pub(crate) async fn stranger(&mut self, conduct: impl Conduct) -> anyhow::Result<Stranger> {
        let key = self.next_peer()?;
        self.stranger_as(key, Arc::new(conduct)).await
    }

    /// A silent peer.
    ///
    /// # Errors
    /// When no node takes it.
    pub(crate) async fn bystander(&mut self) -> anyhow::Result<Stranger> {
        self.stranger(Bystander).await
    }

    /// The same with a key of one's choice.
    ///
    /// # Errors
    /// When no node takes it.
    pub(crate) async fn stranger_as(&mut self, key: Keypair, conduct: Arc<dyn Conduct>) -> anyhow::Result<Stranger> {
        let stranger = self.unconnected(key, conduct).await?;
        let mut taken = 0;
        for target in &self.targets {
            taken += usize::from(stranger.dial(&target.address).await);
        }
        ensure!(taken > 0, "no node takes a connection");
        tokio::time::sleep(MESH).await;
        Ok(stranger)
    }

    /// A peer without connections.
    ///
    /// # Errors
    /// When its network does not start.
    pub(crate) async fn unconnected(&mut self, key: Keypair, conduct: Arc<dyn Conduct>) -> anyhow::Result<Stranger> {
        self.peers += 1;
        let folder = self.folder.path().join(self.peers.to_string());
        Stranger::start(&self.spec, key, &folder, conduct).await
    }

    /// Keeps peers connected after the attack.
    pub(crate) fn keep(&mut self, strangers: impl IntoIterator<Item = Stranger>) {
        self.kept.extend(strangers);
    }

    /// An identity that was not used yet.
    ///
    /// # Errors
    /// When the library refuses the key.
    pub(crate) fn next_peer(&self) -> anyhow::Result<Keypair> {
        keys::peer(self.peers)
    }

    /// An account that signs for this chain.
    pub(crate) fn signer(&self, key: SigningKey) -> Signer {
        Signer::new(self.chain, key)
    }

    /// The seat whose key the attacker has.
    pub(crate) fn seat(&self) -> Signer {
        self.signer(keys::well_known(SEAT))
    }

    /// A well-known account with money, whose spending is counted as the attack's cost.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn purse(&mut self, name: &str) -> anyhow::Result<Signer> {
        let signer = self.signer(keys::well_known(name));
        let owned = self.owned(signer.account()).await?;
        self.purses.push((signer.account(), owned));
        Ok(signer)
    }

    /// What its accounts have spent; `None` when nothing.
    pub(crate) async fn cost(&self) -> Option<Amount> {
        let mut spent = 0u64;
        for (account, before) in &self.purses {
            let now = self.owned(*account).await.unwrap_or(*before);
            spent = spent.saturating_add(before.0.saturating_sub(now.0));
        }
        (spent > 0).then_some(Amount(spent))
    }

    async fn owned(&self, account: AccountId) -> anyhow::Result<Amount> {
        let view = self.learn(async |node| Ok(node.public().account_get(account).await?)).await?;
        Ok(Amount(view.spendable.0.saturating_add(view.locked.0)))
    }

    /// Nonce of an account's next transaction, as the chain counts.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn nonce(&self, account: AccountId) -> anyhow::Result<u64> {
        Ok(self.learn(async |node| Ok(node.public().account_get(account).await?)).await?.nonce)
    }

    /// The interval under way.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn interval(&self) -> anyhow::Result<IntervalStatus> {
        self.learn(async |node| Ok(node.public().interval_status().await?)).await
    }

    /// Where the next block can stand.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn place(&self) -> anyhow::Result<Place> {
        let IntervalStatus { height, parent, task, round, .. } = self.interval().await?;
        Ok(Place { height, parent, task, round })
    }

    /// Seats and finality after the head.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn seats(&self) -> anyhow::Result<SeatsView> {
        self.learn(async |node| Ok(node.public().chain_seats().await?)).await
    }

    /// Where honest nodes are, as an honest peer would say it.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn honest_status(&self) -> anyhow::Result<Status> {
        let status = self.learn(async |node| Ok(node.public().node_status().await?)).await?;
        let at = |point: podl_rpc::types::CheckpointView| Checkpoint { height: point.height, block: point.hash };
        Ok(Status { chain: self.chain, head: at(status.head), finalised: at(status.finalised) })
    }

    /// Asks nodes in turn until one answers.
    async fn learn<T>(&self, ask: impl AsyncFn(&NodeClient) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let since = Instant::now();
        loop {
            for target in &self.targets {
                let client = NodeClient::new(&target.rpc, None)?;
                if let Ok(Ok(answer)) = tokio::time::timeout(RPC_LIMIT, ask(&client)).await {
                    return Ok(answer);
                }
            }
            ensure!(since.elapsed() < SILENCE, "no node answers any more");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn target(status: &NodeStatus, rpc: String) -> anyhow::Result<Target> {
    let peer: PeerId = status.peer_id.parse().context("a node's peer id")?;
    let address = status.listen.iter().find(|address| address.contains("/tcp/")).context("a node listens nowhere")?;
    let address: Multiaddr = format!("{address}/p2p/{peer}").parse().context("a node's address")?;
    Ok(Target { peer, address, rpc })
}
