//! A pool on virtual time: the real manager and miner machines, with simulated training and network.
//!
//! The same seed gives the same trace. Nothing here is a model of the machines; only what they ask the outside for
//! (training, evaluation, messages) is.

mod landscape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BatchPayment, BlobRef, ModelRoot};
use podl_consensus::workload::Workload;

pub use landscape::{SimModel, accuracy_permille, ceiling_permille, count, train};

use crate::calibration::{self, CalibrationJob};
use crate::ledger::WonBlock;
use crate::manager::{Ask, Effect, Event, Manager, Outcome, PoolParams};
use crate::miner::{Miner, MinerEffect, MinerEvent, TrainOrder, Trained};
use crate::protocol::{Reply, Request};
use crate::types::{DataSource, EvaluationPlan, Interval, MinerId};

/// Time of a message from one side to the other.
const LATENCY_MS: u64 = 20;
/// Time of an evaluation.
const EVALUATION_MS: u64 = 60;
/// Time between the end of a phase and the known shard, and from there to a final block.
const CLOSING_MS: u64 = 1500;

/// A miner of a simulation.
#[derive(Clone, Debug)]
pub struct MinerSpec {
    /// Training multiply-accumulates a second.
    pub speed_macs_s: u64,
    /// When it joins.
    pub joins_ms: u64,
    /// When it dies without a word, if it does.
    pub dies_ms: Option<u64>,
    /// When it comes back, with nothing remembered.
    pub returns_ms: Option<u64>,
    /// What it adds to its claimed counts.
    pub lies_by: u32,
}

impl MinerSpec {
    /// An honest miner that stays.
    pub fn honest(speed_macs_s: u64) -> Self {
        Self { speed_macs_s, joins_ms: 0, dies_ms: None, returns_ms: None, lies_by: 0 }
    }
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimSpec {
    /// Decides everything random.
    pub seed: u64,
    /// The pool.
    pub params: PoolParams,
    /// Its miners.
    pub miners: Vec<MinerSpec>,
    /// What is searched.
    pub workload: Workload,
    /// Training images of the task.
    pub train_images: u32,
    /// What judges results.
    pub plan: EvaluationPlan,
    /// How many intervals.
    pub intervals: u32,
    /// What a block pays.
    pub reward: Amount,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct SimReport {
    /// Best count on the shard that was revealed, an interval each.
    pub revealed: Vec<(ModelRoot, Option<u32>)>,
    /// Batch payments.
    pub payments: Vec<BatchPayment>,
    /// Commitments, an interval each.
    pub commitments: Vec<u32>,
    /// Share lists' sums: reward, fee, what the rows sum to.
    pub sums: Vec<(Amount, Amount, Amount)>,
    /// Time from the start to each improvement of the pool's best, and its count.
    pub improvements: Vec<(u64, u32)>,
    /// Training multiply-accumulates spent by each miner.
    pub spent_macs: Vec<u64>,
    /// Classes at the end of each phase, by miner.
    pub classes: Vec<BTreeMap<MinerId, crate::types::Class>>,
    /// Refusals by code.
    pub refusals: BTreeMap<crate::protocol::Refusal, u32>,
    /// Hash over everything that happened, in order.
    pub trace: Hash32,
}

#[derive(Clone, Debug)]
enum Happening {
    StartInterval(u32),
    ShardKnown,
    Manager(Event),
    ManagerWake,
    Ask(usize, u32, Request),
    Miner(usize, u32, MinerEvent),
    MinerWake(usize, u32),
    Trained(usize, u32, TrainOrder),
    Join(usize),
    Die(usize),
}

struct SimMiner {
    spec: MinerSpec,
    id: MinerId,
    /// None while it is away.
    machine: Option<Miner>,
    /// Counts lives, so that what an earlier life began does not reach a later one.
    life: u32,
    /// The order under way and when it began.
    training: Option<(TrainOrder, u64)>,
}

/// A running simulation.
pub struct Simulation {
    spec: SimSpec,
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    manager: Manager,
    miners: Vec<SimMiner>,
    models: BTreeMap<ModelRoot, SimModel>,
    trace: blake3::Hasher,
    report: SimReport,
}

impl Simulation {
    /// A simulation that has not begun.
    pub fn new(spec: SimSpec) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&spec.seed.to_le_bytes());
        let manager = Manager::new(spec.params.clone(), seed);
        let ids = (1u64..).map(|i| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&i.to_le_bytes());
            MinerId(Hash32(id))
        });
        let miners = spec
            .miners
            .iter()
            .zip(ids)
            .map(|(spec, id)| SimMiner { spec: spec.clone(), id, machine: None, life: 0, training: None })
            .collect::<Vec<_>>();
        let report = SimReport { spent_macs: vec![0; miners.len()], ..SimReport::default() };
        let mut simulation = Self {
            spec,
            now_ms: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            manager,
            miners,
            models: BTreeMap::new(),
            trace: blake3::Hasher::new(),
            report,
        };
        simulation.plan_lives();
        simulation.later(0, Happening::StartInterval(0));
        simulation
    }

    fn plan_lives(&mut self) {
        for index in 0..self.miners.len() {
            let spec = self.miners[index].spec.clone();
            self.later(spec.joins_ms, Happening::Join(index));
            if let Some(at_ms) = spec.dies_ms {
                self.later(at_ms, Happening::Die(index));
            }
            if let Some(at_ms) = spec.returns_ms {
                self.later(at_ms, Happening::Join(index));
            }
        }
    }

    /// Runs to the end of the last interval.
    pub fn run(mut self) -> (SimReport, Manager) {
        while let Some(((at_ms, _), happening)) = self.queue.pop_first() {
            self.now_ms = at_ms;
            self.trace.update(format!("{at_ms} {happening:?}\n").as_bytes());
            self.happen(happening);
        }
        self.report.trace = Hash32(*self.trace.finalize().as_bytes());
        (self.report, self.manager)
    }

    fn later(&mut self, in_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now_ms + in_ms, self.sequence), happening);
    }

    fn interval_ms(&self) -> u64 {
        self.spec.params.train_ms + 3 * CLOSING_MS
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartInterval(number) => self.start_interval(number),
            Happening::ShardKnown => {
                let classes = self.manager.miners().iter().map(|(id, m)| (*id, m.rating.class));
                self.report.classes.push(classes.collect());
                self.reveal();
            }
            Happening::Manager(event) => self.manager_event(event),
            Happening::ManagerWake => self.manager_event(Event::Tick),
            Happening::Ask(miner, life, request) => self.ask(miner, life, request),
            Happening::Miner(miner, life, event) => self.miner_event(miner, life, event),
            Happening::MinerWake(miner, life) => self.miner_event(miner, life, MinerEvent::Tick),
            Happening::Trained(miner, life, order) => self.trained(miner, life, order),
            Happening::Join(miner) => {
                let account = AccountId([u8::try_from(miner % 200).unwrap_or(0) + 1; 32]);
                let sim = &mut self.miners[miner];
                sim.life += 1;
                sim.machine = Some(Miner::new(account, "simulation"));
                let life = sim.life;
                self.miner_event(miner, life, MinerEvent::Start);
            }
            Happening::Die(miner) => {
                self.miners[miner].machine = None;
                self.stop_training(miner);
            }
        }
    }

    fn start_interval(&mut self, number: u32) {
        let parent = Hash32(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let data = BlobRef { root: Hash32([9; 32]), bytes: 1 };
        let interval = Interval {
            parent,
            height: u64::from(number) + 1,
            task: Hash32([8; 32]),
            round: number,
            workload: self.spec.workload.clone(),
            data: DataSource::Published { data, train_images: self.spec.train_images },
            score_macs: u64::MAX,
            baseline: self.report.revealed.last().map(|(root, _)| *root),
        };
        let deadline_ms = self.now_ms + self.spec.params.train_ms;
        let plan = self.spec.plan;
        self.report.commitments.push(0);
        self.manager_event(Event::IntervalStarted { interval: Box::new(interval), plan, deadline_ms });
        let train_ms = self.spec.params.train_ms;
        self.later(train_ms, Happening::Manager(Event::IntervalEnded { parent }));
        self.later(train_ms + CLOSING_MS, Happening::ShardKnown);
        if number + 1 < self.spec.intervals {
            self.later(self.interval_ms(), Happening::StartInterval(number + 1));
        } else {
            // Miners leave, so that the simulation ends.
            for miner in 0..self.miners.len() {
                for life in 1..=2 {
                    self.later(train_ms + CLOSING_MS, Happening::Miner(miner, life, MinerEvent::Stop));
                }
            }
        }
    }

    fn manager_event(&mut self, event: Event) {
        let effects = self.manager.handle(self.now_ms, event);
        for effect in effects {
            self.manager_effect(effect);
        }
        let wakes = self.queue.values().any(|h| matches!(h, Happening::ManagerWake));
        if let Some(at_ms) = self.manager.next_wake_ms().filter(|_| !wakes) {
            self.later(at_ms - self.now_ms, Happening::ManagerWake);
        }
    }

    fn manager_effect(&mut self, effect: Effect) {
        self.trace.update(format!("{effect:?}\n").as_bytes());
        match effect {
            Effect::Reply { miner, reply } => {
                if let Reply::Refused { refusal, .. } = &*reply {
                    *self.report.refusals.entry(*refusal).or_default() += 1;
                }
                if let Some(index) = self.miners.iter().position(|m| m.id == miner) {
                    let life = self.miners[index].life;
                    self.later(LATENCY_MS, Happening::Miner(index, life, MinerEvent::Replied(reply)));
                }
            }
            Effect::CheckCalibration { miner, job, digest } => {
                let correct = digest == simulated_answer(&job);
                self.later(50, Happening::Manager(Event::CalibrationChecked { miner, job, correct }));
            }
            Effect::Evaluate { job, artefact } => {
                let outcome = self.evaluate(&artefact);
                self.later(EVALUATION_MS, Happening::Manager(Event::Evaluated { job, outcome }));
            }
            Effect::Commit { .. } => {
                if let Some(last) = self.report.commitments.last_mut() {
                    *last += 1;
                }
            }
            Effect::Pay(batch) => {
                if let Some(list) = self.manager.ledger().list(&batch.block) {
                    let rows = list.rows.iter().map(|r| r.amount.0).sum();
                    self.report.sums.push((list.reward, list.fee, Amount(rows)));
                }
                self.report.payments.push(batch);
            }
            Effect::Improved { count, .. } => self.report.improvements.push((self.now_ms, count)),
        }
    }

    /// What a node does: the best of the committed models on the shard wins the block.
    fn reveal(&mut self) {
        let Some(search) = self.manager.search() else { return };
        let parent = search.parent();
        let on_shard = |root: &ModelRoot| self.models.get(root).map(|m| count(m, "shard", 500));
        let scored = search.committed.iter().map(|c| (on_shard(&c.artefact.root), c.artefact.root));
        let Some((correct, root)) = scored.max() else { return };
        self.report.revealed.push((root, correct));
        let reward = self.spec.reward;
        let won = WonBlock { block: parent, height: search.interval.height, reward, model: Some(root) };
        self.later(100, Happening::Manager(Event::BlockWon(won)));
        self.later(CLOSING_MS / 2, Happening::Manager(Event::BlockFinal { block: parent }));
    }

    fn evaluate(&self, artefact: &BlobRef) -> Outcome {
        let Some(model) = self.models.get(&artefact.root) else { return Outcome::Invalid("no such model".into()) };
        let plan = self.spec.plan;
        Outcome::Model {
            architecture: model.architecture.clone(),
            macs: 1,
            mac_bits: 1,
            public_correct: count(model, "public", plan.public_images),
            holdout_correct: count(model, "holdout", plan.holdout_images),
        }
    }

    fn ask(&mut self, miner: usize, life: u32, request: Request) {
        let sim = &self.miners[miner];
        if sim.life != life {
            return;
        }
        let ask = match request {
            Request::Hello { version, account, .. } => Ask::Hello { version, account },
            Request::Calibrated { seed, digest } => Ask::Calibrated { seed, digest },
            Request::Lease => Ask::Lease,
            Request::Progress { lease, done_macs } => Ask::Progress { lease, done_macs },
            Request::Submit { mut share, .. } => {
                share.correct = (share.correct + sim.spec.lies_by).min(self.spec.plan.public_images);
                Ask::Submit(share)
            }
            Request::Leave => Ask::Leave,
            Request::Chunk { .. } => return,
        };
        let id = sim.id;
        self.manager_event(Event::Asked { miner: id, ask });
    }

    fn miner_event(&mut self, miner: usize, life: u32, event: MinerEvent) {
        let now_ms = self.now_ms;
        let sim = &mut self.miners[miner];
        let Some(machine) = sim.machine.as_mut().filter(|_| sim.life == life) else { return };
        let effects = machine.handle(now_ms, event);
        for effect in effects {
            self.miner_effect(miner, life, effect);
        }
        let wake = self.miners[miner].machine.as_ref().and_then(Miner::next_wake_ms);
        let waiting = self.queue.values().any(|h| matches!(h, Happening::MinerWake(m, l) if (*m, *l) == (miner, life)));
        if let Some(at_ms) = wake.filter(|_| !waiting) {
            self.later(at_ms - now_ms, Happening::MinerWake(miner, life));
        }
    }

    fn miner_effect(&mut self, miner: usize, life: u32, effect: MinerEffect) {
        match effect {
            MinerEffect::Send(request) => self.later(LATENCY_MS, Happening::Ask(miner, life, request)),
            MinerEffect::Calibrate(job) => {
                // The integer engine is as many times faster than training as the manager reckons.
                let engine = u128::from(self.miners[miner].spec.speed_macs_s) * 1000
                    / u128::from(self.spec.params.training_permille.max(1));
                let ms = u128::from(calibration::job_macs(&job)) * 1000 / engine.max(1);
                let digest = simulated_answer(&job);
                let event = MinerEvent::Calibrated { job, digest };
                self.later(u64::try_from(ms).unwrap_or(u64::MAX >> 1), Happening::Miner(miner, life, event));
            }
            MinerEffect::Prepare { interval, .. } => {
                let event = MinerEvent::Prepared { parent: interval.parent, starts: Vec::new() };
                self.later(200, Happening::Miner(miner, life, event));
            }
            MinerEffect::Train(order) => {
                let speed = self.miners[miner].spec.speed_macs_s.max(1);
                let macs = u128::from(order.image_macs) * u128::from(order.images);
                let full_ms = u64::try_from(macs * 1000 / u128::from(speed)).unwrap_or(u64::MAX >> 1);
                self.miners[miner].training = Some((order.clone(), self.now_ms));
                self.later(full_ms.min(order.due_ms), Happening::Trained(miner, life, order));
            }
            MinerEffect::Cancel => self.stop_training(miner),
            MinerEffect::Refused(_) | MinerEffect::Stopped => {}
        }
    }

    /// Images that the training under way has reached.
    fn reached(&self, miner: usize) -> Option<u64> {
        let (order, since_ms) = self.miners[miner].training.as_ref()?;
        let speed = u128::from(self.miners[miner].spec.speed_macs_s);
        let images = speed * u128::from(self.now_ms - since_ms) / 1000 / u128::from(order.image_macs.max(1));
        Some(u64::try_from(images).unwrap_or(u64::MAX).min(order.images))
    }

    fn stop_training(&mut self, miner: usize) {
        let images = self.reached(miner).unwrap_or(0);
        if let Some((order, _)) = self.miners[miner].training.take() {
            self.report.spent_macs[miner] += images * order.image_macs;
        }
    }

    fn trained(&mut self, miner: usize, life: u32, order: TrainOrder) {
        let is_current = self.miners[miner].training.as_ref().is_some_and(|(o, _)| o.id == order.id);
        if !is_current || self.miners[miner].life != life {
            return;
        }
        // At its full time rounding must not cost an image.
        let images = self.reached(miner).unwrap_or(0).max(1);
        self.stop_training(miner);
        let base = order.base.and_then(|b| self.models.get(&b.root));
        let model = train(order.architecture, base, order.seed ^ (miner as u64) << 32, images);
        let correct = count(&model, "public", self.spec.plan.public_images);
        let artefact = model.artefact;
        self.models.insert(artefact.root, model);
        let result = Some(Trained { artefact, images, correct });
        self.miner_event(miner, life, MinerEvent::Finished { order: order.id, result });
    }
}

/// Stands in for [`calibration::answer`], which takes real time.
fn simulated_answer(job: &CalibrationJob) -> Hash32 {
    let mut hasher = blake3::Hasher::new_keyed(&job.seed);
    hasher.update(&job.steps.to_le_bytes());
    Hash32(*hasher.finalize().as_bytes())
}
