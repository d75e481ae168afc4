//! Sending again and asking for what is missing: gossip loses messages, above all in partitions.

use std::collections::BTreeMap;

use super::IntervalMachine;
use super::event::{Effect, Message};
use super::round::Round;
use crate::types::{BlockHash, SignedVote};
use crate::verified::{Verified, VerifiedBlock};

/// Most blocks asked for at a time.
const WANTED: usize = 64;
/// Repeats slow down to one in so many views.
const SLOWEST_VIEWS: u64 = 16;

/// When something is sent next, and how long until the time after that.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    due: u64,
    step: u64,
}

impl Repeat {
    /// Whether it is due; if so it is put off for twice as long as before.
    fn ring(&mut self, now: u64, slowest: u64) -> bool {
        let rings = self.due <= now;
        if rings {
            self.due = now + self.step;
            self.step = (2 * self.step).min(slowest);
        }
        rings
    }
}

/// What is to be sent again, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Resend {
    vote: Option<(Verified<SignedVote>, Repeat)>,
    /// For the interval on this parent, once it is in fallback.
    round: Option<(BlockHash, Repeat)>,
    wanted: BTreeMap<BlockHash, Repeat>,
}

impl Resend {
    /// The node's own vote: sent again while no quorum is known for its block.
    pub fn own_vote(&mut self, vote: &Verified<SignedVote>, now: u64, view_ms: u64) {
        let newer = self.vote.as_ref().is_none_or(|(own, _)| own.message.height < vote.message.height);
        if newer {
            self.vote = Some((vote.clone(), Repeat { due: now + 2 * view_ms, step: 2 * view_ms }));
        }
    }

    /// Times at which something is due.
    pub fn due(&self) -> impl Iterator<Item = u64> {
        let vote = self.vote.iter().map(|(_, repeat)| repeat.due);
        let round = self.round.iter().map(|(_, repeat)| repeat.due);
        vote.chain(round).chain(self.wanted.values().map(|repeat| repeat.due))
    }
}

impl IntervalMachine {
    /// Emits what is due.
    pub(super) fn send_again(&mut self, now: u64, out: &mut Vec<Effect>) {
        let view_ms = self.phases.view_ms;
        let slowest = SLOWEST_VIEWS * view_ms;
        self.want_blocks(now, slowest, out);
        let (tree, votes) = (&self.tree, &self.votes);
        self.resend.vote.take_if(|(vote, _)| {
            vote.message.height <= tree.root().height || votes.has_quorum(tree, &vote.message.block)
        });
        if let Some((vote, repeat)) = &mut self.resend.vote
            && repeat.ring(now, slowest)
        {
            out.push(Effect::Rebroadcast(Message::Vote((**vote).clone())));
        }
        let base = self.base.block;
        self.resend.round.take_if(|(parent, _)| *parent != base);
        let Some(round) = self.rounds.get(&base).filter(|round| round.timeline.fallback.is_some()) else { return };
        let first = Repeat { due: now + view_ms, step: 2 * view_ms };
        if self.resend.round.get_or_insert((base, first)).1.ring(now, slowest) {
            self.send_round_again(round, out);
        }
    }

    /// The node's own closing and block of a stuck interval, and the key, which anyone may relay.
    fn send_round_again(&self, round: &Round, out: &mut Vec<Effect>) {
        let closing = self.account.and_then(|account| round.closing(&account));
        let closing = closing.map(|closing| Message::Closing((**closing).clone()));
        let key = self.key_of(round).map(Message::Key);
        let own = |block: &&VerifiedBlock| Some(block.header.message.producer) == self.account;
        let blocks = round.candidates.iter().map(|c| &c.block).filter(own).cloned().map(Message::Block);
        out.extend(closing.into_iter().chain(key).chain(blocks).map(Effect::Rebroadcast));
    }

    /// Asks for blocks that votes name: fork choice cannot count a vote for an unknown block.
    fn want_blocks(&mut self, now: u64, slowest: u64, out: &mut Vec<Effect>) {
        let step = self.phases.view_ms;
        let mut missing = self.votes.unknown_blocks(&self.tree);
        missing.retain(|hash, _| !self.rounds.values().any(|round| round.candidates.get(hash).is_some()));
        self.resend.wanted.retain(|hash, _| missing.contains_key(hash));
        // Those that most seats name first: made-up ones of a few hide nobody's.
        let mut missing: Vec<(BlockHash, usize)> = missing.into_iter().collect();
        missing.sort_by_key(|(_, seats)| std::cmp::Reverse(*seats));
        for (hash, _) in missing.into_iter().take(WANTED) {
            let repeat = self.resend.wanted.entry(hash).or_insert(Repeat { due: now, step });
            if repeat.ring(now, slowest) {
                out.push(Effect::FetchBlock(hash));
            }
        }
    }
}
