//! The final state as it was at one instant, for reads that take longer than a block.

use podl_consensus::codec;
use podl_consensus::state::Checkpoint;
use rocksdb::{IteratorMode, ReadOptions, Snapshot};

use crate::columns::{self, META_FINAL};
use crate::database::Database;
use crate::error::StorageError;

/// A view of the final state that later blocks do not change: the mark and all values belong to one block.
pub struct FinalState<'db> {
    database: &'db Database,
    snapshot: Snapshot<'db>,
    at: Checkpoint,
}

impl std::fmt::Debug for FinalState<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FinalState").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Database {
    /// The final state of this instant. While it is held, RocksDB keeps what later blocks replace: hold it for a scan,
    /// not for longer.
    ///
    /// # Errors
    /// [`StorageError`] when the disk fails or the mark is damaged.
    pub fn final_state(&self) -> Result<FinalState<'_>, StorageError> {
        let snapshot = self.db.snapshot();
        let damaged = |what: String| StorageError::Damaged { what };
        let row = snapshot.get_cf(self.column(columns::META)?, META_FINAL)?;
        let bytes = row.ok_or_else(|| damaged("the final mark is gone".into()))?;
        let at = codec::decode(&bytes, usize::MAX).map_err(|e| damaged(format!("the final mark: {e}")))?;
        Ok(FinalState { database: self, snapshot, at })
    }
}

impl FinalState<'_> {
    /// The block whose state this is.
    pub fn at(&self) -> Checkpoint {
        self.at
    }

    /// The value under a state key.
    ///
    /// # Errors
    /// [`StorageError`] when the disk fails (so for all methods here).
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.snapshot.get_cf(self.database.column(columns::STATE)?, key)?)
    }

    /// Hands every key and value to `visit`, in the order of the keys and without holding them all, until it fails.
    ///
    /// # Errors
    /// Those of `visit`, and [`StorageError`].
    pub fn visit<E: From<StorageError>>(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut options = ReadOptions::default();
        // A scan reads every row once: keeping the blocks would drive out those that consensus reads.
        options.fill_cache(false);
        let column = self.database.column(columns::STATE)?;
        for row in self.snapshot.iterator_cf_opt(column, options, IteratorMode::Start) {
            let (key, value) = row.map_err(StorageError::from)?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}
