//! One good and one bad case for what the manager decides; the simulation shows it all together.

use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::types::BlobRef;
use podl_consensus::workload::{Architecture, Workload};

use super::outlook::Outlook;
use super::*;
use crate::calibration::CalibrationJob;
use crate::ledger::{PayScheme, WonBlock};
use crate::partition::{Scheme, union_cardinality};
use crate::protocol::{Refusal, Reply, VERSION};
use crate::training::States;
use crate::types::{AuditId, AuditTally, BackupTally, Class, DataSource, Lease, Purpose};

mod audits;
mod holes;
mod partition;
mod pay;

const PLAN: EvaluationPlan = EvaluationPlan { public_images: 100, holdout_images: 400 };

struct Pool {
    manager: Manager,
    now_ms: u64,
    effects: Vec<Effect>,
    models: u64,
}

fn id(miner: u8) -> MinerId {
    MinerId(Hash32([miner; 32]))
}

impl Pool {
    /// A manager in the first phase of a task, with miners 1 to `miners`, all calibrated alike.
    fn new(miners: u8) -> Self {
        let mut spec = ChainSpec::load("testnet").unwrap();
        spec.filler.conv_layers = 2;
        let manager = Manager::new(PoolParams::for_chain(&spec, AccountId([99; 32])), [1; 32]);
        let mut pool = Self { manager, now_ms: 1000, effects: Vec::new(), models: 0 };
        for miner in 1..=miners {
            pool.join(miner);
        }
        pool.begin(1, &Workload::filler(&spec), None);
        pool
    }

    fn begin(&mut self, parent: u8, workload: &Workload, baseline: Option<Hash32>) {
        let data = DataSource::Published { data: BlobRef { root: Hash32([5; 32]), bytes: 1 }, train_images: 9000 };
        let interval = Interval {
            parent: Hash32([parent; 32]),
            height: parent.into(),
            task: Hash32([6; 32]),
            round: parent.into(),
            workload: workload.clone(),
            data,
            score_macs: u64::MAX,
            baseline,
        };
        let deadline_ms = self.now_ms + 48_000;
        self.tell(Event::IntervalStarted { interval: Box::new(interval), plan: PLAN, deadline_ms });
    }

    fn tell(&mut self, event: Event) {
        let effects = self.manager.handle(self.now_ms, event);
        self.effects.extend(effects);
    }

    fn ask(&mut self, miner: u8, ask: Ask) -> Reply {
        let mut reply = None;
        for effect in self.manager.handle(self.now_ms, Event::Asked { miner: id(miner), ask }) {
            match effect {
                Effect::Reply { reply: answer, .. } => reply = Some(*answer),
                other => self.effects.push(other),
            }
        }
        reply.unwrap()
    }

    fn join(&mut self, miner: u8) {
        let hello = Ask::Hello { version: VERSION, account: AccountId([miner; 32]) };
        let Reply::Welcome { calibrate: Some(job), .. } = self.ask(miner, hello) else { panic!("no calibration") };
        // Leaves time for the calibration to be measured: 2 GMAC/s of training.
        self.now_ms += 500;
        let answer = Ask::Calibrated { seed: job.seed, digest: Hash32([7; 32]) };
        assert!(matches!(self.ask(miner, answer), Reply::Ack { .. }));
        self.tell(Event::CalibrationChecked { miner: id(miner), job, correct: true });
        // What is kept back until a first replay has its own tests.
        self.manager.miners.get_mut(&id(miner)).unwrap().is_proven = true;
    }

    /// A lease, of which only the first network is looked at: the others are forgotten.
    fn lease(&mut self, miner: u8) -> Lease {
        let lease = match self.ask(miner, Ask::Lease) {
            Reply::Lease { lease, .. } => *lease,
            other => panic!("no lease: {other:?}"),
        };
        let others = |network: &Architecture| lease.work.iter().skip(1).any(|work| work.architecture == *network);
        self.manager.memories.current_mut().unwrap().units.retain(|unit| !others(&unit.architecture));
        // It takes all of the budget.
        let macs = self.manager.search().unwrap().interval.training_macs(&lease.work[0].architecture).unwrap();
        let running = self.manager.leases.get_mut(lease.id).unwrap();
        let (unit, most) = (running.units[0], lease.budget_macs / macs);
        running.done[0].left_images = running.done[0].left_images.max(most);
        let unit = self.manager.unit_mut(unit).unwrap();
        for done in [&mut unit.claimed, &mut unit.verified] {
            done.left_images = done.left_images.max(most);
        }
        lease
    }

    /// A share that the lease allows, for all of its budget.
    fn share(&mut self, lease: &Lease, correct: u32) -> Share {
        self.models += 1;
        let work = &lease.work[0];
        let (architecture, base) = (work.architecture.clone(), work.base.map(|blob| blob.root));
        let macs = self.manager.search().unwrap().interval.training_macs(&architecture).unwrap();
        let mut root = [0; 32];
        root[..8].copy_from_slice(&self.models.to_le_bytes());
        let artefact = BlobRef { root: Hash32(root), bytes: 10 };
        let images = (lease.budget_macs / macs).max(1);
        let left_permille = (lease.left_permille, lease.left_after_permille);
        let states = States { start: Hash32([3; 32]), end: Hash32(root) };
        Share { lease: lease.id, artefact, architecture, base, images, correct, ordered: images, left_permille, states }
    }

    fn submit(&mut self, miner: u8, share: &Share) -> Option<Refusal> {
        match self.ask(miner, Ask::Submit { share: share.clone(), is_model: true }) {
            Reply::Refused { refusal, .. } => Some(refusal),
            Reply::Ack { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    /// Answers the evaluation that was asked for last.
    fn evaluate(&mut self, share: &Share, public_correct: u32, holdout_correct: u32) {
        let job = self.effects.iter().rev().find_map(|e| match e {
            Effect::Evaluate { job, artefact } if *artefact == share.artefact => Some(*job),
            _ => None,
        });
        let outcome = Outcome::Model {
            architecture: share.architecture.clone(),
            macs: 1,
            mac_bits: 1,
            public_correct,
            holdout_correct,
        };
        self.tell(Event::Evaluated { job: job.expect("an evaluation was asked for"), outcome });
    }

    /// A lease worked off honestly.
    fn work(&mut self, miner: u8, public: u32, holdout: u32) -> Share {
        let lease = self.lease(miner);
        self.now_ms += lease.wall_ms;
        let share = self.share(&lease, public);
        assert_eq!(self.submit(miner, &share), None);
        self.evaluate(&share, public, holdout);
        share
    }

    fn backups(&self, miner: u8) -> BackupTally {
        self.manager.standing(&id(miner)).backups
    }

    fn commits(&self) -> Vec<(Hash32, u8)> {
        let commits = self.effects.iter().filter_map(|e| match e {
            Effect::Commit { artefact, attempt, .. } => Some((artefact.root, *attempt)),
            _ => None,
        });
        commits.collect()
    }
}

#[test]
fn strong_miners_explore_and_weak_ones_exploit_what_is_confirmed() {
    let mut pool = Pool::new(3);
    let weak = (1..=3).find(|m| pool.manager.miners()[&id(*m)].rating.class == Class::Weak).unwrap();
    let strong = (1..=3).find(|m| *m != weak).unwrap();
    assert_eq!(pool.lease(weak).purpose, Purpose::Explore, "nothing is confirmed yet");
    pool.work(weak, 12, 40);
    let first = pool.work(strong, 40, 150);
    let exploit = pool.lease(weak);
    assert_eq!((exploit.purpose, exploit.work[0].base), (Purpose::Exploit, Some(first.artefact)));
    let explore = pool.lease(strong);
    assert_eq!((explore.purpose, explore.work[0].base), (Purpose::Explore, None));
    assert_ne!(explore.work[0].architecture, first.architecture, "a candidate is trained once");
    pool.ask(weak, Ask::Leave);
    pool.work(strong, 41, 155);
    pool.now_ms += 20_000;
    assert_eq!(pool.lease(strong).purpose, Purpose::Exploit, "exploration has its time");
}

#[test]
fn what_has_learned_all_it_can_is_trained_on_only_when_nothing_fresh_can_come_as_far() {
    let mut pool = Pool::new(3);
    let weak = (1..=3).find(|m| pool.manager.miners()[&id(*m)].rating.class == Class::Weak).unwrap();
    let strong = (1..=3).find(|m| *m != weak).unwrap();
    pool.lease(weak);
    pool.work(weak, 12, 40);
    let best = pool.work(strong, 40, 150);
    let search = pool.manager.search().unwrap();
    let full = u64::from(super::assign::train_images(search)) * 30;
    let (macs, deadline_ms) = (search.interval.training_macs(&best.architecture).unwrap(), search.deadline_ms);
    // In what is left of the phase this miner trains a network through thirty passes once and a half.
    let left_ms = pool.manager.work_end_ms(search) - pool.now_ms;
    pool.manager.miners.get_mut(&id(weak)).unwrap().rate_macs_s = full * 3 / 2 * macs * 1000 / left_ms;
    let exploited = pool.lease(weak);
    assert_eq!((exploited.purpose, exploited.work[0].base), (Purpose::Exploit, Some(best.artefact)));
    pool.ask(weak, Ask::Leave);
    pool.manager.memories.current_mut().unwrap().units.clear();
    pool.manager.memories.current_mut().unwrap().elites[0].images = full;
    assert_eq!(pool.lease(weak).purpose, Purpose::Explore);
    pool.ask(weak, Ask::Leave);
    pool.manager.memories.current_mut().unwrap().units.clear();
    pool.now_ms += left_ms / 2;
    assert!(pool.now_ms < deadline_ms);
    assert_eq!(pool.lease(weak).purpose, Purpose::Exploit, "every gain is welcome");
}

#[test]
fn a_lease_names_two_candidates_at_most() {
    let mut pool = Pool::new(1);
    pool.manager.params.exploit = false;
    let first = pool.lease(1);
    pool.ask(1, Ask::Leave);
    pool.manager.memories.current_mut().unwrap().units.clear();
    pool.manager.miners.get_mut(&id(1)).unwrap().rate_macs_s *= 1000;
    let Reply::Lease { lease, .. } = pool.ask(1, Ask::Lease) else { panic!("no lease") };
    assert!(lease.budget_macs > first.budget_macs * 900);
    assert_eq!(lease.work.len(), 2, "more would be chosen before these are known");
}

#[test]
fn what_was_explored_is_counted_by_task() {
    let mut pool = Pool::new(4);
    let (space, searched, begun) = pool.manager.explored().unwrap();
    assert_eq!((searched.len(), begun), (0, 0), "nobody has a lease");
    let lease = pool.lease(1);
    let (_, searched, begun) = pool.manager.explored().unwrap();
    assert_eq!((&searched[..], begun), (&[space][..], lease.work.len()), "the whole space is one part");
    pool.manager.params.scheme = Scheme::Disjoint;
    let mut workload = pool.manager.search().unwrap().interval.workload.clone();
    workload.space.conv_layers = 1;
    let interval = Interval { task: Hash32([7; 32]), workload, ..pool.manager.search().unwrap().interval.clone() };
    let interval = Box::new(Interval { parent: Hash32([2; 32]), height: 2, ..interval });
    let deadline_ms = pool.now_ms + 48_000;
    pool.tell(Event::IntervalStarted { interval, plan: PLAN, deadline_ms });
    assert_eq!(pool.manager.explored().map(|(_, parts, begun)| (parts.len(), begun)), Some((0, 0)), "another task");
    pool.lease(1);
    let (space, searched, _) = pool.manager.explored().unwrap();
    assert!(searched.len() > 1 && union_cardinality(&searched) == space.cardinality(), "boxes that cover it");
}

#[test]
fn leases_follow_time_and_speed() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    assert_eq!((lease.wall_ms, lease.left_permille), (4800, 1000));
    let share = pool.share(&lease, 40);
    // Done in a quarter of the time: up to twice the rate next time.
    pool.now_ms += 1200;
    assert_eq!(pool.submit(1, &share), None);
    pool.evaluate(&share, 40, 150);
    let next = pool.lease(1);
    let ratio = next.budget_macs * 100 / lease.budget_macs;
    assert!((190..=210).contains(&ratio), "{ratio}");
    // Near the end the rest of the phase is one lease; after it there is none.
    pool.now_ms = pool.manager.search().unwrap().deadline_ms - 8000;
    let last = pool.lease(1);
    assert!(last.wall_ms > 1900 && pool.now_ms + last.due_ms <= pool.manager.search().unwrap().deadline_ms - 2400);
    pool.now_ms += last.wall_ms;
    assert!(matches!(pool.ask(1, Ask::Lease), Reply::Refused { refusal: Refusal::TooLate, retry_ms } if retry_ms > 0));
    pool.tell(Event::IntervalEnded { parent: Hash32([1; 32]) });
    assert!(matches!(pool.ask(1, Ask::Lease), Reply::Refused { refusal: Refusal::NoInterval, .. }));
}

#[test]
fn every_bad_share_has_its_refusal() {
    let mut pool = Pool::new(2);
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let mut good = pool.share(&lease, 40);
    good.images = (good.images / 4).max(1);
    let other = pool.share(&lease, 40);
    let refused = |pool: &mut Pool, change: &dyn Fn(&mut Share)| {
        let mut share = other.clone();
        change(&mut share);
        pool.submit(1, &share)
    };
    assert_eq!(pool.submit(2, &good), Some(Refusal::NoLease), "another miner's lease");
    assert_eq!(refused(&mut pool, &|s| s.lease.0 += 9), Some(Refusal::NoLease));
    assert_eq!(refused(&mut pool, &|s| s.correct = 101), Some(Refusal::Malformed));
    assert_eq!(refused(&mut pool, &|s| s.images *= 2), Some(Refusal::OverBudget));
    assert_eq!(pool.submit(1, &good), None);
    assert_eq!(pool.submit(1, &good), Some(Refusal::OutsideLease), "the same model twice");
    let mut copy = other.clone();
    (copy.artefact, copy.base, copy.images) = (good.artefact, Some(good.artefact.root), 1);
    copy.states = good.states;
    assert_eq!(pool.submit(1, &copy), Some(Refusal::NotNovel), "the same model as its own continuation");
    copy.states.end = Hash32([77; 32]);
    pool.manager.params.audits.permille = 0;
    assert_eq!(pool.submit(1, &copy), Some(Refusal::NotNovel), "nobody could tell whether it was trained");
    pool.manager.params.audits.permille = 500;
    assert_eq!(pool.submit(1, &copy), None, "a training that moved no integer, which can be replayed");
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let mut outside = pool.share(&lease, 40);
    outside.architecture.layers[0].filters = 5;
    assert_eq!(pool.submit(1, &outside), Some(Refusal::OutsideLease));
    let late = pool.share(&lease, 40);
    pool.now_ms += 60_000;
    assert!(matches!(pool.submit(1, &late), Some(Refusal::Late | Refusal::NoLease)));
}

#[test]
fn a_model_that_training_does_not_change_is_no_new_best_and_no_new_hope() {
    let mut pool = Pool::new(1);
    pool.work(1, 40, 150);
    let outlook = Outlook::of(pool.manager.search().unwrap());
    let memory = pool.manager.memories.current_mut().unwrap();
    let mut best = memory.elites[0].clone();
    memory.elites[0].stalls = 3;
    best.images += 1000;
    assert!(!memory.insert(best.clone(), outlook, PLAN.holdout_images));
    assert_eq!((memory.elites[0].stalls, memory.elites[0].images), (3, best.images));
    best.count += 1;
    assert!(memory.insert(best, outlook, PLAN.holdout_images), "a better count of it");
}

#[test]
fn what_was_found_late_has_a_place_beside_what_was_trained_for_long() {
    let mut pool = Pool::new(1);
    pool.work(1, 40, 150);
    let search = pool.manager.search().unwrap();
    let (outlook, pass) = (Outlook::of(search), u64::from(super::assign::train_images(search)));
    let memory = pool.manager.memories.current_mut().unwrap();
    let first = memory.elites.remove(0);
    let network = |number: u16| {
        let mut architecture = first.architecture.clone();
        architecture.layers[0].filters = 1000 + number;
        architecture
    };
    for number in 0..16 {
        let artefact = BlobRef { root: Hash32([number as u8 + 1; 32]), bytes: 1 };
        let count = 200 - u32::from(number);
        let long = Elite { artefact, architecture: network(number), count, images: 20 * pass, ..first.clone() };
        memory.insert(long, outlook, PLAN.holdout_images);
    }
    let artefact = BlobRef { root: Hash32([99; 32]), bytes: 1 };
    let fresh = Elite { artefact, architecture: network(99), count: 150, images: pass, ..first.clone() };
    assert!(!memory.insert(fresh.clone(), outlook, PLAN.holdout_images), "not the best");
    assert!(memory.elites.contains(&fresh) && memory.elites.len() == 16, "but it may become that");
    let hopeless = Elite { artefact: first.artefact, architecture: network(98), count: 60, ..fresh.clone() };
    memory.insert(hopeless.clone(), outlook, PLAN.holdout_images);
    assert!(memory.elites.contains(&fresh) && !memory.elites.contains(&hopeless));
}

#[test]
fn candidates_are_trained_longer_while_all_are_at_chance_level() {
    let mut pool = Pool::new(1);
    pool.manager.params.exploit = false;
    let rung = |pool: &Pool| pool.manager.memories.current().unwrap().proposals.as_ref().unwrap().rung;
    let chance = PLAN.holdout_images / 10;
    let start = pool.work(1, PLAN.public_images / 10, chance);
    let first = rung(&pool);
    assert!(start.images > 0 && first.images < first.most_images, "{first:?}");
    let mut works = 1;
    while rung(&pool).images == first.images {
        let deadline_ms = pool.now_ms + 48_000;
        pool.manager.search.as_mut().unwrap().deadline_ms = deadline_ms;
        pool.manager.search.as_mut().unwrap().explore_until_ms = deadline_ms;
        pool.work(1, PLAN.public_images / 10, chance);
        works += 1;
    }
    assert_eq!(rung(&pool).images, (first.images * 2).min(first.most_images));
    assert!((12..=13).contains(&works), "{works}");
}

#[test]
fn work_faster_than_the_measured_speed_allows_is_implausible() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    let share = pool.share(&lease, 40);
    pool.now_ms += 100;
    assert_eq!(pool.submit(1, &share), Some(Refusal::Implausible));
}

#[test]
fn lies_lose_the_window_and_the_next_lease() {
    let mut pool = Pool::new(2);
    pool.work(1, 40, 150);
    assert!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()) > 0);
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let lie = pool.share(&lease, 90);
    assert_eq!(pool.submit(1, &lie), None, "believed until it is checked");
    pool.evaluate(&lie, 41, 151);
    assert_eq!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()), 0);
    assert!(matches!(pool.ask(1, Ask::Lease), Reply::Refused { refusal: Refusal::Suspended, .. }));
    assert!(pool.manager.elites().iter().all(|e| e.artefact != lie.artefact));
    // An artefact that is no model of the task is a lie as well.
    let lease = pool.lease(2);
    pool.now_ms += lease.wall_ms;
    let share = pool.share(&lease, 50);
    pool.submit(2, &share);
    let job = *pool.manager.jobs.keys().last().unwrap();
    pool.tell(Event::Evaluated { job, outcome: Outcome::Invalid("outside the search space".into()) });
    assert!(pool.manager.miners()[&id(2)].is_suspended(pool.now_ms));
}

#[test]
fn models_at_chance_earn_nothing_where_training_is_not_replayed() {
    let mut pool = Pool::new(1);
    pool.manager.params.audits.permille = 0;
    pool.work(1, 12, 45);
    assert_eq!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()), 0);
    assert_eq!(pool.manager.miners()[&id(1)].accepted, 1);
    pool.work(1, 45, 160);
    assert!(pool.manager.ledger().window_macs(&id(1), PayScheme::default()) > 0);
}

#[test]
fn commitments_come_early_again_and_last_within_those_allowed() {
    let mut pool = Pool::new(1);
    pool.work(1, 12, 45);
    assert_eq!(pool.commits(), [], "nothing above chance yet");
    let first = pool.work(1, 30, 120);
    assert_eq!(pool.commits(), [(first.artefact.root, 1)], "at once");
    let better = pool.work(1, 35, 140);
    assert_eq!(pool.commits().len(), 1, "the second waits");
    let search = pool.manager.search().unwrap();
    let (started_ms, deadline_ms) = (search.started_ms, search.deadline_ms);
    pool.now_ms = started_ms + 33_700;
    pool.tell(Event::Tick);
    assert_eq!(pool.commits()[1], (better.artefact.root, 2));
    let best = pool.work(1, 40, 160);
    pool.now_ms = deadline_ms - 2400;
    assert!(pool.manager.next_wake_ms().is_some_and(|at| at <= pool.now_ms));
    pool.tell(Event::Tick);
    assert_eq!(pool.commits()[2], (best.artefact.root, 3));
    pool.now_ms += 100;
    pool.tell(Event::Tick);
    assert_eq!(pool.commits().len(), 3);
}

#[test]
fn a_failed_commitment_does_not_count() {
    let mut pool = Pool::new(1);
    let first = pool.work(1, 30, 120);
    let (parent, root) = (Hash32([1; 32]), first.artefact.root);
    pool.tell(Event::CommitFailed { parent, root });
    assert_eq!(pool.commits(), [(root, 1), (root, 1)], "tried again");
}

#[test]
fn a_model_that_must_be_beaten_is_not_committed_again() {
    let mut pool = Pool::new(1);
    let winner = pool.work(1, 40, 160);
    let workload = pool.manager.search().unwrap().interval.workload.clone();
    pool.now_ms += 60_000;
    pool.begin(2, &workload, Some(winner.artefact.root));
    pool.tell(Event::Tick);
    assert_eq!(pool.commits().len(), 1, "only the first round's");
    let weaker = pool.work(1, 38, 150);
    assert_eq!(pool.commits().len(), 1, "it would not win");
    let better = pool.work(1, 45, 170);
    assert_eq!(pool.commits().last(), Some(&(better.artefact.root, 1)));
    assert_ne!(better.artefact, weaker.artefact);
}

#[test]
fn three_missed_heartbeats_suspend_but_never_delete_and_a_backup_goes_on() {
    let mut pool = Pool::new(2);
    let strong = (1..=2).find(|m| pool.manager.miners()[&id(*m)].rating.class == Class::Strong).unwrap();
    let weak = 3 - strong;
    let lease = pool.lease(weak);
    pool.now_ms += 2000;
    // A first step is handed in and verified, then the miner falls silent.
    let mut step = pool.share(&lease, 40);
    step.images = lease.work[0].images / 4;
    assert_eq!(pool.submit(weak, &step), None);
    pool.evaluate(&step, 40, 150);
    pool.now_ms += 6001;
    pool.tell(Event::Tick);
    assert!(!pool.manager.miners()[&id(weak)].online);
    let backup = pool.lease(strong);
    assert_eq!((backup.purpose, backup.work[0].base), (Purpose::Backup, Some(step.artefact)));
    assert_eq!(backup.work[0].architecture, lease.work[0].architecture);
    assert_eq!(pool.manager.unit_counts().taken_over, 1);
    assert_eq!(pool.backups(weak), BackupTally { own_taken_over: 1, ..BackupTally::default() });
    assert_eq!(pool.backups(strong), BackupTally { taken_over: 1, ..BackupTally::default() });
    let progress = Ask::Progress { lease: lease.id, done_macs: 6 };
    assert!(matches!(pool.ask(weak, progress), Reply::Ack { go_on: false, .. }));
    assert!(pool.manager.miners()[&id(weak)].online, "it is back");
    pool.lease(weak);
}

/// A leader that was silent after a quarter of a network, and its backup on the same network.
struct Twins {
    pool: Pool,
    leader: u8,
    backup: u8,
    lease: Lease,
    step: Share,
    twin: Lease,
}

fn twins() -> Twins {
    let mut pool = Pool::new(4);
    let strong: Vec<u8> = (1..=4).filter(|m| pool.manager.miners()[&id(*m)].rating.class == Class::Strong).collect();
    let (leader, backup) = (strong[0], strong[1]);
    let lease = pool.lease(leader);
    pool.now_ms += 1000;
    let mut step = pool.share(&lease, 40);
    step.images = lease.work[0].images / 4;
    assert_eq!(pool.submit(leader, &step), None);
    pool.evaluate(&step, 40, 150);
    // Meanwhile the other works off a lease of its own. Two heartbeats of the leader are missing, the third is not due:
    // its lease is doubtful, not lost.
    pool.work(backup, 20, 80);
    let twin = pool.lease(backup);
    assert_eq!((twin.purpose, twin.work[0].base), (Purpose::Backup, Some(step.artefact)));
    Twins { pool, leader, backup, lease, step, twin }
}

#[test]
fn a_backup_of_a_silent_leader_wins_and_both_are_paid_for_what_is_verified() {
    let Twins { mut pool, leader, backup, lease, twin, .. } = twins();
    assert_eq!(pool.manager.unit_counts().backed_up, 1);
    assert_eq!(pool.backups(leader), BackupTally { own_backed_up: 1, ..BackupTally::default() });
    assert_eq!(pool.backups(backup), BackupTally { backed_up: 1, ..BackupTally::default() });
    let done = pool.share(&twin, 45);
    pool.now_ms += 1000;
    // The leader comes back just before its backup is done: it is told to stop, and keeps what it has verified.
    assert!(matches!(
        pool.ask(leader, Ask::Progress { lease: lease.id, done_macs: 9 }),
        Reply::Ack { go_on: true, .. }
    ));
    assert_eq!(pool.submit(backup, &done), None);
    pool.evaluate(&done, 45, 160);
    assert!(matches!(
        pool.ask(leader, Ask::Progress { lease: lease.id, done_macs: 9 }),
        Reply::Ack { go_on: false, .. }
    ));
    assert_eq!(pool.manager.unit_counts().cancelled, 1);
    let ledger = pool.manager.ledger();
    assert!([leader, backup].iter().all(|miner| ledger.window_macs(&id(*miner), PayScheme::default()) > 0));
}

#[test]
fn claims_of_a_liar_are_no_place_to_go_on_from() {
    let mut pool = Pool::new(2);
    let strong = (1..=2).find(|m| pool.manager.miners()[&id(*m)].rating.class == Class::Strong).unwrap();
    let weak = 3 - strong;
    let lease = pool.lease(weak);
    pool.now_ms += 3000;
    let mut lie = pool.share(&lease, 90);
    lie.images = lease.work[0].images / 4;
    assert_eq!(pool.submit(weak, &lie), None);
    pool.evaluate(&lie, 12, 50);
    let backup = pool.lease(strong);
    assert_eq!((backup.purpose, backup.work[0].base), (Purpose::Backup, None), "from scratch again");
}

#[test]
fn a_full_pool_keeps_those_it_owes() {
    let mut pool = Pool::new(2);
    pool.manager.params.max_miners = 2;
    pool.work(1, 40, 160);
    pool.ask(1, Ask::Leave);
    let hello = Ask::Hello { version: VERSION, account: AccountId([3; 32]) };
    assert!(matches!(pool.ask(3, hello.clone()), Reply::Refused { refusal: Refusal::Full, .. }), "1 is owed, 2 works");
    pool.ask(2, Ask::Leave);
    assert!(matches!(pool.ask(3, hello), Reply::Welcome { .. }));
    assert!(pool.manager.miners().contains_key(&id(1)) && !pool.manager.miners().contains_key(&id(2)));
}

#[test]
fn a_restarted_manager_asks_again_for_what_was_under_way() {
    let mut pool = Pool::new(1);
    let lease = pool.lease(1);
    pool.now_ms += lease.wall_ms;
    let share = pool.share(&lease, 40);
    pool.submit(1, &share);
    let job = CalibrationJob { seed: [0; 32], steps: 1 };
    pool.tell(Event::CalibrationChecked { miner: id(1), job, correct: false });
    assert!(!pool.manager.miners()[&id(1)].is_suspended(pool.now_ms), "an answer to no question");
    let wanted = pool.manager.resume(pool.now_ms, |_| false);
    let [Effect::Evaluate { artefact, .. }, Effect::Audit { order, .. }] = &wanted[..] else { panic!("{wanted:?}") };
    assert_eq!((*artefact, order.artefact), (share.artefact, share.artefact.root));
    let won = WonBlock { block: Hash32([1; 32]), height: 1, reward: Amount(5), model: None };
    pool.tell(Event::BlockWon(won));
}

#[test]
fn a_very_slow_miner_may_hand_in_the_least_that_is_worth_training() {
    let mut pool = Pool::new(2);
    for miner in [1, 2] {
        pool.manager.miners.get_mut(&id(miner)).unwrap().rate_macs_s = 30_000_000;
        let lease = pool.lease(miner);
        pool.now_ms += lease.due_ms;
        let mut share = pool.share(&lease, 40);
        share.images = lease.work[0].images;
        assert_eq!(pool.submit(miner, &share), None);
    }
}
