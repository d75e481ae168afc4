//! What nodes do about the effects of their machines.

use podl_consensus::chain::{BlockParts, Claim};
use podl_consensus::interval::{Effect, Event, Message, Phase};
use podl_consensus::shard::key_hash;
use podl_consensus::state::Checkpoint;
use podl_consensus::testkit::unchecked;
use podl_consensus::types::{BlockHash, ClosingList, ListedClosing, OutcomeKind, ShardKey, Vote};
use podl_consensus::verified::VerifiedBlock;

use super::deliver::Wire;
use super::monitor::Violation;
use super::world::{Happening, World};

/// Peers asked for a missing block at a time.
const ASKED: usize = 2;

impl World {
    pub(super) fn effect(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::SignClosing { parent, list } => self.close(node, parent, list),
            Effect::CastVote { block, justified, ready } => {
                let seat = self.nodes[node].account;
                self.vote(node, Vote { height: block.height, block: block.block, justified, ready, seat });
            }
            Effect::Propose { parent, view, kind, key } => self.propose(node, parent, view, kind, key),
            Effect::CollectionClosed { task, round, .. } => self.collection_closed(node, task, round),
            Effect::OpenCandidates { parent, key } => self.open_candidates(node, parent.block, key),
            Effect::CheckShard { parent, key } => {
                let opens = self.nodes[node].ledger.shard_opens(&parent.block, key);
                let event = Event::ShardChecked { key_hash: key_hash(&key), opens };
                let (life, at) = (self.nodes[node].life, self.now + self.rng.range(20, 80));
                self.schedule(at, Happening::Own { node, life, event });
            }
            Effect::ValidateCandidate(block) => {
                let scored = block.header.message.kind == OutcomeKind::Scored;
                let takes = if scored { self.rng.range(60, 600) } else { self.rng.range(3, 20) };
                let life = self.nodes[node].life;
                self.schedule(self.now + takes, Happening::Validated { node, life, block });
            }
            Effect::FetchBlock(hash) => self.fetch(node, hash),
            Effect::Rebroadcast(message) => self.broadcast(node, message),
            Effect::Equivocation(_) => self.monitor.report.evidence += u64::from(self.is_honest(node)),
            Effect::Finalised(blocks) => self.finalised(node, &blocks),
            Effect::PhaseChanged { parent, phase: Phase::Train } => self.training(node, parent.block),
            Effect::HeadChanged { .. } | Effect::PhaseChanged { .. } => {}
        }
    }

    fn refused_to(&mut self, node: usize, what: String) {
        if self.is_honest(node) {
            self.monitor.report.violations.push(Violation::Refused { at_ms: self.now, node, what });
        }
    }

    fn close(&mut self, number: usize, parent: Checkpoint, list: ClosingList) {
        let chain = self.chain;
        let node = &mut self.nodes[number];
        let permit = match node.guard.authorise_closing(parent.block, parent.height, list) {
            Ok(permit) => permit,
            Err(error) => return self.refused_to(number, error.to_string()),
        };
        let disk = &mut node.guard_disk;
        let signed = permit.sign(&chain, &node.key, |record| {
            *disk = record.to_bytes();
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(closing) = signed;
        // After a restart the guard answers with the closing that it signed before, and its list.
        let Some((_, list)) = node.guard.closing(&parent.block) else { return };
        let closing = ListedClosing { closing, list: list.clone() };
        self.feed(number, Event::Closing(unchecked(closing.clone())));
        if self.nodes[number].conduct.equivocate {
            return self.close_twice(number, closing);
        }
        self.broadcast(number, Message::Closing(closing));
    }

    fn vote(&mut self, number: usize, vote: Vote) {
        let chain = self.chain;
        let node = &mut self.nodes[number];
        let permit = match node.guard.authorise_vote(vote) {
            Ok(permit) => permit,
            Err(error) => return self.refused_to(number, error.to_string()),
        };
        let disk = &mut node.guard_disk;
        let signed = permit.sign(&chain, &node.key, |record| {
            *disk = record.to_bytes();
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(vote) = signed;
        self.feed(number, Event::Vote(unchecked(vote.clone())));
        if self.is_honest(number) {
            self.monitor.voted(self.now, number, &vote.message);
        }
        let conduct = self.nodes[number].conduct;
        if conduct.equivocate {
            self.vote_twice(number, vote);
        } else if conduct.withhold_votes {
            self.hold_back(number, Message::Vote(vote));
        } else {
            self.broadcast(number, Message::Vote(vote));
        }
    }

    fn propose(&mut self, node: usize, parent: Checkpoint, view: u32, kind: OutcomeKind, key: Option<ShardKey>) {
        let claim = match kind {
            OutcomeKind::Void => {
                let machine = self.nodes[node].machine.as_ref();
                let Some(closings) = machine.and_then(|m| m.majority_closings(&parent.block, None)) else { return };
                Claim::Void { closings }
            }
            OutcomeKind::Idle | OutcomeKind::Scored => Claim::Idle { key },
        };
        if let Some(block) = self.make_block(node, parent.block, view, claim) {
            let others = self.others(node);
            self.show_block(node, block, &others);
        }
    }

    /// Builds a block, checks it as others will, has the guard allow it and signs it. With other votes left out where
    /// conduct or setup say so.
    pub(super) fn make_block(
        &mut self,
        number: usize,
        parent: BlockHash,
        view: u32,
        claim: Claim,
    ) -> Option<VerifiedBlock> {
        let chain = self.chain;
        let parts = self.parts(number, &parent)?;
        let node = &mut self.nodes[number];
        let proposal = node.ledger.propose(parent, node.account, view, claim, parts)?;
        let permit = node.guard.authorise_block(proposal.header().clone()).ok()?;
        let disk = &mut node.guard_disk;
        let signed = permit.sign(&chain, &node.key, |record| {
            *disk = record.to_bytes();
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(header) = signed;
        let block = proposal.signed(header).ok()?.block().clone();
        self.created.entry(block.height()).or_default().push(block.hash());
        Some(block)
    }

    /// Votes, certificate and transactions for a block on `parent`.
    pub(super) fn parts(&self, number: usize, parent: &BlockHash) -> Option<BlockParts> {
        let node = &self.nodes[number];
        let machine = node.machine.as_ref()?;
        let height = machine.tree().height(parent)? + 1;
        let omits = self.setup.omit_at.get(&height).is_some_and(|nodes| nodes.contains(&number));
        let omit = node.conduct.omit_votes || omits;
        let (votes, certificate) =
            if omit { (Vec::new(), None) } else { (machine.votes_for(parent), machine.certificate_for(parent)) };
        let transactions = self.work.publish.iter().cloned().collect();
        let time_ms = self.spec.genesis.time_ms + self.now;
        Some(BlockParts { votes, certificate, transactions, time_ms })
    }

    fn fetch(&mut self, node: usize, hash: BlockHash) {
        let Some(machine) = &self.nodes[node].machine else { return };
        let above = machine.tree().root().height;
        let mut peers = self.others(node);
        peers.retain(|peer| self.groups[*peer] == self.groups[node] && self.nodes[*peer].is_up());
        for _ in 0..ASKED.min(peers.len()) {
            let peer = peers.swap_remove(self.rng.index(peers.len()));
            self.send(node, &[peer], &Wire::Fetch(hash, above));
        }
    }

    fn finalised(&mut self, number: usize, blocks: &[Checkpoint]) {
        let Some(last) = blocks.last() else { return };
        self.nodes[number].guard.prune(last.height);
        if !self.is_honest(number) {
            return;
        }
        for checkpoint in blocks {
            let kind = self.nodes[number].archive.get(&checkpoint.block).map(|block| block.header.message.kind);
            let kind = kind.unwrap_or(OutcomeKind::Idle);
            self.monitor.finalised(self.now, number, checkpoint.height, checkpoint.block, kind);
        }
    }
}
