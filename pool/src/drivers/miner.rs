//! The miner's driver: one thread for its machine, one for the network, one (and the trainer's) for work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podl_chain_spec::AccountId;
use podl_consensus::hash::blob_root;
use podl_consensus::types::BlobRef;

use super::pace::Pace;
use super::recent::RecentStates;
use super::status::MinerStatus;
use super::{PoolTransport, Product, TransportError, Workbench, lower_priority};
use crate::calibration::CalibrationJob;
use crate::miner::{Miner, MinerEffect, MinerEvent, TrainOrder};
use crate::protocol::{self, CHUNK_BYTES, INLINE_BYTES, Refusal, Reply, Request};
use crate::types::{DataSource, EvaluationPlan, Interval, Share};

/// Artefacts that wait to be handed in.
const MOST_ARTEFACTS: usize = 32;
/// How often a chunk waits because it came too fast, and how long at most.
const MOST_WAITS: usize = 5;
const LONGEST_WAIT_MS: u64 = 1500;

/// Settings of a miner.
#[derive(Clone, Debug)]
pub struct MinerConfig {
    /// Whom to pay.
    pub account: AccountId,
    /// Software and version, for people.
    pub agent: String,
    /// Niceness of the work thread; the trainer's own threads lower theirs.
    pub niceness: i32,
    /// Where states that audits may want outlive the process; with none, a miner that was killed may fail an audit.
    pub states: Option<PathBuf>,
}

/// A miner that did not stop in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the miner has not stopped within {waited_ms} ms")]
pub struct MinerStopped {
    /// How long was waited.
    pub waited_ms: u64,
}

/// A running miner.
pub struct MinerHandle {
    events: Sender<MinerEvent>,
    status: Arc<Mutex<MinerStatus>>,
    control: JoinHandle<()>,
}

impl MinerHandle {
    /// Asks the miner to hand its lease back and leave; returns at once.
    pub fn stop(&self) {
        // A miner whose thread has ended has stopped.
        let _ = self.events.send(MinerEvent::Stop);
    }

    /// Whether it has stopped.
    pub fn is_stopped(&self) -> bool {
        self.control.is_finished()
    }

    /// Stops the miner and waits for it.
    ///
    /// # Errors
    /// [`MinerStopped`] when it takes longer; its threads then end when what they wait for does.
    pub fn stop_within(self, wait: Duration) -> Result<(), MinerStopped> {
        self.stop();
        let start = Instant::now();
        while !self.control.is_finished() {
            if start.elapsed() >= wait {
                return Err(MinerStopped { waited_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its status.
    pub fn status(&self) -> MinerStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

enum Work {
    Calibrate(CalibrationJob),
    Prepare(Box<Interval>, EvaluationPlan),
    Train(Box<TrainOrder>, Arc<AtomicBool>),
}

/// Bytes of artefacts by root, between training and handing in.
type Artefacts = Arc<Mutex<BTreeMap<podl_chain_spec::Hash32, Vec<u8>>>>;

type States = Arc<Mutex<RecentStates>>;

/// Starts a miner on threads of its own.
///
/// # Errors
/// What the system says when threads cannot be started.
pub fn start_miner(
    config: MinerConfig,
    transport: Arc<dyn PoolTransport>,
    bench: Box<dyn Workbench>,
) -> std::io::Result<MinerHandle> {
    let (events, inbox) = channel();
    let (requests, request_inbox) = channel();
    let (work, work_inbox) = channel();
    let artefacts: Artefacts = Arc::default();
    let states = Arc::new(Mutex::new(RecentStates::open(config.states.as_deref())));
    let named = |name: &str| std::thread::Builder::new().name(name.into());
    let network = Network {
        transport: transport.clone(),
        artefacts: artefacts.clone(),
        states: states.clone(),
        events: events.clone(),
    };
    named("pool-net").spawn(move || network.run(&request_inbox))?;
    let worker = Worker { bench, transport, artefacts, states, events: events.clone() };
    let niceness = config.niceness;
    named("pool-work").spawn(move || {
        lower_priority(niceness);
        worker.run(&work_inbox);
    })?;
    let machine = Miner::new(config.account, &config.agent);
    let pace = Pace::default();
    let status = Arc::new(Mutex::new(MinerStatus::new(&machine, &pace, 0)));
    let control = Control {
        machine,
        pace,
        start: Instant::now(),
        requests,
        work,
        cancel: Arc::default(),
        status: status.clone(),
    };
    let control = named("pool-miner").spawn(move || control.run(&inbox))?;
    // The queue is fresh and its receiver waits.
    let _ = events.send(MinerEvent::Start);
    Ok(MinerHandle { events, status, control })
}

/// The machine's thread.
struct Control {
    machine: Miner,
    pace: Pace,
    /// Beginning of the machine's clock.
    start: Instant,
    requests: Sender<Request>,
    work: Sender<Work>,
    /// Cancels the order under way; every order has its own, so that a late cancel hits no other.
    cancel: Arc<AtomicBool>,
    status: Arc<Mutex<MinerStatus>>,
}

impl Control {
    fn run(mut self, inbox: &Receiver<MinerEvent>) {
        loop {
            let wait_ms = self.machine.next_wake_ms().map_or(1000, |at| at.saturating_sub(self.now_ms()).min(1000));
            let event = match inbox.recv_timeout(Duration::from_millis(wait_ms)) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => MinerEvent::Tick,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for effect in self.machine.handle(self.now_ms(), event) {
                if !self.perform(effect) {
                    return;
                }
            }
            self.show();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Renews what the miner's handle shows.
    fn show(&mut self) {
        let now_ms = self.now_ms();
        let measured_macs_s = self.machine.standing().map_or(0, |standing| standing.speed_macs_s);
        self.pace.observe(now_ms, self.machine.progress().as_ref(), measured_macs_s);
        let status = MinerStatus::new(&self.machine, &self.pace, now_ms);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// False when the miner has stopped, or one of its threads has.
    fn perform(&mut self, effect: MinerEffect) -> bool {
        match effect {
            MinerEffect::Send(request) => self.requests.send(request).is_ok(),
            MinerEffect::Calibrate(job) => self.work.send(Work::Calibrate(job)).is_ok(),
            MinerEffect::Prepare { interval, plan } => self.work.send(Work::Prepare(interval, plan)).is_ok(),
            MinerEffect::Train(order) => {
                self.cancel = Arc::default();
                self.work.send(Work::Train(Box::new(order), self.cancel.clone())).is_ok()
            }
            MinerEffect::Cancel => {
                self.cancel.store(true, Ordering::Relaxed);
                true
            }
            MinerEffect::Refused(refusal) => {
                match refusal {
                    Refusal::NoInterval | Refusal::TooLate => tracing::debug!(%refusal, "the pool has no work now"),
                    _ => tracing::warn!(%refusal, "the pool refused"),
                }
                true
            }
            MinerEffect::Stopped => {
                self.cancel.store(true, Ordering::Relaxed);
                self.show();
                false
            }
        }
    }
}

/// The network's thread: one request at a time.
struct Network {
    transport: Arc<dyn PoolTransport>,
    artefacts: Artefacts,
    states: States,
    events: Sender<MinerEvent>,
}

impl Network {
    fn run(self, inbox: &Receiver<Request>) {
        while let Ok(request) = inbox.recv() {
            let event = self.exchange(request).unwrap_or_else(|error| {
                tracing::debug!(%error, "no reply from the pool");
                MinerEvent::Unreachable { reason: error.to_string() }
            });
            if self.events.send(event).is_err() {
                return;
            }
        }
    }

    fn exchange(&self, request: Request) -> Result<MinerEvent, TransportError> {
        let reply = match request {
            Request::Submit { share, .. } => self.hand_in(share)?,
            Request::Chunk { artefact: state, offset, .. } => {
                let kept = self.states.lock().unwrap_or_else(PoisonError::into_inner).get(&state.root);
                let Some(bytes) = kept.as_ref().and_then(|kept| chunk(kept, offset)) else {
                    tracing::warn!(root = %state.root.short(), "the pool audits a training whose state is gone here");
                    return Ok(MinerEvent::StateGone { state });
                };
                self.request(&Request::Chunk { artefact: state, offset, bytes: bytes.to_vec() })?
            }
            request => self.request(&request)?,
        };
        Ok(MinerEvent::Replied(Box::new(reply)))
    }

    /// Hands a result in, with its artefact before or in it.
    fn hand_in(&self, share: Share) -> Result<Reply, TransportError> {
        let artefact = share.artefact;
        let bytes = self.artefacts.lock().unwrap_or_else(PoisonError::into_inner).get(&artefact.root).cloned();
        let bytes = bytes.ok_or_else(|| TransportError("a result's artefact is gone".into()))?;
        let inline = if bytes.len() <= INLINE_BYTES {
            Some(bytes)
        } else {
            let last = self.upload(artefact, &bytes)?;
            if !matches!(last, Reply::Ack { .. }) {
                return Ok(last);
            }
            None
        };
        let reply = self.request(&Request::Submit { share, inline })?;
        let is_taken = !matches!(reply, Reply::Refused { refusal: Refusal::Busy | Refusal::RateLimited, .. });
        if is_taken {
            self.artefacts.lock().unwrap_or_else(PoisonError::into_inner).remove(&artefact.root);
        }
        Ok(reply)
    }

    /// Sends an artefact in chunks; returns the last reply. A refusal ends it and is what the machine hears.
    fn upload(&self, blob: BlobRef, bytes: &[u8]) -> Result<Reply, TransportError> {
        let (mut offset, mut last) = (0, None);
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let reply = self.send_patiently(&Request::Chunk { artefact: blob, offset, bytes: chunk.to_vec() })?;
            if !matches!(reply, Reply::Ack { .. }) {
                return Ok(reply);
            }
            offset += chunk.len() as u64;
            last = Some(reply);
        }
        last.ok_or_else(|| TransportError("nothing to upload".into()))
    }

    /// A request that waits as told when it comes too fast. A large blob has more chunks than the pool takes at once;
    /// from the beginning again it would never end.
    fn send_patiently(&self, request: &Request) -> Result<Reply, TransportError> {
        for _ in 0..MOST_WAITS {
            match self.request(request)? {
                Reply::Refused { refusal: Refusal::RateLimited, retry_ms } => {
                    std::thread::sleep(Duration::from_millis(retry_ms.min(LONGEST_WAIT_MS)));
                }
                reply => return Ok(reply),
            }
        }
        self.request(request)
    }

    fn request(&self, request: &Request) -> Result<Reply, TransportError> {
        let bytes = self.transport.request(protocol::encode(request))?;
        protocol::decode_reply(&bytes).map_err(|e| TransportError(format!("its reply is malformed, {e}")))
    }
}

/// The chunk of a blob that begins at `offset`.
fn chunk(blob: &[u8], offset: u64) -> Option<&[u8]> {
    blob.get(usize::try_from(offset).ok()?..)?.chunks(CHUNK_BYTES).next()
}

/// The work thread.
struct Worker {
    bench: Box<dyn Workbench>,
    transport: Arc<dyn PoolTransport>,
    artefacts: Artefacts,
    states: States,
    events: Sender<MinerEvent>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Work>) {
        while let Ok(work) = inbox.recv() {
            let event = match work {
                Work::Calibrate(job) => match self.bench.calibrate(&job) {
                    Some(digest) => MinerEvent::Calibrated { job, digest },
                    None => continue,
                },
                Work::Prepare(interval, plan) => self.prepare(&interval, plan),
                Work::Train(order, cancel) => self.train(&order, &cancel),
            };
            if self.events.send(event).is_err() {
                return;
            }
        }
    }

    fn prepare(&mut self, interval: &Interval, plan: EvaluationPlan) -> MinerEvent {
        let parent = interval.parent;
        let blob = match &interval.data {
            DataSource::Published { data, .. } if !self.bench.holds(data, None) => match self.fetch(*data) {
                Some(bytes) => Some(bytes),
                None => return MinerEvent::NotPrepared { parent },
            },
            _ => None,
        };
        match self.bench.prepare(interval, plan, blob.as_deref()) {
            Ok(()) => MinerEvent::Prepared { parent },
            Err(error) => {
                tracing::warn!(%error, "the interval's data cannot be used");
                MinerEvent::NotPrepared { parent }
            }
        }
    }

    /// A blob whose root and length are right.
    fn fetch(&self, blob: BlobRef) -> Option<Vec<u8>> {
        match self.transport.fetch_blob(blob) {
            Ok(bytes) if bytes.len() as u64 == blob.bytes && blob_root(&bytes) == blob.root => Some(bytes),
            Ok(_) => {
                tracing::warn!(root = %blob.root.short(), "a blob came with other bytes than its root names");
                None
            }
            Err(error) => {
                tracing::warn!(%error, root = %blob.root.short(), "a blob cannot be fetched");
                None
            }
        }
    }

    fn train(&mut self, order: &TrainOrder, cancel: &Arc<AtomicBool>) -> MinerEvent {
        let id = order.id;
        if cancel.load(Ordering::Relaxed) {
            return MinerEvent::Finished { order: id, result: None };
        }
        let base = match order.base {
            Some(base) if !self.bench.holds(&base, order.base_end) => match self.fetch(base) {
                Some(bytes) => Some(bytes),
                None => return MinerEvent::Finished { order: id, result: None },
            },
            _ => None,
        };
        let events = self.events.clone();
        let mut progress = move |images: u64| {
            // The machine may have stopped meanwhile.
            let _ = events.send(MinerEvent::Progressed { order: id, images });
        };
        let result = match self.bench.train(order, base.as_deref(), cancel, &mut progress) {
            Ok(Product { artefact, start, trained }) => {
                // Before the result can be handed in: it may be asked for as soon as that is.
                if let Some(state) = start {
                    self.states.lock().unwrap_or_else(PoisonError::into_inner).keep(trained.states.start, state);
                }
                let mut artefacts = self.artefacts.lock().unwrap_or_else(PoisonError::into_inner);
                while artefacts.len() >= MOST_ARTEFACTS {
                    artefacts.pop_first();
                }
                artefacts.insert(trained.artefact.root, artefact);
                Some(trained)
            }
            Err(error) => {
                tracing::debug!(%error, "a training led to nothing");
                None
            }
        };
        MinerEvent::Finished { order: id, result }
    }
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::Hash32;

    use super::*;
    use crate::protocol::Standing;

    /// Takes chunks in order, but every third request comes too fast.
    #[derive(Default)]
    struct Hasty {
        requests: Mutex<u32>,
        taken: Mutex<Vec<u8>>,
    }

    impl PoolTransport for Hasty {
        fn request(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
            let Ok(Request::Chunk { offset, bytes, .. }) = protocol::decode_request(&bytes) else { panic!("a chunk") };
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            if requests.is_multiple_of(3) {
                let reply = Reply::Refused { refusal: Refusal::RateLimited, retry_ms: 1 };
                return Ok(protocol::encode(&reply));
            }
            let mut taken = self.taken.lock().unwrap();
            assert_eq!(taken.len() as u64, offset);
            taken.extend(bytes);
            let standing = Standing::default();
            Ok(protocol::encode(&Reply::Ack { go_on: true, best_permille: None, standing, audit: None }))
        }

        fn fetch_blob(&self, _: BlobRef) -> Result<Vec<u8>, TransportError> {
            Err(TransportError("none".into()))
        }
    }

    fn no_states() -> States {
        Arc::new(Mutex::new(RecentStates::open(None)))
    }

    #[test]
    fn a_state_that_is_gone_is_not_sent() {
        let (events, _inbox) = channel();
        let transport = Arc::new(Hasty::default());
        let network = Network { transport: transport.clone(), artefacts: Arc::default(), states: no_states(), events };
        let state = BlobRef { root: Hash32([1; 32]), bytes: 100 };
        let request = Request::Chunk { artefact: state, offset: 0, bytes: Vec::new() };
        assert_eq!(network.exchange(request), Ok(MinerEvent::StateGone { state }));
        assert_eq!(*transport.requests.lock().unwrap(), 0);
    }

    #[test]
    fn an_upload_that_comes_too_fast_goes_on_where_it_was() {
        let transport = Arc::new(Hasty::default());
        let (events, _inbox) = channel();
        let network = Network { transport: transport.clone(), artefacts: Arc::default(), states: no_states(), events };
        let state: Vec<u8> = (0..CHUNK_BYTES * 7 + 5).map(|i| (i % 251) as u8).collect();
        let blob = BlobRef { root: Hash32([1; 32]), bytes: state.len() as u64 };
        assert!(matches!(network.upload(blob, &state), Ok(Reply::Ack { .. })));
        assert_eq!(*transport.taken.lock().unwrap(), state);
    }
}
