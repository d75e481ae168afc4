//! Handing out leases: who goes on with what, who explores, who exploits what, how much, and when it is too late.

use super::outlook::Outlook;
use super::units::SLACK_IMAGES;
use super::{Manager, MinerRecord, Search};
use crate::lease::{Done, LeaseState, Running};
use crate::protocol::{Refusal, Reply, STEPS};
use crate::types::{Assignment, BackupTally, Class, DataSource, Elite, Lease, LeaseId, MinerId, Purpose};

/// Shortest time between two results of a lease: each costs an evaluation on both sides.
const LEAST_STEP_MS: u64 = 2500;
/// Results of a lease whose miner has always finished, and of one whose has not.
const FEW_STEPS: u64 = 4;
const MANY_STEPS: u64 = 8;
/// Availability in thousandths below which a miner hands in more, smaller results.
const SHAKY_PERMILLE: u16 = 950;

/// What a miner is to do.
pub(super) struct Plan {
    pub purpose: Purpose,
    /// Networks, and the units that they belong to.
    pub work: Vec<(Assignment, u64)>,
}

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
        let record = self.miners.get(&miner)?;
        let steps = steps(wall_ms, record.rating.availability_permille);
        let budget = u128::from(record.rate_macs_s) * u128::from(wall_ms) / 1000;
        let budget_macs = u64::try_from(budget).unwrap_or(u64::MAX).max(1);
        let Plan { purpose, work } = self.choose(&miner, budget_macs)?;
        let (mut work, units): (Vec<Assignment>, Vec<u64>) = work.into_iter().unzip();
        work.iter_mut().for_each(|work| self.prescribe(work));
        let id = LeaseId(self.next_lease);
        self.next_lease = self.next_lease.saturating_add(1);
        let mut done = Vec::with_capacity(units.len());
        for unit in &units {
            let unit = self.unit_mut(*unit)?;
            unit.holders.push(id);
            let start = unit.start_for(&miner);
            done.push(Done { last: None, ..start });
        }
        let seed = self.rng.next_u64();
        let search = self.search.as_ref()?;
        // The least that is worth training can be a little more than a slow miner's budget.
        let planned = work.iter().map(|work| {
            let macs = search.interval.training_macs(&work.architecture).unwrap_or(0);
            macs.saturating_mul(work.images)
        });
        let budget_macs = budget_macs.max(planned.fold(0, u64::saturating_add));
        let end_ms = self.work_end_ms(search);
        let phase_ms = end_ms.saturating_sub(search.started_ms).max(1);
        let permille = |at_ms: u64| {
            let left = end_ms.saturating_sub(at_ms).min(phase_ms) * 1000 / phase_ms;
            u16::try_from(left).unwrap_or(1000)
        };
        let (left_permille, left_after_permille) = (permille(self.now_ms), permille(self.now_ms + wall_ms));
        let parent = search.parent();
        let lease = Lease {
            id,
            parent,
            purpose,
            work,
            steps,
            seed,
            budget_macs,
            wall_ms,
            due_ms,
            left_permille,
            left_after_permille,
        };
        let reply = Reply::Lease {
            lease: Box::new(lease.clone()),
            interval: Box::new(search.interval.clone()),
            plan: search.plan,
        };
        self.leases.insert(Running {
            done,
            lease,
            miner,
            units,
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

    /// Adds how an assignment is trained: gently where an earlier interval trained the network to its end.
    fn prescribe(&self, work: &mut Assignment) {
        let past = work.base.and_then(|base| self.memories.current()?.past_of(base.root));
        let interval = self.search.as_ref().map(|s| &s.interval).filter(|i| !i.is_filler());
        let began_now = interval.is_none_or(|i| past.is_some_and(|p| p.began == i.parent));
        let rule = self.params.training;
        work.end = past.map(|p| p.end);
        work.rule = if work.base.is_none() || began_now { rule } else { rule.resumed(self.params.resumed_permille) };
    }

    /// What was begun comes first: the miner's own, then what others left or may not finish. Else strong miners explore
    /// while the phase is young, and all others exploit what is confirmed (paper, 3.2.4), as long as that promises
    /// something; a confirmed network that will hardly get better is varied instead, which is what exploring does.
    fn choose(&mut self, miner: &MinerId, budget_macs: u64) -> Option<Plan> {
        let record = self.miners.get(miner)?;
        if let Some((units, purpose)) = self.units_to_resume(miner, record) {
            return self.go_on(miner, &units, purpose, budget_macs);
        }
        if let Some(unit) = self.unit_to_back_up(miner, record) {
            return self.go_on(miner, &[unit], Purpose::Backup, budget_macs);
        }
        let search = self.search.as_ref()?;
        let explores = record.rating.class == Class::Strong && self.now_ms < search.explore_until_ms;
        let base = if explores || !self.params.exploit { None } else { self.promising(miner, record.rate_macs_s) };
        match base {
            Some(base) => self.exploit(miner, &base, budget_macs),
            None => self.explore(miner, budget_macs),
        }
    }

    /// Work on units that were begun, as many as the budget covers.
    fn go_on(&mut self, miner: &MinerId, units: &[u64], purpose: Purpose, budget_macs: u64) -> Option<Plan> {
        let mut plan = Plan { purpose, work: Vec::new() };
        let mut left_macs = budget_macs;
        for &id in units {
            if left_macs <= budget_macs / 4 {
                break;
            }
            let start = self.take_unit(miner, id)?;
            let architecture = self.unit(id)?.architecture.clone();
            let macs = self.search.as_ref()?.interval.training_macs(&architecture).ok()?.max(1);
            let images = within(start.left_images, left_macs, macs);
            left_macs = left_macs.saturating_sub(macs.saturating_mul(images));
            plan.work.push((Assignment::new(architecture, start.last, images), id));
        }
        Some(plan)
    }

    /// Where a miner begins on a unit. Whoever takes over what a lost miner left is its owner from now on.
    fn take_unit(&mut self, miner: &MinerId, id: u64) -> Option<Done> {
        let unit = self.unit_mut(id)?;
        let (is_orphan, owner) = (unit.holders.is_empty(), unit.owner);
        if is_orphan && owner != *miner {
            unit.owner = *miner;
            unit.claimed = unit.verified;
        }
        let start = unit.start_for(miner);
        self.count_backup(miner, &owner, is_orphan);
        Some(start)
    }

    /// Counts what a miner has begun on a network: nothing if it is its own, a takeover if its owner is gone, or else a
    /// backup.
    fn count_backup(&mut self, miner: &MinerId, owner: &MinerId, is_orphan: bool) {
        self.unit_counts.taken_over += u64::from(is_orphan && miner != owner);
        self.unit_counts.backed_up += u64::from(!is_orphan);
        if miner == owner {
            return;
        }
        if let Some(BackupTally { own_taken_over, own_backed_up, .. }) = self.backups_of(owner) {
            count(if is_orphan { own_taken_over } else { own_backed_up });
        }
        if let Some(BackupTally { taken_over, backed_up, .. }) = self.backups_of(miner) {
            count(if is_orphan { taken_over } else { backed_up });
        }
    }

    fn backups_of(&mut self, miner: &MinerId) -> Option<&mut BackupTally> {
        self.miners.get_mut(miner).map(|record| &mut record.backups)
    }

    /// The confirmed network that promises most if this miner trains it further. While there is time to bring a fresh
    /// network as far as the best, what counts is the next lease, and it must promise something; networks that have
    /// learned what they can promise nothing. After that every gain until the end of the phase is welcome, since a fresh
    /// network would come too late. Networks that others train
    /// further are left to them, if those finish what they begin: else who only holds leases would keep the best one.
    fn promising(&self, miner: &MinerId, rate_macs_s: u64) -> Option<Elite> {
        let (memory, search) = (self.memories.current()?, self.search.as_ref()?);
        let best = memory.elites.first()?;
        let images_in = |elite: &Elite, ms: u64| {
            let macs = search.interval.training_macs(&elite.architecture).ok()?.max(1);
            u64::try_from(u128::from(rate_macs_s) * u128::from(ms) / 1000 / u128::from(macs)).ok()
        };
        let left_ms = self.work_end_ms(search).saturating_sub(self.now_ms);
        let outlook = Outlook::of(search);
        let is_early = images_in(best, left_ms)? > outlook.worth(0, best.images);
        let (ahead_ms, least) =
            if is_early { (self.params.lease_ms, u64::from(self.params.least_gain_permille)) } else { (left_ms, 0) };
        let rank_images = u64::from(search.plan.rank_images());
        let is_reliable = |owner| self.miners.get(owner).is_some_and(MinerRecord::is_reliable);
        let busy = |e: &Elite| {
            let of_it = memory.units.iter().filter(|u| u.architecture == e.architecture && !u.holders.is_empty());
            of_it.filter(|u| u.owner != *miner).any(|u| is_reliable(&u.owner))
        };
        // A network of which a lease does not train the least that is worth it is not for this miner.
        let fits = |e: &Elite| images_in(e, self.params.lease_ms).is_some_and(|images| images >= SLACK_IMAGES);
        let is_trusted = self.is_trusted(miner);
        let may_have = |e: &Elite| is_trusted || e.miner == *miner;
        let promises = memory.elites.iter().filter(|e| may_have(e) && !busy(e) && fits(e)).filter_map(|e| {
            let images = images_in(e, ahead_ms)?;
            let more = if is_early { outlook.worth(e.images, images) } else { images };
            let promise = outlook.thousandths(e.count, search.plan.rank_images(), e.images, more, e.stalls);
            // A miner has the weights of its own models in full.
            let bonus = if e.miner == *miner { rank_images * 2 } else { 0 };
            Some((promise + bonus, e))
        });
        let (promise, elite) = promises.max_by_key(|(promise, e)| (*promise, std::cmp::Reverse(e.rank())))?;
        (promise > u64::from(best.count) * 1000 + rank_images * least).then(|| elite.clone())
    }

    fn exploit(&mut self, miner: &MinerId, base: &Elite, budget_macs: u64) -> Option<Plan> {
        let macs = self.search.as_ref()?.interval.training_macs(&base.architecture).ok()?.max(1);
        // A replay of a result must come to an end, however fast its miner is said to be.
        let most = Outlook::of(self.search.as_ref()?).worth(0, budget_macs / macs);
        let images = most.max(SLACK_IMAGES);
        let work = Assignment::new(base.architecture.clone(), Some(base.artefact), images);
        let unit = self.begin_unit(&work, Purpose::Exploit, *miner, None);
        Some(Plan { purpose: Purpose::Exploit, work: vec![(work, unit)] })
    }
}

fn count(events: &mut u32) {
    *events = events.saturating_add(1);
}

/// Images that a budget covers of those that are left; a little more than it has is covered as well.
pub(super) fn within(left: u64, budget_macs: u64, image_macs: u64) -> u64 {
    let affordable = budget_macs / image_macs.max(1);
    if left <= affordable + affordable / 5 {
        left.max(1)
    } else {
        affordable.clamp(SLACK_IMAGES.min(left), left.max(1))
    }
}

/// In how many results a lease is handed in: the less reliable its miner, the more, since what was not handed in is lost
/// with it.
fn steps(wall_ms: u64, availability_permille: u16) -> u8 {
    let most = if availability_permille < SHAKY_PERMILLE { MANY_STEPS } else { FEW_STEPS };
    let steps = (wall_ms / LEAST_STEP_MS).clamp(1, most);
    u8::try_from(steps).unwrap_or(1).min(STEPS)
}

/// Training images of an interval.
pub(super) fn train_images(search: &Search) -> u32 {
    match search.interval.data {
        DataSource::Published { train_images, .. } => train_images,
        // Filler shards are small: several passes make one rung.
        DataSource::Filler { .. } => search.interval.workload.shard_images.saturating_mul(8),
    }
}
