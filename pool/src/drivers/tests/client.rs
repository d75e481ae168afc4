//! A pool on a clock that is moved by hand, and miners whose every message is written by hand: real training, real
//! evaluation and replays, but no result depends on how busy the machine is.

use podl_nas::data::{Dataset, encode_dataset, generate, input_table};

use super::super::manager::Checks;
use super::*;
use crate::calibration;
use crate::lease::HeartbeatRule;
use crate::manager::{AuditCounts, AuditRule};
use crate::miner::TrainOrder;
use crate::training::{TrainRule, order_seed};
use crate::types::{EvaluationPlan, Lease};

/// Training multiply-accumulates a second of a middling miner, on the pool's clock.
pub(super) const SPEED: u64 = 300_000_000;
/// Longest the machine may take for what the pool waits for.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Pool {
    pub manager: Arc<ManagerDriver>,
    pub spec: ChainSpec,
    time: Arc<AtomicU64>,
}

impl Pool {
    /// A pool that replays everything.
    pub fn new(seed: u8) -> Self {
        Self::with(seed, |_| ())
    }

    pub fn with(seed: u8, change: impl FnOnce(&mut PoolParams)) -> Self {
        Self::over(seed, change, |_| (), Checks::default())
    }

    /// A pool whose journal, artefacts and states are in a folder, and which goes on with what is there.
    pub fn kept(seed: u8, folder: &std::path::Path) -> Self {
        Self::over(seed, |_| (), |config| keep_in(folder, config), Checks::default())
    }

    pub fn over(
        seed: u8,
        change: impl FnOnce(&mut PoolParams),
        set_up: impl FnOnce(&mut ManagerConfig),
        checks: Checks,
    ) -> Self {
        let mut spec = spec();
        spec.phases.train_ms = 60_000;
        spec.filler.conv_layers = 2;
        let mut params = PoolParams {
            calibration_ms: 1,
            lease_ms: 2000,
            min_lease_ms: 500,
            grace_ms: 1000,
            always_check: u32::MAX,
            least_gain_permille: 0,
            training: TrainRule { batch: 16, ..TrainRule::default() },
            heartbeat: HeartbeatRule { every_ms: 900, missed: 3 },
            audits: AuditRule { permille: 1000, queue: 16, upload_ms: 3000 },
            ..PoolParams::for_chain(&spec, AccountId([99; 32]))
        };
        change(&mut params);
        let (clock, time) = hand_clock();
        let mut config = config(&spec, params, seed, clock);
        set_up(&mut config);
        Self { manager: Arc::new(ManagerDriver::start_with(config, checks).unwrap()), spec, time }
    }

    /// An interval over small networks, on data of its own.
    pub fn begin(&self, height: u8, phase_ms: u64) {
        self.start(self.interval(height), phase_ms);
    }

    pub fn interval(&self, height: u8) -> (Interval, Arc<Vec<u8>>) {
        let images: Dataset = generate(&[height; 32], 600);
        let blob = Arc::new(encode_dataset(&images));
        let mut workload = Workload { input_table: input_table(&images), ..Workload::filler(&self.spec) };
        workload.space.filters = vec![2, 4, 6, 8];
        workload.space.kernel_height = vec![3];
        workload.space.kernel_width = vec![3];
        let data = BlobRef { root: blob_root(&blob), bytes: blob.len() as u64 };
        let interval = Interval {
            parent: Hash32([height; 32]),
            height: height.into(),
            task: data.root,
            round: 0,
            data: DataSource::Published { data, train_images: 400 },
            workload,
            score_macs: self.spec.caps.score_macs,
            baseline: None,
        };
        (interval, blob)
    }

    pub fn start(&self, (interval, blob): (Interval, Arc<Vec<u8>>), phase_ms: u64) {
        let root = interval.task;
        self.manager.begin_interval(interval, Some(blob), phase_ms);
        self.until("the interval", || self.manager.blob(&root).is_some());
    }

    /// Lets time pass on the pool's clock.
    pub fn pass(&self, ms: u64) {
        let mut left_ms = ms;
        while left_ms > 0 {
            let step_ms = left_ms.min(250);
            self.time.fetch_add(step_ms, Ordering::Relaxed);
            self.manager.tick();
            left_ms -= step_ms;
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    /// Waits for the machine while the pool's clock stands.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "not yet: {what}; {:?}", self.manager.overview());
            std::thread::sleep(Duration::from_millis(3));
            self.manager.tick();
        }
    }

    /// Waits until every result that was handed in is counted.
    pub fn count(&self) {
        self.until("evaluations", || self.manager.overview().pending_evaluations == 0);
    }

    /// Waits until every result that was handed in is counted and replayed.
    pub fn settle(&self) {
        self.until("evaluations and replays", || {
            let overview = self.manager.overview();
            let AuditCounts { passed, failed, undecided, .. } = overview.audits;
            let accepted: u32 = overview.miners.iter().map(|m| m.standing.accepted).sum();
            overview.pending_evaluations == 0 && passed + failed + undecided >= accepted.into()
        });
    }

    pub fn audits(&self) -> AuditCounts {
        self.manager.overview().audits
    }

    /// Verified work of a miner in the pay window.
    pub fn window_macs(&self, miner: u8) -> u64 {
        self.standing(miner).window_macs
    }

    pub fn standing(&self, miner: u8) -> protocol::Standing {
        let all = self.manager.overview().miners;
        all.into_iter().find(|m| m.id == id(miner)).expect("a known miner").standing
    }

    /// Whose models are confirmed.
    pub fn elite_roots(&self) -> Vec<Hash32> {
        self.manager.elites().iter().map(|e| e.artefact.root).collect()
    }

    /// The pool wins the block of a height, and the block is final: what it pays each account.
    pub fn pay(&self, height: u8, reward: u64) -> Vec<(AccountId, u64)> {
        let block = Hash32([height ^ 0x80; 32]);
        let won = WonBlock { block, height: height.into(), reward: Amount(reward), model: None };
        self.manager.block_won(won);
        self.manager.block_final(block);
        let rows = self.manager.share_list(&block).expect("a won block").rows;
        rows.iter().map(|row| (row.account, row.amount.0)).collect()
    }
}

/// Journal, artefacts and states in a folder.
pub(super) fn keep_in(folder: &std::path::Path, config: &mut ManagerConfig) {
    config.journal = Some(Journal::open(&folder.join("journal")).unwrap());
    config.store = Box::new(DirStore::open(&folder.join("artefacts")).unwrap());
    config.states = Box::new(DirStore::open(&folder.join("states")).unwrap());
}

pub(super) fn id(miner: u8) -> MinerId {
    MinerId(Hash32([miner; 32]))
}

/// A result: what is said of it, and the bytes.
#[derive(Clone)]
pub(super) struct Step {
    pub share: Share,
    pub bytes: Vec<u8>,
    /// The state that was gone on from.
    pub start: Option<Arc<Vec<u8>>>,
}

/// A miner with one thread.
pub(super) struct Client<'a> {
    pub pool: &'a Pool,
    pub number: u8,
    /// Its speed on the pool's clock.
    pub macs_s: u64,
    bench: TrainBench,
    interval: Option<Interval>,
    /// How long a training may take on the machine's own clock.
    due_ms: u64,
}

impl<'a> Client<'a> {
    /// A miner that has joined and was measured.
    pub fn join(pool: &'a Pool, number: u8, macs_s: u64) -> Self {
        let client = Self::new(pool, number, macs_s);
        let mut job = client.hello().expect("a calibration");
        loop {
            let digest = calibration::answer(&job, 1).unwrap();
            // The pool reckons that training is a little faster than classifying.
            pool.pass(calibration::job_macs(&job) * 1200 / macs_s);
            match client.ask(&Request::Calibrated { seed: job.seed, digest }) {
                Reply::CalibrateAgain(longer) => job = longer,
                Reply::Ack { .. } => return client,
                other => panic!("{other:?}"),
            }
        }
    }

    /// A miner that nobody knows yet.
    pub fn new(pool: &'a Pool, number: u8, macs_s: u64) -> Self {
        let bench = TrainBench::new(1, pool.spec.caps.clone(), TrainSettings::default()).unwrap();
        Self { pool, number, macs_s, bench, interval: None, due_ms: 3_600_000 }
    }

    pub fn hello(&self) -> Option<calibration::CalibrationJob> {
        let hello = Request::Hello { version: VERSION, account: AccountId([self.number; 32]), agent: "test".into() };
        match self.ask(&hello) {
            Reply::Welcome { calibrate, .. } => calibrate,
            other => panic!("{other:?}"),
        }
    }

    pub fn ask(&self, request: &Request) -> Reply {
        ask(&self.pool.manager, self.number, request)
    }

    pub fn refusal(&self, request: &Request) -> Option<Refusal> {
        refusal(self.ask(request))
    }

    /// A lease, with its data at hand.
    pub fn lease(&mut self) -> Lease {
        self.try_lease().expect("a lease")
    }

    pub fn try_lease(&mut self) -> Result<Lease, Refusal> {
        match self.ask(&Request::Lease) {
            Reply::Lease { lease, interval, plan } => {
                self.prepare(*interval, plan);
                Ok(*lease)
            }
            Reply::Refused { refusal, .. } => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn prepare(&mut self, interval: Interval, plan: EvaluationPlan) {
        if self.interval.as_ref() == Some(&interval) {
            return;
        }
        let DataSource::Published { data, .. } = interval.data else { panic!("a published task") };
        let blob = self.pool.manager.blob(&data.root).unwrap();
        self.bench.prepare(&interval, plan, Some(&blob)).unwrap();
        self.interval = Some(interval);
    }

    /// Trains a network of a lease from where the lease says.
    pub fn train(&mut self, lease: &Lease, index: usize, images: u64) -> Step {
        let work = &lease.work[index];
        let base = work.base.map(|blob| (blob, work.end));
        self.train_from(lease, index, images, base)
    }

    /// Goes on where a step ended.
    pub fn go_on(&mut self, lease: &Lease, index: usize, images: u64, step: &Step) -> Step {
        let base = (step.share.artefact, Some(step.share.states.end));
        self.train_from(lease, index, images, Some(base))
    }

    pub fn train_from(
        &mut self,
        lease: &Lease,
        index: usize,
        images: u64,
        base: Option<(BlobRef, Option<Hash32>)>,
    ) -> Step {
        let work = &lease.work[index];
        let base_root = base.map(|(blob, _)| blob.root);
        let order = TrainOrder {
            id: 1,
            parent: lease.parent,
            architecture: work.architecture.clone(),
            base: base.map(|(blob, _)| blob),
            base_end: base.and_then(|(_, end)| end),
            seed: order_seed(lease.seed, &work.architecture, base_root),
            images,
            due_ms: self.due_ms,
            image_macs: self.image_macs(lease, index),
            left_permille: (lease.left_permille, lease.left_after_permille),
            rule: work.rule,
        };
        let bytes = base_root.and_then(|root| self.pool.manager.blob(&root));
        let base_bytes = bytes.as_ref().map(|b| b.as_slice());
        let product = self.bench.train(&order, base_bytes, &Arc::default(), &mut |_| ()).unwrap();
        let trained = product.trained;
        let share = Share {
            lease: lease.id,
            artefact: trained.artefact,
            architecture: order.architecture,
            base: base_root,
            images: trained.images,
            correct: trained.correct,
            ordered: images,
            left_permille: order.left_permille,
            states: trained.states,
        };
        Step { share, bytes: product.artefact, start: product.start }
    }

    pub fn image_macs(&self, lease: &Lease, index: usize) -> u64 {
        let interval = self.interval.as_ref().expect("data are at hand");
        interval.training_macs(&lease.work[index].architecture).unwrap()
    }

    /// Multiply-accumulates that a step claims.
    pub fn macs(&self, step: &Step) -> u64 {
        let interval = self.interval.as_ref().expect("data are at hand");
        interval.training_macs(&step.share.architecture).unwrap() * step.share.images
    }

    /// How long a step takes this miner, on the pool's clock.
    pub fn ms(&self, step: &Step) -> u64 {
        self.macs(step) * 1000 / self.macs_s
    }

    /// Hands a step in, and the state that an audit of it wants.
    pub fn submit(&self, step: &Step) -> Option<Refusal> {
        let inline = (step.bytes.len() <= INLINE_BYTES).then(|| step.bytes.clone());
        if inline.is_none() {
            let refusal = self.upload(step.share.artefact, &step.bytes);
            if refusal.is_some() {
                return refusal;
            }
        }
        match self.ask(&Request::Submit { share: step.share.clone(), inline }) {
            Reply::Ack { audit: Some(blob), .. } => {
                let state = step.start.as_ref().filter(|state| blob_root(state) == blob.root);
                self.upload(blob, state.expect("the state that it began at"))
            }
            Reply::Ack { audit: None, .. } => None,
            Reply::Refused { refusal, .. } => Some(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Sends bytes in chunks.
    pub fn upload(&self, blob: BlobRef, bytes: &[u8]) -> Option<Refusal> {
        let mut chunks = (0u64..).step_by(CHUNK_BYTES).zip(bytes.chunks(CHUNK_BYTES));
        chunks.find_map(|(offset, chunk)| self.chunk(blob, offset, chunk))
    }

    pub fn chunk(&self, artefact: BlobRef, offset: u64, bytes: &[u8]) -> Option<Refusal> {
        self.refusal(&Request::Chunk { artefact, offset, bytes: bytes.to_vec() })
    }

    /// What a training of so many images has reached after its first slice.
    pub fn train_hurriedly(&mut self, lease: &Lease, index: usize, images: u64) -> Step {
        self.due_ms = 1;
        let step = self.train(lease, index, images);
        self.due_ms = 3_600_000;
        step
    }

    /// Trains a lease's networks, as far as its time goes.
    pub fn train_all(&mut self, lease: &Lease) -> Vec<Step> {
        let mut left_ms = lease.due_ms;
        let mut steps = Vec::new();
        for index in 0..lease.work.len() {
            let step = self.train(lease, index, lease.work[index].images);
            let Some(left) = left_ms.checked_sub(self.ms(&step)) else { break };
            left_ms = left;
            steps.push(step);
        }
        steps
    }

    /// Works off a new lease honestly, in the time that it takes.
    pub fn work(&mut self) -> Vec<Step> {
        let lease = self.lease();
        let steps = self.train_all(&lease);
        for step in &steps {
            self.spend(self.ms(step));
            assert_eq!(self.submit(step), None);
        }
        steps
    }

    /// Lets time pass and reports progress meanwhile.
    pub fn spend(&self, ms: u64) {
        for begun in (0..ms).step_by(1000) {
            self.pool.pass((ms - begun).min(1000));
            self.ask(&Request::Progress { lease: LeaseId(0), done_macs: 0 });
        }
    }

    /// Multiply-accumulates that steps claim.
    pub fn sum(&self, steps: &[Step]) -> u64 {
        steps.iter().map(|step| self.macs(step)).sum()
    }
}
