//! What waits for a block: kept over restarts, told again while the network may not know it, and taken back when the
//! block that carried it loses.
//!
//! The rows on disk follow the mempool: on a timer, so that a kill loses little, and when the node stops. A row counts
//! for nothing by itself: at the start it goes through the same checks as a transaction from a stranger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::codec;
use podl_consensus::state::Checkpoint;
use podl_consensus::types::SignedTransaction;
use podl_consensus::verified::{Verified, VerifiedBlock};
use podl_storage::{Aux, StorageError};
use serde::{Deserialize, Serialize};

use super::{Core, CoreError};
use crate::service::signer::Signer;
use podl_engine::wire::Gossip;

/// How often the rows on disk are brought up to date, in milliseconds. One synced batch takes less than one.
const KEEP_EVERY_MS: u64 = 10_000;
/// Bytes of transactions kept on disk: some 40,000 transfers, whose signatures are checked in about a second at start.
const KEPT_BYTES: usize = 8 << 20;
/// How often own transactions are sent again, in milliseconds. Gossip drops what went round within five minutes, so
/// that this costs the network nothing while it works.
const TELL_EVERY_MS: u64 = 30_000;
/// After a first peer came: by then it has said which topics it takes.
const TELL_AFTER_PEER_MS: u64 = 3_000;
/// Transactions sent again at one time.
const TOLD_AT_ONCE: usize = 16;
/// Ids remembered of transactions that were given to this node by its users, oldest first.
const LOCAL_KEPT: usize = 1_024;
/// Lost blocks whose transactions are held until the head moves. Those of a longer branch are in other nodes' mempools
/// or gone.
const LOST_BLOCKS: usize = 16;

/// A waiting transaction on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    /// Whether it was given to this node, so that no other may know it.
    pub local: bool,
    pub transaction: SignedTransaction,
}

/// What is known of the waiting transactions besides the mempool.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Ids of the rows on disk, with their bytes.
    kept: BTreeMap<Hash32, usize>,
    /// Transactions that were given to this node.
    local: VecDeque<Hash32>,
    /// What was in blocks that lost, until the head has moved.
    lost: Vec<VerifiedBlock>,
    /// Where the next telling goes on.
    turn: usize,
    next_keep_ms: u64,
    next_tell_ms: u64,
}

impl Waiting {
    /// Notes a transaction that was given to this node.
    pub(super) fn note_local(&mut self, id: Hash32) {
        self.local.push_back(id);
        if self.local.len() > LOCAL_KEPT {
            self.local.pop_front();
        }
    }

    /// A first peer came: what waits is told soon.
    pub(super) fn tell_soon(&mut self, now_ms: u64) {
        self.next_tell_ms = self.next_tell_ms.min(now_ms + TELL_AFTER_PEER_MS);
    }
}

fn decode(spec: &ChainSpec, row: &[u8]) -> Option<Row> {
    codec::decode(row, spec.limits.transaction_bytes as usize + 16).ok()
}

impl Core {
    /// Takes back what waited when the node stopped. What is refused now leaves the disk.
    pub(super) fn restore_waiting(&mut self) -> Result<(), CoreError> {
        let mut refused = Vec::new();
        for (key, bytes) in self.db.aux_rows(Aux::Mempool)? {
            match self.restore_row(&bytes) {
                Some(id) => {
                    self.waiting.kept.insert(id, bytes.len());
                }
                None => refused.push(key),
            }
        }
        let taken = self.waiting.kept.len();
        if taken + refused.len() > 0 {
            tracing::info!(taken, refused = refused.len(), "transactions that waited when the node stopped");
        }
        let mut batch = self.db.batch();
        refused.iter().try_for_each(|key| batch.delete_aux(Aux::Mempool, key))?;
        Ok(self.db.commit(batch)?)
    }

    fn restore_row(&mut self, bytes: &[u8]) -> Option<Hash32> {
        let Row { local, transaction } = decode(&self.spec, bytes)?;
        let id = self.add_transaction(transaction).ok()?;
        if local {
            self.waiting.note_local(id);
        }
        Some(id)
    }

    /// Keeps and tells what waits, when it is time.
    pub(super) fn tend_waiting(&mut self, now_ms: u64) -> Result<(), CoreError> {
        if now_ms >= self.waiting.next_tell_ms {
            self.waiting.next_tell_ms = now_ms + TELL_EVERY_MS;
            self.tell_waiting();
        }
        if now_ms >= self.waiting.next_keep_ms {
            self.waiting.next_keep_ms = now_ms + KEEP_EVERY_MS;
            self.keep_waiting()?;
        }
        Ok(())
    }

    /// Brings the rows on disk up to date: nothing is written when nothing changed.
    pub(super) fn keep_waiting(&mut self) -> Result<(), StorageError> {
        let gone: Vec<Hash32> = self.waiting.kept.keys().filter(|id| self.mempool.get(id).is_none()).copied().collect();
        let mut held: usize = self.waiting.kept.values().sum();
        let mut batch = self.db.batch();
        for id in &gone {
            batch.delete_aux(Aux::Mempool, id.as_bytes())?;
            held -= self.waiting.kept.remove(id).unwrap_or_default();
        }
        let fresh = self.rows_to_keep(KEPT_BYTES.saturating_sub(held));
        if gone.is_empty() && fresh.is_empty() {
            return Ok(());
        }
        for (id, row) in &fresh {
            batch.put_aux(Aux::Mempool, id.as_bytes(), row)?;
        }
        self.db.commit(batch)?;
        self.waiting.kept.extend(fresh.into_iter().map(|(id, row)| (id, row.len())));
        Ok(())
    }

    /// Rows that are not on disk yet, as many as there is room for; own ones first, since nobody else may have them.
    pub(super) fn rows_to_keep(&self, mut room: usize) -> Vec<(Hash32, Vec<u8>)> {
        let own = self.own_waiting();
        let is_own: BTreeSet<Hash32> = own.iter().map(|(id, _)| *id).collect();
        let others = self.mempool.iter().filter(|(id, _)| !is_own.contains(id));
        let mut rows = Vec::new();
        for (id, transaction) in own.into_iter().chain(others) {
            if self.waiting.kept.contains_key(&id) {
                continue;
            }
            let row = codec::encode(&Row { local: is_own.contains(&id), transaction: (**transaction).clone() });
            if row.len() > room {
                break;
            }
            room -= row.len();
            rows.push((id, row));
        }
        rows
    }

    /// Transactions of this node's account in nonce order, then those that its users gave to it.
    pub(super) fn own_waiting(&self) -> Vec<(Hash32, &Verified<SignedTransaction>)> {
        let account = self.signer.as_ref().map(Signer::account);
        let own = account.iter().flat_map(|account| self.mempool.of_sender(account));
        let given = self.waiting.local.iter().filter_map(|id| Some((*id, self.mempool.get(id)?)));
        let given = given.filter(|(_, transaction)| Some(transaction.message.sender) != account);
        own.chain(given).collect()
    }

    /// Sends own transactions again, a few at a time in turn: whoever was not there the first time hears of them now.
    fn tell_waiting(&mut self) {
        let own = self.own_waiting();
        let (len, turn) = (own.len(), self.waiting.turn);
        let from = turn.checked_rem(len).unwrap_or(0);
        for (_, transaction) in own.into_iter().cycle().skip(from).take(len.min(TOLD_AT_ONCE)) {
            self.publish(&Gossip::Transaction((**transaction).clone()));
        }
        // All of few are told each time, from the lowest nonce on.
        self.waiting.turn = if len > TOLD_AT_ONCE { from + TOLD_AT_ONCE } else { 0 };
    }

    /// Remembers what is in blocks that are about to be forgotten because their branch lost.
    pub(super) fn note_lost(&mut self, pruned: &[VerifiedBlock]) {
        let room = LOST_BLOCKS.saturating_sub(self.waiting.lost.len());
        let lost = pruned.iter().filter(|block| !block.body.transactions.is_empty());
        self.waiting.lost.extend(lost.take(room).cloned());
    }

    /// Transactions of blocks that are no longer on the head's chain wait again, unless they are on it by another way.
    pub(super) fn take_back(&mut self, old: Checkpoint, new: Checkpoint) {
        let mut lost = std::mem::take(&mut self.waiting.lost);
        let mut at = old.block;
        while let Some(entry) = self.view.chain.block(&at) {
            if self.view.chain.ancestor(&new.block, entry.block.height()) == Some(at) {
                break;
            }
            lost.push(entry.block.clone());
            at = entry.block.parent();
        }
        for transaction in lost.iter().flat_map(|block| block.transactions()) {
            // Most are in the new chain as well, and so refused.
            let sender = self.view.sender(&new.block, &transaction.message.sender);
            let _ = self.mempool.insert(transaction, sender);
        }
    }
}
