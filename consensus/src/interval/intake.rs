//! Taking events in: what is kept, what is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::AccountId;

use super::candidates::Check;
use super::event::{Effect, Event};
use super::port::ChainView;
use super::round::{ClosingInsert, Round};
use super::votes::VoteInsert;
use super::{IntervalMachine, ROUNDS_BYTES, ROUNDS_KEPT};
use crate::rules::context_rules::may_follow;
use crate::shard::key_hash;
use crate::signed::Signed;
use crate::state::{Checkpoint, Meta};
use crate::tree::TreeBlock;
use crate::types::{BlockHash, Commitment, Evidence, ListedClosing, READY_CAP, ShardKey, SignedVote};
use crate::verified::{Verified, VerifiedBlock};

/// Messages kept that came before their parent, a few seconds' worth.
const EARLY_KEPT: usize = 256;
/// Of these, of one signer: what it may have on two parents.
pub(super) const EARLY_OF_SIGNER: usize = 6;
/// Of these, closings, which carry whole lists.
const EARLY_CLOSINGS: usize = 32;
/// Keys kept for intervals that are not known yet.
const KEYS_KEPT: usize = 32;

/// Who signed a message that can come before its parent.
fn signer_of(event: &Event) -> Option<AccountId> {
    match event {
        Event::Commitment(commitment) => Some(commitment.message.owner),
        Event::Closing(closing) => Some(closing.closing.message.seat),
        _ => None,
    }
}

impl IntervalMachine {
    pub(super) fn take(&mut self, now: u64, event: Event, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        match event {
            Event::Commitment(commitment) => self.on_commitment(commitment, chain),
            Event::Closing(closing) => self.on_closing(closing, chain, out),
            Event::Key(key) => self.on_key(key),
            Event::ShardChecked { key_hash, opens } => self.on_shard_checked(key_hash, opens),
            Event::Candidate(block) => self.on_candidate(now, block, chain, out),
            Event::CandidateRefused(hash) => self.on_checked(&hash, Check::Refused),
            Event::CandidateUnavailable(hash) => {
                let retry = now + self.phases.view_ms;
                self.on_checked(&hash, Check::Unavailable { retry });
            }
            Event::BlockImported(block, meta) => self.on_imported(now, block, meta, chain, out),
            Event::Proposing { parent, is_under_way } => {
                let signed_before = self.signed.blocks.contains(&parent);
                if let Some(round) = self.rounds.get_mut(&parent) {
                    round.signed_block = is_under_way || signed_before;
                }
            }
            Event::Vote(vote) => self.on_vote(now, vote, out),
            Event::ReadyTasks(mut tasks) => {
                tasks.truncate(READY_CAP);
                tasks.sort_unstable();
                tasks.dedup();
                self.ready = tasks;
            }
            Event::CatchingUp(catching_up) => self.catching_up = catching_up,
            Event::Tick => {}
        }
    }

    /// What is known of the interval on a block of the tree. `None` if the block is not there.
    pub(super) fn round_mut(&mut self, parent: &BlockHash, chain: &dyn ChainView) -> Option<&mut Round> {
        if !self.tree.contains(parent) {
            return None;
        }
        if !self.rounds.contains_key(parent) {
            let mut round = Round::new(chain.interval(parent)?);
            round.signed_block = self.signed.blocks.contains(parent);
            round.key_seen = round.context.key_hash().is_some_and(|hash| self.keys.iter().any(|(k, _)| *k == hash));
            self.rounds.insert(*parent, round);
            self.evict_rounds(parent);
        }
        self.rounds.get_mut(parent)
    }

    /// Keeps the base's interval, the one just changed, and of the others the highest, as many as there is room for.
    fn evict_rounds(&mut self, made: &BlockHash) {
        let bytes = |rounds: &BTreeMap<BlockHash, Round>| -> usize {
            rounds.values().map(|round| round.candidates.spare_bytes()).sum()
        };
        while self.rounds.len() > ROUNDS_KEPT || bytes(&self.rounds) > ROUNDS_BYTES {
            let spare = self.rounds.iter().filter(|(parent, _)| **parent != self.base.block && *parent != made);
            let Some(lowest) = spare.map(|(_, round)| round.context.parent).min() else { return };
            self.rounds.remove(&lowest.block);
        }
    }

    /// Keeps a message until its parent comes, if its signer has not filled his part of the room.
    fn keep_early(&mut self, event: Event) {
        if signer_of(&event).is_some_and(|signer| self.early_of(&signer) >= EARLY_OF_SIGNER) {
            return;
        }
        let is_closing = |event: &Event| matches!(event, Event::Closing(..));
        if is_closing(&event) && self.early.iter().filter(|e| is_closing(e)).count() >= EARLY_CLOSINGS {
            let first = self.early.iter().position(is_closing);
            first.and_then(|place| self.early.remove(place));
        }
        if self.early.len() >= EARLY_KEPT {
            self.early.pop_front();
        }
        self.early.push_back(event);
    }

    /// How many messages of a signer wait for their parents.
    pub(super) fn early_of(&self, signer: &AccountId) -> usize {
        self.early.iter().filter(|early| signer_of(early) == Some(*signer)).count()
    }

    /// Takes what came before this block did.
    fn replay_early(&mut self, now: u64, parent: &BlockHash, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        let waiting = |event: &Event| match event {
            Event::Commitment(c) => c.message.parent == *parent,
            Event::Closing(c) => c.closing.message.parent == *parent,
            _ => false,
        };
        let (now_known, rest) = std::mem::take(&mut self.early).into_iter().partition::<Vec<_>, _>(waiting);
        self.early = rest.into();
        now_known.into_iter().for_each(|event| self.take(now, event, chain, out));
    }

    fn on_commitment(&mut self, commitment: Verified<Signed<Commitment>>, chain: &dyn ChainView) {
        let (parent, owner) = (commitment.message.parent, commitment.message.owner);
        if !self.tree.contains(&parent) {
            return self.keep_early(Event::Commitment(commitment));
        }
        let limits = self.limits.clone();
        let Some(round) = self.round_mut(&parent, chain) else { return };
        round.hear(owner);
        let fees = round.context.commitment_fee.checked_mul(round.commitments_of(&owner) as u64 + 1);
        if fees.is_some_and(|fees| chain.can_spend(&parent, &owner, fees)) {
            round.add_commitment(commitment, &limits);
        }
    }

    fn on_closing(&mut self, closing: Verified<ListedClosing>, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        let parent = closing.closing.message.parent;
        if !self.tree.contains(&parent) {
            return self.keep_early(Event::Closing(closing));
        }
        let Some(round) = self.round_mut(&parent, chain) else { return };
        if let ClosingInsert::Equivocation(evidence) = round.add_closing(closing) {
            out.push(Effect::Equivocation(evidence));
        }
    }

    fn on_key(&mut self, key: ShardKey) {
        let hash = key_hash(&key);
        if self.keys.iter().any(|(known, _)| *known == hash) {
            return;
        }
        let needed = |hash: &_| self.rounds.values().any(|round| round.context.key_hash() == Some(*hash));
        if self.keys.len() >= KEYS_KEPT {
            // A flood of made-up keys pushes out made-up keys only, once the interval is known.
            let spare = self.keys.iter().position(|(known, _)| !needed(known)).unwrap_or(0);
            self.keys.remove(spare);
        }
        self.keys.push_back((hash, key));
        for round in self.rounds.values_mut().filter(|round| round.context.key_hash() == Some(hash)) {
            round.key_seen = true;
        }
    }

    fn on_shard_checked(&mut self, hash: podl_chain_spec::Hash32, opens: bool) {
        if opens || self.bad_keys.contains(&hash) {
            return;
        }
        if self.bad_keys.len() >= KEYS_KEPT {
            self.bad_keys.pop_front();
        }
        self.bad_keys.push_back(hash);
        for round in self.rounds.values_mut().filter(|round| round.context.key_hash() == Some(hash)) {
            round.timeline.opened = None;
        }
    }

    fn on_vote(&mut self, now: u64, vote: Verified<SignedVote>, out: &mut Vec<Effect>) {
        if Some(vote.message.seat) == self.account {
            self.resend.own_vote(&vote, now, self.phases.view_ms);
        }
        if let VoteInsert::Equivocation(evidence) = self.votes.insert(vote) {
            out.push(Effect::Equivocation(evidence));
        }
    }

    fn on_checked(&mut self, hash: &BlockHash, check: Check) {
        self.rounds.values_mut().for_each(|round| round.candidates.set(hash, check));
    }

    fn on_candidate(&mut self, now: u64, block: VerifiedBlock, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        let (hash, parent) = (block.hash(), block.parent());
        if self.tree.contains(&hash) {
            return;
        }
        let is_voted = self.votes.names(block.height(), &hash);
        let most_scored = self.limits.list_cap as usize;
        let account = self.account;
        let Some(round) = self.round_mut(&parent, chain) else { return };
        if !may_follow(&round.context, &block) {
            return;
        }
        round.signed_block |= Some(block.header.message.producer) == account;
        let twin = round.candidates.twin(&block).map(|twin| (twin.header.clone(), block.header.clone()));
        if !round.candidates.add(block.clone(), now, most_scored, is_voted) {
            return;
        }
        if let Some(both) = twin {
            out.push(Effect::Equivocation(Box::new(Evidence::Blocks(Box::new(both)))));
        }
        self.evict_rounds(&parent);
        self.absorb(now, &block, chain, out);
    }

    /// Takes what a block carries as if it had come alone, so that a node that missed messages catches up.
    fn absorb(&mut self, now: u64, block: &VerifiedBlock, chain: &dyn ChainView, out: &mut Vec<Effect>) {
        if let Some(key) = block.body.outcome.key() {
            self.on_key(*key);
        }
        let known = self.rounds.get(&block.parent());
        let closings = block.closings(|closing| {
            let known = known.and_then(|round| round.closing(&closing.seat));
            known.is_none_or(|known| known.closing.signature != closing.signature)
        });
        for closing in closings {
            self.on_closing(closing, chain, out);
        }
        for vote in block.votes() {
            self.on_vote(now, vote, out);
        }
    }

    fn on_imported(
        &mut self,
        now: u64,
        block: VerifiedBlock,
        meta: Arc<Meta>,
        chain: &dyn ChainView,
        out: &mut Vec<Effect>,
    ) {
        let (hash, parent) = (block.hash(), block.parent());
        let final_block = meta.finalised;
        if self.tree.contains(&hash) || self.tree.insert(TreeBlock::new(&block, meta)).is_err() {
            return;
        }
        // While catching up nobody needs the intervals of the past.
        let wanted = self.rounds.contains_key(&parent) || (!self.catching_up && block.height() > self.base.height);
        let account = self.account;
        if let Some(round) = wanted.then(|| self.round_mut(&parent, chain)).flatten() {
            round.signed_block |= Some(block.header.message.producer) == account;
            round.candidates.set_valid(block.clone(), now);
        }
        self.votes.follow(&self.tree);
        if wanted {
            self.absorb(now, &block, chain, out);
        } else {
            block.votes().for_each(|vote| self.on_vote(now, vote, out));
        }
        self.finalise(final_block, out);
        self.replay_early(now, &hash, chain, out);
    }

    /// Follows finality as far as it is on the node's branch: a final block elsewhere never makes it switch.
    fn finalise(&mut self, block: Checkpoint, out: &mut Vec<Effect>) {
        if block.height <= self.tree.root().height {
            return;
        }
        let newly_final: Vec<Checkpoint> = self.tree.finalise(&block.block).iter().map(TreeBlock::checkpoint).collect();
        if newly_final.is_empty() {
            return;
        }
        out.push(Effect::Finalised(newly_final));
        self.votes.follow(&self.tree);
        let tree = &self.tree;
        self.rounds.retain(|parent, _| tree.contains(parent));
        self.decided.retain(|height, _| *height > tree.root().height);
    }
}
