//! The core thread: owns chain, machines and storage, and takes one input after the other.
//!
//! # Correctness
//! Nothing here waits for the network, for an inference pass or for training. A block is written with everything it made
//! final in one synced batch before the interval machine hears of it; a signature leaves after the guard's record is on
//! disk (see [`super::signer`]).

mod effects;
mod gossip;
mod imports;
mod own;
mod payouts;
mod payouts_before;
mod produce;
mod proved;
mod prune;
mod query;
mod send;
mod siblings;
mod sync;
mod tasks;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use libp2p::PeerId;
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::chain::Chain;
use podl_consensus::interval::{ChainView, Event, IntervalMachine};
use podl_consensus::interval_context::IntervalContext;
use podl_consensus::state::{Checkpoint, StateError};
use podl_consensus::types::{BlockHash, ShardKey};
use podl_engine::sync::Sync;
use podl_mempool::{Limits as MempoolLimits, Mempool, SenderState};
use podl_network::NetworkHandle;
use podl_storage::{Aux, Database, StorageError};

use super::clock::Clock;
use super::input::{CoreHandle, Input};
use super::mining::{MiningEvent, MiningPort, OwnIntervals, WonBlock};
use super::publisher::Publisher;
use super::signer::Signer;
use super::worker::Worker;

pub use query::{ReadError, TaskRecord};
pub use send::SendError;

/// The core gave up; the node stops with this.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A thread that the node cannot do without has ended: better no node than one that looks alive.
    #[error("the thread {name} has ended ({reason}); the node cannot go on without it, start it again")]
    ThreadEnded {
        /// Which.
        name: &'static str,
        /// Why, as far as is known.
        reason: String,
    },
    /// The disk is full.
    #[error("the disk of {path} is full: {free_mib} MiB left; make room and start the node again")]
    DiskFull {
        /// The data folder.
        path: String,
        /// What is left.
        free_mib: u64,
    },
}

/// How often the core looks at peers, disk and tasks, in milliseconds.
const HOUSEKEEPING_MS: u64 = 2_000;

/// What the machines see of the chain.
pub(super) struct View {
    pub chain: Chain<Arc<Database>>,
}

impl View {
    /// What the next block on `parent` finds of an account.
    fn sender(&self, parent: &BlockHash, account: &AccountId) -> SenderState {
        let Some(state) = self.chain.state(parent) else { return SenderState::default() };
        let Ok(found) = state.account(account) else { return SenderState::default() };
        SenderState { nonce: found.nonce, spendable: found.spendable(state.height() + 1) }
    }
}

impl View {
    /// Whether an account can pay the fees of so many commitments in the interval on `parent`.
    fn can_commit(&self, parent: &BlockHash, owner: &AccountId, commitments: u8) -> bool {
        let Some(interval) = self.interval(parent) else { return false };
        let fees = interval.commitment_fee.checked_mul(commitments.into());
        fees.is_some_and(|fees| self.can_spend(parent, owner, fees))
    }
}

impl ChainView for View {
    fn interval(&self, parent: &BlockHash) -> Option<Arc<IntervalContext>> {
        match self.chain.shared_interval(parent) {
            Ok(interval) => interval,
            Err(error) => {
                tracing::error!(%error, "cannot read the state of an interval");
                None
            }
        }
    }

    fn can_spend(&self, parent: &BlockHash, account: &AccountId, amount: Amount) -> bool {
        self.sender(parent, account).spendable >= amount
    }
}

/// What the core is made of.
pub struct Parts {
    /// Parameters of the chain.
    pub spec: Arc<ChainSpec>,
    /// The database.
    pub db: Arc<Database>,
    /// The chain as it was found.
    pub chain: Chain<Arc<Database>>,
    /// The signing account.
    pub signer: Option<Signer>,
    /// The network.
    pub network: NetworkHandle,
    /// Where the network's futures run.
    pub runtime: tokio::runtime::Handle,
    /// The core's own queue, for answers.
    pub handle: CoreHandle,
    /// A miner or pool manager.
    pub mining: Option<Box<dyn MiningPort>>,
    /// With less free disk the operator is warned; with a tenth of it the node stops.
    pub min_free_bytes: u64,
    /// Whether artefacts and shards are kept for ever.
    pub archive: bool,
    /// The node's clock.
    pub clock: Clock,
}

/// The core. See the module.
pub struct Core {
    pub(super) spec: Arc<ChainSpec>,
    pub(super) chain_hash: Hash32,
    pub(super) db: Arc<Database>,
    pub(super) view: View,
    pub(super) machine: IntervalMachine,
    pub(super) signer: Option<Signer>,
    pub(super) publisher: Publisher,
    pub(super) mempool: Mempool,
    pub(super) sync: Sync<PeerId>,
    pub(super) network: NetworkHandle,
    pub(super) clock: Clock,
    runtime: tokio::runtime::Handle,
    handle: CoreHandle,
    worker: Worker,
    mining: Option<Box<dyn MiningPort>>,
    own: OwnIntervals,
    /// The open interval in which a majority may yet list what this node committed to, with its key.
    unlisted: Option<(Checkpoint, Option<ShardKey>)>,
    /// What blocks pay this node's account for its models.
    won: BTreeMap<BlockHash, WonBlock>,
    payouts: payouts::Payouts,
    imports: imports::Imports,
    siblings: siblings::Siblings,
    tasks: tasks::TaskBlobs,
    pruning: prune::Pruning,
    waiting: waiting::Waiting,
    peers: BTreeMap<PeerId, u64>,
    waiters: Vec<query::Waiter>,
    /// Addresses that the network listens on.
    listen: Vec<String>,
    /// Events for the machine that came up while it handled another.
    events: VecDeque<Event>,
    /// Whether events are being worked off.
    is_driving: bool,
    phase_since_ms: u64,
    /// When candidates of this interval were opened, and how long the interval before took from there to its block.
    reveal_since_ms: Option<u64>,
    previous_reveal_ms: Option<u64>,
    min_free_bytes: u64,
    low_disk: bool,
    next_housekeeping_ms: u64,
    stopping: bool,
    /// Who was charged with something, for tests.
    #[cfg(test)]
    blamed: std::cell::RefCell<Vec<PeerId>>,
}

impl Core {
    /// Puts the parts together and feeds the machine with the blocks above the final one.
    pub(super) fn new(parts: Parts, worker: Worker, publisher: Publisher) -> Result<Self, CoreError> {
        let chain = parts.chain;
        let root = chain.finalised();
        let missing =
            || StateError::Corrupt { key: root.block.to_string(), reason: "no state of the final block".into() };
        let meta = chain.meta(&root.block).cloned().ok_or_else(missing)?;
        let machine = IntervalMachine::new(&parts.spec, root, meta, parts.signer.as_ref().map(Signer::guard));
        let chain_hash = chain.chain_hash();
        let own = own::load(&parts.db, Aux::Commitments, "own commitments")?;
        let won = own::load(&parts.db, Aux::Won, "own blocks")?;
        let payouts = payouts::Payouts::load(&parts.db)?;
        prune::begin(&parts.db, parts.network.blobs(), root)?;
        let mut core = Self {
            chain_hash,
            mempool: Mempool::new(MempoolLimits::default()),
            sync: Sync::new(chain_hash, root, root),
            spec: parts.spec,
            db: parts.db,
            view: View { chain },
            machine,
            signer: parts.signer,
            publisher,
            network: parts.network,
            clock: parts.clock,
            runtime: parts.runtime,
            handle: parts.handle,
            worker,
            mining: parts.mining,
            own,
            unlisted: None,
            won,
            payouts,
            imports: imports::Imports::default(),
            siblings: siblings::Siblings::default(),
            tasks: tasks::TaskBlobs::default(),
            pruning: prune::Pruning::new(parts.archive),
            waiting: waiting::Waiting::default(),
            peers: BTreeMap::new(),
            waiters: Vec::new(),
            listen: Vec::new(),
            events: VecDeque::new(),
            is_driving: false,
            phase_since_ms: 0,
            reveal_since_ms: None,
            previous_reveal_ms: None,
            min_free_bytes: parts.min_free_bytes,
            low_disk: false,
            next_housekeeping_ms: 0,
            stopping: false,
            #[cfg(test)]
            blamed: std::cell::RefCell::default(),
        };
        core.feed_known_blocks()?;
        core.restore_waiting()?;
        Ok(core)
    }

    fn feed_known_blocks(&mut self) -> Result<(), CoreError> {
        let mut known: Vec<_> =
            self.view.chain.blocks().map(|(_, entry)| (entry.block.clone(), entry.meta.clone())).collect();
        known.sort_by_key(|(block, _)| block.height());
        for (block, meta) in known {
            self.siblings.take(&block);
            self.drive(Event::BlockImported(block, meta))?;
        }
        Ok(())
    }

    /// Takes inputs until it is told to stop.
    pub(super) fn run(mut self, inputs: Receiver<Input>) -> Result<(), CoreError> {
        let result = self.serve(&inputs).and_then(|()| Ok(self.keep_waiting()?));
        if let Err(error) = &result {
            tracing::error!(%error, "the node stops");
        }
        self.waiters.clear();
        // First, so that no thread that is waited for below waits for room in it.
        drop(inputs);
        result
    }

    fn serve(&mut self, inputs: &Receiver<Input>) -> Result<(), CoreError> {
        while !self.stopping {
            let now = self.clock.now_ms();
            let wake = self.machine.next_deadline_ms(now).min(self.next_housekeeping_ms);
            match inputs.recv_timeout(Duration::from_millis(wake.saturating_sub(now).max(1))) {
                Ok(input) => self.take(input)?,
                Err(RecvTimeoutError::Timeout) => self.drive(Event::Tick)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.housekeeping()?;
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), CoreError> {
        match input {
            Input::Network(event) => self.on_network(event),
            Input::SyncAnswer { peer, request, answer } => self.on_sync_answer(peer, request, answer),
            Input::NoNode(peer) => self.forget_peer(peer),
            Input::BlobsReady { hash, all } => self.on_blobs(hash, all),
            Input::TaskBlobs { task, all } => self.on_task_blobs(task, all),
            Input::Worked { hash, height, result } => self.on_worked(&hash, height, *result),
            Input::OwnChecked { parent, result } => self.on_own_checked(parent, *result),
            Input::ThreadEnded { name, reason } => Err(CoreError::ThreadEnded { name, reason }),
            Input::ShardTried { key, key_hash, opens } => self.on_shard_tried(key, key_hash, opens),
            Input::ScoredOwn(scored) => self.on_scored_own(scored),
            Input::Commit(committed) => self.on_commit(committed),
            Input::Query(query) => {
                query(self);
                Ok(())
            }
            Input::Stop => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    /// Gives the machine an event and carries out what it wants, until it wants nothing more.
    pub(super) fn drive(&mut self, event: Event) -> Result<(), CoreError> {
        self.events.push_back(event);
        if std::mem::replace(&mut self.is_driving, true) {
            // What an effect leads to waits until the effects before it are carried out, and takes no stack.
            return Ok(());
        }
        let result = self.work_events();
        self.is_driving = false;
        result
    }

    fn work_events(&mut self) -> Result<(), CoreError> {
        while let Some(event) = self.events.pop_front() {
            let is_closing = matches!(event, Event::Closing(_) | Event::Candidate(_) | Event::Tick);
            let effects = self.machine.handle(self.clock.now_ms(), event, &self.view);
            for effect in effects {
                self.perform(effect)?;
            }
            if is_closing {
                self.open_when_listed()?;
            }
        }
        Ok(())
    }

    fn housekeeping(&mut self) -> Result<(), CoreError> {
        let now = self.clock.now_ms();
        if now < self.next_housekeeping_ms {
            return Ok(());
        }
        self.next_housekeeping_ms = now + HOUSEKEEPING_MS;
        self.expire_waiters(now);
        self.poll_peers();
        self.tend_waiting(now)?;
        self.follow_tasks()?;
        self.tend_blobs(now)?;
        self.retry_imports()?;
        self.release_stalled()?;
        self.follow_payouts()?;
        self.note_voted_ahead()?;
        self.sync_event(podl_engine::sync::Event::Tick)?;
        self.check_disk()
    }

    fn check_disk(&mut self) -> Result<(), CoreError> {
        let Ok(free) = podl_storage::free_disk_bytes(self.db.path()) else { return Ok(()) };
        if free < self.min_free_bytes / 10 {
            return Err(CoreError::DiskFull { path: self.db.path().display().to_string(), free_mib: free >> 20 });
        }
        let low = free < self.min_free_bytes;
        if low && !self.low_disk {
            tracing::warn!(free_mib = free >> 20, "the disk is nearly full; the node will stop when it is");
        }
        self.low_disk = low;
        Ok(())
    }

    /// The fork choice's head.
    pub fn head(&self) -> Checkpoint {
        self.machine.head()
    }

    /// The last final block.
    pub fn finalised(&self) -> Checkpoint {
        self.view.chain.finalised()
    }

    fn tell_miner(&mut self, event: MiningEvent) {
        if let Some(mining) = &mut self.mining {
            mining.on_event(event);
        }
    }

    /// Connects a miner or pool manager; it hears of the next interval, and of the current one if it can still be trained
    /// for.
    ///
    /// # Errors
    /// [`CoreError`] when the disk fails.
    pub fn set_mining(&mut self, mining: Box<dyn MiningPort>) -> Result<(), CoreError> {
        self.mining = Some(mining);
        self.tell_all_won()?;
        self.announce_interval();
        Ok(())
    }

    /// What an account can spend in the next block.
    pub fn spendable(&self, account: &AccountId) -> Amount {
        self.view.sender(&self.head().block, account).spendable
    }
}
