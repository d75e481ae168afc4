//! The pool that a node manages: its miners join over the network, its own miner (mining alone is a pool of one) in the
//! same process.
//!
//! One thread, the *desk*, stands between the core and the pool's manager: it takes the core's mining events, which must
//! not wait, and carries out what the manager wants. A second thread answers miners. Evaluations and training run on the
//! pool's own threads.

mod artefacts;
mod desk;
mod status;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use podl_chain_spec::{AccountId, ChainSpec, Hash32};
use podl_consensus::types::BlockHash;
use podl_nas::search::StrategyKind;
use podl_network::{InboundRequest, Misbehaviour, NetworkHandle};
use podl_pool::drivers::{
    BenchError, DirStore, Journal, JournalError, LocalTransport, ManagerConfig, ManagerDriver, MinerConfig,
    MinerHandle, TrainBench, TrainSettings, start_miner, system_clock,
};
use podl_pool::ledger::PayScheme;
use podl_pool::manager::PoolParams;
use podl_pool::partition::Scheme;
use podl_pool::types::MinerId;
use tokio::sync::mpsc;

use super::input::CoreHandle;
use super::mining::{MiningEvent, MiningPort};
use super::watch;
use crate::sealed;
use artefacts::PoolArtefacts;
use desk::{Desk, DeskInput};

pub use status::PoolReader;
pub use transport::{NetworkTransport, miner_id};

/// Most bytes of artefacts that the pool keeps besides those it needs.
const STORE_BYTES: u64 = 512 << 20;
/// How long the node's own miner may take to hand its lease back.
const MINER_STOP: Duration = Duration::from_secs(3);
/// Niceness of training: votes and blocks come first.
pub const NICENESS: i32 = 10;

/// Why a pool cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The folder of states that audits begin from.
    #[error("cannot use the folder {}: {error}", folder.display())]
    States {
        /// Which.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The node's own miner.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] sealed::SealedError),
    /// A thread could not be started.
    #[error("cannot start a thread of the pool: {0}")]
    Thread(#[from] std::io::Error),
}

/// What a pool is started with.
pub struct PoolParts {
    /// Parameters of the chain.
    pub spec: Arc<ChainSpec>,
    /// The node's network, where artefacts and data lie too.
    pub network: NetworkHandle,
    /// Where commitments and payouts go.
    pub core: CoreHandle,
    /// The manager's account: owner of commitments, sender of payouts.
    pub account: AccountId,
    /// What the manager keeps, in hundredths of a percent.
    pub fee_basis_points: u16,
    /// How the rest is shared.
    pub pay: PayScheme,
    /// How it searches.
    pub strategy: StrategyKind,
    /// How a task's space is cut.
    pub partition: Scheme,
    /// Whether known networks are tried first.
    pub starts: bool,
    /// Folder of the journal.
    pub folder: PathBuf,
    /// Requests of miners; none when only the node itself mines.
    pub requests: Option<mpsc::Receiver<InboundRequest>>,
    /// Training threads of the node's own miner, if it mines.
    pub own_threads: Option<usize>,
}

/// A running pool.
pub struct Pool {
    manager: Arc<ManagerDriver>,
    miner: Option<MinerHandle>,
    inputs: Sender<DeskInput>,
    desk: JoinHandle<()>,
    account: AccountId,
    serves_miners: bool,
    params: PoolParams,
}

impl Pool {
    /// Starts manager, desk, and the node's own miner.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn start(parts: PoolParts) -> Result<Self, PoolError> {
        let params = PoolParams {
            fee_basis_points: parts.fee_basis_points,
            pay: parts.pay,
            strategy: parts.strategy,
            scheme: parts.partition,
            starts: parts.starts,
            ..PoolParams::for_chain(&parts.spec, parts.account)
        };
        let (inputs, desk_inputs) = channel();
        let manager = Arc::new(start_manager(&parts, params.clone(), inputs.clone())?);
        let miner = parts.own_threads.map(|threads| own_miner(&parts, &manager, threads)).transpose()?;
        let desk = Desk::new(manager.clone(), &parts);
        let desk = watch::spawn("podl-pool", parts.core.clone(), move || desk.run(&desk_inputs))?;
        let serves_miners = parts.requests.is_some();
        if let Some(requests) = parts.requests {
            let (manager, network) = (manager.clone(), parts.network.clone());
            // Ends when the node closes the queue.
            let answer = move || answer_miners(requests, &manager, &network);
            watch::spawn("podl-pool-ask", parts.core.clone(), answer)?;
        }
        Ok(Self { manager, miner, inputs, desk, account: parts.account, serves_miners, params })
    }

    /// What the core tells of the chain.
    pub fn port(&self) -> Box<dyn MiningPort> {
        Box::new(Port { desk: self.inputs.clone(), manager: self.manager.clone() })
    }

    /// What RPC shows of it; none when only the node itself mines.
    pub fn reader(&self, network: &NetworkHandle, core: &CoreHandle) -> Option<PoolReader> {
        self.serves_miners.then(|| PoolReader {
            manager: self.manager.clone(),
            peer_id: network.peer_id(),
            core: core.clone(),
            account: self.account,
            params: self.params.clone(),
        })
    }

    /// Hands the own miner's lease back, ends the threads, writes the journal. Blocks for some seconds at most.
    pub fn stop(self) {
        if let Some(Err(error)) = self.miner.map(|miner| miner.stop_within(MINER_STOP)) {
            tracing::warn!(%error, "the own miner");
        }
        // A desk that is gone has stopped already.
        let _ = self.inputs.send(DeskInput::Stop);
        if self.desk.join().is_err() {
            tracing::error!("the pool's desk has panicked");
        }
        self.manager.save();
    }
}

fn start_manager(parts: &PoolParts, params: PoolParams, inputs: Sender<DeskInput>) -> Result<ManagerDriver, PoolError> {
    let journal = Journal::open(&parts.folder)?;
    if journal.1.is_some() {
        tracing::info!(folder = %parts.folder.display(), "the pool goes on where it was");
    }
    let folder = parts.folder.join("states");
    let states = DirStore::open(&folder).map_err(|error| PoolError::States { folder, error })?;
    let config = ManagerConfig {
        params,
        seed: sealed::random()?,
        caps: parts.spec.caps.clone(),
        threads: 1,
        store_bytes: STORE_BYTES,
        store: Box::new(PoolArtefacts::new(parts.network.blobs().clone())),
        states: Box::new(states),
        journal: Some(journal),
        clock: system_clock(),
        // A desk that is gone carries out nothing more.
        sink: Arc::new(move |action| drop(inputs.send(DeskInput::Action(Box::new(action))))),
    };
    Ok(ManagerDriver::start(config)?)
}

fn own_miner(parts: &PoolParts, manager: &Arc<ManagerDriver>, threads: usize) -> Result<MinerHandle, PoolError> {
    let settings = TrainSettings { niceness: NICENESS };
    let bench = TrainBench::new(threads, parts.spec.caps.clone(), settings)?;
    let config = MinerConfig {
        account: parts.account,
        agent: format!("podl/{}", crate::VERSION),
        niceness: NICENESS,
        // The manager replays nothing of its own miner's.
        states: None,
    };
    let transport = LocalTransport::new(manager.clone(), MinerId(Hash32(*parts.account.as_bytes())));
    Ok(start_miner(config, Arc::new(transport), Box::new(bench))?)
}

/// Answers one request after the other; each costs the manager microseconds, but for results, which it hashes and keeps.
fn answer_miners(mut requests: mpsc::Receiver<InboundRequest>, manager: &ManagerDriver, network: &NetworkHandle) {
    while let Some(request) = requests.blocking_recv() {
        let Some(miner) = miner_id(&request.peer) else {
            // Dropping the request refuses it; only ed25519 identities can be paid.
            let _ = network.penalise(request.peer, Misbehaviour::Malformed, "a pool miner without an ed25519 identity");
            continue;
        };
        let answer = manager.handle(miner, &request.bytes);
        if let Err(error) = request.reply.send(answer) {
            tracing::debug!(%error, "an answer to a miner was not sent");
        }
    }
}

/// The core's side: hands events over without waiting.
struct Port {
    desk: Sender<DeskInput>,
    manager: Arc<ManagerDriver>,
}

impl MiningPort for Port {
    fn on_event(&mut self, event: MiningEvent) {
        // A desk that is gone hears nothing more.
        let _ = self.desk.send(DeskInput::Mining(event));
    }

    fn unsettled(&self) -> Vec<BlockHash> {
        self.manager.pending_blocks()
    }

    fn blobs_in_use(&self) -> Vec<Hash32> {
        self.manager.needed().into_iter().collect()
    }
}
