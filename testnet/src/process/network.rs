//! Starting, watching and stopping a local network.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use podl_chain_spec::{Amount, ChainSpec, Hash32};
use podl_consensus::workload::{Bounds, Space};
use podl_rpc::client::NodeClient;
use podl_rpc::types::{BlockId, NodeStatus, PublishReply, PublishRequest};
use podl_rpc::{AdminApiClient, NodeApiClient, TOKEN_FILE, Token};

use super::child::{Ending, Process};
use super::ports::Ports;

/// How long a node may take until its RPC answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long nodes may take to find each other.
const MEET_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// The flag of a node that manages a pool.
const POOL_MANAGER: &str = "--pool-manager";

/// A task that the network's publisher posts.
#[derive(Clone, Debug)]
pub struct Task {
    /// The data set, as on the command line, with an absolute path.
    pub dataset: String,
    /// Rounds, and so test shards.
    pub rounds: u32,
    /// What each round pays.
    pub reward: Amount,
    /// FPGA bounds.
    pub bounds: Bounds,
    /// The search space.
    pub space: Space,
    /// Training images held back for search; a tenth when it is not said.
    pub validation_images: Option<u32>,
}

/// What a local network is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `podl` program.
    pub program: PathBuf,
    /// `dev`, `testnet`, or a specification file.
    pub chain: String,
    /// Seats, each a full node. At most seven have well-known keys.
    pub nodes: usize,
    /// Miners that join the pool which the first node manages, one process each. At most nine have well-known accounts.
    pub miners: usize,
    /// Budgets of the miners in training multiply-accumulates a second, in their order; those without one train as fast
    /// as they can.
    pub budgets: Vec<u64>,
    /// Where keys, chains and logs go.
    pub dir: PathBuf,
    /// What the publisher posts; without it the network works on filler data.
    pub task: Option<Task>,
}

/// One node process with a client for it.
#[derive(Debug)]
pub struct NodeProcess {
    /// The process.
    pub process: Process,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// Its RPC address.
    pub rpc: String,
    args: Vec<String>,
    /// Nobody else's while it lives, restarts included.
    _ports: Ports,
}

impl NodeProcess {
    /// A client for its public methods.
    ///
    /// # Errors
    /// When the address is no address.
    pub fn client(&self) -> anyhow::Result<NodeClient> {
        Ok(NodeClient::new(&self.rpc, None)?)
    }

    /// A client for its admin methods too.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn operator(&self) -> anyhow::Result<NodeClient> {
        let token = Token::read(&self.data_dir.join(TOKEN_FILE))?;
        Ok(NodeClient::new(&self.rpc, Some(&token))?)
    }

    async fn wait_until_up(&mut self) -> anyhow::Result<NodeStatus> {
        let deadline = Instant::now() + START_LIMIT;
        let client = self.client()?;
        loop {
            if let Ok(status) = client.public().node_status().await {
                return Ok(status);
            }
            if let Some(status) = self.process.ended()? {
                bail!("{} ended at once ({status}):\n{}", self.process.name(), self.process.log_tail(5));
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not answer; its log is {}",
                self.process.name(),
                self.process.log().display()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A running local network. Dropping it kills all of its processes.
#[derive(Debug)]
pub struct LocalNetwork {
    plan: Plan,
    /// The seats, in the order of their names.
    pub nodes: Vec<NodeProcess>,
    /// The publisher's node, if there is a task.
    pub publisher: Option<NodeProcess>,
    /// Miners of the first node's pool.
    pub miners: Vec<Process>,
    /// Addresses with peer ids of the seats' nodes: where others find the network. Miners join the first.
    known: Vec<String>,
}

impl LocalNetwork {
    /// Starts all nodes and waits until they know each other.
    ///
    /// # Errors
    /// In words: what did not start, and the end of its log.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        ensure!((1..=7).contains(&plan.nodes), "a local network has 1 to 7 nodes, not {}", plan.nodes);
        ensure!(plan.miners <= 9, "a local network has 0 to 9 miners, not {}", plan.miners);
        ChainSpec::load(&plan.chain)?;
        let mut network = Self { nodes: Vec::new(), publisher: None, miners: Vec::new(), known: Vec::new(), plan };
        for index in 0..network.plan.nodes {
            let is_manager = index == 0 && network.plan.miners > 0;
            let mut node = network.spawn(&format!("node-{index}"), &format!("dev:seat-{index}"), is_manager)?;
            let status = node.wait_until_up().await?;
            network.known.push(own_address(&status)?);
            network.nodes.push(node);
        }
        if network.plan.task.is_some() {
            network.publisher = Some(network.spawn("publisher", "dev:publisher", false)?);
        }
        network.wait_until_met().await?;
        for index in 0..network.plan.miners {
            let miner = network.spawn_miner(index)?;
            network.miners.push(miner);
        }
        Ok(network)
    }

    fn spawn_miner(&self, index: usize) -> anyhow::Result<Process> {
        let name = format!("miner-{index}");
        let folder = self.plan.dir.join(&name).display().to_string();
        let account = format!("dev:{name}");
        let first = self.known.first().context("no first node")?;
        let args = ["miner", "join", first, "--chain", &self.plan.chain, "--threads", "1", "--json"];
        let args = args.into_iter().chain(["--pay-to", &account, "--data-dir", &folder]).map(String::from);
        let budget = self.plan.budgets.get(index).map(|macs_s| ["--macs-per-second".into(), macs_s.to_string()]);
        let args: Vec<String> = args.chain(budget.into_iter().flatten()).collect();
        Ok(start(&self.plan.program, &args, &self.plan.dir, &name)?)
    }

    /// Starts a miner that was killed or stopped again, as the same miner of its pool.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart_miner(&mut self, index: usize) -> anyhow::Result<()> {
        let fresh = self.spawn_miner(index)?;
        *self.miners.get_mut(index).context("no such miner")? = fresh;
        Ok(())
    }

    /// Starts one more node that follows the chain and signs nothing.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn add_observer(&mut self, name: &str) -> anyhow::Result<()> {
        let mut node = self.spawn(name, "", false)?;
        node.wait_until_up().await?;
        self.nodes.push(node);
        Ok(())
    }

    fn spawn(&self, name: &str, wallet: &str, manages_pool: bool) -> anyhow::Result<NodeProcess> {
        let ports = Ports::choose(2).context("no ports for a node")?;
        let data_dir = self.plan.dir.join(name);
        let rpc = format!("127.0.0.1:{}", ports.numbers[1]);
        let mut args: Vec<String> = ["node", "run", "--chain", &self.plan.chain].map(String::from).to_vec();
        args.extend(["--data-dir".into(), data_dir.display().to_string()]);
        args.extend([
            "--listen".into(),
            format!("/ip4/127.0.0.1/tcp/{}", ports.numbers[0]),
            "--rpc".into(),
            rpc.clone(),
        ]);
        // Two networks of one chain on this machine must not find each other.
        args.extend(["--set".into(), "mdns=false".into()]);
        args.extend(self.known.iter().flat_map(|address| ["--bootnode".into(), address.clone()]));
        if !wallet.is_empty() {
            args.extend(["--wallet".into(), wallet.into()]);
        }
        if manages_pool {
            args.push(POOL_MANAGER.into());
        }
        let process = start(&self.plan.program, &args, &self.plan.dir, name)?;
        Ok(NodeProcess { process, data_dir, rpc, args, _ports: ports })
    }

    /// Starts a node that was killed or stopped again, on its own folder and ports.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self, index: usize) -> anyhow::Result<NodeStatus> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        let name = node.process.name().to_owned();
        node.process = start(&self.plan.program, &node.args, &self.plan.dir, &name)?;
        node.wait_until_up().await
    }

    /// Restarts the first node with or without its pool. Without, it neither leads miners nor commits to what they found.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub async fn set_pool(&mut self, manages_pool: bool) -> anyhow::Result<()> {
        let node = self.nodes.first_mut().context("no first node")?;
        node.process.stop()?;
        node.args.retain(|arg| arg != POOL_MANAGER);
        if manages_pool {
            node.args.push(POOL_MANAGER.into());
        }
        self.restart(0).await.map(drop)
    }

    async fn wait_until_met(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + MEET_LIMIT;
        let others = self.nodes.len() + usize::from(self.publisher.is_some()) - 1;
        for node in self.nodes.iter_mut().chain(&mut self.publisher) {
            while (node.wait_until_up().await?.peers as usize) < others.min(1) {
                ensure!(Instant::now() < deadline, "{} found no peer", node.process.name());
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Has the publisher post its task.
    ///
    /// # Errors
    /// What the publisher's node says.
    pub async fn publish(&self) -> anyhow::Result<Option<PublishReply>> {
        let (Some(task), Some(publisher)) = (&self.plan.task, &self.publisher) else { return Ok(None) };
        let request = PublishRequest {
            name: "testnet".into(),
            dataset: task.dataset.clone(),
            space: task.space.clone(),
            bounds: task.bounds,
            reward: task.reward,
            rounds: task.rounds,
            shard_images: None,
            validation_images: task.validation_images,
            epochs: 30,
            bond: None,
            min_gain: 1,
            backup: None,
        };
        let reply = publisher.operator()?.admin()?.admin_publish_task(request).await;
        Ok(Some(reply.context("the publisher's node did not publish")?))
    }

    /// Hash and state root of every node's block at a height; an error names the nodes that differ.
    ///
    /// # Errors
    /// When a node does not answer, lacks the block, or has another one.
    pub async fn agreed(&self, height: u64) -> anyhow::Result<(Hash32, Hash32)> {
        let mut found: Option<(Hash32, Hash32)> = None;
        for node in &self.nodes {
            let block = node.client()?.public().chain_block(BlockId::Height(height)).await;
            let block = block.with_context(|| format!("{} has no block {height}", node.process.name()))?;
            let here = (block.hash, block.state_root);
            let first = *found.get_or_insert(here);
            ensure!(first == here, "{} has {:?} at height {height}, others have {first:?}", node.process.name(), here);
        }
        found.context("the network has no nodes")
    }

    /// Stops all processes cleanly: miners first, so that they can hand their leases back, then all nodes at once.
    ///
    /// # Errors
    /// Names the processes that did not end by themselves in time, or ended with an error.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut bad = Vec::new();
        stop_all(self.miners.iter_mut(), &mut bad)?;
        stop_all(self.publisher.iter_mut().chain(&mut self.nodes).map(|node| &mut node.process), &mut bad)?;
        ensure!(bad.is_empty(), "not stopped cleanly: {}", bad.join(", "));
        Ok(())
    }
}

/// Stops processes at once and notes those that did not end well.
fn stop_all<'a>(processes: impl Iterator<Item = &'a mut Process>, bad: &mut Vec<String>) -> io::Result<()> {
    let mut processes: Vec<&mut Process> = processes.collect();
    processes.iter().for_each(|process| process.ask_to_stop());
    for process in &mut processes {
        match process.wait_stopped()? {
            Ending::Clean(Some(0)) => {}
            ending => bad.push(format!("{} ({ending:?})", process.name())),
        }
    }
    Ok(())
}

fn start(program: &Path, args: &[String], dir: &Path, name: &str) -> io::Result<Process> {
    Process::start(program, args, &[("PODL_LOG", "info")], dir, name)
}

/// A node's first TCP address with its peer id.
fn own_address(status: &NodeStatus) -> anyhow::Result<String> {
    let address = status.listen.iter().find(|a| a.contains("/tcp/")).context("a node listens nowhere")?;
    Ok(format!("{address}/p2p/{}", status.peer_id))
}
