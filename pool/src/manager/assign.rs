//! Handing out leases: who explores, who exploits what, how much, and when it is too late.

use super::{Manager, Search};
use crate::lease::{LeaseState, Running};
use crate::partition::Halving;
use crate::protocol::{ELITES, Refusal, Reply};
use crate::types::{Class, DataSource, Elite, Lease, LeaseId, LeaseKind, MinerId};

/// Training multiply-accumulates of one image in a middling network of the paper's space; sizes rungs until a network
/// of the task is confirmed.
const TYPICAL_TRAINING_MACS: u64 = 9_000_000;
/// Results without improvement after which a miner varies its network instead of training it longer.
const STALLS: u8 = 3;

impl Manager {
    pub(super) fn lease(&mut self, miner: MinerId) -> Reply {
        if self.miners.get(&miner).is_none_or(|m| !m.is_calibrated()) {
            return self.refused(Refusal::NotCalibrated, 0);
        }
        self.take_lease(&miner);
        let poll_ms = (self.params.train_ms / 40).clamp(200, 2000);
        let Some(search) = self.search.as_ref().filter(|s| s.open) else {
            return self.refused(Refusal::NoInterval, poll_ms);
        };
        let left_ms = self.work_end_ms(search).saturating_sub(self.now_ms);
        if left_ms < self.params.min_lease_ms {
            return self.refused(Refusal::TooLate, search.deadline_ms.saturating_sub(self.now_ms).max(poll_ms));
        }
        // A rest too short for another lease is added to this one.
        let lease_ms = self.params.lease_ms;
        let wall_ms = if left_ms < lease_ms + self.params.min_lease_ms { left_ms } else { lease_ms };
        let due_ms = (wall_ms + wall_ms / 2).min(left_ms);
        self.issue(miner, wall_ms, due_ms).unwrap_or_else(|| self.refused(Refusal::NoInterval, poll_ms))
    }

    /// Until when work can lead to a commitment: the last one, less the time to check what comes in.
    pub(super) fn work_end_ms(&self, search: &Search) -> u64 {
        let reserve_ms = (self.evaluation_ms * 2).clamp(200, 3000);
        search.deadline_ms.saturating_sub(self.params.commit_margin_ms).saturating_sub(reserve_ms)
    }

    fn issue(&mut self, miner: MinerId, wall_ms: u64, due_ms: u64) -> Option<Reply> {
        let rate_macs_s = self.miners.get(&miner)?.rate_macs_s;
        let budget = u128::from(rate_macs_s) * u128::from(wall_ms) / 1000;
        let budget_macs = u64::try_from(budget).unwrap_or(u64::MAX).max(1);
        let (kind, box_index) = self.choose(&miner, budget_macs, wall_ms)?;
        let search = self.search.as_ref()?;
        let id = LeaseId(self.next_lease);
        self.next_lease = self.next_lease.saturating_add(1);
        let seed = self.rng.next_u64();
        let end_ms = self.work_end_ms(search);
        let phase_ms = end_ms.saturating_sub(search.started_ms).max(1);
        let permille = |at_ms: u64| {
            let left = end_ms.saturating_sub(at_ms).min(phase_ms) * 1000 / phase_ms;
            u16::try_from(left).unwrap_or(1000)
        };
        let (left_permille, left_after_permille) = (permille(self.now_ms), permille(self.now_ms + wall_ms));
        let parent = search.parent();
        let lease = Lease { id, parent, kind, seed, budget_macs, wall_ms, due_ms, left_permille, left_after_permille };
        let reply = Reply::Lease {
            lease: Box::new(lease.clone()),
            interval: Box::new(search.interval.clone()),
            plan: search.plan,
        };
        self.leases.insert(Running {
            lease,
            miner,
            box_index,
            issued_ms: self.now_ms,
            // What is lost on the way counts for the miner.
            due_at_ms: self.now_ms + due_ms + self.params.grace_ms / 2,
            heard_ms: self.now_ms,
            reported_macs: 0,
            shared_macs: 0,
            verified_macs: 0,
            state: LeaseState::Running,
        });
        self.miners.get_mut(&miner)?.lease = Some(id);
        Some(reply)
    }

    /// Exploration for strong miners while the phase is young, exploitation otherwise (paper, 3.2.4).
    fn choose(&mut self, miner: &MinerId, budget_macs: u64, wall_ms: u64) -> Option<(LeaseKind, Option<usize>)> {
        let class = self.miners.get(miner)?.rating.class;
        let search = self.search.as_ref()?;
        let explores = class == Class::Strong && self.now_ms < search.explore_until_ms;
        let rank_images = search.plan.rank_images();
        let long_left = self.work_end_ms(search).saturating_sub(self.now_ms) > wall_ms * 4;
        let base = if explores { None } else { self.base_for(miner).map(|e| e.base(rank_images)) };
        let Some(base) = base else {
            return self.explore(budget_macs);
        };
        let record = self.miners.get_mut(miner)?;
        let mutate = record.stalls >= STALLS && long_left;
        if mutate {
            record.stalls = 0;
        }
        Some((LeaseKind::Exploit { base, mutate }, None))
    }

    /// A miner goes on from its own best, whose weights it still has in full, unless the pool's best is clearly ahead.
    fn base_for(&self, miner: &MinerId) -> Option<&Elite> {
        let memory = self.memories.current()?;
        let best = memory.elites.first()?;
        let margin = self.search.as_ref()?.plan.rank_images() / 50;
        Some(memory.best_of(miner).filter(|own| own.count.saturating_add(margin) >= best.count).unwrap_or(best))
    }

    fn explore(&mut self, budget_macs: u64) -> Option<(LeaseKind, Option<usize>)> {
        let now_ms = self.now_ms;
        let strong = self
            .miners
            .values()
            .filter(|m| m.online && m.is_calibrated() && m.rating.class == Class::Strong && !m.is_suspended(now_ms));
        // Miners that are still being measured will explore too: boxes are cut once, for all of them.
        let online = self.miners.values().filter(|m| m.online && !m.is_suspended(now_ms)).count();
        let expected = online * usize::from(self.params.classes.strong_permille) / 1000;
        let strong = strong.count().max(expected).max(1);
        let search = self.search.as_mut()?;
        let rank_images = search.plan.rank_images();
        let (space, scheme) = (&search.interval.workload.space, self.params.scheme);
        let boxes = search.boxes.get_or_insert_with(|| Halving::new(scheme.parts(space, strong, &mut self.rng), 1));
        let (index, subspace) = boxes.lease_next()?;
        let turn = boxes.boxes().get(index).map_or(0, |b| b.leases.saturating_sub(1));
        let memory = self.memories.current()?;
        let image_macs = memory
            .elites
            .first()
            .and_then(|e| search.interval.training_macs(&e.architecture).ok())
            .unwrap_or(TYPICAL_TRAINING_MACS);
        let train_images = match search.interval.data {
            DataSource::Published { train_images, .. } => train_images,
            // Filler shards are small: several passes make one rung.
            DataSource::Filler { .. } => search.interval.workload.shard_images.saturating_mul(8),
        };
        let rung = u32::try_from(budget_macs / image_macs.max(1)).unwrap_or(u32::MAX);
        let rung_images = rung.clamp(256, train_images.max(256));
        let elites = memory.elites.iter().take(ELITES).map(|e| e.base(rank_images)).collect();
        let taken = memory.taken.iter().copied().collect();
        let subspace = Box::new(subspace);
        Some((LeaseKind::Explore { subspace, rung_images, elites, taken, turn }, Some(index)))
    }
}
