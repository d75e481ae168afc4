//! Units of work: networks that were leased and are not trained as far as they should be. A unit outlives the lease it
//! was first given in, so that what a miner leaves is finished by itself later, or by a backup (paper, 4.3.1).

use podl_consensus::types::{BlobRef, ModelRoot};
use podl_consensus::workload::Architecture;
use podl_nas::search::reward_of;
use serde::{Deserialize, Serialize};

use super::{Manager, MinerRecord};
use crate::lease::{Done, LeaseState, Running};
use crate::protocol::ASSIGNMENTS;
use crate::types::{Assignment, Class, LeaseId, MinerId, Purpose};

/// Most units of a task; with two a miner far more than are ever open.
pub(super) const MOST_UNITS: usize = 4096;
/// How often in a row a unit may bring nothing while a miner has time for it.
const MOST_BARREN: u8 = 4;
/// Images that whole batches may leave of an order.
pub(super) const SLACK_IMAGES: u64 = 128;

/// A network that is to be trained further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub id: u64,
    /// The network.
    pub architecture: Architecture,
    /// What it is trained for.
    pub purpose: Purpose,
    /// How far it is by the results that were found true. Others go on from here.
    pub verified: Done,
    /// How far it is by all results that were taken in. Its owner goes on from here.
    pub claimed: Done,
    /// The part of the space it was proposed for, and whom the strategy owes it to.
    pub part: Option<usize>,
    /// Whose it is.
    pub owner: MinerId,
    /// Leases under which it is trained: one, or two with a backup.
    pub holders: Vec<LeaseId>,
    /// Leases in a row that had time for it and ended without a result: what cannot be trained must hold up nobody.
    pub barren: u8,
    /// The elite that training went on from, if one did.
    pub elite: Option<BlobRef>,
}

impl Unit {
    /// Where a miner begins on it: the owner where its own results end, others at what was found true.
    pub fn start_for(&self, miner: &MinerId) -> Done {
        if self.owner == *miner { self.claimed } else { self.verified }
    }

    /// Whether its training was handed in as far as it should be, and at most waits to be checked.
    pub fn is_handed_in(&self) -> bool {
        self.claimed.left_images <= SLACK_IMAGES
    }

    /// Models that others, or its owner, go on from.
    pub fn models(&self) -> impl Iterator<Item = ModelRoot> {
        [self.verified.last, self.claimed.last].into_iter().flatten().map(|blob| blob.root)
    }
}

/// What became of units, over all tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCounts {
    /// Begun.
    pub begun: u64,
    /// Trained as far as they should be.
    pub done: u64,
    /// Longer training that ended with its lease or its phase before that, which is meant: its miner worked to the end.
    pub cut_short: u64,
    /// Left unfinished: when their phase ended although no lease worked on them any more, or longer training whose miner
    /// let its lease run out without a word.
    pub dropped: u64,
    /// Taken over from a miner that was gone.
    pub taken_over: u64,
    /// Trained twice for fear that the first miner would not finish.
    pub backed_up: u64,
    /// Leases ended because another finished their unit first.
    pub cancelled: u64,
}

impl Manager {
    /// Units that this miner goes on with before anything new: its own, or else those that lost miners left.
    pub(super) fn units_to_resume(&self, miner: &MinerId, record: &MinerRecord) -> Option<(Vec<u64>, Purpose)> {
        let units = &self.memories.current()?.units;
        let idle = || units.iter().filter(|u| u.holders.is_empty());
        // One that only waits to be checked is not to be trained again.
        let own = idle().filter(|u| u.owner == *miner && !u.is_handed_in());
        let own: Vec<&Unit> = own.take(ASSIGNMENTS).collect();
        if let Some(first) = own.first() {
            return Some((own.iter().map(|u| u.id).collect(), first.purpose));
        }
        let is_lost = |u: &&Unit| self.miners.get(&u.owner).is_none_or(|m| !m.online || m.is_suspended(self.now_ms));
        let mut orphans: Vec<&Unit> = idle().filter(is_lost).collect();
        // The one with most left first: it needs the time.
        orphans.sort_by_key(|u| (std::cmp::Reverse(u.verified.left_images), u.id));
        let names: Vec<u64> = orphans.iter().take(ASSIGNMENTS).map(|u| u.id).collect();
        let may_have = self.is_fit(record) && self.is_trusted(miner);
        (may_have && !names.is_empty()).then_some((names, Purpose::Backup))
    }

    /// A unit that somebody works on and may not finish, for a second miner to work on as well: the longest estimated
    /// time first, few at a time.
    pub(super) fn unit_to_back_up(&self, miner: &MinerId, record: &MinerRecord) -> Option<u64> {
        // With the lease that this would be.
        let running = self.leases.running() + 1;
        let backups = self.leases.iter().filter(|l| is_running(l) && l.lease.purpose == Purpose::Backup).count();
        let most = (running * usize::from(self.params.backups_permille)).div_ceil(1000);
        if !self.is_fit(record) || !self.is_trusted(miner) || backups >= most {
            return None;
        }
        let units = &self.memories.current()?.units;
        let held = units.iter().filter_map(|u| match u.holders[..] {
            [only] => self.leases.get(only).filter(|l| is_running(l) && l.miner != *miner).map(|l| (u, l)),
            _ => None,
        });
        let doubtful = held.filter(|(_, lease)| self.is_doubtful(lease));
        doubtful.max_by_key(|(unit, lease)| (self.time_left_ms(lease), std::cmp::Reverse(unit.id))).map(|(u, _)| u.id)
    }

    /// Backups are fast and reliable miners.
    fn is_fit(&self, record: &MinerRecord) -> bool {
        record.rating.class == Class::Strong && record.is_reliable()
    }

    /// Whether a lease may not be finished: its miner has been silent for two heartbeats, for one if it leads while the
    /// leaders' results drift apart, or it is so slow that it will be late.
    fn is_doubtful(&self, lease: &Running) -> bool {
        let silent_ms = self.now_ms.saturating_sub(lease.heard_ms);
        let beat_ms = self.params.heartbeat.every_ms;
        let leads = self.leaders_drift && self.is_leader(&lease.miner);
        let late = self.now_ms.saturating_add(self.time_left_ms(lease)) > lease.due_at_ms;
        silent_ms > beat_ms * 2 || (leads && silent_ms > beat_ms + beat_ms / 2) || late
    }

    /// What a lease still takes by what its miner has shown, in milliseconds.
    fn time_left_ms(&self, lease: &Running) -> u64 {
        let left = u128::from(lease.lease.budget_macs.saturating_sub(lease.reported_macs));
        let rate = self.miners.get(&lease.miner).map_or(1, |m| m.rating.speed_macs_s.max(1));
        u64::try_from(left * 1000 / u128::from(rate)).unwrap_or(u64::MAX)
    }

    /// Whether a miner is of the best third by its best confirmed model (paper: high-reward miners).
    fn is_leader(&self, miner: &MinerId) -> bool {
        let bests = self.bests();
        let leaders = bests.len().div_ceil(3);
        bests.iter().take(leaders).any(|(m, _)| m == miner)
    }

    /// Every miner's best count, the highest first.
    fn bests(&self) -> Vec<(MinerId, u32)> {
        let mut bests: Vec<(MinerId, u32)> = Vec::new();
        for elite in self.elites() {
            if bests.iter().all(|(miner, _)| *miner != elite.miner) {
                bests.push((elite.miner, elite.count));
            }
        }
        bests
    }

    /// Looks whether the leaders' bests drift apart (paper, figure 4: sigma of the high-reward miners), after each
    /// confirmed improvement. The variance is compared, in whole numbers.
    pub(super) fn watch_leaders(&mut self) {
        let bests = self.bests();
        let counts: Vec<u64> = bests.iter().take(bests.len().div_ceil(3).max(2)).map(|(_, n)| (*n).into()).collect();
        let n = counts.len() as u64;
        let sum: u64 = counts.iter().sum();
        let squares: u64 = counts.iter().map(|c| c * c).sum();
        // n^2 times the variance.
        let spread = (n * squares).saturating_sub(sum * sum);
        self.leaders_drift = spread > self.leaders_spread;
        self.leaders_spread = spread;
    }

    /// Notes a unit and returns its name.
    pub(super) fn begin_unit(
        &mut self,
        work: &Assignment,
        purpose: Purpose,
        owner: MinerId,
        part: Option<usize>,
    ) -> u64 {
        let id = self.next_unit;
        self.next_unit = self.next_unit.saturating_add(1);
        self.unit_counts.begun += 1;
        let Assignment { architecture, base, images, .. } = work.clone();
        let seen_images = base.and_then(|root| self.elite(&root)).map_or(0, |e| e.images);
        let start = Done { seen_images, left_images: images, last: base };
        let unit = Unit {
            id,
            architecture,
            purpose,
            verified: start,
            claimed: start,
            part,
            owner,
            holders: Vec::new(),
            barren: 0,
            elite: base,
        };
        if let Some(memory) = self.memories.current_mut() {
            if memory.units.len() >= MOST_UNITS {
                memory.units.remove(0);
                self.unit_counts.dropped += 1;
            }
            memory.units.push(unit);
        }
        id
    }

    pub(super) fn unit(&self, id: u64) -> Option<&Unit> {
        self.memories.current()?.units.iter().find(|u| u.id == id)
    }

    pub(super) fn unit_mut(&mut self, id: u64) -> Option<&mut Unit> {
        self.memories.current_mut()?.units.iter_mut().find(|u| u.id == id)
    }

    /// A result of a unit was taken in. Where its owner goes on is for the owner's results to say: a backup's may be
    /// false.
    pub(super) fn unit_claimed(&mut self, miner: &MinerId, id: u64, done: Done) {
        let Some(unit) = self.unit_mut(id) else { return };
        unit.barren = 0;
        if unit.owner == *miner && done.left_images < unit.claimed.left_images {
            unit.claimed = done;
        }
    }

    /// A result of a unit could not be counted: its owner goes on from the last that was.
    pub(super) fn forget_claim(&mut self, id: u64) {
        if let Some(unit) = self.unit_mut(id) {
            unit.claimed = unit.verified;
        }
    }

    /// What a miner that lied claimed of its units is forgotten.
    pub(super) fn forget_claims(&mut self, miner: &MinerId) {
        for unit in self.memories.current_mut().into_iter().flat_map(|m| &mut m.units).filter(|u| u.owner == *miner) {
            unit.claimed = unit.verified;
        }
    }

    /// A result of a unit was found true. Returns the unit when that was its last.
    pub(super) fn unit_progressed(&mut self, lease: LeaseId, id: u64, done: Done) -> Option<Unit> {
        let unit = self.unit_mut(id)?;
        if done.left_images < unit.verified.left_images {
            unit.verified = done;
        }
        if done.left_images > SLACK_IMAGES {
            return None;
        }
        let memory = self.memories.current_mut()?;
        let index = memory.units.iter().position(|u| u.id == id)?;
        let unit = memory.units.remove(index);
        self.unit_counts.done += 1;
        for other in unit.holders.iter().filter(|holder| **holder != lease) {
            self.cancel(*other);
        }
        Some(unit)
    }

    /// Ends a lease whose unit another has finished; its miner hears of it with its next message, and is paid for what
    /// it has handed in.
    fn cancel(&mut self, id: LeaseId) {
        let now_ms = self.now_ms;
        let Some(running) = self.leases.get_mut(id).filter(|l| l.state == LeaseState::Running) else { return };
        running.state = LeaseState::Ended { at_ms: now_ms };
        let miner = running.miner;
        self.unit_counts.cancelled += 1;
        // What else it held is free as well.
        self.release_units(id, false);
        if let Some(record) = self.miners.get_mut(&miner) {
            record.lease = record.lease.filter(|lease| *lease != id);
        }
    }

    /// A lease is over: what it has not finished is free for others. Longer training of a confirmed network is not
    /// worth finishing later unless its miner was lost, or asked anew before the lease had its time: it may have broken
    /// down and be back.
    pub(super) fn release_units(&mut self, id: LeaseId, lost: bool) {
        let Some(memory) = self.memories.current_mut() else { return };
        for unit in &mut memory.units {
            unit.holders.retain(|holder| *holder != id);
        }
        if !lost {
            self.note_barren(id);
        }
        let (Some(memory), Some(running)) = (self.memories.current_mut(), self.leases.get(id)) else { return };
        let before = memory.units.len();
        let had_its_time = self.now_ms >= running.issued_ms.saturating_add(running.lease.wall_ms);
        if !lost && had_its_time {
            let names = &running.units;
            let is_over = |u: &Unit| {
                names.contains(&u.id) && u.holders.is_empty() && u.purpose == Purpose::Exploit && !u.is_handed_in()
            };
            memory.units.retain(|u| !is_over(u));
            let over = (before - memory.units.len()) as u64;
            // Whoever is there hands in what it has before that, and asks for more.
            let ran_out = self.now_ms > running.due_at_ms;
            *(if ran_out { &mut self.unit_counts.dropped } else { &mut self.unit_counts.cut_short }) += over;
        }
    }

    /// Counts a lease that brought nothing against the unit that it had time for: the first without a result. A base that
    /// cannot be read, or a network that always diverges, would else be its owner's only work for ever.
    fn note_barren(&mut self, id: LeaseId) {
        let Some(running) = self.leases.get(id) else { return };
        let mut units = running.units.iter().zip(&running.done);
        let Some(first) = units.find(|(_, done)| done.last.is_none()).map(|(unit, _)| *unit) else { return };
        let Some(memory) = self.memories.current_mut() else { return };
        let Some(index) = memory.units.iter().position(|u| u.id == first) else { return };
        let unit = &mut memory.units[index];
        unit.barren = unit.barren.saturating_add(1);
        if unit.barren < MOST_BARREN || !unit.holders.is_empty() {
            return;
        }
        let unit = memory.units.remove(index);
        self.unit_counts.dropped += 1;
        if let Some(proposals) = memory.proposals.as_mut().filter(|_| unit.purpose != Purpose::Exploit) {
            proposals.report(unit.part, &unit.architecture, reward_of(0, 1));
        }
    }

    /// The phase is over: leases end, longer training with them; candidates wait for the next round of the task.
    pub(super) fn end_units(&mut self) {
        let Some(memory) = self.memories.current_mut() else { return };
        for unit in &mut memory.units {
            // What the phase cut short is nobody's failure; what was left and nobody took over in time is.
            let is_orphan = unit.holders.is_empty() && self.miners.get(&unit.owner).is_none_or(|m| !m.online);
            let is_done = unit.is_handed_in();
            let counts = &mut self.unit_counts;
            if is_orphan && !is_done {
                counts.dropped += 1;
            } else if unit.purpose == Purpose::Exploit {
                *(if is_done { &mut counts.done } else { &mut counts.cut_short }) += 1;
            }
            unit.holders.clear();
        }
        memory.units.retain(|u| u.purpose != Purpose::Exploit);
    }
}

fn is_running(lease: &Running) -> bool {
    lease.state == LeaseState::Running
}
