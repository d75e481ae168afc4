//! Moving on: fork choice, base, and the table of section 3 for the interval on the base.

use super::event::{Effect, Phase};
use super::port::ChainView;
use super::round::Round;
use super::{CHECKS_AT_ONCE, IntervalMachine};
use crate::fork_choice::choose_head;
use crate::state::Checkpoint;
use crate::types::BlockHash;

/// Most bases taken in one step. A node that imported a long branch jumps to its end in one; more only settle votes.
const STEPS: usize = 8;

impl IntervalMachine {
    /// Does all that is due.
    pub(super) fn advance(&mut self, now: u64, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        self.update_head(out);
        self.follow_head(now);
        for _ in 0..STEPS {
            self.run_base(now, chain, out);
            if !self.take_head_as_base(now) {
                break;
            }
        }
        self.check_voted(now, out);
        self.send_again(now, out);
        self.report_phase(now, out);
    }

    fn update_head(&mut self, out: &mut Vec<Effect>) {
        let new = choose_head(&self.tree, &self.votes);
        if new != self.head {
            let old = std::mem::replace(&mut self.head, new);
            out.push(Effect::HeadChanged { old, new });
        }
    }

    fn parent_of_head(&self) -> Option<Checkpoint> {
        let head = self.tree.block(&self.head.block)?;
        Some(Checkpoint { height: head.height.checked_sub(1)?, block: head.parent })
    }

    /// After a reorganisation, or when blocks came that others were long done with: the head's parent is the base, or
    /// the head itself.
    fn follow_head(&mut self, now: u64) {
        let parent = self.parent_of_head();
        if self.base == self.head || Some(self.base) == parent {
            return;
        }
        self.base = parent.filter(|_| !self.is_settled(now)).unwrap_or(self.head);
    }

    /// Makes the head the base if voting about it is over.
    fn take_head_as_base(&mut self, now: u64) -> bool {
        let moves = self.base != self.head && self.is_settled(now);
        if moves {
            self.base = self.head;
        }
        moves
    }

    /// Whether the interval on the head has begun: a majority is behind it, or the node voted or abstained at its height
    /// `view_ms` ago.
    fn is_settled(&self, now: u64) -> bool {
        let over = self.decided.get(&self.head.height).is_some_and(|at| at.saturating_add(self.phases.view_ms) <= now);
        over || self.head == self.tree.root() || self.is_backed(&self.head.block)
    }

    /// Whether votes of a majority for a block are known, or closings of a majority on it, which pull a slow node along.
    pub(super) fn is_backed(&self, block: &BlockHash) -> bool {
        self.votes.has_majority(&self.tree, block) || self.rounds.get(block).is_some_and(Round::has_majority)
    }

    fn run_base(&mut self, now: u64, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        let base = self.base.block;
        if self.round_mut(&base, chain).is_none() {
            return;
        }
        // Out of the map while it is worked on, so that the rest of the machine can be read meanwhile.
        let Some(mut round) = self.rounds.remove(&base) else { return };
        round.timeline.started.get_or_insert(now);
        self.collect(now, &mut round, out);
        self.vote(now, &mut round, out);
        self.check_candidates(now, &mut round, out);
        self.propose(now, &mut round, out);
        self.rounds.insert(base, round);
    }

    /// Closing, C, K and X.
    fn collect(&self, now: u64, round: &mut Round, out: &mut Vec<Effect>) {
        let parent = round.context.parent;
        let key = self.key_of(round);
        if round.has_majority() {
            round.timeline.majority.get_or_insert(now);
        }
        let voted = self.votes.seats_at_or_above(round.context.height, &round.context.seats);
        if 3 * voted > round.context.seats.len() {
            round.timeline.pulled.get_or_insert(now);
        }
        let due = round.timeline.close_due(&self.phases).is_some_and(|due| due <= now);
        if round.timeline.closed.is_none() && (due || round.timeline.majority.is_some() || round.key_seen) {
            round.timeline.closed = Some(now);
            if self.account.is_some_and(|account| round.context.seats.contains(&account)) {
                out.push(Effect::SignClosing { parent, list: round.list() });
            }
        }
        if round.timeline.majority.is_some() && round.needs_key() && !round.collection_closed {
            round.collection_closed = true;
            let (task, number) = (round.context.task, round.context.round);
            out.push(Effect::CollectionClosed { parent, task, round: number });
        }
        if let Some(key) = key.filter(|_| !round.shard_asked) {
            round.shard_asked = true;
            out.push(Effect::CheckShard { parent, key });
        }
        let can_open = round.timeline.majority.is_some() && (!round.needs_key() || key.is_some());
        if round.timeline.opened.is_none() && can_open {
            round.timeline.opened = Some(now);
            out.push(Effect::OpenCandidates { parent, key });
        }
        if round.timeline.fallback.is_none() {
            round.timeline.fallback = self.fallback_begins(now, round);
        }
    }

    /// X, if it has come.
    fn fallback_begins(&self, now: u64, round: &Round) -> Option<u64> {
        let missing = round.timeline.missing_due(&self.phases, round.needs_key()).filter(|due| *due <= now);
        let empty_handed = || {
            let due = round.timeline.vote_due(&self.phases)?;
            let over = self.has_waited(now, round) && !self.has_valid_in_time(round);
            over.then_some(now.min(due))
        };
        missing.or_else(empty_handed)
    }

    /// Asks for checks: fallback proposals at once, candidates once the revealing is over, best claim first until one is
    /// valid; after the vote, and late ones before it, only what others voted for.
    fn check_candidates(&self, now: u64, round: &mut Round, out: &mut Vec<Effect>) {
        let height = round.context.height;
        let decided = self.decided.contains_key(&height);
        let reveal_due = round.timeline.reveal_due(&self.phases);
        let in_fallback = round.timeline.fallback.is_some();
        let revealed = reveal_due.is_some_and(|due| due <= now || round.all_shown());
        let best_valid = self.valid_scored(round).map(|block| block.rank).min();
        let mut candidates = std::mem::take(&mut round.candidates);
        while let Some(block) = candidates.next_check(now, CHECKS_AT_ONCE, |candidate| {
            let in_time = reveal_due.is_none_or(|due| candidate.arrived <= due);
            let better = best_valid.is_none_or(|best| candidate.rank < best);
            let for_own_vote =
                !decided && (!candidate.rank.is_scored() || (better && (in_fallback || (revealed && in_time))));
            for_own_vote || self.votes.names(height, &candidate.hash)
        }) {
            out.push(Effect::ValidateCandidate(block));
        }
        round.candidates = candidates;
    }

    /// Asks for checks of blocks on other parents that somebody voted for: fork choice counts only valid ones.
    fn check_voted(&mut self, now: u64, out: &mut Vec<Effect>) {
        let (base, votes) = (self.base.block, &self.votes);
        for (_, round) in self.rounds.iter_mut().filter(|(parent, _)| **parent != base) {
            let height = round.context.height;
            let named = |c: &super::candidates::Candidate| votes.names(height, &c.hash);
            while let Some(block) = round.candidates.next_check(now, CHECKS_AT_ONCE, named) {
                out.push(Effect::ValidateCandidate(block));
            }
        }
    }

    fn report_phase(&mut self, now: u64, out: &mut Vec<Effect>) {
        let Some(round) = self.rounds.get(&self.base.block) else { return };
        let line = &round.timeline;
        let revealing = line.reveal_due(&self.phases).is_some_and(|due| now < due && !round.all_shown());
        let phase = if self.decided.contains_key(&round.context.height) {
            Phase::Voted
        } else if line.fallback.is_some() {
            Phase::Fallback
        } else if line.opened.is_some() {
            if revealing { Phase::Reveal } else { Phase::Validate }
        } else if line.majority.is_some() {
            Phase::Release
        } else if line.closed.is_some() {
            Phase::Close
        } else {
            Phase::Train
        };
        if self.phase != Some((self.base, phase)) {
            self.phase = Some((self.base, phase));
            out.push(Effect::PhaseChanged { parent: self.base, phase });
        }
    }
}
