//! Blocks of this node's own: built, passed through the checks that others apply, and only then signed.
//!
//! # Correctness
//! The guard gives the key's one block on a parent away for a block that keeps every rule, its work included; see
//! [`podl_consensus::chain::Chain::propose`]. While a block is being checked the machine proposes no other one on that
//! parent. Where none that others would take can be made, it proposes nothing on it any more; where the work could not be
//! checked now, its next turn may bring another block.

use podl_consensus::chain::{CheckedProposal, Claim, Proposed};
use podl_consensus::interval::Event;
use podl_consensus::rules::{BlockError, WorkJob};
use podl_consensus::state::Checkpoint;
use podl_consensus::types::BlockHash;

use super::{Core, CoreError};
use crate::service::signer::Signer;
use crate::service::worker::Job;
use podl_engine::wire::Gossip;

impl Core {
    /// Builds a block on a parent and has it checked.
    pub(super) fn propose_block(&mut self, parent: Checkpoint, view: u32, claim: Claim) -> Result<(), CoreError> {
        let Some(producer) = self.signer.as_ref().map(Signer::account) else { return Ok(()) };
        let parts = self.block_parts(parent);
        self.events.push_back(Event::Proposing { parent: parent.block, is_under_way: true });
        match self.view.chain.propose(parent.block, producer, view, claim, parts) {
            Ok(proposed) => self.check_own(parent, proposed),
            Err(error) => {
                tracing::error!(height = parent.height + 1, %error, "this node proposes nothing on this parent");
                Ok(())
            }
        }
    }

    fn check_own(&mut self, parent: Checkpoint, proposed: Proposed) -> Result<(), CoreError> {
        for error in proposed.refused() {
            tracing::error!(height = parent.height + 1, %error, "others would refuse a part of this block: it is left out");
        }
        for (id, reason) in &proposed.unsigned().left_out {
            tracing::debug!(transaction = %id.short(), %reason, "left out");
        }
        // Where there is no work nothing waits for the worker, which may be busy for seconds.
        let proposed = match proposed.without_work() {
            Ok(checked) => return self.on_own_checked(parent.block, Ok(checked)),
            Err(proposed) => proposed,
        };
        let blobs = proposed.job().map(WorkJob::blobs).unwrap_or_default();
        // Kept while they are read, as those of others' blocks are.
        let name = proposed.unsigned().header.hash();
        self.imports.begin_own(name, blobs.into_iter().map(|blob| blob.root).collect());
        self.worker.post(Job::CheckOwn { proposed })
    }

    /// Signs a block that passed every check, sends it, and takes it in.
    pub(super) fn on_own_checked(
        &mut self,
        parent: BlockHash,
        result: Result<CheckedProposal, (BlockHash, BlockError)>,
    ) -> Result<(), CoreError> {
        let checked = match result {
            Ok(checked) => checked,
            Err((name, error)) => {
                self.imports.end_own(&name);
                tracing::error!(block = %name.short(), %error, "this node's block is not signed: its work could not be checked");
                return self.drive(Event::Proposing { parent, is_under_way: false });
            }
        };
        self.imports.end_own(&checked.header().hash());
        if !self.view.chain.contains(&parent) || checked.header().height <= self.finalised().height {
            tracing::info!(height = checked.header().height, "this node's block comes too late, it is not signed");
            return Ok(());
        }
        let header = checked.header().clone();
        let Some(header) = self.signed("block", |signer| signer.header(header))? else { return Ok(()) };
        let checked = match checked.signed(header) {
            Ok(checked) => checked,
            Err(error) => {
                // The guard gave out an earlier block of this parent, of before a restart: that one may be on its way.
                tracing::info!(%error, "this key has signed another block on this parent");
                return Ok(());
            }
        };
        self.publish(&Gossip::Block(Box::new(checked.block().as_ref().clone().into_inner())));
        self.siblings.take(checked.block());
        match self.view.chain.commit(checked) {
            Ok(imported) => self.take_imported(imported),
            // The chain has moved past the parent meanwhile.
            Err(error) => {
                tracing::debug!(%error, "this node's own block came too late");
                Ok(())
            }
        }
    }
}
