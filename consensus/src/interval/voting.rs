//! Which block a seat votes for, and when.

use std::cmp::Reverse;

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
            && round.candidates.best_is_checked(|c| self.in_time(round, &c.hash))
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

    /// Whether a candidate that claims more than the best valid one that came in time is known and not refuted: it came
    /// late, or is not checked yet. Others may have seen it in time.
    fn is_in_doubt(&self, round: &Round) -> bool {
        let in_time = self.valid_scored(round).filter(|block| self.in_time(round, &block.hash));
        let best = in_time.map(|block| block.rank).min();
        round.candidates.unrefuted().any(|rank| rank.is_scored() && best.is_none_or(|best| *rank < best))
    }

    /// Whether the node is done waiting for candidates: V has come, or nothing better can come. In doubt it waits a
    /// little longer for the votes of those who are not (docs/adr/0011).
    pub(super) fn has_waited(&self, now: u64, round: &Round) -> bool {
        let doubt = self.is_in_doubt(round);
        let line = &round.timeline;
        let due = if doubt { line.doubt_due(&self.phases) } else { line.vote_due(&self.phases) };
        due.is_some_and(|due| due <= now) || (!doubt && self.all_checked(round))
    }

    /// What is to be voted for now among the blocks that `permitted` permits.
    fn choose(&self, now: u64, round: &Round, permitted: impl Fn(&TreeBlock) -> bool) -> Option<&TreeBlock> {
        let parent = round.context.parent.block;
        let children: Vec<&TreeBlock> = self.tree.children(&parent).filter(|block| permitted(block)).collect();
        let backed = children.iter().filter(|block| self.is_backed(&block.hash)).min_by_key(|block| block.rank);
        backed
            .copied()
            .or_else(|| self.choose_pulled(now, round, &children))
            .or_else(|| self.choose_scored(now, round, &children))
            .or_else(|| self.choose_in_turn(now, round, &children))
    }

    /// The block that most others voted for.
    fn most_voted<'a>(&self, blocks: impl Iterator<Item = &'a TreeBlock>) -> Option<&'a TreeBlock> {
        let voted = blocks.map(|block| (self.votes.on(&self.tree, &block.hash).len(), block));
        let voted = voted.filter(|(votes, _)| *votes > 0);
        voted.max_by_key(|(votes, block)| (*votes, Reverse(block.rank))).map(|(_, block)| block)
    }

    /// What others voted for, a view after more than a third of the seats did so: without it groups of seats without a
    /// majority can stay an interval apart for good, each on its own clock (docs/adr/0012).
    fn choose_pulled<'a>(&self, now: u64, round: &Round, children: &[&'a TreeBlock]) -> Option<&'a TreeBlock> {
        round.timeline.pull_due(&self.phases).filter(|due| *due <= now)?;
        let no_void = self.shuns_void(now, round);
        let open = children.iter().copied().filter(|block| !no_void || block.kind != OutcomeKind::Void);
        self.most_voted(open)
    }

    /// Who holds the key knows that the publisher released it, and calls the round void only as a last resort.
    fn shuns_void(&self, now: u64, round: &Round) -> bool {
        let due = round.timeline.void_due(&self.phases).is_some_and(|due| due <= now);
        self.key_of(round).is_some() && !due
    }

    /// The best candidate that came in time; in doubt the one that most others voted for; in fallback any.
    fn choose_scored<'a>(&self, now: u64, round: &Round, children: &[&'a TreeBlock]) -> Option<&'a TreeBlock> {
        let in_fallback = round.timeline.fallback.is_some();
        if !in_fallback && !self.has_waited(now, round) {
            return None;
        }
        let scored = || children.iter().copied().filter(|block| block.rank.is_scored());
        let best = || {
            let open = scored().filter(|block| in_fallback || self.in_time(round, &block.hash));
            open.min_by_key(|block| block.rank)
        };
        self.is_in_doubt(round).then(|| self.most_voted(scored())).flatten().or_else(best)
    }

    /// The fallback block of the lowest view whose turn has come on the node's own clock.
    fn choose_in_turn<'a>(&self, now: u64, round: &Round, children: &[&'a TreeBlock]) -> Option<&'a TreeBlock> {
        let turn_come = |block: &TreeBlock| {
            !block.rank.is_scored() && round.timeline.view_due(&self.phases, block.view).is_some_and(|due| due <= now)
        };
        let in_turn = || children.iter().copied().filter(|block| turn_come(block));
        let lowest = |void: bool| {
            let blocks = in_turn().filter(|block| void || block.kind != OutcomeKind::Void);
            blocks.min_by_key(|block| (block.view, block.rank))
        };
        let void_too = (!self.shuns_void(now, round)).then(|| lowest(true)).flatten();
        if self.key_of(round).is_some() { lowest(false).or(void_too) } else { void_too }
    }
}
