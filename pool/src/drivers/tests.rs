//! The real thing in one process: manager, miners, training, evaluation, commitment, pay.

mod audits;
mod cheats;
mod client;
mod panics;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::{BlobRef, Payment};
use podl_consensus::workload::{WorkVerifier, Workload};
use podl_nas::Verifier;

use super::*;
use crate::ledger::{PayScheme, WonBlock};
use crate::manager::PoolParams;
use crate::protocol::{self, CHUNK_BYTES, INLINE_BYTES, Refusal, Reply, Request, VERSION};
use crate::types::{DataSource, LeaseId, MinerId, Share};

fn spec() -> ChainSpec {
    let mut spec = ChainSpec::load("dev").unwrap();
    spec.phases.train_ms = 6000;
    spec.filler.shard_images = 256;
    spec
}

fn filler(spec: &ChainSpec) -> Interval {
    Interval {
        parent: Hash32([1; 32]),
        height: 1,
        task: Hash32([2; 32]),
        round: 0,
        workload: Workload::filler(spec),
        data: DataSource::Filler { seed: [3; 32] },
        score_macs: spec.caps.score_macs,
        baseline: None,
    }
}

/// What is tested here does not wait for replays, the tests of audits do; and it shows a finder's bonus.
fn unaudited(spec: &ChainSpec) -> PoolParams {
    let mut params = PoolParams::for_chain(spec, AccountId([9; 32]));
    params.audits.permille = 0;
    params.pay = PayScheme::Pplns { window: 4, finder_basis_points: 500 };
    params
}

/// A manager without a journal, of whose actions nobody hears.
fn config(spec: &ChainSpec, params: PoolParams, seed: u8, clock: Clock) -> ManagerConfig {
    ManagerConfig {
        params,
        seed: [seed; 32],
        caps: spec.caps.clone(),
        threads: 1,
        store_bytes: 64 << 20,
        store: Box::new(MemoryStore::default()),
        states: Box::new(MemoryStore::default()),
        journal: None,
        clock,
        sink: Arc::new(|_| ()),
    }
}

fn manager(spec: &ChainSpec, clock: Clock) -> (Arc<ManagerDriver>, Receiver<PoolAction>) {
    let (sender, actions) = channel();
    let sender = Mutex::new(sender);
    let sink = Arc::new(move |action| sender.lock().unwrap().send(action).unwrap());
    let config = ManagerConfig { sink, ..config(spec, unaudited(spec), 4, clock) };
    (Arc::new(ManagerDriver::start(config).unwrap()), actions)
}

fn miner(spec: &ChainSpec, manager: &Arc<ManagerDriver>, number: u8) -> MinerHandle {
    let bench = TrainBench::new(1, spec.caps.clone(), TrainSettings::default()).unwrap();
    let config = MinerConfig { account: AccountId([number; 32]), agent: "test".into(), niceness: 5, states: None };
    let transport = LocalTransport::new(manager.clone(), MinerId(Hash32([number; 32])));
    start_miner(config, Arc::new(transport), Box::new(bench)).unwrap()
}

#[test]
fn two_miners_train_and_the_manager_commits_and_pays() {
    let spec = spec();
    let (manager, actions) = manager(&spec, system_clock());
    let miners = [miner(&spec, &manager, 1), miner(&spec, &manager, 2)];
    let interval = filler(&spec);
    let parent = interval.parent;
    manager.begin_interval(interval.clone(), None, spec.phases.train_ms);
    let start = Instant::now();
    let mut committed = Vec::new();
    while start.elapsed() < Duration::from_millis(spec.phases.train_ms) {
        std::thread::sleep(Duration::from_millis(50));
        manager.tick();
        for action in actions.try_iter() {
            if let PoolAction::Commit { parent: at, bytes, artefact, .. } = action {
                assert_eq!((at, blob_root(&bytes)), (parent, artefact.root));
                committed.push((artefact.root, bytes));
            }
        }
    }
    manager.end_interval(parent);
    assert!((1..=3).contains(&committed.len()), "{} commitments", committed.len());
    let verifier = Verifier::new(1);
    let shard = verifier.filler_shard(&interval.workload, &spec.caps, [3; 32]).unwrap();
    let score = |bytes: &[u8]| verifier.score(&interval.workload, &spec.caps, bytes, &shard).unwrap();
    let best = committed.iter().map(|(_, bytes)| score(bytes)).max().unwrap();
    assert!(best > 60, "256 images of 10 classes, the best committed model knows {best}");
    let winner = committed.iter().max_by_key(|(_, bytes)| score(bytes)).map(|(root, _)| *root);
    manager.block_won(WonBlock {
        block: Hash32([8; 32]),
        height: interval.height,
        reward: Amount(1_000_000),
        model: winner,
    });
    manager.block_final(Hash32([8; 32]));
    let batch = wait_for(&manager, &actions, |action| match action {
        PoolAction::Pay(batch) => Some(batch),
        _ => None,
    });
    let paid: Vec<Payment> = batch.payments.clone();
    assert_eq!(paid.iter().map(|p| p.amount.0).sum::<u64>(), 980_000);
    let list = manager.share_list(&Hash32([8; 32])).unwrap();
    assert_eq!(list.root(), batch.shares_root);
    let bonus: Vec<u64> = list.rows.iter().map(|row| row.bonus.0).filter(|bonus| *bonus > 0).collect();
    assert_eq!(bonus, [49_000], "a twentieth for the one whose model won");
    for miner in miners {
        miner.stop_within(Duration::from_secs(10)).unwrap();
    }
    assert!(manager.overview().miners.iter().all(|m| !m.online), "both have said goodbye");
}

fn wait_for<T>(manager: &ManagerDriver, actions: &Receiver<PoolAction>, pick: impl Fn(PoolAction) -> Option<T>) -> T {
    for _ in 0..200 {
        manager.tick();
        while let Ok(action) = actions.recv_timeout(Duration::from_millis(20)) {
            if let Some(found) = pick(action) {
                return found;
            }
        }
    }
    panic!("the action did not come");
}

/// A clock that stands until it is moved.
fn hand_clock() -> (Clock, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let shown = time.clone();
    (Arc::new(move || shown.load(Ordering::Relaxed)), time)
}

fn ask(manager: &ManagerDriver, miner: u8, request: &Request) -> Reply {
    let bytes = manager.handle(MinerId(Hash32([miner; 32])), &protocol::encode(request));
    protocol::decode_reply(&bytes).unwrap()
}

fn refusal(reply: Reply) -> Option<Refusal> {
    match reply {
        Reply::Refused { refusal, .. } => Some(refusal),
        _ => None,
    }
}

#[test]
fn hostile_bytes_are_refused_and_cost_the_sender() {
    let spec = spec();
    let (clock, time) = hand_clock();
    let (manager, _actions) = manager(&spec, clock);
    let artefact = BlobRef { root: Hash32([5; 32]), bytes: 10 };
    let share = Share {
        lease: LeaseId(1),
        artefact,
        architecture: podl_consensus::workload::Architecture { layers: vec![] },
        base: None,
        images: 1,
        correct: 1,
        ordered: 1,
        left_permille: (0, 0),
        states: crate::training::States::default(),
    };
    assert_eq!(refusal(ask(&manager, 1, &Request::Lease)), Some(Refusal::Unknown));
    let hello = Request::Hello { version: VERSION + 1, account: AccountId([1; 32]), agent: String::new() };
    assert_eq!(refusal(ask(&manager, 1, &hello)), Some(Refusal::Version));
    let hello = Request::Hello { version: VERSION, account: AccountId([1; 32]), agent: String::new() };
    assert!(matches!(ask(&manager, 1, &hello), Reply::Welcome { calibrate: Some(_), .. }));
    assert_eq!(refusal(ask(&manager, 1, &Request::Lease)), Some(Refusal::NotCalibrated));
    let lie = Request::Submit { share: share.clone(), inline: Some(vec![0; 10]) };
    assert_eq!(refusal(ask(&manager, 1, &lie)), Some(Refusal::NoArtefact));
    let absent = Request::Submit { share, inline: None };
    assert_eq!(refusal(ask(&manager, 1, &absent)), Some(Refusal::NoLease), "nothing is looked for");
    assert_eq!(refusal(ask(&manager, 1, &lie)), Some(Refusal::NoArtefact));
    let jump = Request::Chunk { artefact, offset: 5, bytes: vec![1; 5] };
    assert_eq!(refusal(ask(&manager, 1, &jump)), Some(Refusal::NoLease), "there is nothing to hand in");
    let garbage = manager.handle(MinerId(Hash32([1; 32])), &[255; 40]);
    assert_eq!(refusal(protocol::decode_reply(&garbage).unwrap()), Some(Refusal::Malformed));
    manager.handle(MinerId(Hash32([1; 32])), &[255; 40]);
    assert_eq!(refusal(ask(&manager, 1, &Request::Lease)), Some(Refusal::Suspended), "enough is enough");
    // Another miner that floods is told to wait.
    assert!(refusal(ask(&manager, 2, &hello)).is_none());
    let answers: Vec<_> = (0..60).map(|_| refusal(ask(&manager, 2, &Request::Lease))).collect();
    assert!(answers.contains(&Some(Refusal::RateLimited)));
    time.store(5000, Ordering::Relaxed);
    assert_eq!(refusal(ask(&manager, 2, &Request::Lease)), Some(Refusal::NotCalibrated));
}

#[test]
fn a_false_calibration_answer_shuts_the_miner_out() {
    let spec = spec();
    let (clock, time) = hand_clock();
    let (manager, _actions) = manager(&spec, clock);
    let hello = Request::Hello { version: VERSION, account: AccountId([1; 32]), agent: String::new() };
    let Reply::Welcome { calibrate: Some(job), .. } = ask(&manager, 1, &hello) else { panic!("no calibration") };
    time.store(400, Ordering::Relaxed);
    let answer = Request::Calibrated { seed: job.seed, digest: Hash32([1; 32]) };
    assert!(matches!(ask(&manager, 1, &answer), Reply::Ack { .. }), "believed until it is recomputed");
    for _ in 0..500 {
        std::thread::sleep(Duration::from_millis(10));
        if refusal(ask(&manager, 1, &Request::Lease)) == Some(Refusal::Suspended) {
            return;
        }
        time.fetch_add(60, Ordering::Relaxed);
    }
    panic!("a wrong digest was taken");
}

#[test]
fn large_artefacts_travel_in_chunks() {
    let pool = client::Pool::new(1);
    pool.begin(1, 60_000);
    let mut miner = client::Client::join(&pool, 1, client::SPEED);
    miner.lease();
    let whole = vec![7; CHUNK_BYTES * 2 + 5];
    let artefact = BlobRef { root: blob_root(&whole), bytes: whole.len() as u64 };
    assert_eq!(miner.upload(artefact, &whole), None);
    assert_eq!(pool.manager.blob(&artefact.root).unwrap().as_slice(), whole);
}

/// A transport whose pool is down until it is switched on.
struct Switched {
    inner: LocalTransport,
    on: Arc<AtomicBool>,
}

impl PoolTransport for Switched {
    fn request(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        if self.on.load(Ordering::Relaxed) { self.inner.request(bytes) } else { Err(TransportError("off".into())) }
    }

    fn fetch_blob(&self, blob: BlobRef) -> Result<Vec<u8>, TransportError> {
        self.inner.fetch_blob(blob)
    }
}

#[test]
fn a_miner_waits_for_a_pool_that_is_down_and_stops_at_once_when_told() {
    let spec = spec();
    let (manager, _actions) = manager(&spec, system_clock());
    let on = Arc::new(AtomicBool::new(false));
    let inner = LocalTransport::new(manager.clone(), MinerId(Hash32([1; 32])));
    let bench = TrainBench::new(1, spec.caps.clone(), TrainSettings::default()).unwrap();
    let config = MinerConfig { account: AccountId([1; 32]), agent: "test".into(), niceness: 5, states: None };
    let handle = start_miner(config, Arc::new(Switched { inner, on: on.clone() }), Box::new(bench)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(manager.overview().miners.is_empty());
    on.store(true, Ordering::Relaxed);
    manager.begin_interval(filler(&spec), None, 60_000);
    let start = Instant::now();
    while manager.overview().running_leases == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "no lease: {:?}", handle.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    let stopping = Instant::now();
    handle.stop_within(Duration::from_secs(5)).unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
    assert_eq!(manager.overview().running_leases, 0, "the lease was handed back");
}
