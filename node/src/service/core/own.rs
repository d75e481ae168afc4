//! This node's own commitments: signed, kept on disk, opened when the shard is.

use std::collections::BTreeMap;

use podl_chain_spec::Hash32;
use podl_consensus::chain::{Claim, Imported};
use podl_consensus::codec;
use podl_consensus::hash::blob_root;
use podl_consensus::interval::{ChainView, Event, Phase};
use podl_consensus::signed::Signed;
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{BlockHash, Commitment, Height, ModelRoot, Opening, Outcome, ShardKey, commitment_id};
use podl_consensus::verified::Verified;
use podl_storage::{Aux, Batch, Database, StorageError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Core, CoreError};
use crate::sealed;
use crate::service::mining::{Committed, MiningEvent, OwnInterval, OwnModel, ScoredOwn, WonBlock};
use crate::service::signer::Signer;
use crate::service::worker::Job;
use podl_engine::wire::Gossip;

/// Bytes of such a row at most: a payout to as many miners as a batch carries, several times over.
pub(super) const ROW_BYTES: usize = 1 << 21;
/// How far below the last final block own blocks are remembered, for a pool manager that was away.
const WON_KEPT: Height = 1_000;

/// Rows of one kind that are named by a block, as they were before a restart.
pub(super) fn load<T: Serialize + DeserializeOwned>(
    db: &Database,
    kind: Aux,
    what: &str,
) -> Result<BTreeMap<BlockHash, T>, StorageError> {
    load_with(db, kind, what, |row| codec::decode(row, ROW_BYTES).ok())
}

/// The same with rows that are read in a way of their own.
pub(super) fn load_with<T>(
    db: &Database,
    kind: Aux,
    what: &str,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<BTreeMap<BlockHash, T>, StorageError> {
    let damaged = || StorageError::Damaged { what: format!("a row of {what}") };
    let read = |(key, row): (Vec<u8>, Vec<u8>)| {
        let block = Hash32(key.try_into().map_err(|_| damaged())?);
        Ok((block, decode(&row).ok_or_else(damaged)?))
    };
    db.aux_rows(kind)?.into_iter().map(read).collect()
}

impl Core {
    /// Tells the miner of the interval that the node trains in, if it does.
    pub(super) fn announce_interval(&mut self) {
        let Some((parent, Phase::Train)) = self.machine.phase() else { return };
        let Some(interval) = self.view.interval(&parent.block) else { return };
        let elapsed = self.clock.now_ms().saturating_sub(self.phase_since_ms);
        let train_ms = self.spec.min_interval_ms().saturating_sub(elapsed);
        self.tell_miner(MiningEvent::Interval { interval, train_ms });
    }

    /// Commits to a model in the current interval, or tells the miner that it cannot.
    pub(super) fn on_commit(&mut self, committed: Committed) -> Result<(), CoreError> {
        let (parent, model_root) = (committed.parent, blob_root(&committed.artefact));
        if !self.commit(committed, model_root)? {
            self.tell_miner(MiningEvent::CommitFailed { parent, model_root });
        }
        Ok(())
    }

    /// Whether the model is committed to: there is still time, the account can pay, the artefact can be stored.
    fn commit(&mut self, committed: Committed, root: ModelRoot) -> Result<bool, CoreError> {
        let Committed { parent, artefact } = committed;
        let is_open = self.machine.phase().is_some_and(|(at, phase)| at.block == parent && phase == Phase::Train);
        let Some(interval) = self.view.interval(&parent).filter(|_| is_open) else {
            tracing::info!("a model came too late to be committed");
            return Ok(false);
        };
        let Some(owner) = self.signer.as_ref().map(Signer::account) else { return Ok(false) };
        let before = self.own.get(&parent).map_or(0, |own| own.models.len());
        let count = u8::try_from(before + 1).unwrap_or(u8::MAX);
        let again = self.own.get(&parent).is_some_and(|own| own.models.iter().any(|m| m.model_root == root));
        if again || count > self.spec.limits.commitments_per_owner || !self.view.can_commit(&parent, &owner, count) {
            tracing::info!(before, again, "no further commitment: the limit or the balance of the account is reached");
            return Ok(again);
        }
        let (Ok(salt), Ok(artefact_bytes)) = (sealed::random::<32>(), u32::try_from(artefact.len())) else {
            return Ok(false);
        };
        if let Err(error) = self.network.blobs().insert(&artefact) {
            tracing::error!(%error, "the model cannot be stored, so it is not committed");
            return Ok(false);
        }
        let id = commitment_id(&self.chain_hash, &parent, &interval.task, interval.round, &owner, &root, &salt);
        let message = Commitment { parent, task: interval.task, round: interval.round, owner, id };
        let model = OwnModel { commitment: message.hash(), model_root: root, artefact_bytes, salt };
        self.keep(&parent, interval.height, model)?;
        self.send_commitment(message, count)?;
        Ok(true)
    }

    /// The salt is on disk before the commitment leaves: a commitment that cannot be opened only costs its fee.
    fn keep(&mut self, parent: &BlockHash, height: Height, model: OwnModel) -> Result<(), CoreError> {
        let own = self.own.entry(*parent).or_insert_with(|| OwnInterval { height, models: Vec::new() });
        own.models.push(model);
        let mut batch = self.db.batch();
        batch.put_aux(Aux::Commitments, parent.as_bytes(), &codec::encode(own))?;
        Ok(self.db.commit(batch)?)
    }

    fn send_commitment(&mut self, message: Commitment, count: u8) -> Result<(), CoreError> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let signed = Signed::new(message, &self.chain_hash, signer.wallet().key());
        tracing::info!(count, "model committed");
        match Verified::check(&self.spec, &self.chain_hash, signed) {
            Ok(signed) => {
                self.publish(&Gossip::Commitment((*signed).clone()));
                self.drive(Event::Commitment(signed))
            }
            Err(error) => {
                tracing::error!(%error, "this node's own commitment is not sent");
                Ok(())
            }
        }
    }

    /// Looks again whether a majority lists what this node committed to, after further closings.
    pub(super) fn open_when_listed(&mut self) -> Result<(), CoreError> {
        self.unlisted.take().map_or(Ok(()), |(parent, key)| self.open_candidates(parent, key))
    }

    /// The shard is open: score what this node committed to.
    pub(super) fn open_candidates(&mut self, parent: Checkpoint, key: Option<ShardKey>) -> Result<(), CoreError> {
        let Some(own) = self.own.get(&parent.block) else { return Ok(()) };
        // Only what a majority listed can be opened.
        let listed = |m: &&OwnModel| self.machine.majority_closings(&parent.block, Some(&m.commitment)).is_some();
        let models: Vec<OwnModel> = own.models.iter().filter(listed).cloned().collect();
        if models.is_empty() {
            // The first closings of a majority need not be those that list it: a seat that lists nobody may be among them,
            // and the others are on their way.
            let may_come = own.models.iter().any(|m| self.machine.may_be_listed(&parent.block, &m.commitment));
            if may_come && self.machine.base() == parent {
                self.unlisted = Some((parent, key));
            } else {
                tracing::info!("none of this node's commitments was listed by a majority");
            }
            return Ok(());
        }
        let Some(interval) = self.view.interval(&parent.block) else { return Ok(()) };
        match self.view.chain.shard_job(&interval, key) {
            Some(shard) => self.worker.post(Job::ScoreOwn { interval, key, shard: Box::new(shard), models }),
            None => {
                tracing::warn!("no key belongs to this interval, nothing to show");
                Ok(())
            }
        }
    }

    /// Shows the best of this node's models as a candidate.
    pub(super) fn on_scored_own(&mut self, scored: ScoredOwn) -> Result<(), CoreError> {
        let ScoredOwn { parent, key, best: Some((model, correct, mac_bits)) } = scored else { return Ok(()) };
        let Some(closings) = self.machine.majority_closings(&parent, Some(&model.commitment)) else { return Ok(()) };
        let Some(height) = self.view.chain.height(&parent) else { return Ok(()) };
        let OwnModel { model_root, artefact_bytes, salt, .. } = model;
        let opening = Opening { model_root, artefact_bytes, salt, correct, mac_bits };
        tracing::info!(height = height + 1, correct, "showing a candidate");
        self.propose_block(Checkpoint { height, block: parent }, 0, Claim::Scored { closings, opening, key })?;
        self.drive(Event::Tick)
    }

    /// Tells the miner when the head is a block of its own account.
    pub(super) fn tell_winner(&mut self, head: Checkpoint) {
        if let Some(won) = self.won.get(&head.block) {
            let won = *won;
            tracing::info!(height = won.height, paid = %won.paid, "this node's model won");
            self.tell_won(head.block, won);
        }
    }

    /// Tells the miner of a block of its own account, with the model that won it.
    fn tell_won(&mut self, block: BlockHash, won: WonBlock) {
        // Without the block, which only a failing disk hides, the pool shares the finder's bonus.
        let model = self.any_block(&block).ok().flatten().and_then(|block| match block.body.outcome {
            Outcome::Scored { opening, .. } => Some(opening.model_root),
            Outcome::Void { .. } | Outcome::Idle { .. } => None,
        });
        self.tell_miner(MiningEvent::Won { block, height: won.height, paid: won.paid, model });
    }

    /// Notes in a block's own batch what it pays this node's account for its model.
    pub(super) fn note_reward(&mut self, batch: &mut Batch<'_>, imported: &Imported) -> Result<(), StorageError> {
        use podl_consensus::execute::Event as ChainEvent;
        let Some(own) = self.signer.as_ref().map(Signer::account) else { return Ok(()) };
        let paid = imported.events.iter().find_map(|event| match event {
            ChainEvent::Rewarded { account, amount } if *account == own => Some(*amount),
            _ => None,
        });
        let Some(paid) = paid else { return Ok(()) };
        let won = WonBlock { height: imported.block.height(), paid };
        batch.put_aux(Aux::Won, imported.hash.as_bytes(), &codec::encode(&won))?;
        self.won.insert(imported.hash, won);
        Ok(())
    }

    /// Tells the miner which of its blocks are final and which are lost, and forgets those that are lost or long gone.
    pub(super) fn settle_won(&mut self, from: Height, to: Height) -> Result<(), CoreError> {
        let due: Vec<(BlockHash, WonBlock)> = self
            .won
            .iter()
            .filter(|(_, won)| (from..=to).contains(&won.height))
            .map(|(block, won)| (*block, *won))
            .collect();
        let mut forget: Vec<BlockHash> =
            self.won.iter().filter(|(_, won)| won.height + WON_KEPT < to).map(|(block, _)| *block).collect();
        for (block, won) in due {
            let is_final = self.db.final_hash(won.height)? == Some(block);
            if is_final {
                // While the node catches up no interval begins on its blocks, so this may be the first word of it.
                self.tell_won(block, won);
            } else {
                forget.push(block);
            }
            self.tell_miner(MiningEvent::Settled { block, is_final });
        }
        if forget.is_empty() {
            return Ok(());
        }
        let db = self.db.clone();
        let mut batch = db.batch();
        for block in &forget {
            self.won.remove(block);
            batch.delete_aux(Aux::Won, block.as_bytes())?;
        }
        Ok(db.commit(batch)?)
    }

    /// Tells a miner that was just connected what became of its blocks, as far as it may not have heard.
    pub(super) fn tell_all_won(&mut self) -> Result<(), CoreError> {
        let mut nowhere = self.mining.as_ref().map_or_else(Vec::new, |mining| mining.unsettled());
        nowhere.retain(|block| !self.won.contains_key(block));
        for block in nowhere {
            self.tell_miner(MiningEvent::Settled { block, is_final: false });
        }
        self.settle_won(0, self.finalised().height)?;
        let (base, final_height) = (self.machine.base(), self.finalised().height);
        let above = self.won.iter().filter(|(_, won)| won.height > final_height);
        let above: Vec<(BlockHash, WonBlock)> = above.map(|(block, won)| (*block, *won)).collect();
        for (block, won) in above {
            if self.view.chain.ancestor(&base.block, won.height) == Some(block) {
                self.tell_won(block, won);
            }
        }
        Ok(())
    }

    /// Forgets commitments on parents below the last final block.
    pub(super) fn forget_own(&mut self, final_height: Height) -> Result<(), CoreError> {
        let old: Vec<BlockHash> =
            self.own.iter().filter(|(_, own)| own.height < final_height).map(|(parent, _)| *parent).collect();
        if old.is_empty() {
            return Ok(());
        }
        let mut batch = self.db.batch();
        for parent in &old {
            self.own.remove(parent);
            batch.delete_aux(Aux::Commitments, parent.as_bytes())?;
        }
        Ok(self.db.commit(batch)?)
    }
}
