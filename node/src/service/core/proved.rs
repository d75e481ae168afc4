//! Blocks so old that their artefacts and shards are dropped everywhere but in archives: a proof stands in for the score
//! (docs/protocol.md, section 4).
//!
//! # Correctness
//! The proof is votes of a quorum of both seat sets on the block, carried by blocks that came with it. The sets are those of
//! its parent's state, which this node executed itself, back to genesis: as long as less than a third of the seats of any
//! time were dishonest, an honest seat checked the score. All other rules are checked as ever. Who would rather check
//! scores than believe seats keeps an archive, and syncs from one.

use std::collections::BTreeMap;

use podl_chain_spec::AccountId;
use podl_consensus::chain::Prepared;
use podl_consensus::finality::{is_quorum, voters_on};
use podl_consensus::types::{Block, Height, SignedVote};

use super::imports::ImportEnd;
use super::{Core, CoreError};
use crate::service::clock::unix_ms;
use crate::service::input::Input;

/// How the score of a block is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Score {
    /// By checking it.
    Checked,
    /// It is old, and seats vouch for it.
    Proved,
    /// It is old, and what could prove it comes with the next range.
    Later,
}

impl Core {
    pub(super) fn score_of(&self, block: &Block) -> Score {
        if self.pruning.keeps_all() || self.age_of(block) <= self.spec.limits.retain_blocks {
            return Score::Checked;
        }
        if self.is_vouched_for(block) {
            return Score::Proved;
        }
        // The last of several can wait; a block that is asked for alone must be fetched with all it needs.
        if self.imports.ends_range(&block.hash()) { Score::Later } else { Score::Checked }
    }

    /// Whether votes of a quorum of both sets came with the block. One vote of each that may vote is looked at, so that what
    /// a peer sends costs no more than the votes that there can be.
    fn is_vouched_for(&self, block: &Block) -> bool {
        let (hash, height) = (block.hash(), block.height());
        let Some(meta) = self.view.chain.meta(&block.parent()) else { return false };
        let Some(sets) = voters_on(meta, height) else { return false };
        let mut votes = BTreeMap::<AccountId, &SignedVote>::new();
        for vote in self.imports.votes_of_range(&hash) {
            if sets.is_voter(&vote.message.seat) {
                votes.entry(vote.message.seat).or_insert(vote);
            }
        }
        let valid = votes.into_iter().filter(|(_, vote)| vote.verify(&self.chain_hash).is_ok());
        is_quorum(meta, height, &valid.map(|(voter, _)| voter).collect::<Vec<_>>())
    }

    /// How many blocks there can be above this one: as many as peers claim, but no more than its own time allows, so that
    /// nobody's claim makes a young block old.
    fn age_of(&self, block: &Block) -> Height {
        let claimed = self.network_height().saturating_sub(block.height());
        let since_ms = unix_ms().saturating_sub(block.header.message.time_ms);
        claimed.min(since_ms / self.spec.min_interval_ms().max(1))
    }

    /// Takes the score of a block for proved. What comes of it goes through the queue, as if the worker had checked it.
    pub(super) fn take_proved(&mut self, block: &Block, prepared: Prepared) -> Result<(), CoreError> {
        let hash = block.hash();
        tracing::debug!(height = block.height(), block = %hash.short(), "an old block, vouched for by its seats");
        self.imports.begin_work(hash, Vec::new());
        let result = Box::new(Ok(prepared.trust_work()));
        if self.handle.offer(Input::Worked { hash, height: block.height(), result }) {
            return Ok(());
        }
        // A full queue: sync asks for the range again.
        self.imports.end_work(&hash);
        self.finish_import(&hash, ImportEnd::Unavailable)
    }
}
