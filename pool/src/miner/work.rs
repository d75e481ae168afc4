//! Work on a lease: which network is trained next, for how long, and when the lease is done.

use podl_chain_spec::Hash32;
use podl_consensus::types::{BlobRef, BlockHash};

use super::{Miner, MinerEffect, TrainOrder, Trained};
use crate::protocol::Request;
use crate::training::{LEAST_IMAGES, order_seed};
use crate::types::{EvaluationPlan, Interval, Lease, LeaseId, Share};

/// How far a miner is with its lease, in training multiply-accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which lease.
    pub lease: LeaseId,
    /// Done so far.
    pub done_macs: u64,
    /// What all of its networks and images take: no more than the budget, and less where little is left to do.
    pub planned_macs: u64,
    /// Milliseconds until it must be over, with whatever is done by then.
    pub left_ms: u64,
}

impl Progress {
    /// Share that is done, in thousandths.
    pub fn done_permille(&self) -> u64 {
        let permille = u128::from(self.done_macs) * 1000 / u128::from(self.planned_macs.max(1));
        u64::try_from(permille.min(1000)).unwrap_or(1000)
    }
}

/// A lease under work.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub lease: Lease,
    planned_macs: u64,
    received_ms: u64,
    /// Which of its networks is trained, and how far that is.
    at: usize,
    done_images: u64,
    /// The model that it was left with, and the state.
    last: Option<(BlobRef, Hash32)>,
    /// Work of finished orders.
    spent_macs: u64,
    running: Option<(TrainOrder, u64)>,
    orders: u32,
}

impl Work {
    fn new(lease: Lease, interval: &Interval, now_ms: u64) -> Self {
        let planned = lease.work.iter().map(|work| {
            let macs = interval.training_macs(&work.architecture).unwrap_or(0);
            macs.saturating_mul(work.images)
        });
        Self {
            planned_macs: planned.fold(0, u64::saturating_add),
            lease,
            received_ms: now_ms,
            at: 0,
            done_images: 0,
            last: None,
            spent_macs: 0,
            running: None,
            orders: 0,
        }
    }

    pub fn progress(&self, now_ms: u64) -> Progress {
        Progress {
            lease: self.lease.id,
            done_macs: self.done_macs(),
            planned_macs: self.planned_macs,
            left_ms: self.left_ms(now_ms),
        }
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

    fn left_ms(&self, now_ms: u64) -> u64 {
        self.received_ms.saturating_add(self.lease.due_ms).saturating_sub(now_ms)
    }

    /// The next network, if the present one is done.
    fn move_on(&mut self) {
        while self.lease.work.get(self.at).is_some_and(|work| self.done_images >= work.images) {
            self.at += 1;
            self.done_images = 0;
            self.last = None;
        }
    }

    /// The next training run; none when the lease is worked off, or too little time is left for a run worth its end.
    fn next_order(&mut self, id: u64, interval: &Interval, now_ms: u64) -> Option<TrainOrder> {
        self.move_on();
        let steps = u64::from(self.lease.steps.max(1));
        let left_ms = self.left_ms(now_ms);
        if self.orders > 0 && left_ms < self.lease.wall_ms / steps / 2 {
            return None;
        }
        let work = self.lease.work.get(self.at)?.clone();
        let image_macs = interval.training_macs(&work.architecture).ok()?.max(1);
        let left_images = work.images.saturating_sub(self.done_images);
        let step_images = (self.lease.budget_macs / steps / image_macs).max(LEAST_IMAGES);
        // A rest of less than half a step is no step of its own.
        let images = if left_images < step_images + step_images / 2 { left_images } else { step_images };
        let left_permille = self.left_permille(image_macs.saturating_mul(images));
        let rule = self.lease.rule_of(&work.architecture)?;
        let (base, base_end) = match self.last {
            Some((model, end)) => (Some(model), Some(end)),
            None => (work.base, work.end),
        };
        Some(TrainOrder {
            id,
            parent: interval.parent,
            seed: order_seed(self.lease.seed, &work.architecture, base.map(|b| b.root)),
            architecture: work.architecture,
            base,
            base_end,
            images: images.max(1),
            due_ms: left_ms,
            image_macs,
            left_permille,
            rule,
        })
    }

    /// Thousandths of the phase that are left when the next work begins and when it ends: the lease's own, in
    /// proportion to its budget.
    fn left_permille(&self, next_macs: u64) -> (u16, u16) {
        let (from, to) = (self.lease.left_permille, self.lease.left_after_permille);
        let at = |macs: u64| {
            let share = u128::from(macs.min(self.lease.budget_macs)) * u128::from(from.saturating_sub(to))
                / u128::from(self.lease.budget_macs.max(1));
            from.saturating_sub(u16::try_from(share).unwrap_or(u16::MAX))
        };
        (at(self.spent_macs), at(self.spent_macs.saturating_add(next_macs)))
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
        let space = &interval.workload.space;
        let inside = lease.work.iter().all(|work| space.contains(&work.architecture) && work.rule.is_usable());
        if !inside || lease.work.is_empty() || lease.parent != interval.parent {
            self.ask_at_ms = self.now_ms + 5000;
            return;
        }
        if self.interval.as_ref().is_none_or(|(known, _)| known.parent != interval.parent) {
            self.prepared = None;
            self.interval = Some((interval.clone(), plan));
        }
        self.beat_at_ms = self.now_ms + self.heartbeat_ms;
        self.work = Some(Work::new(lease, &interval, self.now_ms));
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
        let Some((interval, _)) = &self.interval else { return };
        let Some(mut work) = self.work.take() else { return };
        if work.is_training() || self.prepared != Some(work.lease.parent) {
            self.work = Some(work);
            return;
        }
        match work.next_order(self.next_order, interval, now_ms) {
            Some(order) => {
                self.next_order += 1;
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

    pub(super) fn finished(&mut self, id: u64, result: Option<Trained>, effects: &mut Vec<MinerEffect>) {
        let Some(work) = &mut self.work else { return };
        let Some((order, _)) = work.running.take_if(|(order, _)| order.id == id) else { return };
        let Some(trained) = result.filter(|r| r.images > 0) else {
            // Diverged or failed: the lease goes on with its next network, not at once with the next lease.
            work.done_images = u64::MAX;
            self.ask_at_ms = self.now_ms + 250;
            self.next_order(effects);
            return;
        };
        work.spent_macs = work.spent_macs.saturating_add(order.image_macs.saturating_mul(trained.images));
        work.done_images = work.done_images.saturating_add(trained.images);
        // Whole batches may leave a few images of an order.
        if trained.images.saturating_add(LEAST_IMAGES) >= order.images
            && work.lease.work.get(work.at).is_some_and(|w| work.done_images.saturating_add(LEAST_IMAGES) >= w.images)
        {
            work.done_images = u64::MAX;
        }
        work.last = Some((trained.artefact, trained.states.end));
        let share = Share {
            lease: work.lease.id,
            artefact: trained.artefact,
            architecture: order.architecture,
            base: order.base.map(|b| b.root),
            images: trained.images,
            correct: trained.correct,
            ordered: order.images,
            left_permille: order.left_permille,
            states: trained.states,
        };
        self.queue_result(Request::Submit { share, inline: None });
        self.next_order(effects);
    }

    /// The lease's time is over although no result came: it is given back and the next one asked for.
    pub(super) fn end_work(&mut self, effects: &mut Vec<MinerEffect>) {
        self.abandon(effects);
    }
}
