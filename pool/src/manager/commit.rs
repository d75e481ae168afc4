//! Commitments, early and again within those allowed, and the choice of what to reveal.

use podl_consensus::types::{BlockHash, ModelRoot};

use super::search::Committed;
use super::{Effect, Manager, Search};
use crate::types::{Elite, is_above_chance};

/// How long the scoring of committed models on the shard may take before the one thought best is revealed.
pub(super) const SCORING_MS: u64 = 1500;

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
        search.committed.push(Committed { artefact, count: elite.count, scored: None, answered: false });
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

    pub(super) fn shard_known(&mut self, parent: &BlockHash, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms;
        let Some(search) = self.search.as_mut().filter(|s| s.parent() == *parent) else { return };
        if search.committed.is_empty() || search.scoring_since_ms.is_some() {
            return;
        }
        search.scoring_since_ms = Some(now_ms);
        let artefacts = search.committed.iter().map(|c| c.artefact).collect();
        effects.push(Effect::Score { parent: *parent, artefacts });
    }

    pub(super) fn scored(
        &mut self,
        parent: &BlockHash,
        root: &ModelRoot,
        correct: Option<u32>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(search) = self.search.as_mut().filter(|s| s.parent() == *parent) {
            for committed in search.committed.iter_mut().filter(|c| c.artefact.root == *root) {
                (committed.scored, committed.answered) = (correct, true);
            }
        }
        self.reveal_if_due(effects);
    }

    /// Reveals the best once all are scored, or the best known when scoring takes too long.
    pub(super) fn reveal_if_due(&mut self, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms;
        let Some(search) = self.search.as_mut().filter(|s| !s.revealed) else { return };
        let Some(since_ms) = search.scoring_since_ms else { return };
        let all_scored = search.committed.iter().all(|c| c.answered);
        if !all_scored && now_ms < since_ms.saturating_add(SCORING_MS) {
            return;
        }
        let best = search.committed.iter().max_by_key(|c| (c.scored, c.count, std::cmp::Reverse(c.artefact.root)));
        if let Some(best) = best {
            effects.push(Effect::Reveal { parent: search.parent(), artefact: best.artefact, correct: best.scored });
            search.revealed = true;
        }
    }
}
