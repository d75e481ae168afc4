//! The manager's driver: bytes to events, effects to actions of the node, evaluations on threads of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::{BatchPayment, BlobRef, BlockHash, ModelRoot};
use podl_consensus::workload::Architecture;
use podl_nas::artefact;

use super::audit::{Auditor, Material, NICENESS};
use super::evaluate::{Current, Evaluation};
use super::overview::{Coverage, PoolOverview};
use super::queue::JobQueue;
use super::threads::{Threads, contain};
use super::upload::{Kind, Uploads};
use super::{ArtefactStore, Clock, DataError, IntervalData, Journal, JournalError, lower_priority};
use crate::calibration::{self, CalibrationJob};
use crate::ledger::{ShareList, WonBlock};
use crate::manager::{
    Ask, AuditOrder, Effect, Event, Manager, Outcome, PoolParams, StartFrom, Verdict, architecture_name,
};
use crate::protocol::{self, Refusal, Reply, Request};
use crate::types::{AuditId, DataSource, Elite, EvaluationPlan, Interval, JobId, MinerId, Share};

/// Most artefacts of which is remembered what they are.
const MOST_MODELS: usize = 1024;

/// What the node is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolAction {
    /// Sign and spread a commitment to this artefact; report [`Event::CommitFailed`] when that is not possible.
    Commit {
        /// In which interval.
        parent: BlockHash,
        /// The artefact.
        artefact: BlobRef,
        /// Its bytes.
        bytes: Arc<Vec<u8>>,
        /// 1 for the first of the interval.
        attempt: u8,
    },
    /// Send this batch payment.
    Pay(BatchPayment),
    /// The pool's best changed: a line for the log.
    Improved {
        /// Who found it.
        miner: MinerId,
        /// The model.
        root: ModelRoot,
        /// Its count.
        count: u32,
        /// Of how many images.
        images: u32,
    },
}

/// What a manager's driver needs.
pub struct ManagerConfig {
    /// Parameters of the pool, of a restored one too.
    pub params: PoolParams,
    /// Secret seed: every draw, and the names of the secret images. A restored journal keeps its own.
    pub seed: [u8; 32],
    /// The chain's caps.
    pub caps: Caps,
    /// Threads that check results.
    pub threads: usize,
    /// Most bytes of artefacts kept; what is needed is kept in any case.
    pub store_bytes: u64,
    /// Where artefacts are kept.
    pub store: Box<dyn ArtefactStore>,
    /// Where states are kept that audits begin from: few, up to 16 MiB each, each needed once.
    pub states: Box<dyn ArtefactStore>,
    /// Where events are written, if a restart shall go on where it was.
    pub journal: Option<(Journal, Option<Manager>)>,
    /// The clock.
    pub clock: Clock,
    /// Takes actions; called from the driver's and the node's threads, and must not block nor call the driver.
    pub sink: Arc<dyn Fn(PoolAction) + Send + Sync>,
}

struct State {
    manager: Manager,
    store: Box<dyn ArtefactStore>,
    journal: Option<Journal>,
    uploads: Uploads,
    current: Option<Arc<Current>>,
    /// Earlier intervals, while their last results are evaluated and audited.
    earlier: Vec<Arc<Current>>,
    answers: BTreeMap<CalibrationJob, Hash32>,
    /// What was found out of artefacts in the store.
    models: BTreeMap<ModelRoot, Known>,
    /// States that audits begin from. As many as the manager wants.
    states: Box<dyn ArtefactStore>,
    /// Evaluations that a restarted manager asked for before there were data.
    deferred: Vec<Job>,
    /// What has gone wrong in this process and stays so until it is restarted.
    fault: Option<String>,
}

/// What is known of an artefact in the store.
#[derive(Clone, Copy)]
struct Known {
    /// Its length.
    bytes: u64,
    /// Name of the network whose model it is, if it is one.
    network: Option<Hash32>,
}

/// Why nothing can be said of a result's artefact.
enum Unusable {
    /// It is not here, or not of its root and length.
    NotThere,
    /// Decoding it panics, for which the miner is not to blame.
    Panicked,
}

enum Job {
    Begin { interval: Box<Interval>, blob: Option<Arc<Vec<u8>>>, deadline_ms: u64 },
    Evaluate { job: JobId, artefact: BlobRef },
    Calibration { miner: MinerId, job: CalibrationJob, digest: Hash32 },
}

/// What the threads do with jobs that strangers can shape.
#[derive(Clone, Copy)]
pub(super) struct Checks {
    /// The network of an artefact; none for bytes that are no artefact.
    pub network: fn(&[u8], &Caps) -> Option<Architecture>,
    pub evaluate: fn(&Evaluation, &Caps) -> Outcome,
    pub calibrate: fn(&CalibrationJob) -> Option<Hash32>,
    pub replay: fn(&mut Auditor, &AuditOrder, &Material) -> Verdict,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            network: |bytes, caps| Some(artefact::decode(bytes, caps).ok()?.network().architecture()),
            evaluate: Evaluation::evaluate,
            calibrate: |job| calibration::answer(job, 1),
            replay: Auditor::audit,
        }
    }
}

struct Shared {
    state: Mutex<State>,
    checks: Checks,
    queue: JobQueue<Job>,
    /// Replays; the manager asks for one at a time.
    audits: JobQueue<(AuditId, Box<AuditOrder>)>,
    /// Ends the replay under way.
    cancel: Arc<AtomicBool>,
    caps: Caps,
    store_bytes: u64,
    clock: Clock,
    sink: Arc<dyn Fn(PoolAction) + Send + Sync>,
}

/// A pool manager with its threads. All methods return at once; none needs an async runtime.
pub struct ManagerDriver {
    shared: Arc<Shared>,
    threads: Threads,
}

impl ManagerDriver {
    /// Starts a manager; a journal that holds one goes on with it.
    ///
    /// # Errors
    /// What the system says when threads cannot be started.
    pub fn start(config: ManagerConfig) -> std::io::Result<Self> {
        Self::start_with(config, Checks::default())
    }

    /// The same with other checks.
    pub(super) fn start_with(config: ManagerConfig, checks: Checks) -> std::io::Result<Self> {
        let (journal, restored) = match config.journal {
            Some((journal, restored)) => (Some(journal), restored),
            None => (None, None),
        };
        let is_restored = restored.is_some();
        let manager = match restored {
            Some(mut manager) => {
                manager.set_params(config.params);
                manager
            }
            None => Manager::new(config.params, config.seed),
        };
        let state = State {
            manager,
            store: config.store,
            journal,
            uploads: Uploads::default(),
            current: None,
            earlier: Vec::new(),
            answers: BTreeMap::new(),
            models: BTreeMap::new(),
            states: config.states,
            deferred: Vec::new(),
            fault: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            checks,
            queue: JobQueue::new(),
            audits: JobQueue::new(),
            cancel: Arc::default(),
            caps: config.caps,
            store_bytes: config.store_bytes,
            clock: config.clock,
            sink: config.sink,
        });
        if is_restored {
            let mut state = shared.lock();
            let State { manager, states, .. } = &mut *state;
            let effects = manager.resume((shared.clock)(), |root| states.get(root).is_some());
            state.drop_unwanted();
            shared.perform(&mut state, effects, None);
        }
        // Of a restored manager too: its parameters are this start's, and events that follow must be replayed under them.
        shared.lock().snapshot();
        let mut driver = Self { shared, threads: Threads::default() };
        for index in 0..config.threads.max(1) {
            let worker = driver.shared.clone();
            driver.threads.start(&format!("pool-check-{index}"), move || worker.work())?;
        }
        let auditor = driver.shared.clone();
        driver.threads.start("pool-audit", move || auditor.audit())?;
        Ok(driver)
    }

    /// Answers a miner's request. `miner` is the peer's ed25519 key.
    pub fn handle(&self, miner: MinerId, bytes: &[u8]) -> Vec<u8> {
        let what = || format!("a request of miner {}", miner.0.short());
        let reply = self.shared.guard(what, || self.shared.answer(miner, bytes));
        // Not to be sent again.
        protocol::encode(&reply.unwrap_or_else(|| refused(Refusal::Malformed)))
    }

    /// Whether the pool does its work: all of its threads run, its books are as the events say, and its journal is
    /// written. Cheap enough to be asked every second.
    ///
    /// # Errors
    /// What is wrong, in words. It stays so until the process is restarted.
    pub fn health(&self) -> Result<(), String> {
        self.threads.health()?;
        self.shared.lock().fault.clone().map_or(Ok(()), Err)
    }

    /// The training phase of an interval begins. `blob` is the data of a published task, whose root the caller has
    /// checked. Data are decoded on the driver's threads; miners get work once they are.
    pub fn begin_interval(&self, interval: Interval, blob: Option<Arc<Vec<u8>>>, train_left_ms: u64) {
        let deadline_ms = (self.shared.clock)().saturating_add(train_left_ms);
        self.shared.queue.push(Job::Begin { interval: Box::new(interval), blob, deadline_ms }, true);
    }

    /// Training is over.
    pub fn end_interval(&self, parent: BlockHash) {
        self.event(Event::IntervalEnded { parent });
    }

    /// A block of the manager's is on the chain, is final, or has left it.
    pub fn block_won(&self, won: WonBlock) {
        self.event(Event::BlockWon(won));
    }

    /// See [`ManagerDriver::block_won`].
    pub fn block_final(&self, block: BlockHash) {
        self.event(Event::BlockFinal { block });
    }

    /// See [`ManagerDriver::block_won`].
    pub fn block_lost(&self, block: BlockHash) {
        self.event(Event::BlockLost { block });
    }

    /// The node could not commit.
    pub fn commit_failed(&self, parent: BlockHash, root: ModelRoot) {
        self.event(Event::CommitFailed { parent, root });
    }

    /// Lets time pass; to be called at least every few hundred milliseconds.
    pub fn tick(&self) {
        self.event(Event::Tick);
    }

    /// An artefact of the pool's, or the current task's data: what this process can serve to miners.
    pub fn blob(&self, root: &Hash32) -> Option<Arc<Vec<u8>>> {
        let state = self.shared.lock();
        let current = state.current.as_ref().filter(|current| current.data_root() == Some(*root));
        current.and_then(|current| current.blob.clone()).or_else(|| state.store.get(root))
    }

    /// The share list of a block that the pool won.
    pub fn share_list(&self, block: &BlockHash) -> Option<ShareList> {
        self.shared.lock().manager.ledger().list(block).cloned()
    }

    /// Blocks that the pool won and that are neither final nor lost yet.
    pub fn pending_blocks(&self) -> Vec<BlockHash> {
        self.shared.lock().manager.ledger().pending().iter().map(|list| list.block).collect()
    }

    /// Share lists of all settled blocks that are kept.
    pub fn paid_lists(&self) -> Vec<ShareList> {
        self.shared.lock().manager.ledger().paid().to_vec()
    }

    /// Confirmed models of the current task, best first.
    pub fn elites(&self) -> Vec<Elite> {
        self.shared.lock().manager.elites().to_vec()
    }

    /// Figures for people.
    pub fn overview(&self) -> PoolOverview {
        let (overview, explored) = {
            let state = self.shared.lock();
            (PoolOverview::of(&state.manager), state.manager.explored())
        };
        PoolOverview { coverage: explored.map(Coverage::new), ..overview }
    }

    /// Artefacts that the pool needs.
    pub fn needed(&self) -> BTreeSet<ModelRoot> {
        self.shared.lock().manager.pinned()
    }

    /// Writes a snapshot to the journal, so that a restart is quick.
    pub fn save(&self) {
        self.shared.lock().snapshot();
    }

    /// Ends the threads; an evaluation under way is finished first, a replay is begun again at the next start.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.shared.queue.close();
        self.shared.audits.close();
        self.shared.cancel.store(true, Ordering::Relaxed);
        self.threads.join();
        self.shared.lock().snapshot();
    }

    fn event(&self, event: Event) {
        let name = event.name();
        let tell = || self.shared.event(&mut self.shared.lock(), event, None);
        self.shared.guard(|| format!("what follows the event \"{name}\""), tell);
    }
}

impl Drop for ManagerDriver {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.close();
        }
    }
}

impl State {
    fn snapshot(&mut self) {
        if let Some(Err(error)) = self.journal.as_mut().map(|j| j.snapshot(&self.manager)) {
            self.lose_journal(&error);
        }
    }

    fn lose_journal(&mut self, error: &JournalError) {
        tracing::error!(%error, "the pool goes on without a journal");
        self.journal = None;
        self.note_fault(format!("the pool goes on without a journal: {error}"));
    }

    /// An event that panicked half way is taken back: the machine is what the journal gives without it.
    fn take_back(&mut self, reason: &str) {
        match self.journal.as_ref().map(Journal::restore) {
            Some(Ok(Some(manager))) => {
                self.manager = manager;
                // The event is not to be met again.
                self.snapshot();
            }
            Some(Ok(None)) | None => self.note_fault(format!("{reason}; the pool's books may be half changed")),
            Some(Err(error)) => {
                self.note_fault(format!("{reason}; the pool's books may be half changed: {error}"));
            }
        }
    }

    /// Notes what has gone wrong; the first is what counts.
    fn note_fault(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    /// Drops states and data that no audit wants any more.
    fn drop_unwanted(&mut self) {
        let wanted = self.manager.wanted_states();
        self.states.retain(&wanted);
        self.uploads.keep_states(&wanted);
        let present = self.current.as_ref().map(|current| &current.interval.data);
        self.earlier.retain(|earlier| {
            let Interval { parent, data, .. } = &earlier.interval;
            self.manager.evaluates_in(parent) || (present != Some(data) && self.manager.replays_on(data))
        });
    }

    /// Drops artefacts that nobody needs.
    fn drop_artefacts(&mut self) {
        self.store.retain(&self.manager.pinned());
        self.models.clear();
    }

    /// The interval under work, then earlier ones.
    fn intervals(&self) -> impl Iterator<Item = &Arc<Current>> {
        self.current.iter().chain(&self.earlier)
    }

    /// Keeps an artefact and drops what is not needed when there is too much.
    fn keep(&mut self, root: ModelRoot, bytes: Vec<u8>, limit_bytes: u64) -> bool {
        if self.store.bytes().saturating_add(bytes.len() as u64) > limit_bytes {
            self.drop_artefacts();
        }
        match self.store.put(root, Arc::new(bytes)) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "an artefact cannot be kept");
                false
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The machine is consistent between events; one that panics half way is taken back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, miner: MinerId, bytes: &[u8]) -> Reply {
        let request = protocol::decode_request(bytes).ok();
        let mut state = self.lock();
        // Whoever is not heard at all costs neither hashing nor decoding nor a line in the journal.
        let is_hello = matches!(request, Some(Request::Hello { .. }));
        if let Some((refusal, retry_ms)) = state.manager.turns_away(&miner, is_hello, (self.clock)()) {
            return Reply::Refused { refusal, retry_ms };
        }
        let Some(request) = request else {
            self.event(&mut state, Event::Asked { miner, ask: Ask::Broken }, None);
            return refused(Refusal::Malformed);
        };
        let (mut chunk, mut artefact) = (None, None);
        let ask = match request {
            Request::Hello { version, account, agent: _ } => Ask::Hello { version, account },
            Request::Calibrated { seed, digest } => Ask::Calibrated { seed, digest },
            Request::Lease => Ask::Lease,
            Request::Progress { lease, done_macs } => Ask::Progress { lease, done_macs },
            Request::Chunk { artefact, offset, bytes } => {
                chunk = Some((artefact, offset, bytes));
                Ask::Chunk
            }
            Request::Submit { share, inline } => {
                let is_model = match self.examine(&mut state, &miner, &share, inline.as_deref()) {
                    Ok(is_model) => is_model,
                    Err(Unusable::NotThere) => {
                        self.event(&mut state, Event::Asked { miner, ask: Ask::Broken }, None);
                        return refused(Refusal::NoArtefact);
                    }
                    Err(Unusable::Panicked) => {
                        // Nobody's fault but podl's; it was heard all the same, and that is counted.
                        let ask = Ask::Progress { lease: share.lease, done_macs: 0 };
                        self.event(&mut state, Event::Asked { miner, ask }, None);
                        return refused(Refusal::NoArtefact);
                    }
                };
                artefact = inline.map(|bytes| (share.artefact.root, bytes));
                Ask::Submit { share, is_model }
            }
            Request::Leave => Ask::Leave,
        };
        let mut reply = None;
        self.event(&mut state, Event::Asked { miner, ask }, Some(&mut reply));
        let is_taken = matches!(reply, Some(Reply::Ack { .. }));
        // Nothing of what is refused is kept. Whoever evaluates it waits for the state meanwhile.
        if let Some((root, bytes)) = artefact.filter(|_| is_taken) {
            state.keep(root, bytes, self.store_bytes);
        }
        if let Some((artefact, offset, bytes)) = chunk.filter(|_| is_taken) {
            if let Err(refusal) = self.take_chunk(&mut state, miner, artefact, offset, &bytes) {
                return refused(refusal);
            }
            // A state that this completes is not asked for once more.
            reply = Some(state.manager.ack(&miner, true));
        }
        // The machine answers every request, unless it panics at it: that one is not to be sent again.
        reply.unwrap_or_else(|| refused(Refusal::Malformed))
    }

    /// Whether a result's artefact, in its message or from before, is a model of the network that it is said to be. It is
    /// looked at only if the result is not refused in any case; one from before once, however often it is named: a name is
    /// short, and what it names may be long.
    fn examine(
        &self,
        state: &mut State,
        miner: &MinerId,
        share: &Share,
        inline: Option<&[u8]>,
    ) -> Result<bool, Unusable> {
        let BlobRef { root, bytes: length } = share.artefact;
        let network = match inline {
            Some(bytes) if bytes.len() as u64 != length || blob_root(bytes) != root => return Err(Unusable::NotThere),
            _ if state.manager.looks_for(miner, share).is_err() => return Ok(false),
            Some(bytes) => self.network_of(&root, bytes)?,
            None => match state.models.get(&root) {
                Some(known) if known.bytes != length => return Err(Unusable::NotThere),
                Some(known) => known.network,
                None => {
                    let stored = state.store.get(&root).filter(|bytes| bytes.len() as u64 == length);
                    let network = self.network_of(&root, &stored.ok_or(Unusable::NotThere)?)?;
                    if state.models.len() >= MOST_MODELS {
                        state.models.clear();
                    }
                    state.models.insert(root, Known { bytes: length, network });
                    network
                }
            },
        };
        Ok(network == Some(architecture_name(&share.architecture)))
    }

    /// The name of the network whose model an artefact is; none for bytes that are no artefact.
    fn network_of(&self, root: &ModelRoot, bytes: &[u8]) -> Result<Option<Hash32>, Unusable> {
        let what = || format!("the decoding of artefact {}", root.short());
        let network = contain(what, || (self.checks.network)(bytes, &self.caps)).map_err(|_| Unusable::Panicked)?;
        Ok(network.map(|network| architecture_name(&network)))
    }

    /// Takes a part of a state that an audit wants, or of an artefact that is to be handed in: names without a lease
    /// have nothing to hand in, and take no place from those who do.
    fn take_chunk(
        &self,
        state: &mut State,
        miner: MinerId,
        artefact: BlobRef,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let is_wanted = state.manager.wants_state(&miner, &artefact);
        if !is_wanted && !state.manager.may_hand_in(&miner) {
            return Err(Refusal::NoLease);
        }
        let kind = if is_wanted { Kind::State } else { Kind::Artefact { cap_bytes: self.caps.artefact_bytes.into() } };
        let taken = state.uploads.take(miner, artefact, offset, bytes, kind, (self.clock)());
        match taken.map_err(|()| Refusal::BadChunk)? {
            Some(whole) if is_wanted => {
                // One that was only not written is here all the same.
                if let Err(error) = state.states.put(artefact.root, Arc::new(whole)) {
                    tracing::error!(%error, "a state for an audit does not outlive this process");
                }
                self.event(state, Event::StateArrived { miner, root: artefact.root }, None);
                state.drop_unwanted();
            }
            Some(whole) => {
                let is_kept = state.keep(artefact.root, whole, self.store_bytes);
                return is_kept.then_some(()).ok_or(Refusal::BadChunk);
            }
            None => {}
        }
        Ok(())
    }

    /// Hands an event to the machine, and does what it wants done. One that it panics at is taken back.
    fn event(&self, state: &mut State, event: Event, reply: Option<&mut Option<Reply>>) {
        let stand_in = event.stand_in();
        match self.told(state, event) {
            Ok(effects) => self.perform(state, effects, reply),
            Err(reason) => match stand_in.map(|stand_in| self.told(state, stand_in)) {
                Some(Ok(effects)) => self.perform(state, effects, None),
                Some(Err(_)) | None => state.note_fault(format!("{reason}; what it was to tell is lost")),
            },
        }
    }

    /// Tells the machine of an event, once that is written down.
    fn told(&self, state: &mut State, event: Event) -> Result<Vec<Effect>, String> {
        let now_ms = (self.clock)();
        if let Some(Err(error)) = state.journal.as_mut().map(|j| j.append(now_ms, &event)) {
            state.lose_journal(&error);
        }
        let name = event.name();
        let effects = contain(|| format!("the event \"{name}\""), || state.manager.handle(now_ms, event));
        match &effects {
            Ok(_) if state.journal.as_ref().is_some_and(Journal::is_long) => state.snapshot(),
            Ok(_) => {}
            Err(reason) => state.take_back(reason),
        }
        effects
    }

    fn perform(&self, state: &mut State, effects: Vec<Effect>, mut reply: Option<&mut Option<Reply>>) {
        for effect in effects {
            match effect {
                Effect::Reply { reply: answer, .. } => {
                    if let Some(slot) = reply.as_deref_mut() {
                        *slot = Some(*answer);
                    }
                }
                Effect::CheckCalibration { miner, job, digest } => {
                    self.queue.push(Job::Calibration { miner, job, digest }, false);
                }
                Effect::Evaluate { job, artefact } if state.current.is_none() => {
                    state.deferred.push(Job::Evaluate { job, artefact });
                }
                Effect::Evaluate { job, artefact } => self.queue.push(Job::Evaluate { job, artefact }, false),
                Effect::Audit { audit, order } => self.audits.push((audit, order), false),
                Effect::Commit { parent, artefact, attempt } => {
                    if let Some(bytes) = state.store.get(&artefact.root) {
                        (self.sink)(PoolAction::Commit { parent, artefact, bytes, attempt });
                    }
                }
                Effect::Pay(batch) => (self.sink)(PoolAction::Pay(batch)),
                Effect::Improved { miner, root, count, images } => {
                    (self.sink)(PoolAction::Improved { miner, root, count, images });
                }
            }
        }
    }

    fn work(&self) {
        while let Some(job) = self.queue.pop() {
            self.guard(|| "a job of the pool".to_owned(), || self.work_on(job));
        }
    }

    /// Does something of the driver's own. What goes wrong there is not one job's alone: effects may be lost.
    fn guard<T>(&self, what: impl FnOnce() -> String, job: impl FnOnce() -> T) -> Option<T> {
        contain(what, job).map_err(|fault| self.lock().note_fault(fault)).ok()
    }

    fn work_on(&self, job: Job) {
        match job {
            Job::Begin { interval, blob, deadline_ms } => self.begin(*interval, blob, deadline_ms),
            Job::Evaluate { job, artefact } => {
                let what = || format!("the evaluation of artefact {}", artefact.root.short());
                let outcome = contain(what, || (self.checks.evaluate)(&self.material(job, &artefact.root), &self.caps));
                let outcome = outcome.unwrap_or_else(Outcome::Failed);
                let mut state = self.lock();
                self.event(&mut state, Event::Evaluated { job, outcome }, None);
                state.drop_unwanted();
            }
            Job::Calibration { miner, job, digest } => {
                let known = self.lock().answers.get(&job).copied();
                let what = || "the recomputing of a calibration".to_owned();
                let answer = known.or_else(|| contain(what, || (self.checks.calibrate)(&job)).ok().flatten());
                // Without an answer of its own the manager can say nothing of the miner's.
                let Some(answer) = answer else { return };
                let mut state = self.lock();
                // Jobs of an hour differ only in a few lengths.
                if state.answers.len() >= 64 {
                    state.answers.clear();
                }
                state.answers.insert(job, answer);
                let correct = answer == digest;
                self.event(&mut state, Event::CalibrationChecked { miner, job, correct }, None);
            }
        }
    }

    /// The thread of replays.
    fn audit(&self) {
        lower_priority(NICENESS);
        let mut auditor = Auditor::new(self.caps.clone(), self.cancel.clone());
        while let Some((audit, order)) = self.audits.pop() {
            // A manager that goes on after a restart has no data until its node names the interval again.
            while self.lock().current.is_none() && !self.cancel.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
            }
            self.guard(|| "a replay of the pool".to_owned(), || self.audit_one(&mut auditor, audit, &order));
            if self.cancel.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn audit_one(&self, auditor: &mut Auditor, audit: AuditId, order: &AuditOrder) {
        let start = std::time::Instant::now();
        let root = order.artefact.short();
        let what = || format!("the replay of artefact {root}");
        let verdict = contain(what, || (self.checks.replay)(auditor, order, &self.audit_material(order)));
        let verdict = verdict.unwrap_or_else(|reason| {
            // What it had at hand may be half changed.
            *auditor = Auditor::new(self.caps.clone(), self.cancel.clone());
            Verdict::Undecided(reason)
        });
        if self.cancel.load(Ordering::Relaxed) {
            return;
        }
        let ms = start.elapsed().as_millis();
        match &verdict {
            Verdict::Same => tracing::debug!(%root, images = order.images, ms, "a replayed training is the same"),
            Verdict::Different(reason) => tracing::warn!(%root, reason, ms, "a replayed training is another"),
            Verdict::Undecided(reason) => tracing::info!(%root, reason, "a training cannot be replayed"),
        }
        let mut state = self.lock();
        self.event(&mut state, Event::Audited { audit, verdict }, None);
        state.drop_unwanted();
    }

    fn audit_material(&self, order: &AuditOrder) -> Material {
        let state = self.lock();
        let current = state.intervals().find(|c| (c.interval.task, &c.interval.data) == (order.task, &order.data));
        let start = match order.from {
            StartFrom::Seed => None,
            StartFrom::Artefact(root) => state.store.get(&root),
            StartFrom::State(blob) => state.states.get(&blob.root),
        };
        Material {
            interval: current.map(|current| current.interval.clone()),
            blob: current.and_then(|current| current.blob.clone()),
            start,
        }
    }

    /// The data that an evaluation was asked for on, the artefact, and what its miner claims. On those of the next
    /// interval every honest count would be false.
    fn material(&self, job: JobId, root: &ModelRoot) -> Evaluation {
        let state = self.lock();
        let parent = state.manager.evaluation_parent(job);
        let current = state.intervals().find(|current| Some(current.interval.parent) == parent).cloned();
        Evaluation { current, bytes: state.store.get(root), claim: state.manager.evaluation_claim(job) }
    }

    /// The interval that a restarted manager was in, if it is not the one that begins and has the same data or makes
    /// them itself: what was handed in before is counted on those.
    fn before_restart(&self, next: &Interval) -> Option<(Interval, EvaluationPlan)> {
        let state = self.lock();
        let search = state.manager.search().filter(|_| state.current.is_none())?;
        let has_data = |data: &DataSource| *data == next.data || matches!(data, DataSource::Filler { .. });
        let is_wanted = search.parent() != next.parent && has_data(&search.interval.data);
        is_wanted.then(|| (search.interval.clone(), search.plan))
    }

    fn load(
        &self,
        interval: &Interval,
        plan: Option<EvaluationPlan>,
        blob: Option<Arc<Vec<u8>>>,
    ) -> Result<(Current, EvaluationPlan), DataError> {
        let data = IntervalData::load(interval, blob.as_ref().map(|b| b.as_slice()), &self.caps)?;
        let (seed, most_passes) = {
            let state = self.lock();
            (*state.manager.secret_seed(), state.manager.params().most_passes)
        };
        let plan = plan.unwrap_or_else(|| data.plan(interval, most_passes));
        let (public, holdout) = (data.public(plan), data.holdout(plan, &seed, interval));
        Ok((Current { interval: interval.clone(), public, holdout, blob }, plan))
    }

    fn begin(&self, interval: Interval, blob: Option<Arc<Vec<u8>>>, deadline_ms: u64) {
        let height = interval.height;
        let what = || format!("the decoding of the data of interval {height}");
        let loaded = contain(what, || {
            let earlier = self.before_restart(&interval);
            let earlier = earlier.and_then(|(before, plan)| self.load(&before, Some(plan), blob.clone()).ok());
            self.load(&interval, None, blob).map(|loaded| (loaded, earlier)).map_err(|error| error.to_string())
        });
        let ((current, plan), earlier) = match loaded.flatten() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, height, "the interval's data cannot be used; no leases");
                return;
            }
        };
        let mut state = self.lock();
        let before = state.current.replace(Arc::new(current));
        state.earlier.extend(before);
        state.earlier.extend(earlier.map(|(earlier, _)| Arc::new(earlier)));
        for job in std::mem::take(&mut state.deferred) {
            self.queue.push(job, false);
        }
        let interval = Box::new(interval);
        self.event(&mut state, Event::IntervalStarted { interval, plan, deadline_ms }, None);
        state.drop_unwanted();
        state.drop_artefacts();
        state.snapshot();
    }
}

fn refused(refusal: Refusal) -> Reply {
    Reply::Refused { refusal, retry_ms: 0 }
}
