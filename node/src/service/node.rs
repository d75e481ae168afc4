//! Starting and stopping a node.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use podl_chain_spec::{ChainSpec, SpecError};
use podl_consensus::chain::Chain;
use podl_consensus::state::StateError;
use podl_network::{
    BlobError, BlobStore, NatConfig, Network, NetworkConfig, NetworkError, NetworkEvent, NetworkHandle, NetworkPorts,
    Protocol, ProtocolLimits, TopicConfig, Verdict,
};
use podl_rpc::server::{Probe, RpcLimits, ServeError, Server, serve, serve_metrics};
use podl_rpc::{Token, TokenError};
use podl_storage::{Database, StorageError};
use tokio::sync::{mpsc, oneshot};

use super::api::{Api, Shared};
use super::clock::Clock;
use super::core::{Core, CoreError, Parts};
use super::data_dir::{DataDir, DataDirError};
use super::input::{CoreHandle, Input, QUEUE};
use super::pool::{Pool, PoolError, PoolParts};
use super::publisher::Publisher;
use super::signer::{SignError, Signer};
use super::supply::SupplyAudits;
use super::watch;
use super::worker::Worker;
use crate::config::NodeConfig;
use crate::wallet::Wallet;
use podl_engine::wire::{SYNC_REQUEST_BYTES, Topic, sync_response_bytes};

/// Why a node did not start. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The specification.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The data folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The signing guard.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The RPC server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The RPC token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A bootnode of the specification.
    #[error("the bootnode {address:?} of the chain's specification is not a multiaddress: {reason}")]
    Bootnode {
        /// As it stands there.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The core ended at once.
    #[error(transparent)]
    Stopped(#[from] super::input::Stopped),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running node.
pub struct Node {
    core: CoreHandle,
    network: NetworkHandle,
    servers: Vec<Server>,
    thread: JoinHandle<Result<(), CoreError>>,
    ended: oneshot::Receiver<()>,
    pool: Option<Pool>,
    api: Api,
    _data_dir: DataDir,
}

/// Requests of pool miners that may wait.
const POOL_REQUESTS: usize = 256;

impl Node {
    /// Starts a node: data folder, database, network, core, RPC.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &NodeConfig, wallet: Option<Wallet>) -> Result<Self, StartError> {
        let spec = Arc::new(ChainSpec::load(&config.chain)?);
        let clock = Clock::default();
        let data_dir = DataDir::open(&config.data_dir)?;
        let (db, chain) = open_chain(&data_dir, &spec)?;
        let supply = SupplyAudits::new(db.clone(), &spec);
        let chain_hash = spec.genesis_hash();
        let signer = wallet.clone().map(|w| Signer::open(w, chain_hash, db.clone())).transpose()?;
        let publisher =
            wallet.as_ref().map_or_else(Publisher::default, |w| Publisher::open(data_dir.path(), w, chain_hash));
        let blobs = Arc::new(BlobStore::open(&data_dir.join("blobs"), config.blob_quota_bytes)?);
        let ports = NetworkPorts { blobs: blobs.clone() };
        let (network, events) = Network::start(network_config(config, &spec, &data_dir)?, ports).await?;
        let (queue, inputs) = sync_channel(QUEUE);
        let handle = CoreHandle { queue };
        let verifier = Box::new(podl_nas::Verifier::new(config.score_threads.into()));
        let worker = Worker::start(spec.clone(), blobs, verifier, handle.clone())?;
        let parts = Parts {
            spec: spec.clone(),
            db,
            chain,
            signer,
            network: network.clone(),
            runtime: tokio::runtime::Handle::current(),
            handle: handle.clone(),
            mining: None,
            min_free_bytes: config.min_free_bytes,
            archive: config.archive,
            clock,
        };
        tracing::info!(chain = spec.name, genesis = %chain_hash.short(), head = parts.chain.finalised().height, keys = publisher.tasks(), "node starts");
        let core = Core::new(parts, worker, publisher)?;
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("podl-core".into()).spawn(move || {
            let result = core.run(inputs);
            // Nobody may be waiting any more.
            let _ = end.send(());
            result
        })?;
        let (pool_sender, pool_requests) = mpsc::channel(POOL_REQUESTS);
        let forwarding = tokio::spawn(forward(events, handle.clone(), network.clone(), pool_sender));
        tokio::spawn(watch_events(forwarding, handle.clone()));
        let api = Api(Arc::new(Shared {
            core: handle.clone(),
            network: network.clone(),
            spec,
            wallet,
            data_dir: data_dir.path().into(),
            clock,
            is_mining: config.mine,
            pool: OnceLock::new(),
            supply,
        }));
        let servers = start_servers(config, &api, &data_dir).await?;
        let mut node = Self { core: handle, network, servers, thread, ended, pool: None, api, _data_dir: data_dir };
        node.start_pool(config, pool_requests).await?;
        Ok(node)
    }

    /// Starts the pool, if this node manages one or mines.
    async fn start_pool(
        &mut self,
        config: &NodeConfig,
        requests: mpsc::Receiver<podl_network::InboundRequest>,
    ) -> Result<(), StartError> {
        let shared = self.api.0.clone();
        let Some(wallet) = shared.wallet.as_ref().filter(|_| config.mine || config.pool_manager) else { return Ok(()) };
        let parts = PoolParts {
            spec: shared.spec.clone(),
            network: self.network.clone(),
            core: self.core.clone(),
            account: wallet.account(),
            fee_basis_points: config.pool_fee_basis_points,
            pay: config.pay_scheme(),
            strategy: config.pool_strategy,
            partition: config.pool_partition,
            starts: config.pool_starting_points,
            folder: shared.data_dir.join("pool"),
            requests: config.pool_manager.then_some(requests),
            own_threads: config.mine.then(|| mine_threads(config)),
        };
        let pool = Pool::start(parts)?;
        if let Some(reader) = pool.reader(&self.network, &self.core) {
            // It is set once, here.
            let _ = shared.pool.set(Arc::new(reader));
        }
        let port = pool.port();
        self.pool = Some(pool);
        Ok(self.core.ask(move |core| core.set_mining(port)).await??)
    }

    /// The core, for callers in this process.
    pub fn core(&self) -> &CoreHandle {
        &self.core
    }

    /// The network.
    pub fn network(&self) -> &NetworkHandle {
        &self.network
    }

    /// Waits until the core has ended by itself: because of a full disk, or because it was told to over RPC.
    pub async fn ended(&mut self) {
        // The sender is dropped when the thread panics, which is an end too.
        let _ = (&mut self.ended).await;
    }

    /// Stops cleanly: no new requests, the core's queue, the network.
    ///
    /// # Errors
    /// What made the core give up, if it did.
    pub async fn stop(self) -> Result<(), CoreError> {
        tracing::info!("stopping");
        if let Some(pool) = self.pool {
            // Miners are told nothing: they try again, and find the pool where they left it.
            let _ = tokio::task::spawn_blocking(move || pool.stop()).await;
        }
        for server in self.servers {
            server.stop().await;
        }
        let core = self.core.clone();
        // The queue may be full for a moment.
        let _ = tokio::task::spawn_blocking(move || core.stop()).await;
        self.network.shutdown().await;
        let thread = self.thread;
        let result = tokio::task::spawn_blocking(move || thread.join()).await;
        tracing::info!("stopped");
        match result {
            Ok(Ok(result)) => result,
            _ => Err(CoreError::State(StateError::Tree("the core thread panicked; see the log above".into()))),
        }
    }
}

/// Training threads of the node's own miner: one core is left to the node unless the operator says otherwise.
fn mine_threads(config: &NodeConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if config.mine_threads == 0 { cores.saturating_sub(1).max(1) } else { config.mine_threads.into() }
}

fn open_chain(data_dir: &DataDir, spec: &Arc<ChainSpec>) -> Result<(Arc<Database>, Chain<Arc<Database>>), StartError> {
    let opened = Database::open(&data_dir.join("chain"), spec)?;
    if opened.created {
        tracing::info!(folder = %data_dir.path().display(), "a new chain folder was made");
    }
    let db = Arc::new(opened.database);
    let found = db.recover()?;
    let blocks = found.pending.into_iter().map(|stored| (stored.block, stored.delta));
    let chain = Chain::open(spec.clone(), db.clone(), found.finalised, blocks)?;
    Ok((db, chain))
}

fn network_config(config: &NodeConfig, spec: &ChainSpec, data_dir: &DataDir) -> Result<NetworkConfig, StartError> {
    let mut network = NetworkConfig::new(spec.genesis_hash(), data_dir.node_key()?);
    network.listen.clone_from(&config.listen);
    network.bootnodes.clone_from(&config.bootnodes);
    for address in &spec.network.bootnodes {
        let parsed = address.parse().map_err(|e: libp2p::multiaddr::Error| StartError::Bootnode {
            address: address.clone(),
            reason: e.to_string(),
        })?;
        network.bootnodes.push(parsed);
    }
    network.external.clone_from(&config.external);
    network.nat = NatConfig { enabled: config.nat, serve: config.serve_relay, relays: config.relays.clone() };
    network.mdns = config.mdns.unwrap_or(spec.network.mdns);
    network.limits.connections = config.max_peers.saturating_mul(2);
    network.limits.inbound_connections = config.max_peers.saturating_mul(3) / 2;
    let topic = |topic: Topic| TopicConfig { name: topic.name().into(), limit_bytes: topic.limit_bytes(spec) };
    network.topics = Topic::ALL.into_iter().map(topic).collect();
    network.sync = ProtocolLimits {
        request_bytes: SYNC_REQUEST_BYTES * 4,
        response_bytes: sync_response_bytes(spec) + 4096,
        ..ProtocolLimits::default()
    };
    network.pool = pool_limits();
    if !config.pool_manager {
        network.serves.retain(|protocol| *protocol != Protocol::Pool);
    }
    Ok(network)
}

/// Bounds of the pool protocol, the same for managers and miners.
pub fn pool_limits() -> ProtocolLimits {
    ProtocolLimits {
        request_bytes: podl_pool::protocol::REQUEST_BYTES,
        response_bytes: podl_pool::protocol::REPLY_BYTES,
        ..ProtocolLimits::default()
    }
}

/// Brings what the network says to the core, and requests of pool miners to the pool.
async fn forward(
    mut events: mpsc::Receiver<NetworkEvent>,
    core: CoreHandle,
    network: NetworkHandle,
    pool: mpsc::Sender<podl_network::InboundRequest>,
) {
    while let Some(event) = events.recv().await {
        match event {
            // A full pool queue drops the request, which refuses it.
            NetworkEvent::Request(request) if request.protocol == Protocol::Pool => {
                let _ = pool.try_send(request);
            }
            NetworkEvent::PeerConnected { .. } | NetworkEvent::PeerDisconnected { .. } => {
                let core = core.clone();
                let _ = tokio::task::spawn_blocking(move || core.send(Input::Network(event))).await;
            }
            event => {
                let judged = match &event {
                    NetworkEvent::Gossip(message) => Some((message.id, message.peer)),
                    _ => None,
                };
                if core.offer(Input::Network(event)) {
                    continue;
                }
                tracing::debug!("the core is busy, a network message was dropped");
                // Without a verdict the network would hold it for minutes.
                if let Some((id, peer)) = judged {
                    let _ = network.report(id, peer, Verdict::Ignore);
                }
            }
        }
    }
}

/// Ends the node when nothing comes from the network any more. While it stops by itself, the core has heard of that first.
async fn watch_events(forwarding: tokio::task::JoinHandle<()>, core: CoreHandle) {
    let reason = match forwarding.await {
        Ok(()) => "it gives no more events".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = tokio::task::spawn_blocking(move || watch::report(&core, "network", reason)).await;
}

/// Answers `/health` and `/ready`.
struct CoreProbe(CoreHandle);

impl Probe for CoreProbe {
    fn health(&self) -> Result<(), String> {
        let (answer, answered) = std::sync::mpsc::channel();
        let query = Box::new(move |_: &mut Core| {
            let _ = answer.send(());
        });
        if !self.0.offer(Input::Query(query)) {
            return Err("the core's queue is full or the core has stopped".into());
        }
        answered.recv_timeout(std::time::Duration::from_secs(2)).map_err(|_| "the core does not answer".into())
    }

    fn ready(&self) -> Result<(), String> {
        let (answer, answered) = std::sync::mpsc::channel();
        let query = Box::new(move |core: &mut Core| {
            let _ = answer.send((core.is_syncing(), core.head().height, core.network_height()));
        });
        if !self.0.offer(Input::Query(query)) {
            return Err("the core's queue is full or the core has stopped".into());
        }
        match answered.recv_timeout(std::time::Duration::from_secs(2)) {
            Ok((false, ..)) => Ok(()),
            Ok((true, head, network)) => Err(format!("catching up: at height {head} of {network}")),
            Err(_) => Err("the core does not answer".into()),
        }
    }
}

async fn start_servers(config: &NodeConfig, api: &Api, data_dir: &DataDir) -> Result<Vec<Server>, StartError> {
    let mut servers = Vec::new();
    let probe: Arc<dyn Probe> = Arc::new(CoreProbe(api.0.core.clone()));
    let registry = Arc::new(super::metrics::registry(api));
    if let Some(addr) = config.rpc {
        let token = Token::open_or_create(data_dir.path())?;
        let admin = Some((api.clone(), token));
        let server = serve(addr, RpcLimits::default(), api.clone(), admin, probe.clone(), registry.clone()).await?;
        write_rpc_address(&data_dir.join("rpc-address"), server.addr())?;
        tracing::info!(address = %server.addr(), "RPC");
        servers.push(server);
    }
    if let Some(addr) = config.metrics {
        servers.push(serve_metrics(addr, RpcLimits::default(), probe, registry).await?);
    }
    Ok(servers)
}

/// So that a tool that started the node with port 0 finds it.
fn write_rpc_address(path: &PathBuf, addr: std::net::SocketAddr) -> Result<(), StartError> {
    Ok(std::fs::write(path, format!("{addr}\n"))?)
}
