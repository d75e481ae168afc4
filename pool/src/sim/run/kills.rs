//! A manager that is killed and comes back from its journal.

use super::{Happening, Simulation};
use crate::manager::Manager;
use crate::sim::Cheat;

impl Simulation {
    /// It is time for the manager to die: at once, or every other time with the next result.
    pub(super) fn plan_kill(&mut self) {
        if self.report.manager_deaths % 2 == 1 {
            self.dies_at_result = true;
        } else {
            self.kill_manager();
        }
    }

    /// The manager's process is killed, and another begins with what is in the journal: its snapshot, the events since, and
    /// the question again for whatever was under way. Nothing else of the first is used any more.
    pub(super) fn kill_manager(&mut self) {
        let Some((kills, journal)) = self.spec.kills.zip(self.journal.as_mut()) else { return };
        journal.lose(kills.lost_events);
        let mut restored = sound(journal.restore());
        restored.set_params(self.spec.params.clone());
        let killed = std::mem::replace(&mut self.manager, restored);
        self.dies_at_result = false;
        self.note_kill(&killed);
        let effects = self.manager.resume(self.agenda.now_ms(), |_| false);
        if let Some(journal) = &mut self.journal {
            sound(journal.snapshot(&self.manager));
        }
        self.manager_wake_ms = None;
        self.manager_effects(effects);
        if self.ends_ms.is_none_or(|at| at > self.agenda.now_ms()) {
            self.agenda.later(kills.every_ms, Happening::ManagerDies);
        }
    }

    /// Compares the manager that was killed with the one that goes on.
    fn note_kill(&mut self, killed: &Manager) {
        let bytes = |manager: &Manager| sound(postcard::to_stdvec(manager));
        let report = &mut self.report;
        report.manager_deaths += 1;
        report.changed_restores += u32::from(bytes(killed) != bytes(&self.manager));
        report.waiting_results += killed.pending_evaluations() as u64;
        for miner in &self.miners {
            let lost = worked(killed, miner.id).saturating_sub(worked(&self.manager, miner.id));
            report.lost_macs += u128::from(lost);
        }
    }

    /// Results that honest miners were told were taken, and that the manager has not found valid since.
    pub(super) fn uncounted_results(&self) -> u64 {
        let honest = self.miners.iter().filter(|miner| miner.spec.cheat == Cheat::Honest);
        let counted = |miner| self.manager.miners().get(miner).map_or(0, |record| u64::from(record.accepted));
        honest.map(|miner| miner.acknowledged.saturating_sub(counted(&miner.id))).sum()
    }
}

/// Verified work of a miner's that is credited or kept back.
fn worked(manager: &Manager, miner: crate::types::MinerId) -> u64 {
    let credited = manager.ledger().window_macs(&miner, manager.params().pay);
    let kept_back = manager.miners().get(&miner).map_or(0, |record| record.kept_back_macs);
    credited.saturating_add(kept_back)
}

/// A journal that cannot be written or read ends the simulation: what it would say of kills would be of none.
pub(super) fn sound<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the simulated journal is of no use: {error}"))
}
