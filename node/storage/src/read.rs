//! Reading what is stored.

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::codec;
use podl_consensus::state::{Checkpoint, StateDelta};
use podl_consensus::types::{Block, BlockHash, Height};
use rocksdb::{Direction, IteratorMode};
use serde::{Serialize, de::DeserializeOwned};

use crate::columns::{self, Aux, HistoryEntry, META_FINAL, META_HEAD, TransactionPlace, height_key, history_key};
use crate::database::Database;
use crate::error::StorageError;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A block above the final one, with its delta.
#[derive(Clone, Debug)]
pub struct StoredBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// The block.
    pub block: Block,
    /// What it changes.
    pub delta: StateDelta,
}

/// Where the chain stood when the node stopped.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Last final block; the state is its.
    pub finalised: Checkpoint,
    /// The head then.
    pub head: Checkpoint,
    /// All blocks above the final one, parents before children.
    pub pending: Vec<StoredBlock>,
}

fn decode<T: Serialize + DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StorageError> {
    codec::decode(bytes, usize::MAX).map_err(|e| StorageError::Damaged { what: format!("{what}: {e}") })
}

impl Database {
    /// The last final block.
    ///
    /// # Errors
    /// [`StorageError`] when the disk fails or the row is damaged (so for all methods here).
    pub fn finalised(&self) -> Result<Checkpoint, StorageError> {
        self.checkpoint(META_FINAL)
    }

    /// Where the chain stood.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn recover(&self) -> Result<Recovered, StorageError> {
        let mut pending = Vec::new();
        for row in self.db.iterator_cf(self.column(columns::PENDING)?, IteratorMode::Start) {
            let (key, bytes) = row?;
            let hash = Hash32(key.as_ref().try_into().map_err(|_| damaged("a pending key"))?);
            let block = self.block(&hash)?.ok_or_else(|| damaged("a pending block without its bytes"))?;
            pending.push(StoredBlock { hash, block, delta: decode("a pending delta", &bytes)? });
        }
        pending.sort_by_key(|stored| (stored.block.height(), stored.hash));
        Ok(Recovered { finalised: self.finalised()?, head: self.checkpoint(META_HEAD)?, pending })
    }

    /// A stored block, final or not.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Block>, StorageError> {
        self.row(columns::BLOCKS, hash.as_bytes())?.map(|bytes| decode("a block", &bytes)).transpose()
    }

    /// Whether a block is stored.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn has_block(&self, hash: &BlockHash) -> Result<bool, StorageError> {
        Ok(self.row(columns::BLOCKS, hash.as_bytes())?.is_some())
    }

    /// Hash of the final block at a height. Genesis has no block.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn final_hash(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        let row = self.row(columns::HEIGHTS, &height_key(height))?;
        row.map(|b| b.try_into().map(Hash32).map_err(|_| damaged("a height row"))).transpose()
    }

    /// Where a transaction of the final chain stands.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn transaction(&self, id: &Hash32) -> Result<Option<TransactionPlace>, StorageError> {
        self.row(columns::TRANSACTIONS, id.as_bytes())?.map(|b| decode("a transaction row", &b)).transpose()
    }

    /// The latest `limit` rows of an account's history below a height, newest first.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn history(&self, account: &AccountId, below: Height, limit: usize) -> Result<Vec<HistoryEntry>, StorageError> {
        let start = history_key(account, below, 0);
        let mode = IteratorMode::From(&start, Direction::Reverse);
        let mut entries = Vec::new();
        for row in self.db.iterator_cf(self.column(columns::HISTORY)?, mode) {
            let (key, bytes) = row?;
            if !key.starts_with(account.as_bytes()) || entries.len() == limit {
                break;
            }
            // The start key itself belongs to the height that is excluded.
            if key.as_ref() != start.as_slice() {
                entries.push(decode("a history row", &bytes)?);
            }
        }
        Ok(entries)
    }

    /// A row of another part of the node.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn aux(&self, owner: Aux, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.row(columns::AUX, &owner.key(key))
    }

    /// All rows of a part of the node, in the order of their keys.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn aux_rows(&self, owner: Aux) -> Result<Vec<Row>, StorageError> {
        let prefix = owner.key(&[]);
        let mut rows = Vec::new();
        for row in self.db.iterator_cf(self.column(columns::AUX)?, IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, bytes) = row?;
            let Some(rest) = key.strip_prefix(prefix.as_slice()) else { break };
            rows.push((rest.to_vec(), bytes.to_vec()));
        }
        Ok(rows)
    }

    /// At most `limit` rows of a part of the node whose keys come after `after`, in the order of their keys: for walks over
    /// many rows, a little at a time.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn aux_page(&self, owner: Aux, after: &[u8], limit: usize) -> Result<Vec<Row>, StorageError> {
        let (prefix, start) = (owner.key(&[]), owner.key(after));
        let mut rows = Vec::new();
        for row in self.db.iterator_cf(self.column(columns::AUX)?, IteratorMode::From(&start, Direction::Forward)) {
            let (key, bytes) = row?;
            let Some(rest) = key.strip_prefix(prefix.as_slice()).filter(|_| rows.len() < limit) else { break };
            if rest > after {
                rows.push((rest.to_vec(), bytes.to_vec()));
            }
        }
        Ok(rows)
    }

    /// Values of the final state whose keys begin with `prefix`; with an empty one all of them, which is long on a large
    /// chain.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn state_values(&self, prefix: &[u8]) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        for row in self.db.iterator_cf(self.column(columns::STATE)?, IteratorMode::From(prefix, Direction::Forward)) {
            let (key, value) = row?;
            if !key.starts_with(prefix) {
                break;
            }
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(rows)
    }
}

fn damaged(what: &str) -> StorageError {
    StorageError::Damaged { what: what.into() }
}
