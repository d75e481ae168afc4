//! The manager's driver: bytes to events, effects to actions of the node, evaluations on threads of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::{BatchPayment, BlobRef, BlockHash, ModelRoot};
use podl_nas::artefact;

use super::audit::{Auditor, Material, NICENESS};
use super::evaluate::{Current, Evaluation};
use super::overview::{Coverage, PoolOverview};
use super::queue::JobQueue;
use super::upload::{Kind, Uploads};
use super::{ArtefactStore, Clock, DataError, IntervalData, Journal, lower_priority};
use crate::calibration::{self, CalibrationJob};
use crate::ledger::{ShareList, WonBlock};
use crate::manager::{Ask, AuditOrder, Effect, Event, Manager, PoolParams, StartFrom, Verdict};
use crate::protocol::{self, Refusal, Reply, Request};
use crate::types::{AuditId, DataSource, Elite, EvaluationPlan, Interval, JobId, MinerId, Share};

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
    /// States that audits begin from. As many as the manager wants.
    states: Box<dyn ArtefactStore>,
    /// Evaluations that a restarted manager asked for before there were data.
    deferred: Vec<Job>,
}

enum Job {
    Begin { interval: Box<Interval>, blob: Option<Arc<Vec<u8>>>, deadline_ms: u64 },
    Evaluate { job: JobId, artefact: BlobRef },
    Calibration { miner: MinerId, job: CalibrationJob, digest: Hash32 },
}

struct Shared {
    state: Mutex<State>,
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
    threads: Vec<JoinHandle<()>>,
}

impl ManagerDriver {
    /// Starts a manager; a journal that holds one goes on with it.
    ///
    /// # Errors
    /// What the system says when threads cannot be started.
    pub fn start(config: ManagerConfig) -> std::io::Result<Self> {
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
            states: config.states,
            deferred: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
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
        let mut threads = Vec::new();
        for index in 0..config.threads.max(1) {
            let worker = shared.clone();
            let builder = std::thread::Builder::new().name(format!("pool-check-{index}"));
            threads.push(builder.spawn(move || worker.work())?);
        }
        let auditor = shared.clone();
        let builder = std::thread::Builder::new().name("pool-audit".into());
        threads.push(builder.spawn(move || auditor.audit())?);
        Ok(Self { shared, threads })
    }

    /// Answers a miner's request. `miner` is the peer's ed25519 key.
    pub fn handle(&self, miner: MinerId, bytes: &[u8]) -> Vec<u8> {
        let reply = self.shared.answer(miner, bytes);
        protocol::encode(&reply)
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
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the pool has panicked");
            }
        }
        self.shared.lock().snapshot();
    }

    fn event(&self, event: Event) {
        let mut state = self.shared.lock();
        self.shared.event(&mut state, event, None);
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
            tracing::error!(%error, "the pool goes on without a journal");
            self.journal = None;
        }
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

    /// The interval under work, then earlier ones.
    fn intervals(&self) -> impl Iterator<Item = &Arc<Current>> {
        self.current.iter().chain(&self.earlier)
    }

    /// Keeps an artefact and drops what is not needed when there is too much.
    fn keep(&mut self, root: ModelRoot, bytes: Vec<u8>, limit_bytes: u64) -> bool {
        if self.store.bytes().saturating_add(bytes.len() as u64) > limit_bytes {
            self.store.retain(&self.manager.pinned());
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
        // The machine is consistent between events, and an event does not panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, miner: MinerId, bytes: &[u8]) -> Reply {
        let mut state = self.lock();
        let refused = |refusal| Reply::Refused { refusal, retry_ms: 0 };
        let Ok(request) = protocol::decode_request(bytes) else {
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
                if !has_artefact(&state, &share.artefact, inline.as_deref()) {
                    self.event(&mut state, Event::Asked { miner, ask: Ask::Broken }, None);
                    return refused(Refusal::NoArtefact);
                }
                let is_model = self.is_model_of(&state, &share, inline.as_deref());
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
        // The machine answers every request.
        reply.unwrap_or_else(|| refused(Refusal::Busy))
    }

    /// Whether a result's artefact, in its message or from before, is a model of the network that it is said to be.
    fn is_model_of(&self, state: &State, share: &Share, inline: Option<&[u8]>) -> bool {
        let stored = if inline.is_none() { state.store.get(&share.artefact.root) } else { None };
        let bytes = inline.or(stored.as_ref().map(|bytes| bytes.as_slice())).unwrap_or_default();
        artefact::decode(bytes, &self.caps).is_ok_and(|model| model.network().architecture() == share.architecture)
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

    fn event(&self, state: &mut State, event: Event, reply: Option<&mut Option<Reply>>) {
        let now_ms = (self.clock)();
        if let Some(Err(error)) = state.journal.as_mut().map(|j| j.append(now_ms, &event)) {
            tracing::error!(%error, "the pool goes on without a journal");
            state.journal = None;
        }
        let effects = state.manager.handle(now_ms, event);
        if state.journal.as_ref().is_some_and(Journal::is_long) {
            state.snapshot();
        }
        self.perform(state, effects, reply);
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
            match job {
                Job::Begin { interval, blob, deadline_ms } => self.begin(*interval, blob, deadline_ms),
                Job::Evaluate { job, artefact } => {
                    let material = self.material(job, &artefact.root);
                    let outcome = material.evaluate(&self.caps);
                    let mut state = self.lock();
                    self.event(&mut state, Event::Evaluated { job, outcome }, None);
                    state.drop_unwanted();
                }
                Job::Calibration { miner, job, digest } => {
                    let known = self.lock().answers.get(&job).copied();
                    let answer = known.or_else(|| calibration::answer(&job, 1));
                    let mut state = self.lock();
                    if let Some(answer) = answer {
                        // Jobs of an hour differ only in a few lengths.
                        if state.answers.len() >= 64 {
                            state.answers.clear();
                        }
                        state.answers.insert(job, answer);
                    }
                    let correct = answer == Some(digest);
                    self.event(&mut state, Event::CalibrationChecked { miner, job, correct }, None);
                }
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
            let material = self.audit_material(&order);
            let start = std::time::Instant::now();
            let verdict = auditor.audit(&order, &material);
            if self.cancel.load(Ordering::Relaxed) {
                return;
            }
            let ms = start.elapsed().as_millis();
            let root = order.artefact.short();
            match &verdict {
                Verdict::Same => tracing::debug!(%root, images = order.images, ms, "a replayed training is the same"),
                Verdict::Different(reason) => tracing::warn!(%root, reason, ms, "a replayed training is another"),
                Verdict::Undecided(reason) => tracing::info!(%root, reason, "a training cannot be replayed"),
            }
            let mut state = self.lock();
            self.event(&mut state, Event::Audited { audit, verdict }, None);
            state.drop_unwanted();
        }
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
        let earlier = self.before_restart(&interval);
        let earlier = earlier.and_then(|(before, plan)| self.load(&before, Some(plan), blob.clone()).ok());
        let (current, plan) = match self.load(&interval, None, blob) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, height = interval.height, "the interval's data cannot be used; no leases");
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
        let pinned = state.manager.pinned();
        state.store.retain(&pinned);
        state.snapshot();
    }
}

/// Whether the artefact of a result is there, in its message or from before.
fn has_artefact(state: &State, artefact: &BlobRef, inline: Option<&[u8]>) -> bool {
    match inline {
        Some(bytes) => bytes.len() as u64 == artefact.bytes && blob_root(bytes) == artefact.root,
        None => state.store.get(&artefact.root).is_some_and(|b| b.len() as u64 == artefact.bytes),
    }
}
