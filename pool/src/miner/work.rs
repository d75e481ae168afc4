//! Work on a lease: which network is trained next, for how long, and when the lease is done.

use podl_consensus::types::BlockHash;
use podl_consensus::workload::Architecture;

use super::{Miner, MinerEffect, TrainOrder, Trained};
use crate::climb;
use crate::manager::architecture_name;
use crate::partition::Subspace;
use crate::protocol::Request;
use crate::rng::SeededRng;
use crate::types::{EvaluationPlan, Interval, Lease, LeaseKind, Share};

/// Candidates drawn until one is feasible and new.
const TRIES: usize = 200;
/// Fewest images worth a training run of its own.
const LEAST_IMAGES: u64 = 128;
/// Candidates remembered; an interval trains far fewer.
const MOST_REMEMBERED: usize = 4096;

/// A lease under work.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub lease: Lease,
    received_ms: u64,
    rng: SeededRng,
    /// Work of finished orders.
    spent_macs: u64,
    running: Option<(TrainOrder, u64)>,
    orders: u32,
}

impl Work {
    fn new(lease: Lease, now_ms: u64) -> Self {
        let rng = SeededRng::new(&lease.seed.to_le_bytes(), "lease");
        Self { lease, received_ms: now_ms, rng, spent_macs: 0, running: None, orders: 0 }
    }

    pub fn is_training(&self) -> bool {
        self.running.is_some()
    }

    pub fn done_macs(&self) -> u64 {
        let running = self.running.as_ref().map_or(0, |(order, images)| order.image_macs.saturating_mul(*images));
        self.spent_macs.saturating_add(running)
    }

    /// When a lease is given up although its training has not ended: its end, and as long again as ending takes.
    pub fn over_at_ms(&self) -> u64 {
        self.received_ms.saturating_add(self.lease.due_ms).saturating_add(self.lease.wall_ms)
    }

    fn left_macs(&self) -> u64 {
        self.lease.budget_macs.saturating_sub(self.spent_macs)
    }

    fn left_ms(&self, now_ms: u64) -> u64 {
        self.received_ms.saturating_add(self.lease.due_ms).saturating_sub(now_ms)
    }
}

impl Miner {
    pub(super) fn take_lease(
        &mut self,
        lease: Lease,
        interval: Interval,
        plan: EvaluationPlan,
        effects: &mut Vec<MinerEffect>,
    ) {
        self.abandon(effects);
        // A pool cannot make a miner train outside the task it names.
        let inside = match &lease.kind {
            LeaseKind::Explore { subspace, .. } => subspace.is_part_of(&interval.workload.space),
            LeaseKind::Exploit { base, .. } => interval.workload.space.contains(&base.architecture),
        };
        if !inside || lease.parent != interval.parent {
            self.ask_at_ms = self.now_ms + 5000;
            return;
        }
        let is_new = self.interval.as_ref().is_none_or(|(known, _)| known.parent != interval.parent);
        let same_task = self.interval.as_ref().is_some_and(|(known, _)| known.task == interval.task);
        if !same_task || self.tried.len() > MOST_REMEMBERED {
            self.tried.clear();
        }
        if is_new {
            self.climbed.clear();
            self.prepared = None;
            self.interval = Some((interval.clone(), plan));
        }
        self.beat_at_ms = self.now_ms + self.heartbeat_ms;
        self.work = Some(Work::new(lease, self.now_ms));
        if self.prepared == Some(interval.parent) {
            self.next_order(effects);
        } else {
            effects.push(MinerEffect::Prepare { interval: Box::new(interval), plan });
        }
    }

    pub(super) fn not_prepared(&mut self, parent: &BlockHash) {
        if self.work.as_ref().is_some_and(|w| w.lease.parent == *parent) {
            self.work = None;
            self.ask_at_ms = self.now_ms + 1000;
        }
    }

    pub(super) fn progressed(&mut self, order: u64, images: u64) {
        if let Some((running, done)) = self.work.as_mut().and_then(|w| w.running.as_mut())
            && running.id == order
        {
            *done = images.min(running.images);
        }
    }

    /// Starts the next training run of the lease, or ends the lease.
    pub(super) fn next_order(&mut self, effects: &mut Vec<MinerEffect>) {
        let now_ms = self.now_ms;
        let Some((interval, _)) = self.interval.clone() else { return };
        let Some(mut work) = self.work.take() else { return };
        if work.is_training() || self.prepared != Some(work.lease.parent) {
            self.work = Some(work);
            return;
        }
        let order = self.choose(&mut work, &interval, now_ms);
        match order {
            Some(order) => {
                work.orders += 1;
                effects.push(MinerEffect::Train(order.clone()));
                work.running = Some((order, 0));
                self.work = Some(work);
            }
            // A lease on which nothing was found to train is not asked for at once again.
            None if work.orders == 0 => self.ask_at_ms = now_ms + 1000,
            None => {}
        }
    }

    fn choose(&mut self, work: &mut Work, interval: &Interval, now_ms: u64) -> Option<TrainOrder> {
        let left_ms = work.left_ms(now_ms);
        // A second candidate needs half a rung; the first is trained in any case.
        if work.orders > 0 && (left_ms < work.lease.wall_ms / 4 || work.left_macs() < work.lease.budget_macs / 3) {
            return None;
        }
        let (architecture, base, rung) = match work.lease.kind.clone() {
            LeaseKind::Exploit { base, mutate: false } => {
                if work.orders > 0 {
                    return None;
                }
                (base.architecture, Some(base.artefact), u64::MAX)
            }
            LeaseKind::Exploit { base, mutate: true } => {
                let whole = Subspace::whole(interval.workload.space.clone());
                (self.vary(&whole, &base.architecture, interval, &mut work.rng)?, None, u64::MAX)
            }
            LeaseKind::Explore { subspace, rung_images, elites, taken, turn } => {
                self.tried.extend(taken);
                let elites: Vec<Architecture> = elites.into_iter().map(|e| e.architecture).collect();
                let candidate = self.candidate(&subspace, &elites, interval, work, (rung_images, turn))?;
                (candidate, None, u64::from(rung_images))
            }
        };
        let image_macs = interval.training_macs(&architecture).ok()?.max(1);
        let images = (work.left_macs() / image_macs).min(rung);
        if images < LEAST_IMAGES && work.orders > 0 {
            return None;
        }
        let id = self.next_order;
        self.next_order += 1;
        let seed = work.rng.next_u64();
        let images = images.max(LEAST_IMAGES);
        let parent = interval.parent;
        let left_permille = (work.lease.left_permille, work.lease.left_after_permille);
        let due_ms = left_ms;
        Some(TrainOrder { id, parent, architecture, base, seed, images, due_ms, image_macs, left_permille })
    }

    /// The next candidate of a part: known starting points first, then steps from the best known network in it.
    fn candidate(
        &self,
        part: &Subspace,
        elites: &[Architecture],
        interval: &Interval,
        work: &mut Work,
        (rung_images, turn): (u32, u32),
    ) -> Option<Architecture> {
        let affordable = |network: &Architecture| {
            let macs = interval.training_macs(network).unwrap_or(u64::MAX);
            macs.saturating_mul(rung_images.into()) <= work.lease.budget_macs.saturating_mul(2)
        };
        let usable = |network: &Architecture| {
            part.contains(network) && !self.tried.contains(&architecture_name(network)) && interval.admits(network)
        };
        let known = elites.iter().chain(&self.starts);
        let mut known: Vec<Architecture> = known.filter_map(|network| part.project(network)).collect();
        let turns = usize::try_from(turn).unwrap_or(0) % known.len().max(1);
        known.rotate_left(turns);
        // With a confirmed network to climb from, one starting point an interval is enough.
        let fresh = self.climbed.is_empty() || elites.is_empty();
        if let Some(start) = known.iter().find(|n| fresh && usable(n) && affordable(n)) {
            return Some(start.clone());
        }
        let own = self.climbed.values().filter(|(_, n)| part.contains(n)).max_by_key(|(correct, _)| *correct);
        let incumbent = own.map(|(_, n)| n.clone()).or_else(|| known.first().cloned());
        for attempt in 0..TRIES {
            let next = match &incumbent {
                // After many refused steps two at once, then anywhere.
                Some(from) if attempt < TRIES / 2 => climb::step(part, from, &mut work.rng),
                Some(from) if attempt < TRIES * 3 / 4 => {
                    climb::step(part, from, &mut work.rng).and_then(|once| climb::step(part, &once, &mut work.rng))
                }
                _ => part.draw(&mut work.rng),
            };
            if let Some(network) = next.filter(|n| usable(n) && (affordable(n) || attempt > TRIES / 2)) {
                return Some(network);
            }
        }
        None
    }

    /// The base with one setting changed.
    fn vary(
        &self,
        whole: &Subspace,
        base: &Architecture,
        interval: &Interval,
        rng: &mut SeededRng,
    ) -> Option<Architecture> {
        (0..TRIES)
            .filter_map(|_| climb::step(whole, base, rng))
            .find(|network| !self.tried.contains(&architecture_name(network)) && interval.admits(network))
    }

    pub(super) fn finished(&mut self, id: u64, result: Option<Trained>, effects: &mut Vec<MinerEffect>) {
        let Some(work) = &mut self.work else { return };
        let Some((order, _)) = work.running.take_if(|(order, _)| order.id == id) else { return };
        let from_scratch = order.base.is_none();
        if from_scratch {
            self.tried.insert(architecture_name(&order.architecture));
        }
        let Some(trained) = result.filter(|r| r.images > 0) else {
            // Diverged or failed: the lease goes on with the next candidate, not at once with the next lease.
            work.spent_macs = work.spent_macs.saturating_add(work.lease.budget_macs / 2);
            self.ask_at_ms = self.now_ms + 250;
            self.next_order(effects);
            return;
        };
        work.spent_macs = work.spent_macs.saturating_add(order.image_macs.saturating_mul(trained.images));
        if from_scratch && self.climbed.len() < MOST_REMEMBERED {
            let name = architecture_name(&order.architecture);
            self.climbed.insert(name, (trained.correct, order.architecture.clone()));
        }
        let share = Share {
            lease: work.lease.id,
            artefact: trained.artefact,
            architecture: order.architecture,
            base: order.base.map(|b| b.root),
            images: trained.images,
            correct: trained.correct,
        };
        self.queue_result(Request::Submit { share, inline: None });
        self.next_order(effects);
    }

    /// The lease's time is over although no result came: it is given back and the next one asked for.
    pub(super) fn end_work(&mut self, effects: &mut Vec<MinerEffect>) {
        self.abandon(effects);
    }
}
