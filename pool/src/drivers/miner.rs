//! The miner's driver: one thread for its machine, one for the network, one (and the trainer's) for work.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::BlobRef;

use super::pace::Pace;
use super::recent::RecentStates;
use super::status::MinerStatus;
use super::threads::{Threads, contain};
use super::{PoolTransport, Product, TransportError, Workbench, lower_priority};
use crate::calibration::CalibrationJob;
use crate::miner::{Miner, MinerEffect, MinerEvent, Stage, TrainOrder};
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
    threads: Threads,
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

    /// Whether the miner does its work: all of its threads run, or it was stopped. That its pool cannot be reached is no
    /// fault of its own; [`MinerHandle::status`] tells of it.
    ///
    /// # Errors
    /// What is wrong, in words. It stays so: only a new miner helps.
    pub fn health(&self) -> Result<(), String> {
        if self.status().stage == Stage::Stopped {
            return Ok(());
        }
        self.threads.health()?;
        if self.control.is_finished() { Err("threads that have ended: pool-miner".into()) } else { Ok(()) }
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

/// Artefacts between training and handing in, the oldest first.
#[derive(Default)]
struct Waiting(VecDeque<(Hash32, Vec<u8>)>);

impl Waiting {
    /// Keeps an artefact, and forgets the oldest when there are too many.
    fn keep(&mut self, root: Hash32, bytes: Vec<u8>) {
        self.forget(&root);
        self.0.push_back((root, bytes));
        while self.0.len() > MOST_ARTEFACTS {
            self.0.pop_front();
        }
    }

    fn get(&self, root: &Hash32) -> Option<Vec<u8>> {
        self.0.iter().find(|(kept, _)| kept == root).map(|(_, bytes)| bytes.clone())
    }

    fn forget(&mut self, root: &Hash32) {
        self.0.retain(|(kept, _)| kept != root);
    }
}

type Artefacts = Arc<Mutex<Waiting>>;

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
    let mut threads = Threads::default();
    let network = Network {
        transport: transport.clone(),
        artefacts: artefacts.clone(),
        states: states.clone(),
        events: events.clone(),
    };
    threads.start("pool-net", move || network.run(&request_inbox))?;
    let worker = Worker { bench, transport, artefacts, states, events: events.clone() };
    let niceness = config.niceness;
    threads.start("pool-work", move || {
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
    let control = std::thread::Builder::new().name("pool-miner".into()).spawn(move || control.run(&inbox))?;
    // The queue is fresh and its receiver waits.
    let _ = events.send(MinerEvent::Start);
    Ok(MinerHandle { events, status, control, threads })
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
            let answer = contain(|| "a request to the pool".to_owned(), || self.exchange(request));
            let event = answer.unwrap_or_else(|reason| Err(TransportError(reason))).unwrap_or_else(|error| {
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
            Request::Submit { share, .. } => match self.hand_in(share)? {
                Some(reply) => reply,
                None => return Ok(MinerEvent::ResultGone),
            },
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

    /// Hands a result in, with its artefact before or in it; none when that is gone. Unless it is to be sent again, the
    /// artefact is not needed any more.
    fn hand_in(&self, share: Share) -> Result<Option<Reply>, TransportError> {
        let root = share.artefact.root;
        let bytes = self.artefacts.lock().unwrap_or_else(PoisonError::into_inner).get(&root);
        let Some(bytes) = bytes else {
            tracing::warn!(root = %root.short(), "a result's artefact is gone; it is not handed in");
            return Ok(None);
        };
        let reply = self.send_result(share, bytes)?;
        if !matches!(reply, Reply::Refused { refusal: Refusal::Busy | Refusal::RateLimited, .. }) {
            self.artefacts.lock().unwrap_or_else(PoisonError::into_inner).forget(&root);
        }
        Ok(Some(reply))
    }

    fn send_result(&self, share: Share, bytes: Vec<u8>) -> Result<Reply, TransportError> {
        if bytes.len() <= INLINE_BYTES {
            return self.request(&Request::Submit { share, inline: Some(bytes) });
        }
        let last = self.upload(share.artefact, &bytes)?;
        if !matches!(last, Reply::Ack { .. }) {
            return Ok(last);
        }
        self.request(&Request::Submit { share, inline: None })
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
            // A job whose bench or transport panics is one that led to nothing.
            let event = match work {
                Work::Calibrate(job) => {
                    let digest = contain(|| "a calibration".to_owned(), || self.bench.calibrate(&job));
                    match digest.and_then(|digest| digest.ok_or_else(|| "the calibration cannot be done".into())) {
                        Ok(digest) => MinerEvent::Calibrated { job, digest },
                        Err(reason) => MinerEvent::NotCalibrated { reason },
                    }
                }
                Work::Prepare(interval, plan) => {
                    let parent = interval.parent;
                    let what = || format!("the decoding of the data of interval {}", interval.height);
                    let event = contain(what, || self.prepare(&interval, plan));
                    event.unwrap_or(MinerEvent::NotPrepared { parent })
                }
                Work::Train(order, cancel) => {
                    let what = || format!("training order {}", order.id);
                    let event = contain(what, || self.train(&order, &cancel));
                    event.unwrap_or(MinerEvent::Finished { order: order.id, result: None })
                }
            };
            if self.events.send(event).is_err() {
                return;
            }
        }
    }

    fn prepare(&mut self, interval: &Interval, plan: EvaluationPlan) -> MinerEvent {
        let parent = interval.parent;
        let blob = match &interval.data {
            DataSource::Published { data, .. } if !self.bench.has_data(interval) => {
                match self.fetch(*data, self.bench.caps().data_bytes) {
                    Some(bytes) => Some(bytes),
                    None => return MinerEvent::NotPrepared { parent },
                }
            }
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

    /// A blob of at most so many bytes whose root and length are right.
    fn fetch(&self, blob: BlobRef, most_bytes: u64) -> Option<Vec<u8>> {
        if blob.bytes > most_bytes {
            let (root, bytes) = (blob.root.short(), blob.bytes);
            tracing::warn!(%root, bytes, most_bytes, "the pool names a blob over the chain's cap; it is not fetched");
            return None;
        }
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
            Some(base) if !self.bench.holds(&base, order.base_end) => {
                match self.fetch(base, self.bench.caps().artefact_bytes.into()) {
                    Some(bytes) => Some(bytes),
                    None => return MinerEvent::Finished { order: id, result: None },
                }
            }
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
                artefacts.keep(trained.artefact.root, artefact);
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
    use podl_chain_spec::{Caps, ChainSpec};
    use podl_consensus::workload::{Architecture, Workload};

    use super::super::BenchError;
    use super::*;
    use crate::protocol::Standing;
    use crate::training::{States as TrainStates, TrainRule};
    use crate::types::LeaseId;

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

    /// A pool that refuses everything, for a reason that does not change.
    struct Refusing;

    impl PoolTransport for Refusing {
        fn request(&self, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
            Ok(protocol::encode(&Reply::Refused { refusal: Refusal::BadChunk, retry_ms: 0 }))
        }

        fn fetch_blob(&self, _: BlobRef) -> Result<Vec<u8>, TransportError> {
            Err(TransportError("none".into()))
        }
    }

    fn result(number: u8, bytes: u64) -> Share {
        Share {
            lease: LeaseId(1),
            artefact: BlobRef { root: Hash32([number; 32]), bytes },
            architecture: Architecture { layers: Vec::new() },
            base: None,
            images: 1,
            correct: 1,
            ordered: 1,
            left_permille: (0, 0),
            states: TrainStates::default(),
        }
    }

    #[test]
    fn artefacts_that_nobody_wants_are_forgotten_and_results_without_one_are_not_sent() {
        let (events, _inbox) = channel();
        let artefacts = Artefacts::default();
        let network =
            Network { transport: Arc::new(Refusing), artefacts: artefacts.clone(), states: no_states(), events };
        let waiting = || artefacts.lock().unwrap().0.iter().map(|(root, _)| root.0[0]).collect::<Vec<u8>>();
        for (number, bytes) in [(1, 10), (2, INLINE_BYTES + 1)] {
            artefacts.lock().unwrap().keep(Hash32([number; 32]), vec![0; bytes]);
            let request = Request::Submit { share: result(number, bytes as u64), inline: None };
            assert!(matches!(network.exchange(request), Ok(MinerEvent::Replied(_))));
            assert_eq!(waiting(), [0u8; 0], "refused for good");
        }
        let request = Request::Submit { share: result(1, 10), inline: None };
        assert_eq!(network.exchange(request), Ok(MinerEvent::ResultGone));
        // Whatever their roots, the oldest make room.
        (1..=40u8).rev().for_each(|number| artefacts.lock().unwrap().keep(Hash32([number; 32]), vec![0]));
        assert_eq!(waiting(), (1..=32).rev().collect::<Vec<u8>>());
    }

    /// A pool and a bench at which everything panics.
    struct Broken {
        fetched: Mutex<u32>,
    }

    impl PoolTransport for Broken {
        fn request(&self, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
            panic!("on purpose")
        }

        fn fetch_blob(&self, _: BlobRef) -> Result<Vec<u8>, TransportError> {
            *self.fetched.lock().unwrap() += 1;
            panic!("on purpose")
        }
    }

    struct BrokenBench(Caps);

    impl Workbench for BrokenBench {
        fn calibrate(&mut self, _: &CalibrationJob) -> Option<Hash32> {
            panic!("on purpose")
        }

        fn prepare(&mut self, _: &Interval, _: EvaluationPlan, _: Option<&[u8]>) -> Result<(), BenchError> {
            panic!("on purpose")
        }

        fn has_data(&self, _: &Interval) -> bool {
            false
        }

        fn holds(&self, _: &BlobRef, _: Option<Hash32>) -> bool {
            false
        }

        fn caps(&self) -> &Caps {
            &self.0
        }

        fn train(
            &mut self,
            _: &TrainOrder,
            _: Option<&[u8]>,
            _: &Arc<AtomicBool>,
            _: &mut (dyn FnMut(u64) + Send),
        ) -> Result<Product, BenchError> {
            panic!("on purpose")
        }
    }

    fn interval(data: DataSource) -> Interval {
        let spec = ChainSpec::load("dev").unwrap();
        Interval {
            parent: Hash32([1; 32]),
            height: 1,
            task: Hash32([2; 32]),
            round: 0,
            workload: Workload::filler(&spec),
            data,
            score_macs: spec.caps.score_macs,
            baseline: None,
        }
    }

    fn order(base: Option<BlobRef>) -> Box<TrainOrder> {
        Box::new(TrainOrder {
            id: 7,
            parent: Hash32([1; 32]),
            architecture: Architecture { layers: Vec::new() },
            base,
            base_end: None,
            seed: 1,
            images: 1,
            due_ms: 1,
            image_macs: 1,
            left_permille: (0, 0),
            rule: TrainRule::default(),
        })
    }

    /// What a worker says of these works, one after the other, and how many blobs it tried to fetch.
    fn worked(works: Vec<Work>) -> (Vec<MinerEvent>, u32) {
        let (events, told) = channel();
        let (work, inbox) = channel();
        let transport = Arc::new(Broken { fetched: Mutex::new(0) });
        let bench = Box::new(BrokenBench(ChainSpec::load("dev").unwrap().caps));
        let worker =
            Worker { bench, transport: transport.clone(), artefacts: Arc::default(), states: no_states(), events };
        works.into_iter().for_each(|one| work.send(one).unwrap());
        drop(work);
        worker.run(&inbox);
        let fetched = *transport.fetched.lock().unwrap();
        (told.iter().collect(), fetched)
    }

    #[test]
    fn work_that_panics_led_to_nothing_and_the_next_is_done() {
        let plan = EvaluationPlan::for_filler(1);
        let data = BlobRef { root: Hash32([3; 32]), bytes: 1000 };
        let (parent, filler) = (Hash32([1; 32]), DataSource::Filler { seed: [0; 32] });
        let published = DataSource::Published { data, train_images: 1 };
        let (events, fetched) = worked(vec![
            Work::Calibrate(CalibrationJob { seed: [0; 32], steps: 1 }),
            Work::Prepare(Box::new(interval(filler)), plan),
            Work::Prepare(Box::new(interval(published)), plan),
            Work::Train(order(None), Arc::default()),
            Work::Train(order(Some(data)), Arc::default()),
        ]);
        let MinerEvent::NotCalibrated { reason } = &events[0] else { panic!("{events:?}") };
        assert!(reason.contains("a calibration has panicked: on purpose"), "{reason}");
        let failed = MinerEvent::Finished { order: 7, result: None };
        let not_prepared = MinerEvent::NotPrepared { parent };
        assert_eq!(events[1..], [not_prepared.clone(), not_prepared, failed.clone(), failed]);
        assert_eq!(fetched, 2);
    }

    #[test]
    fn blobs_over_the_caps_are_not_fetched() {
        let caps = ChainSpec::load("dev").unwrap().caps;
        let blob = |bytes| BlobRef { root: Hash32([3; 32]), bytes };
        let published = |bytes| DataSource::Published { data: blob(bytes), train_images: 1 };
        let plan = EvaluationPlan::for_filler(1);
        let works = |more: u64| {
            vec![
                Work::Prepare(Box::new(interval(published(caps.data_bytes + more))), plan),
                Work::Train(order(Some(blob(u64::from(caps.artefact_bytes) + more))), Arc::default()),
            ]
        };
        assert_eq!(worked(works(0)).1, 2);
        let (events, fetched) = worked(works(1));
        assert_eq!(fetched, 0);
        let parent = Hash32([1; 32]);
        assert_eq!(events, [MinerEvent::NotPrepared { parent }, MinerEvent::Finished { order: 7, result: None }]);
    }

    #[test]
    fn a_request_that_panics_is_one_without_an_answer() {
        let (events, told) = channel();
        let (requests, inbox) = channel();
        let transport = Arc::new(Broken { fetched: Mutex::new(0) });
        let network = Network { transport, artefacts: Arc::default(), states: no_states(), events };
        (0..2).for_each(|_| requests.send(Request::Lease).unwrap());
        drop(requests);
        network.run(&inbox);
        let told: Vec<MinerEvent> = told.iter().collect();
        assert_eq!(told.len(), 2);
        let is_unreachable =
            |e: &MinerEvent| matches!(e, MinerEvent::Unreachable { reason } if reason.contains("on purpose"));
        assert!(told.iter().all(is_unreachable), "{told:?}");
    }

    #[test]
    fn a_miner_whose_thread_has_ended_is_not_well_and_one_that_was_stopped_is() {
        let transport = Arc::new(Hasty::default());
        let config = MinerConfig { account: AccountId([1; 32]), agent: "test".into(), niceness: 5, states: None };
        let caps = ChainSpec::load("dev").unwrap().caps;
        let mut miner = start_miner(config, transport, Box::new(BrokenBench(caps))).unwrap();
        assert_eq!(miner.health(), Ok(()), "that its pool does not answer is no fault of its own");
        miner.threads.start("pool-else", || panic!("on purpose")).unwrap();
        while miner.health().is_ok() {
            std::thread::yield_now();
        }
        assert_eq!(miner.health(), Err("threads that have ended: pool-else".into()));
        miner.stop();
        while !miner.is_stopped() {
            std::thread::yield_now();
        }
        assert_eq!(miner.health(), Ok(()));
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
