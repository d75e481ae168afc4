//! The machine, row by row of the table in docs/protocol.md, over a real chain.

mod fallback;
mod floods;
mod flow;
mod votes;

use std::sync::Arc;

use podl_chain_spec::AccountId;

use super::{Effect, Event, IntervalMachine};
use crate::guard::Guard;
use crate::state::{Checkpoint, genesis_checkpoint};
use crate::testkit::{Harness, Round, account, small_spec, unchecked};
use crate::types::{BlockHash, ClosingList, ShardKey};
use crate::verified::VerifiedBlock;

/// Four seats, accounts 0 to 3, and miners from 10 on. The dev chain's phases: D 9500, close 4000, release 4000, reveal
/// 2500, validate 2500, view 2000.
pub(super) struct Bed {
    pub h: Harness,
    pub m: IntervalMachine,
    pub now: u64,
    me: AccountId,
}

pub(super) const D: u64 = 9_500;
pub(super) const VIEW: u64 = 2_000;

impl Bed {
    /// The machine of seat `me`, at genesis, at time 0.
    pub fn new(me: u64) -> Self {
        let h = Harness::new(small_spec(4, 24));
        let guard = Guard::new(account(me));
        let root = genesis_checkpoint(h.chain.spec());
        let m = IntervalMachine::new(h.chain.spec(), root, h.meta(root.block), Some(&guard));
        let mut bed = Self { h, m, now: 0, me: account(me) };
        bed.at(0);
        bed
    }

    /// The same with an open task, on the block that opened it, whose interval just began.
    pub fn with_task(me: u64) -> (Self, BlockHash) {
        let mut bed = Self::new(me);
        let genesis = bed.h.genesis();
        let (_, opened) = bed.h.open_task(genesis, 9, 3);
        let entry = bed.h.chain.block(&opened).unwrap().clone();
        let parent = entry.block.parent();
        let first = bed.h.chain.block(&parent).unwrap().clone();
        bed.feed(Event::CatchingUp(true));
        bed.feed(Event::BlockImported(first.block, first.meta));
        bed.feed(Event::BlockImported(entry.block, entry.meta));
        bed.others_vote(opened, &[0, 1, 2, 3]);
        bed.feed(Event::CatchingUp(false));
        assert_eq!(bed.m.base().block, opened);
        (bed, opened)
    }

    pub fn feed(&mut self, event: Event) -> Vec<Effect> {
        self.m.handle(self.now, event, &self.h.chain)
    }

    /// Lets time pass to `now`, with a tick at every deadline, and returns all effects.
    pub fn at(&mut self, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let next = self.m.next_deadline_ms(self.now);
            assert!(next > self.now);
            self.now = next.min(now).max(self.now);
            effects.extend(self.feed(Event::Tick));
            if self.now >= now {
                return effects;
            }
        }
    }

    pub fn base(&self) -> BlockHash {
        self.m.base().block
    }

    /// A commitment of a miner on the base; also given to the machine.
    pub fn commit(&mut self, owner: u64, correct: u32) -> Round {
        let round = self.h.commit(self.base(), owner, correct);
        self.feed(Event::Commitment(unchecked(round.commitment.clone())));
        round
    }

    /// Closings of these seats on the base.
    pub fn others_close(&mut self, seats: &[u64], rounds: &[Round]) -> Vec<Effect> {
        let parent = self.base();
        let closings: Vec<_> = seats.iter().map(|seat| self.h.closing(parent, &account(*seat), rounds)).collect();
        closings.into_iter().flat_map(|closing| self.feed(Event::Closing(closing))).collect()
    }

    /// Votes of these seats for a block.
    pub fn others_vote(&mut self, block: BlockHash, seats: &[u64]) -> Vec<Effect> {
        let votes: Vec<_> = seats.iter().map(|seat| self.h.vote(&account(*seat), block, &[])).collect();
        votes.into_iter().flat_map(|vote| self.feed(Event::Vote(vote))).collect()
    }

    /// A candidate that opens a round, with the closings of all seats that list these rounds.
    pub fn candidate(&mut self, round: &Round, listed: &[Round], key: Option<ShardKey>) -> VerifiedBlock {
        let parent = self.base();
        let seats = self.h.interval(parent).seats;
        let closings = self.h.closings(parent, &seats, listed);
        let producer = account(round.owner);
        let parts = self.h.parts(parent);
        let built = self.h.chain.build_scored(parent, producer, parts, closings, round.opening.clone(), key).unwrap();
        Arc::new(unchecked(built.sign(self.h.key_of(&producer))))
    }

    /// An idle block of a view on the base.
    pub fn idle(&mut self, view: u32, key: Option<ShardKey>) -> VerifiedBlock {
        let parent = self.base();
        Arc::new(unchecked(self.h.idle(parent, view, key, self.h.parts(parent))))
    }

    /// Shows a block to the machine.
    pub fn show(&mut self, block: &VerifiedBlock) -> Vec<Effect> {
        self.feed(Event::Candidate(block.clone()))
    }

    /// Validates a block as a node does when asked to, and tells the machine.
    pub fn validate(&mut self, block: &VerifiedBlock) -> Vec<Effect> {
        let imported = self.h.import((***block).clone()).expect("valid");
        self.feed(Event::BlockImported(imported.block, imported.meta))
    }

    /// Signs the vote that the machine asked for and gives it back.
    pub fn obey(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let block = voted(effects).expect("a vote").block;
        let vote = self.h.vote(&self.me.clone(), block, &[]);
        self.feed(Event::Vote(vote))
    }
}

/// The block that is voted for.
pub(super) fn voted(effects: &[Effect]) -> Option<Checkpoint> {
    effects.iter().find_map(|effect| match effect {
        Effect::CastVote { block, .. } => Some(*block),
        _ => None,
    })
}

/// The list of the closing that is to be signed.
pub(super) fn closed(effects: &[Effect]) -> Option<ClosingList> {
    effects.iter().find_map(|effect| match effect {
        Effect::SignClosing { list, .. } => Some(list.clone()),
        _ => None,
    })
}

/// Hashes of the blocks to be validated.
pub(super) fn to_validate(effects: &[Effect]) -> Vec<BlockHash> {
    let block = |effect: &Effect| match effect {
        Effect::ValidateCandidate(block) => Some(block.hash()),
        _ => None,
    };
    effects.iter().filter_map(block).collect()
}

/// View, kind and key of the proposal that is to be made.
pub(super) fn proposed(effects: &[Effect]) -> Option<(u32, crate::types::OutcomeKind, Option<ShardKey>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Propose { view, kind, key, .. } => Some((*view, *kind, *key)),
        _ => None,
    })
}
