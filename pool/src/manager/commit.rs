//! Commitments, early and again within those allowed. Which of them is shown in the end is the node's to choose: it
//! alone knows which ones a majority listed.

use podl_consensus::types::{BlockHash, ModelRoot};

use super::search::Committed;
use super::{Effect, Manager, Search};
use crate::types::{Elite, is_above_chance};

impl Manager {
    /// Commits when due: as soon as a model is clearly above chance, again late in the phase, and shortly before its
    /// end, each time only to something better. What attempts remain at the end go to runners-up that are almost as
    /// good: which of them wins on the shard is luck, and more of them have more of it.
    pub(super) fn commit_if_due(&mut self, effects: &mut Vec<Effect>) {
        let Some(search) = self.search.as_ref().filter(|s| s.open && s.attempts < self.params.commitments) else {
            return;
        };
        let is_last = self.now_ms >= search.deadline_ms.saturating_sub(self.params.commit_margin_ms);
        let is_again = self.now_ms >= self.again_ms(search);
        let candidates = self.candidates(search);
        let Some(best) = candidates.first() else { return };
        let above_chance = is_above_chance(best.count, search.plan.rank_images(), search.interval.workload.classes);
        let due = match search.attempts {
            0 => (above_chance && self.beats_baseline(search, best)) || is_last,
            1 => is_again,
            _ => is_last,
        };
        if !due {
            return;
        }
        let is_done = |e: &Elite| search.committed.iter().any(|c| c.artefact.root == e.artefact.root);
        let close = search.plan.rank_images() / 100;
        let chosen: Vec<Elite> = candidates
            .iter()
            .filter(|e| !is_done(e) && (is_last || e.artefact.root == best.artefact.root))
            .filter(|e| e.count.saturating_add(close) >= best.count)
            .take(if is_last { usize::from(self.params.commitments - search.attempts) } else { 1 })
            .map(|e| (*e).clone())
            .collect();
        for elite in chosen {
            self.commit(&elite, effects);
        }
    }

    fn commit(&mut self, elite: &Elite, effects: &mut Vec<Effect>) {
        let Some(search) = &mut self.search else { return };
        search.attempts += 1;
        let artefact = elite.artefact;
        if let Some(record) = self.miners.get(&elite.miner) {
            self.ledger.note_model(artefact.root, elite.miner, record.account);
        }
        search.committed.push(Committed { artefact, count: elite.count });
        effects.push(Effect::Commit { parent: search.parent(), artefact, attempt: search.attempts });
    }

    /// Models that can win: all but the one that must be beaten.
    fn candidates(&self, search: &Search) -> Vec<&Elite> {
        self.elites().iter().filter(|e| Some(e.artefact.root) != search.interval.baseline && e.count > 0).collect()
    }

    /// Whether a model is better than the one to beat, as far as is known.
    fn beats_baseline(&self, search: &Search, elite: &Elite) -> bool {
        let baseline = self.elites().iter().find(|e| Some(e.artefact.root) == search.interval.baseline);
        baseline.is_none_or(|b| elite.count > b.count)
    }

    fn again_ms(&self, search: &Search) -> u64 {
        let phase_ms = search.deadline_ms.saturating_sub(search.started_ms);
        search.started_ms + phase_ms.saturating_mul(self.params.commit_again_permille) / 1000
    }

    /// When the next commitment can become due by time.
    pub(super) fn next_commit_ms(&self, search: &Search) -> u64 {
        let again_ms = self.again_ms(search);
        if self.now_ms < again_ms { again_ms } else { search.deadline_ms.saturating_sub(self.params.commit_margin_ms) }
    }

    pub(super) fn commit_failed(&mut self, parent: &BlockHash, root: &ModelRoot) {
        let Some(search) = self.search.as_mut().filter(|s| s.parent() == *parent) else { return };
        let before = search.committed.len();
        search.committed.retain(|c| c.artefact.root != *root);
        if search.committed.len() < before {
            search.attempts = search.attempts.saturating_sub(1);
        }
    }
}
