//! Blocks of this node's own: built, passed through the checks that others apply, and only then signed.
//!
//! # Correctness
//! The guard gives the key's one block on a parent away for a block that keeps every rule, its work included; see
//! [`podl_consensus::chain::Chain::propose`]. Where no such block can be made, the machine hears of it and the key proposes
//! nothing on that parent.

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
        match self.view.chain.propose(parent.block, producer, view, claim, parts) {
            Ok(proposed) => self.check_own(parent, proposed),
            Err(error) => {
                tracing::error!(height = parent.height + 1, %error, "this node proposes nothing on this parent");
                self.events.push_back(Event::ProposalFailed(parent.block));
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
            Ok(checked) => return self.on_own_checked(Ok(checked)),
            Err(proposed) => proposed,
        };
        let blobs = proposed.job().map(WorkJob::blobs).unwrap_or_default();
        // Kept while they are read, as those of others' blocks are.
        let name = proposed.unsigned().header.hash();
        self.imports.begin_work(name, blobs.into_iter().map(|blob| blob.root).collect());
        self.worker.post(Job::CheckOwn { proposed })
    }

    /// Signs a block that passed every check, sends it, and takes it in.
    pub(super) fn on_own_checked(
        &mut self,
        result: Result<CheckedProposal, (BlockHash, BlockError)>,
    ) -> Result<(), CoreError> {
        let checked = match result {
            Ok(checked) => checked,
            Err((name, error)) => {
                self.imports.end_work(&name);
                tracing::error!(block = %name.short(), %error, "others would refuse this node's block: it is not signed");
                return Ok(());
            }
        };
        self.imports.end_work(&checked.header().hash());
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
