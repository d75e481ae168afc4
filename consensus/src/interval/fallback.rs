//! Fallback proposals: when a seat proposes a void or idle block.

use super::IntervalMachine;
use super::event::Effect;
use super::round::Round;
use crate::types::{OutcomeKind, ShardKey};

impl IntervalMachine {
    /// Proposes if a view has come in which it is this seat's turn, its key has signed no block on the parent, and it
    /// holds nothing to vote for.
    pub(super) fn propose(&self, now: u64, round: &mut Round, out: &mut Vec<Effect>) {
        let Some(account) = self.account else { return };
        let decided = self.decided.contains_key(&round.context.height);
        while round.timeline.view_due(&self.phases, round.next_view).is_some_and(|due| due <= now) {
            let view = round.next_view;
            let Some(next) = view.checked_add(1) else { return };
            round.next_view = next;
            if decided || round.signed_block || round.context.fallback_producer(view) != Some(account) {
                continue;
            }
            round.signed_block = true;
            let (kind, key) = self.fallback_kind(round);
            out.push(Effect::Propose { parent: round.context.parent, view, kind, key });
        }
    }

    /// Idle with the key if there is one: the round is spent, because its shard is no longer secret. Without it void if
    /// the publisher owed it to a miner, else idle with the round untouched.
    fn fallback_kind(&self, round: &Round) -> (OutcomeKind, Option<ShardKey>) {
        match self.key_of(round) {
            Some(key) => (OutcomeKind::Idle, Some(key)),
            None if round.needs_key() && round.has_majority() && round.has_counted() => (OutcomeKind::Void, None),
            None => (OutcomeKind::Idle, None),
        }
    }
}
