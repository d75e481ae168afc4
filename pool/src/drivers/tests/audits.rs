//! Replays of real training: honest miners never fail them, hostile ones do.

use std::collections::BTreeSet;

use podl_consensus::workload::{Architecture, Network};
use podl_nas::artefact::{self, Model};
use podl_nas::data::{Dataset, encode_dataset, generate, input_table};

use super::super::audit::{Auditor, Material};
use super::*;
use crate::calibration::CalibrationJob;
use crate::manager::{AuditCounts, AuditOrder, AuditRule, Effect, Manager, StartFrom, Verdict};
use crate::miner::TrainOrder;
use crate::training::{STATE_BYTES, States, TrainRule, order_seed, state_bytes};
use crate::types::EvaluationPlan;

/// How a miner cheats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cheat {
    Honest,
    /// Trains half of what it says.
    MoreImages,
    /// Trains under a seed of its own.
    OtherSeed,
    /// Hands in what it trained otherwise, with the start that would be right.
    Elsewhere,
    /// Hands in the network that it was to train longer, altered a little.
    Copies,
    /// Trains nothing when it goes on from its own state, and does not show that state.
    HidesState,
}

/// From what a training began: nothing, the miner's own state, an artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Began {
    Fresh,
    Own,
    Artefact,
}

struct Hostile {
    inner: TrainBench,
    cheat: Cheat,
    interval: Option<Interval>,
    bases: Vec<(Hash32, Vec<u8>)>,
    began: Arc<Mutex<BTreeSet<Began>>>,
}

impl Hostile {
    fn train_falsely(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Product, BenchError> {
        let mut false_order = order.clone();
        let batch = u64::from(order.rule.batch);
        match self.cheat {
            Cheat::MoreImages => false_order.images /= 2,
            Cheat::OtherSeed => false_order.seed ^= 1,
            Cheat::Elsewhere => false_order.rule.first_rate_millionths = 30_000,
            Cheat::Copies if order.base.is_some() => return self.copy(order, base),
            Cheat::Honest | Cheat::Copies | Cheat::HidesState => {}
        }
        let mut product = self.inner.train(&false_order, base, cancel, progress)?;
        match self.cheat {
            Cheat::MoreImages => product.trained.images = order.images / batch * batch,
            Cheat::HidesState => product.start = None,
            _ => {}
        }
        Ok(product)
    }

    fn copy(&mut self, order: &TrainOrder, base: Option<&[u8]>) -> Result<Product, BenchError> {
        let root = order.base.unwrap().root;
        let kept = self.bases.iter().find(|(r, _)| *r == root).map(|(_, bytes)| bytes.clone());
        let bytes = base.map(<[u8]>::to_vec).or(kept).unwrap();
        let caps = spec().caps;
        let model = artefact::decode(&bytes, &caps).unwrap();
        let mut layers = model.layers().to_vec();
        let bias = &mut layers.last_mut().unwrap().biases[0];
        *bias += if *bias > 0 { -1 } else { 1 };
        let bytes = Model::new(model.network().clone(), layers).unwrap().encode();
        let verifier = Verifier::new(1);
        let interval = self.interval.as_ref().unwrap();
        let DataSource::Filler { seed } = interval.data else { panic!("a filler interval") };
        let shard = verifier.filler_shard(&interval.workload, &caps, seed).unwrap();
        let correct = verifier.score(&interval.workload, &caps, &bytes, &shard).unwrap();
        let artefact = BlobRef { root: blob_root(&bytes), bytes: bytes.len() as u64 };
        let states = States { start: order.base_end.unwrap(), end: artefact.root };
        // As if it had taken its time.
        std::thread::sleep(Duration::from_millis(order.due_ms / 2));
        let images = order.images / u64::from(order.rule.batch) * u64::from(order.rule.batch);
        Ok(Product { artefact: bytes, start: None, trained: Trained { artefact, images, correct, states } })
    }
}

impl Workbench for Hostile {
    fn calibrate(&mut self, job: &CalibrationJob) -> Option<Hash32> {
        self.inner.calibrate(job)
    }

    fn prepare(&mut self, interval: &Interval, plan: EvaluationPlan, blob: Option<&[u8]>) -> Result<(), BenchError> {
        self.interval = Some(interval.clone());
        self.inner.prepare(interval, plan, blob)
    }

    fn has_data(&self, interval: &Interval) -> bool {
        self.inner.has_data(interval)
    }

    fn holds(&self, blob: &BlobRef, end: Option<Hash32>) -> bool {
        self.inner.holds(blob, end)
    }

    fn caps(&self) -> &podl_chain_spec::Caps {
        self.inner.caps()
    }

    fn train(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Product, BenchError> {
        let product = self.train_falsely(order, base, cancel, progress)?;
        let began = match (&order.base, &product.start) {
            (None, _) => Began::Fresh,
            (Some(_), Some(_)) => Began::Own,
            (Some(_), None) => Began::Artefact,
        };
        self.began.lock().unwrap().insert(began);
        self.bases.push((product.trained.artefact.root, product.artefact.clone()));
        Ok(product)
    }
}

/// A pool that audits as much as it can.
struct Audited {
    spec: ChainSpec,
    manager: Arc<ManagerDriver>,
    actions: Receiver<PoolAction>,
    began: Arc<Mutex<BTreeSet<Began>>>,
}

impl Audited {
    fn new(seed: u8) -> Self {
        Self::with_journal(seed, 3000, None)
    }

    fn with_journal(seed: u8, upload_ms: u64, journal: Option<(Journal, Option<Manager>)>) -> Self {
        let mut spec = spec();
        spec.phases.train_ms = 8000;
        let (sender, actions) = channel();
        let sender = Mutex::new(sender);
        let params = PoolParams {
            explore_permille: 150,
            // Filler data are soon known by heart: further training promises nothing, and is wanted here.
            least_gain_permille: 0,
            // Every result is drawn, so that cheats are found as soon as there is time for a replay.
            always_check: u32::MAX,
            audits: AuditRule { permille: 1000, queue: 8, upload_ms },
            ..PoolParams::for_chain(&spec, AccountId([9; 32]))
        };
        let sink = Arc::new(move |action| drop(sender.lock().unwrap().send(action)));
        let config = ManagerConfig { journal, sink, ..config(&spec, params, seed, system_clock()) };
        let manager = Arc::new(ManagerDriver::start(config).unwrap());
        Self { spec, manager, actions, began: Arc::default() }
    }

    fn join(&self, number: u8, cheat: Cheat) -> MinerHandle {
        self.join_over(number, cheat, None, Arc::new(self.transport(number)))
    }

    fn join_over(
        &self,
        number: u8,
        cheat: Cheat,
        states: Option<&std::path::Path>,
        transport: Arc<dyn PoolTransport>,
    ) -> MinerHandle {
        let inner = TrainBench::new(1, self.spec.caps.clone(), TrainSettings::default()).unwrap();
        let bench = Hostile { inner, cheat, interval: None, bases: Vec::new(), began: self.began.clone() };
        let states = states.map(std::path::Path::to_owned);
        let config = MinerConfig { account: AccountId([number; 32]), agent: "test".into(), niceness: 5, states };
        start_miner(config, transport, Box::new(bench)).unwrap()
    }

    fn transport(&self, number: u8) -> LocalTransport {
        LocalTransport::new(self.manager.clone(), MinerId(Hash32([number; 32])))
    }

    fn audits(&self) -> AuditCounts {
        self.manager.overview().audits
    }

    /// Lets time pass until something is true; false when that takes longer than so long.
    fn wait(&self, most_ms: u64, mut is_true: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(most_ms) {
            self.manager.tick();
            self.actions.try_iter().for_each(drop);
            if is_true() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// One cheating miner alone in a pool is found out, loses its work in the pay window, and what it handed in is dropped.
fn is_found_out(cheat: Cheat) {
    let pool = Audited::new(4);
    let miner = pool.join(1, cheat);
    let trains_honestly_first = matches!(cheat, Cheat::Copies | Cheat::HidesState);
    // On a busy machine replays take their time. Those who begin honestly cheat once exploration is over.
    let most_ms = if trains_honestly_first { 60_000 } else { 150_000 };
    // Filler data are known by heart before long; a training that goes on then ends at the integers it began at, and
    // there is no state to hide.
    let (interval, blob) = published(&pool.spec, 4, 1);
    match cheat {
        Cheat::HidesState => pool.manager.begin_interval(interval, Some(blob), most_ms),
        _ => pool.manager.begin_interval(filler(&pool.spec), None, most_ms),
    }
    let failed = || pool.audits().failed > 0;
    assert!(pool.wait(most_ms - 5000, failed), "{cheat:?}: {:?} {:?}", pool.audits(), miner.status());
    let overview = pool.manager.overview();
    assert_eq!(overview.window_macs, 0, "{cheat:?}");
    let is_suspended = || miner.status().refusal == Some(Refusal::Suspended);
    assert!(pool.wait(5000, is_suspended), "{cheat:?}: {:?}", miner.status());
    let is_clean = || trains_honestly_first || pool.manager.elites().is_empty();
    assert!(pool.wait(120_000, is_clean), "{cheat:?}: {:?}", pool.manager.elites());
    miner.stop_within(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_miner_that_claims_more_images_than_it_trained_is_found_out() {
    is_found_out(Cheat::MoreImages);
}

#[test]
fn a_miner_that_trains_under_another_seed_is_found_out() {
    is_found_out(Cheat::OtherSeed);
}

#[test]
fn a_model_trained_elsewhere_is_found_out() {
    is_found_out(Cheat::Elsewhere);
}

#[test]
fn a_copied_network_is_found_out() {
    is_found_out(Cheat::Copies);
}

#[test]
fn a_miner_that_does_not_show_its_state_is_found_out() {
    is_found_out(Cheat::HidesState);
}

fn published(spec: &ChainSpec, seed: u8, round: u8) -> (Interval, Arc<Vec<u8>>) {
    let data: Dataset = generate(&[seed; 32], 900);
    let table = input_table(&data);
    let blob = Arc::new(encode_dataset(&data));
    let data = BlobRef { root: blob_root(&blob), bytes: blob.len() as u64 };
    let workload = Workload { input_table: table, ..Workload::filler(spec) };
    let interval = Interval {
        parent: Hash32([round; 32]),
        height: round.into(),
        task: Hash32([7; 32]),
        round: round.into(),
        data: DataSource::Published { data, train_images: 600 },
        workload,
        score_macs: spec.caps.score_macs,
        baseline: None,
    };
    (interval, blob)
}

/// The most important property: over leases, rounds, and each other's networks, honest miners never fail an audit, however
/// busy the machine is.
#[test]
fn honest_miners_never_fail_an_audit() {
    for seed in 1..=3 {
        let pool = Audited::with_journal(seed, 20_000, None);
        let first = pool.join(1, Cheat::Honest);
        let mut later = None;
        let has_begun = || pool.began.lock().unwrap().len() == 3;
        // In the second round, where exploration is over soon, every kind of start is seen; on a busy machine in a later one.
        for round in 1..=4 {
            if round > 2 && has_begun() {
                break;
            }
            let (interval, blob) = published(&pool.spec, seed, round);
            let (parent, before) = (interval.parent, pool.audits().passed);
            pool.manager.begin_interval(interval, Some(blob), 60_000);
            pool.wait(30_000, || !pool.manager.elites().is_empty());
            later.get_or_insert_with(|| [pool.join(2, Cheat::Honest), pool.join(3, Cheat::Honest)]);
            pool.wait(4000, || false);
            pool.wait(45_000, || pool.audits().passed > before && (round == 1 || has_begun()));
            pool.manager.end_interval(parent);
        }
        let counts = pool.audits();
        assert!(counts.failed == 0 && counts.passed >= 2, "seed {seed}: {counts:?}");
        assert_eq!(pool.began.lock().unwrap().len(), 3, "seed {seed}: {:?}", pool.began);
        for miner in later.into_iter().flatten().chain([first]) {
            assert_ne!(miner.status().refusal, Some(Refusal::Suspended), "seed {seed}");
            miner.stop_within(Duration::from_secs(10)).unwrap();
        }
        assert_eq!(pool.audits().failed, 0, "seed {seed}: leaving is no failure");
    }
}

#[test]
fn a_restarted_manager_begins_its_replay_again() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Audited::with_journal(5, 3000, Some(Journal::open(folder.path()).unwrap()));
    let miner = pool.join(1, Cheat::Honest);
    pool.manager.begin_interval(filler(&pool.spec), None, 30_000);
    let accepted = || pool.manager.overview().miners.iter().any(|m| m.standing.accepted > 0);
    assert!(pool.wait(20_000, accepted), "{:?}", miner.status());
    // Its replay takes as long as its training did.
    miner.stop_within(Duration::from_secs(10)).unwrap();
    let passed = pool.audits().passed;
    drop(pool);
    let (journal, restored) = Journal::open(folder.path()).unwrap();
    let effects = restored.clone().unwrap().resume(0, |_| false);
    assert!(effects.iter().any(|e| matches!(e, Effect::Audit { .. })), "{effects:?}");
    let pool = Audited::with_journal(5, 3000, Some((journal, restored)));
    std::thread::sleep(Duration::from_millis(200));
    pool.manager.begin_interval(filler(&pool.spec), None, 20_000);
    assert!(pool.wait(20_000, || pool.audits().passed > passed), "{:?}", pool.audits());
    assert_eq!((pool.audits().failed, pool.audits().undecided), (0, 0));
}

/// A transport that breaks for ever as soon as the pool has asked for a state: all that a pool sees of a miner that is
/// killed then.
struct Killed {
    inner: LocalTransport,
    is_dead: Arc<AtomicBool>,
}

impl PoolTransport for Killed {
    fn request(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Err(TransportError("killed".into()));
        }
        let reply = self.inner.request(bytes)?;
        let asks = matches!(protocol::decode_reply(&reply), Ok(Reply::Ack { audit: Some(_), .. }));
        self.is_dead.fetch_or(asks, Ordering::Relaxed);
        Ok(reply)
    }

    fn fetch_blob(&self, blob: BlobRef) -> Result<Vec<u8>, TransportError> {
        self.inner.fetch_blob(blob)
    }
}

/// A miner that was killed when it was asked for a state shows it once it is back, and fails nothing; without the folder
/// of states it does.
#[test]
fn a_killed_miner_that_is_back_shows_the_state_that_it_was_asked_for() {
    for is_kept in [true, false] {
        let pool = Audited::with_journal(6, 30_000, None);
        let folder = tempfile::tempdir().unwrap();
        let states = is_kept.then(|| folder.path());
        let is_dead = Arc::new(AtomicBool::new(false));
        let transport = Killed { inner: pool.transport(1), is_dead: is_dead.clone() };
        let killed = pool.join_over(1, Cheat::Honest, states, Arc::new(transport));
        let (interval, blob) = published(&pool.spec, 6, 1);
        let task = interval.task;
        pool.manager.begin_interval(interval, Some(blob), 120_000);
        assert!(pool.wait(100_000, || is_dead.load(Ordering::Relaxed)), "{task:?}: {:?}", killed.status());
        let passed = pool.audits().passed;
        let back = pool.join_over(1, Cheat::Honest, states, Arc::new(pool.transport(1)));
        // The one that is asked for, and whatever waits before it.
        let is_over = || pool.audits().failed > 0 || (is_kept && pool.audits().passed > passed + 2);
        assert!(pool.wait(100_000, is_over), "{:?}", pool.audits());
        assert_eq!(pool.audits().failed > 0, !is_kept, "{:?}", pool.audits());
        killed.stop();
        back.stop_within(Duration::from_secs(10)).unwrap();
    }
}

struct Trial {
    interval: Interval,
    bench: TrainBench,
    auditor: Auditor,
}

impl Trial {
    fn new(seed: u8, threads: usize) -> Self {
        let spec = spec();
        let interval = Interval { data: DataSource::Filler { seed: [seed; 32] }, ..filler(&spec) };
        let mut bench = TrainBench::new(threads, spec.caps.clone(), TrainSettings::default()).unwrap();
        bench.prepare(&interval, EvaluationPlan::for_filler(256), None).unwrap();
        Self { interval, bench, auditor: Auditor::new(spec.caps, Arc::default()) }
    }

    fn order(&mut self, seed: u64, base: Option<&Trained>) -> TrainOrder {
        let space = podl_nas::search::SearchBox::from_space(&self.interval.workload.space).unwrap();
        let architecture = podl_nas::search::starting_points(&space)[0].architecture.clone();
        let base_root = base.map(|b| b.artefact.root);
        TrainOrder {
            id: 1,
            parent: self.interval.parent,
            seed: order_seed(seed, &architecture, base_root),
            architecture,
            base: base.map(|b| b.artefact),
            base_end: base.map(|b| b.states.end),
            images: 700,
            due_ms: 60_000,
            image_macs: 1,
            left_permille: (900, 700),
            rule: TrainRule::default(),
        }
    }

    fn train(&mut self, order: &TrainOrder, base: Option<&Product>) -> Product {
        let base = base.map(|b| b.artefact.as_slice());
        self.bench.train(order, base, &Arc::default(), &mut |_| ()).unwrap()
    }

    fn audit(&mut self, order: &TrainOrder, product: &Product, base: Option<&Product>) -> (AuditOrder, Material) {
        let trained = &product.trained;
        let (from, start) = match (base, &product.start) {
            (None, _) => (StartFrom::Seed, None),
            (Some(_), Some(state)) => {
                let blob = BlobRef { root: trained.states.start, bytes: state.len() as u64 };
                (StartFrom::State(blob), Some(state.clone()))
            }
            (Some(base), None) => {
                (StartFrom::Artefact(base.trained.artefact.root), Some(Arc::new(base.artefact.clone())))
            }
        };
        let audit = AuditOrder {
            task: self.interval.task,
            data: self.interval.data.clone(),
            recipe: order.recipe(),
            from,
            images: trained.images,
            states: trained.states,
            artefact: trained.artefact.root,
        };
        (audit, Material { interval: Some(self.interval.clone()), blob: None, start })
    }

    fn is_same(&mut self, order: &TrainOrder, product: &Product, base: Option<&Product>) {
        let (audit, material) = self.audit(order, product, base);
        assert_eq!(self.auditor.audit(&audit, &material), Verdict::Same);
    }
}

#[test]
fn replays_of_every_start_end_at_the_same_bits() {
    for seed in 1..=4 {
        let (mut one, mut other) = (Trial::new(seed, 2), Trial::new(seed, 1));
        let order = one.order(seed.into(), None);
        let first = one.train(&order, None);
        assert_eq!(first.trained.images, 672, "21 whole batches");
        one.is_same(&order, &first, None);
        // Its own state goes on, momentum and all; twice from the same state is two trainings.
        let order = one.order(8, Some(&first.trained));
        let second = one.train(&order, None);
        assert_eq!(second.trained.states.start, first.trained.states.end);
        let network = Network::new(
            &order.architecture,
            one.interval.workload.input,
            one.interval.workload.classes,
            one.interval.workload.space.dense,
        );
        let state = second.start.clone().unwrap();
        assert_eq!(state.len() as u64, state_bytes(&network.unwrap()));
        assert!((state.len() as u64) < STATE_BYTES);
        one.is_same(&order, &second, Some(&first));
        let again = one.order(9, Some(&first.trained));
        let sibling = one.train(&again, None);
        assert_eq!(sibling.trained.states.start, first.trained.states.end);
        one.is_same(&again, &sibling, Some(&first));
        // Another miner has only the artefact, and too little time.
        let hurried = TrainOrder { due_ms: 1, ..other.order(10, Some(&second.trained)) };
        let third = other.train(&hurried, Some(&second));
        assert_eq!((third.trained.images, third.start.is_none()), (256, true));
        assert_ne!(third.trained.states.start, second.trained.states.end);
        other.is_same(&hurried, &third, Some(&second));
    }
}

/// What is done to an audit before it is begun.
type Change<'a> = &'a dyn Fn(&mut AuditOrder, &mut Material);

#[test]
fn whatever_differs_is_told_apart_from_what_cannot_be_decided() {
    let mut trial = Trial::new(1, 1);
    let order = trial.order(1, None);
    let product = trial.train(&order, None);
    let next_order = trial.order(2, Some(&product.trained));
    let next = trial.train(&next_order, None);
    let mut verdict = |order: &TrainOrder, made: &Product, base, change: Change<'_>| {
        let (mut audit, mut material) = trial.audit(order, made, base);
        change(&mut audit, &mut material);
        trial.auditor.audit(&audit, &material)
    };
    let changes: [Change<'_>; 9] = [
        &|a, _| a.images += 32,
        &|a, _| a.images -= 32,
        &|a, _| a.recipe.seed ^= 1,
        &|a, _| a.recipe.images += 3200,
        &|a, _| a.recipe.left_permille = (900, 699),
        &|a, _| a.recipe.rule.weight_decay_millionths += 1,
        &|a, _| a.states.start = Hash32::ZERO,
        &|a, _| a.states.end = Hash32::ZERO,
        &|a, _| a.artefact = Hash32::ZERO,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let found = verdict(&order, &product, None, change);
        assert!(matches!(found, Verdict::Different(_)), "change {number}: {found:?}");
    }
    // A state of other length, and one that is not a number.
    let cut = |_: &mut AuditOrder, m: &mut Material| {
        let mut bytes = m.start.take().unwrap().to_vec();
        bytes.pop();
        m.start = Some(Arc::new(bytes));
    };
    assert!(matches!(verdict(&next_order, &next, Some(&product), &cut), Verdict::Different(_)));
    let undecided: [Change<'_>; 3] =
        [&|_, m| m.interval = None, &|_, m| m.start = None, &|a, _| a.task = Hash32([77; 32])];
    for (number, change) in undecided.into_iter().enumerate() {
        let found = verdict(&next_order, &next, Some(&product), change);
        assert!(matches!(found, Verdict::Undecided(_)), "change {number}: {found:?}");
    }
}

/// `cargo test --release -p podl-pool what_an_audit_costs -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
#[allow(clippy::print_stdout)]
fn what_an_audit_costs() {
    let act = podl_consensus::workload::FixedPoint::new(1, 4);
    let layer = |filters, pool| podl_consensus::workload::ConvLayer {
        kernel: [3, 3],
        filters,
        stride: [1, 1],
        pool,
        act,
        weight: act,
    };
    for (name, filters) in [("36x6", 36), ("64x6", 64)] {
        let layers = [2, 1, 2, 1, 2, 1].map(|pool| layer(filters, pool)).to_vec();
        let mut trial = Trial::new(1, 1);
        let ms = |start: Instant| start.elapsed().as_secs_f64() * 1000.0;
        let mut order = trial.order(1, None);
        order.architecture = Architecture { layers };
        order.images = 4096;
        let start = Instant::now();
        let first = trial.train(&order, None);
        let trained_ms = ms(start);
        let mut next = trial.order(2, Some(&first.trained));
        (next.architecture, next.images) = (order.architecture.clone(), 4096);
        let second = trial.train(&next, None);
        // The first replay loads the data.
        trial.is_same(&order, &first, None);
        let mut replays = Vec::new();
        for (order, product, base) in [(&order, &first, None), (&next, &second, Some(&first))] {
            let start = Instant::now();
            trial.is_same(order, product, base);
            replays.push(ms(start));
        }
        let state = second.start.unwrap();
        let start = Instant::now();
        let hash = blob_root(&state);
        println!(
            "{name}: training 4,096 images {trained_ms:.0} ms, replays {replays:.0?} ms, artefact {} bytes, state {} bytes \
             ({} chunks), its hash {:.2} ms {}",
            first.artefact.len(),
            state.len(),
            state.len().div_ceil(CHUNK_BYTES),
            ms(start),
            hash.short()
        );
    }
}
