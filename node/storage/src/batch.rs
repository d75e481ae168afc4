//! All changes of one step, written as one.

use std::collections::BTreeSet;

use podl_consensus::codec;
use podl_consensus::state::{Checkpoint, StateDelta};
use podl_consensus::types::{Block, BlockHash};
use rocksdb::WriteBatch;

use crate::columns::{self, Aux, META_FINAL, META_HEAD, TransactionPlace, height_key, history_key};
use crate::database::Database;
use crate::error::StorageError;
use crate::history::history_of;

/// Changes that [`Database::commit`] writes whole or not at all. Blocks are inserted before they are made final, and
/// made final in the order of their heights.
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch<'db> {
    database: &'db Database,
    inner: WriteBatch,
    /// Blocks stored in this batch.
    inserted: BTreeSet<BlockHash>,
    /// Last block made final in this batch.
    finalised: Option<Checkpoint>,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch of {} changes", self.inner.len())
    }
}

/// Folds a delta into the state: values with deletions, nodes, then the removal of stale nodes.
pub(crate) fn fold(database: &Database, batch: &mut WriteBatch, delta: &StateDelta) -> Result<(), StorageError> {
    let (state, nodes) = (database.column(columns::STATE)?, database.column(columns::NODES)?);
    for (key, value) in &delta.values {
        match value {
            Some(value) => batch.put_cf(state, key, value),
            None => batch.delete_cf(state, key),
        }
    }
    for (key, node) in &delta.nodes {
        batch.put_cf(nodes, key, node);
    }
    for key in &delta.stale {
        batch.delete_cf(nodes, key);
    }
    Ok(())
}

impl<'db> Batch<'db> {
    pub(crate) fn new(database: &'db Database) -> Self {
        Self { database, inner: WriteBatch::default(), inserted: BTreeSet::new(), finalised: None }
    }

    pub(crate) fn into_inner(self) -> WriteBatch {
        self.inner
    }

    fn put(&mut self, column: &str, key: &[u8], row: &[u8]) -> Result<(), StorageError> {
        self.inner.put_cf(self.database.column(column)?, key, row);
        Ok(())
    }

    fn delete(&mut self, column: &str, key: &[u8]) -> Result<(), StorageError> {
        self.inner.delete_cf(self.database.column(column)?, key);
        Ok(())
    }

    /// Stores a valid block above the final one, with its delta.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when a column family is gone (so for all methods here).
    pub fn insert_block(&mut self, hash: &BlockHash, block: &Block, delta: &StateDelta) -> Result<(), StorageError> {
        self.inserted.insert(*hash);
        self.put(columns::BLOCKS, hash.as_bytes(), &codec::encode(block))?;
        self.put(columns::PENDING, hash.as_bytes(), &codec::encode(delta))
    }

    /// Makes a stored block final: folds its delta, indexes its transactions, moves the final mark.
    ///
    /// # Errors
    /// [`StorageError::Order`] when it is not the child of the last final block, was never stored, or comes with another
    /// block's delta: folding it would leave a state that belongs to no block.
    pub fn finalise(&mut self, hash: &BlockHash, block: &Block, delta: &StateDelta) -> Result<(), StorageError> {
        self.check_order(hash, block, delta)?;
        self.finalised = Some(Checkpoint { height: block.height(), block: *hash });
        fold(self.database, &mut self.inner, delta)?;
        self.delete(columns::PENDING, hash.as_bytes())?;
        let height = block.height();
        self.put(columns::HEIGHTS, &height_key(height), hash.as_bytes())?;
        self.put(columns::META, META_FINAL, &codec::encode(&Checkpoint { height, block: *hash }))?;
        self.index(hash, block)
    }

    fn check_order(&self, hash: &BlockHash, block: &Block, delta: &StateDelta) -> Result<(), StorageError> {
        let last = match self.finalised {
            Some(last) => last,
            None => self.database.finalised()?,
        };
        let (height, parent) = (block.height(), block.header.message.parent);
        let wrong = |what: String| Err(StorageError::Order(what));
        if Some(height) != last.height.checked_add(1) {
            return wrong(format!("a block of height {height} made final after height {}", last.height));
        }
        if parent != last.block {
            return wrong(format!("a block with parent {parent} made final after {}", last.block));
        }
        if delta.height != height {
            return wrong(format!("the delta of height {} for a block of height {height}", delta.height));
        }
        let stored = self.inserted.contains(hash) || self.database.row(columns::PENDING, hash.as_bytes())?.is_some();
        if stored { Ok(()) } else { wrong(format!("block {hash} made final, but it is not stored")) }
    }

    fn index(&mut self, hash: &BlockHash, block: &Block) -> Result<(), StorageError> {
        let height = block.height();
        for (position, transaction) in (0u32..).zip(&block.body.transactions) {
            let place = TransactionPlace { block: *hash, height, position };
            self.put(columns::TRANSACTIONS, transaction.message.id().as_bytes(), &codec::encode(&place))?;
        }
        for (position, (account, entry)) in (0u32..).zip(history_of(hash, block)) {
            self.put(columns::HISTORY, &history_key(&account, height, position), &codec::encode(&entry))?;
        }
        Ok(())
    }

    /// Drops a stored block of a branch that can no longer become final.
    ///
    /// # Errors
    /// [`StorageError::Damaged`].
    pub fn prune_block(&mut self, hash: &BlockHash) -> Result<(), StorageError> {
        self.delete(columns::BLOCKS, hash.as_bytes())?;
        self.delete(columns::PENDING, hash.as_bytes())
    }

    /// Notes the head, so that a restarted node can say where it was before it has heard any votes.
    ///
    /// # Errors
    /// [`StorageError::Damaged`].
    pub fn set_head(&mut self, head: Checkpoint) -> Result<(), StorageError> {
        self.put(columns::META, META_HEAD, &codec::encode(&head))
    }

    /// Writes a row of another part of the node.
    ///
    /// # Errors
    /// [`StorageError::Damaged`].
    pub fn put_aux(&mut self, owner: Aux, key: &[u8], row: &[u8]) -> Result<(), StorageError> {
        self.put(columns::AUX, &owner.key(key), row)
    }

    /// Deletes a row of another part of the node.
    ///
    /// # Errors
    /// [`StorageError::Damaged`].
    pub fn delete_aux(&mut self, owner: Aux, key: &[u8]) -> Result<(), StorageError> {
        self.delete(columns::AUX, &owner.key(key))
    }
}
