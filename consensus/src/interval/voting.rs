//! Which block a seat votes for, and when.

use super::IntervalMachine;
use super::event::Effect;
use super::round::Round;
use crate::tree::TreeBlock;
use crate::types::{BlockHash, OutcomeKind};

impl IntervalMachine {
    /// Whether a block on the round's parent came while candidates were taken. Blocks that came before the node knew of
    /// the interval did.
    fn in_time(&self, round: &Round, block: &BlockHash) -> bool {
        let due = round.timeline.reveal_due(&self.phases);
        let arrived = round.candidates.get(block).map(|candidate| candidate.arrived);
        due.zip(arrived).is_none_or(|(due, arrived)| arrived <= due)
    }

    /// Valid scored blocks on the round's parent.
    pub(super) fn valid_scored<'a>(&'a self, round: &'a Round) -> impl Iterator<Item = &'a TreeBlock> {
        self.tree.children(&round.context.parent.block).filter(|block| block.rank.is_scored())
    }

    /// Whether one of them came in time.
    pub(super) fn has_valid_in_time(&self, round: &Round) -> bool {
        self.valid_scored(round).any(|block| self.in_time(round, &block.hash))
    }

    /// Whether waiting longer can bring no better candidate: all that may be opened is, and has been checked as far
    /// down as the best valid one.
    pub(super) fn all_checked(&self, round: &Round) -> bool {
        round.timeline.opened.is_some()
            && round.all_shown()
            && round.candidates.best_is_checked(|c| self.in_time(round, &c.block.hash()))
    }

    /// Votes, or notes that the node abstains because the signing guard would refuse. Observers pass through the same
    /// times without a vote.
    pub(super) fn vote(&mut self, now: u64, round: &mut Round, out: &mut Vec<Effect>) {
        let height = round.context.height;
        let may = self.account.is_some_and(|account| self.is_voter_on(round, &account));
        if may && self.signed.last_vote.is_none_or(|last| last < height) {
            let highest = self.signed.highest_justified;
            let choice = self.choose(now, round, |block| block.meta.justified.height >= highest);
            if let Some(block) = choice {
                let (checkpoint, justified) = (block.checkpoint(), block.meta.justified.height);
                self.signed.last_vote = Some(height);
                self.signed.highest_justified = justified;
                self.decided.insert(height, now);
                out.push(Effect::CastVote { block: checkpoint, justified, ready: self.ready.clone() });
                return;
            }
        }
        if !self.decided.contains_key(&height) && self.choose(now, round, |_| true).is_some() {
            self.decided.insert(height, now);
        }
    }

    fn is_voter_on(&self, round: &Round, account: &podl_chain_spec::AccountId) -> bool {
        self.tree.meta(&round.context.parent.block).is_some_and(|meta| meta.seats.is_voter(account))
    }

    /// What is to be voted for now among the blocks that `permitted` permits.
    fn choose(&self, now: u64, round: &Round, permitted: impl Fn(&TreeBlock) -> bool) -> Option<&TreeBlock> {
        let parent = round.context.parent.block;
        let children = || self.tree.children(&parent).filter(|block| permitted(block));
        let backed = children().filter(|block| self.is_backed(&block.hash));
        if let Some(block) = backed.min_by_key(|block| block.rank) {
            return Some(block);
        }
        let in_fallback = round.timeline.fallback.is_some();
        let due = round.timeline.vote_due(&self.phases).is_some_and(|due| due <= now) || self.all_checked(round);
        if in_fallback || due {
            let scored = children().filter(|b| b.rank.is_scored() && (in_fallback || self.in_time(round, &b.hash)));
            if let Some(block) = scored.min_by_key(|block| block.rank) {
                return Some(block);
            }
        }
        let turn_come = |block: &TreeBlock| {
            !block.rank.is_scored() && round.timeline.view_due(&self.phases, block.view).is_some_and(|due| due <= now)
        };
        let in_turn = || children().filter(|block| turn_come(block));
        let lowest = |blocks: &mut dyn Iterator<Item = &'_ TreeBlock>| -> Option<BlockHash> {
            blocks.min_by_key(|block| (block.view, block.rank)).map(|block| block.hash)
        };
        // Who holds the key knows that the publisher released it, and calls the round void only as a last resort.
        let chosen = if self.key_of(round).is_some() {
            let void_due = round.timeline.void_due(&self.phases).is_some_and(|due| due <= now);
            lowest(&mut in_turn().filter(|block| block.kind != OutcomeKind::Void))
                .or_else(|| void_due.then(|| lowest(&mut in_turn())).flatten())
        } else {
            lowest(&mut in_turn())
        };
        chosen.and_then(|hash| self.tree.block(&hash))
    }
}
