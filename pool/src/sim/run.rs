//! A running simulation: every effect of a machine becomes a later event of another.

mod kills;
mod miners;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::{Amount, Hash32};
use podl_consensus::types::{BlobRef, ModelRoot};

use super::agenda::Agenda;
use super::journal::SimJournal;
use super::landscape::SimModel;
use super::spec::{MinerSpec, SimReport, SimSpec, Wins};
use crate::calibration::CalibrationJob;
use crate::ledger::WonBlock;
use crate::manager::{AuditOrder, Effect, Event, Manager, Outcome, Verdict};
use crate::miner::{Miner, MinerEvent, TrainOrder};
use crate::protocol::{Reply, Request};
use crate::rng::SeededRng;
use crate::types::{DataSource, Interval, MinerId};

/// Speed of replays: a core of the manager's.
const REPLAY_MACS_S: u128 = 20_000_000_000;
/// Time of an evaluation.
const EVALUATION_MS: u64 = 60;
/// Time between the end of a phase and the known shard, and from there to a final block.
const CLOSING_MS: u64 = 1500;

#[derive(Clone, Debug)]
pub(super) enum Happening {
    StartInterval(u32),
    ShardKnown,
    Manager(Event),
    /// What the manager's own process found out, in one of its lives.
    Found(u32, Event),
    ManagerWake,
    ManagerDies,
    Ask(usize, u32, Request),
    Miner(usize, u32, MinerEvent),
    MinerWake(usize, u32),
    Progress(usize, u32, u64),
    Trained(usize, u32, TrainOrder),
    Join(usize),
    Die(usize),
}

pub(super) struct SimMiner {
    pub spec: MinerSpec,
    pub id: MinerId,
    /// When its life began.
    joined_ms: u64,
    /// None while it is away.
    machine: Option<Miner>,
    /// Counts lives, so that what an earlier life began does not reach a later one.
    life: u32,
    /// The order under way and when it began.
    training: Option<(TrainOrder, u64)>,
    /// When its machine is woken next.
    wake_ms: Option<u64>,
    /// Since when it has been there in this phase.
    present_since_ms: Option<u64>,
    /// Results of its that the manager acknowledged.
    acknowledged: u64,
}

/// A running simulation.
pub struct Simulation {
    spec: SimSpec,
    pub(super) agenda: Agenda<Happening>,
    pub(super) manager: Manager,
    manager_wake_ms: Option<u64>,
    /// Where the manager is killed: what it comes back from, and whether the next result that it acknowledges is its last.
    journal: Option<SimJournal>,
    dies_at_result: bool,
    pub(super) miners: Vec<SimMiner>,
    by_id: BTreeMap<MinerId, usize>,
    models: BTreeMap<ModelRoot, SimModel>,
    /// Models that were trained less than their makers say: a replay would find other bits.
    underworked: BTreeSet<ModelRoot>,
    luck: SeededRng,
    /// When the phase under way began.
    phase_ms: Option<u64>,
    /// When everybody leaves; known from the beginning of the last phase on.
    ends_ms: Option<u64>,
    done: bool,
    pub(super) trace: blake3::Hasher,
    pub(super) report: SimReport,
}

impl Simulation {
    /// A simulation that has not begun.
    pub fn new(spec: SimSpec) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&spec.seed.to_le_bytes());
        let miners: Vec<SimMiner> = (1u64..).zip(&spec.miners).map(|(i, spec)| SimMiner::new(i, spec)).collect();
        let count = miners.len();
        let report = SimReport {
            spent_macs: vec![0; count],
            delivered_macs: vec![0; count],
            trained_ms: vec![0; count],
            present_ms: vec![0; count],
            ..SimReport::default()
        };
        let manager = Manager::new(spec.params.clone(), seed);
        let mut simulation = Self {
            agenda: Agenda::new(),
            journal: spec.kills.map(|_| kills::sound(SimJournal::new(&manager))),
            manager,
            manager_wake_ms: None,
            dies_at_result: false,
            by_id: miners.iter().enumerate().map(|(index, m)| (m.id, index)).collect(),
            miners,
            models: BTreeMap::new(),
            underworked: BTreeSet::new(),
            luck: SeededRng::new(&seed, "luck of blocks"),
            phase_ms: None,
            ends_ms: None,
            done: false,
            trace: blake3::Hasher::new(),
            report,
            spec,
        };
        simulation.plan();
        simulation
    }

    fn plan(&mut self) {
        for index in 0..self.miners.len() {
            for stay in self.miners[index].spec.stays.clone() {
                self.agenda.at(stay.from_ms, Happening::Join(index));
                if let Some(at_ms) = stay.dies_ms {
                    self.agenda.at(at_ms, Happening::Die(index));
                }
            }
        }
        if let Some(kills) = self.spec.kills {
            self.agenda.at(kills.every_ms, Happening::ManagerDies);
        }
        self.agenda.at(0, Happening::StartInterval(0));
    }

    /// Runs to the end of the last interval, or to the target.
    pub fn run(mut self) -> (SimReport, Manager) {
        while self.step() {}
        for miner in 0..self.miners.len() {
            self.stop_training(miner);
        }
        self.end_phase();
        self.report.uncounted_results = self.uncounted_results();
        self.report.trace = Hash32(*self.trace.finalize().as_bytes());
        (self.report, self.manager)
    }

    /// One happening; false when there is none any more.
    pub(super) fn step(&mut self) -> bool {
        let next = if self.done { None } else { self.agenda.next() };
        let Some(happening) = next else { return false };
        if self.spec.traced {
            self.trace.update(format!("{} {happening:?}\n", self.agenda.now_ms()).as_bytes());
        }
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartInterval(number) => self.start_interval(number),
            Happening::ShardKnown => {
                let classes = self.manager.miners().iter().map(|(id, m)| (*id, m.rating.class));
                self.report.classes.push(classes.collect());
                self.reveal();
            }
            Happening::Manager(event) => {
                if matches!(event, Event::IntervalEnded { .. }) {
                    self.note_left_units();
                    self.end_phase();
                }
                self.manager_event(event);
            }
            Happening::ManagerWake => {
                if self.manager_wake_ms.is_some_and(|at| at <= self.agenda.now_ms()) {
                    self.manager_wake_ms = None;
                    self.manager_event(Event::Tick);
                }
            }
            // What a process had under way ends with it.
            Happening::Found(life, event) => {
                if life == self.report.manager_deaths {
                    self.manager_event(event);
                }
            }
            Happening::ManagerDies => self.plan_kill(),
            Happening::Ask(miner, life, request) => self.ask(miner, life, request),
            Happening::Miner(miner, life, event) => self.miner_event(miner, life, event),
            Happening::MinerWake(miner, life) => {
                if self.miners[miner].wake_ms.is_some_and(|at| at <= self.agenda.now_ms()) {
                    self.miners[miner].wake_ms = None;
                    self.miner_event(miner, life, MinerEvent::Tick);
                }
            }
            Happening::Progress(miner, life, order) => self.progress(miner, life, order),
            Happening::Trained(miner, life, order) => self.trained(miner, life, order),
            Happening::Join(miner) => self.join(miner),
            Happening::Die(miner) => {
                self.stop_training(miner);
                self.leaves_phase(miner);
                self.miners[miner].machine = None;
            }
        }
    }

    fn start_interval(&mut self, number: u32) {
        let now_ms = self.agenda.now_ms();
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
        let train_ms = self.spec.params.train_ms;
        let (deadline_ms, plan) = (now_ms + train_ms, self.spec.plan);
        self.phase_ms = Some(now_ms);
        for sim in self.miners.iter_mut().filter(|m| m.machine.is_some()) {
            sim.present_since_ms = Some(now_ms);
        }
        self.report.commitments.push(0);
        self.report.income.push(BTreeMap::new());
        self.manager_event(Event::IntervalStarted { interval: Box::new(interval), plan, deadline_ms });
        self.agenda.later(train_ms, Happening::Manager(Event::IntervalEnded { parent }));
        self.agenda.later(train_ms + CLOSING_MS, Happening::ShardKnown);
        if number + 1 < self.spec.intervals {
            self.agenda.later(train_ms + 3 * CLOSING_MS, Happening::StartInterval(number + 1));
        } else {
            self.plan_end(train_ms);
        }
    }

    /// Miners leave, so that the simulation ends; later stays do not happen.
    fn plan_end(&mut self, train_ms: u64) {
        self.ends_ms = Some(self.agenda.now_ms() + train_ms + CLOSING_MS);
        for miner in 0..self.miners.len() {
            let lives = u32::try_from(self.miners[miner].spec.stays.len()).unwrap_or(u32::MAX);
            for life in self.miners[miner].life..=lives {
                self.agenda.later(train_ms + CLOSING_MS, Happening::Miner(miner, life, MinerEvent::Stop));
            }
        }
    }

    fn end_phase(&mut self) {
        let now_ms = self.agenda.now_ms();
        if let Some(since_ms) = self.phase_ms {
            for miner in 0..self.miners.len() {
                self.leaves_phase(miner);
            }
            self.report.phases_ms += now_ms - since_ms;
            self.phase_ms = None;
        }
    }

    fn leaves_phase(&mut self, miner: usize) {
        if let Some(since_ms) = self.miners[miner].present_since_ms.take() {
            self.report.present_ms[miner] += self.agenda.now_ms() - since_ms;
        }
    }

    /// Time spent in training phases so far.
    fn phases_ms(&self) -> u64 {
        self.report.phases_ms + self.phase_ms.map_or(0, |since_ms| self.agenda.now_ms() - since_ms)
    }

    fn manager_event(&mut self, event: Event) {
        let effects = self.tell_manager(event);
        self.manager_effects(effects);
    }

    /// Tells the manager of an event as its driver would, after its journal.
    fn tell_manager(&mut self, event: Event) -> Vec<Effect> {
        let now_ms = self.agenda.now_ms();
        let begins = matches!(event, Event::IntervalStarted { .. });
        if let Some(journal) = &mut self.journal {
            kills::sound(journal.append(now_ms, &event));
        }
        let effects = self.manager.handle(now_ms, event);
        if let Some(journal) = self.journal.as_mut().filter(|_| begins) {
            kills::sound(journal.snapshot(&self.manager));
        }
        effects
    }

    /// The manager's process will have found this out.
    fn will_find(&mut self, in_ms: u64, event: Event) {
        self.agenda.later(in_ms, Happening::Found(self.report.manager_deaths, event));
    }

    fn manager_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if self.spec.traced {
                self.trace.update(format!("{effect:?}\n").as_bytes());
            }
            self.manager_effect(effect);
        }
        if let Some(at_ms) = self.manager.next_wake_ms()
            && self.manager_wake_ms.is_none_or(|planned| at_ms < planned)
        {
            self.manager_wake_ms = Some(at_ms);
            self.agenda.at(at_ms, Happening::ManagerWake);
        }
    }

    fn manager_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { miner, reply } => self.reply(&miner, reply),
            Effect::CheckCalibration { miner, job, digest } => {
                let correct = digest == simulated_answer(&job);
                self.will_find(50, Event::CalibrationChecked { miner, job, correct });
            }
            Effect::Evaluate { job, artefact } => {
                let outcome = self.evaluate(&artefact);
                self.will_find(EVALUATION_MS, Event::Evaluated { job, outcome });
                self.note_progress(&artefact.root);
            }
            Effect::Audit { audit, order } => {
                let (verdict, took_ms) = self.replay(&order);
                self.will_find(took_ms, Event::Audited { audit, verdict });
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
                if let Some(income) = self.report.income.last_mut() {
                    for payment in &batch.payments {
                        *income.entry(payment.to).or_default() += payment.amount.0;
                    }
                }
                self.report.payments.push(batch);
            }
            Effect::Improved { count, .. } => self.report.improvements.push((self.agenda.now_ms(), count)),
        }
    }

    fn reply(&mut self, miner: &MinerId, reply: Box<Reply>) {
        if let Reply::Refused { refusal, .. } = &*reply {
            *self.report.refusals.entry(*refusal).or_default() += 1;
        }
        if let Some(&index) = self.by_id.get(miner) {
            let (life, latency_ms) = (self.miners[index].life, self.miners[index].spec.latency_ms);
            self.agenda.later(latency_ms, Happening::Miner(index, life, MinerEvent::Replied(reply)));
        }
    }

    /// The pool is about to check a model: what it truly is goes into the report.
    fn note_progress(&mut self, root: &ModelRoot) {
        let Some(model) = self.models.get(root) else { return };
        let ppm = model.accuracy_ppm(self.spec.full_images);
        if self.report.progress.last().is_none_or(|(_, best)| ppm > *best) {
            self.report.progress.push((self.phases_ms(), ppm));
        }
        if self.spec.target.is_some_and(|target| ppm >= target.accuracy_ppm) {
            self.report.reached_ms = Some(self.phases_ms());
            self.done = true;
        }
    }

    /// What a node does: the best of the committed models on the shard is revealed, and wins if the pool does.
    fn reveal(&mut self) {
        let Some(search) = self.manager.search() else { return };
        let (parent, height, full_images) = (search.parent(), search.interval.height, self.spec.full_images);
        let on_shard = |root: &ModelRoot| self.models.get(root).map(|m| m.count(full_images, "shard", 500));
        let scored = search.committed.iter().map(|c| (on_shard(&c.artefact.root), c.artefact.root));
        let Some((correct, root)) = scored.max() else { return };
        self.report.revealed.push((root, correct));
        let wins = match self.spec.wins {
            Wins::Always => true,
            Wins::Luck(permille) => self.luck.below(1000) < permille,
        };
        if wins {
            let won = WonBlock { block: parent, height, reward: self.spec.reward, model: Some(root) };
            self.agenda.later(100, Happening::Manager(Event::BlockWon(won)));
            self.agenda.later(CLOSING_MS / 2, Happening::Manager(Event::BlockFinal { block: parent }));
        }
    }

    fn evaluate(&self, artefact: &BlobRef) -> Outcome {
        let Some(model) = self.models.get(&artefact.root) else { return Outcome::Invalid("no such model".into()) };
        let (plan, full_images) = (self.spec.plan, self.spec.full_images);
        Outcome::Model {
            architecture: model.architecture.clone(),
            macs: 1,
            mac_bits: 1,
            public_correct: model.count(full_images, "public", plan.public_images),
            holdout_correct: model.count(full_images, "holdout", plan.holdout_images),
        }
    }

    /// What a replay finds, and how long it takes.
    fn replay(&self, order: &AuditOrder) -> (Verdict, u64) {
        let image_macs = self.manager.search().and_then(|s| s.interval.training_macs(&order.recipe.architecture).ok());
        let macs = u128::from(image_macs.unwrap_or(0)) * u128::from(order.images);
        let took_ms = u64::try_from(macs * 1000 / REPLAY_MACS_S).unwrap_or(u64::MAX >> 1);
        if self.underworked.contains(&order.artefact) {
            (Verdict::Different("trained less".into()), took_ms)
        } else {
            (Verdict::Same, took_ms)
        }
    }
}

impl SimMiner {
    fn new(number: u64, spec: &MinerSpec) -> Self {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        Self {
            spec: spec.clone(),
            id: MinerId(Hash32(id)),
            joined_ms: 0,
            machine: None,
            life: 0,
            training: None,
            wake_ms: None,
            present_since_ms: None,
            acknowledged: 0,
        }
    }
}

/// Stands in for [`calibration::answer`], which takes real time.
fn simulated_answer(job: &CalibrationJob) -> Hash32 {
    let mut hasher = blake3::Hasher::new_keyed(&job.seed);
    hasher.update(&job.steps.to_le_bytes());
    Hash32(*hasher.finalize().as_bytes())
}
