//! What becomes of networks whose miners died, which the simulation knows before the manager does.

use super::Simulation;
use crate::manager::Unit;

impl Simulation {
    /// Whether a miner's lease was given to an earlier life of it, which died under it.
    pub(super) fn has_old_lease(&self, miner: usize) -> bool {
        let sim = &self.miners[miner];
        let lease = self.manager.miners().get(&sim.id).and_then(|record| record.lease);
        lease.and_then(|id| self.manager.leases().get(id)).is_some_and(|running| running.issued_ms < sim.joined_ms)
    }

    /// A phase ends: notes the networks that nobody alive works on, and of which the manager does not know it.
    pub(super) fn note_left_units(&mut self) {
        let left = self.manager.units().iter().filter(|unit| !unit.is_handed_in() && self.is_left_unnoticed(unit));
        self.report.unnoticed_units += left.count() as u64;
    }

    fn is_left_unnoticed(&self, unit: &Unit) -> bool {
        let is_there = |id| self.by_id.get(id).is_some_and(|&miner| self.miners[miner].machine.is_some());
        let holders = unit.holders.iter().filter_map(|id| self.manager.leases().get(*id));
        let is_left = !is_there(&unit.owner) && holders.clone().all(|running| !is_there(&running.miner));
        // What is counted as dropped already.
        let is_noticed = unit.holders.is_empty() && self.manager.miners().get(&unit.owner).is_none_or(|m| !m.online);
        is_left && !is_noticed
    }
}
