//! Misconduct: what faulty nodes send instead.

use std::sync::Arc;

use podl_consensus::interval::{Event, Message};
use podl_consensus::signed::Signed;
use podl_consensus::testkit::unchecked;
use podl_consensus::types::{Block, Closing, ClosingList, ListedClosing, SignedVote, Vote};
use podl_consensus::verified::VerifiedBlock;

use super::deliver::Wire;
use super::setup::Reveal;
use super::world::{Happening, World};

impl World {
    /// The others in two halves.
    fn halves(&mut self, node: usize) -> (Vec<usize>, Vec<usize>) {
        let salt = self.rng.next_u64();
        self.others(node).into_iter().partition(|other| (salt >> other) & 1 == 0)
    }

    /// To nobody, or to one node.
    pub(super) fn hold_back(&mut self, node: usize, message: Message) {
        if self.rng.chance(500) {
            let others = self.others(node);
            let one = others[self.rng.index(others.len())];
            self.send_part(node, &[one], &Wire::Gossip(message));
        }
    }

    /// One vote to one half, another one to the other: for a sibling if there is one.
    pub(super) fn vote_twice(&mut self, number: usize, vote: SignedVote) {
        let node = &self.nodes[number];
        let tree = node.machine.as_ref().map(podl_consensus::interval::IntervalMachine::tree);
        let parent = tree.and_then(|tree| tree.block(&vote.message.block)).map(|block| block.parent);
        let sibling = tree
            .zip(parent)
            .and_then(|(tree, parent)| tree.children(&parent).find(|child| child.hash != vote.message.block));
        let other = match sibling {
            Some(block) => Vote { block: block.hash, justified: block.meta.justified.height, ..vote.message.clone() },
            None => Vote { ready: vec![podl_chain_spec::Hash32([1; 32])], ..vote.message.clone() },
        };
        let other = Signed::new(other, &self.chain, &node.key);
        let (one, two) = self.halves(number);
        self.send_part(number, &one, &Wire::Gossip(Message::Vote(vote)));
        self.send_part(number, &two, &Wire::Gossip(Message::Vote(other)));
    }

    /// One closing to one half, an empty or shorter one to the other.
    pub(super) fn close_twice(&mut self, number: usize, listed: ListedClosing) {
        let node = &self.nodes[number];
        let list = ClosingList::new(listed.list.0.iter().skip(1).cloned());
        let message = Closing { list_root: list.root(), ..listed.closing.message.clone() };
        let other = ListedClosing { closing: Signed::new(message, &self.chain, &node.key), list };
        let (one, two) = self.halves(number);
        self.send_part(number, &one, &Wire::Gossip(Message::Closing(listed)));
        self.send_part(number, &two, &Wire::Gossip(Message::Closing(other)));
    }

    /// Shows a block to these nodes and to its own machine; an equivocator shows a second one to half of them.
    pub(super) fn show_block(&mut self, number: usize, block: VerifiedBlock, to: &[usize]) {
        self.feed(number, Event::Candidate(block.clone()));
        let twin = self.nodes[number].conduct.equivocate.then(|| self.twin(number, &block)).flatten();
        let Some(twin) = twin else { return self.send_part(number, to, &Wire::Gossip(Message::Block(block))) };
        let (one, two) = self.halves(number);
        self.send_part(number, &one, &Wire::Gossip(Message::Block(block)));
        self.send_part(number, &two, &Wire::Gossip(Message::Block(twin)));
    }

    /// Another valid block on the same parent: without votes.
    fn twin(&mut self, number: usize, block: &Block) -> Option<VerifiedBlock> {
        let mut parts = self.parts(number, &block.parent())?;
        parts.votes.clear();
        parts.time_ms += 1;
        let node = &self.nodes[number];
        let view = block.header.message.view;
        let unsigned = node.ledger.build(block.parent(), node.account, view, block.body.outcome.clone(), parts)?;
        let twin = Arc::new(unchecked(unsigned.sign(&node.key)));
        self.created.entry(twin.height()).or_default().push(twin.hash());
        Some(twin)
    }

    /// Shows a candidate as the node's conduct has it.
    pub(super) fn reveal(&mut self, number: usize, block: VerifiedBlock) {
        let others = self.others(number);
        let reveal_ms = self.spec.phases.reveal_ms;
        let later = |world: &mut Self, to: Vec<usize>, after: u64, block: &VerifiedBlock| {
            let wire = Wire::Gossip(Message::Block(block.clone()));
            world.schedule(world.now + after, Happening::Send { from: number, to, wire });
        };
        match self.nodes[number].conduct.reveal {
            Reveal::Honest => self.show_block(number, block, &others),
            Reveal::Split => {
                let (one, two) = self.halves(number);
                let after = reveal_ms + self.rng.below(800);
                later(self, two, after, &block);
                self.show_block(number, block, &one);
            }
            Reveal::Late => {
                let after = reveal_ms.saturating_sub(500) + self.rng.below(3000);
                later(self, others, after, &block);
                self.show_block(number, block, &[]);
            }
            Reveal::Withhold => {
                let one = others[self.rng.index(others.len())];
                let to: Vec<usize> = if self.rng.chance(500) { vec![one] } else { Vec::new() };
                self.show_block(number, block, &to);
            }
            Reveal::HideArtefact => {
                if let podl_consensus::types::Outcome::Scored { opening, .. } = &block.body.outcome {
                    self.hidden.insert(opening.model_root, self.now + self.rng.range(1500, 8000));
                }
                self.show_block(number, block, &others);
            }
        }
    }
}
