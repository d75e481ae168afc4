//! How much disk the database takes, and making it take less.

use rocksdb::{BottommostLevelCompaction, CompactOptions};

use crate::columns;
use crate::database::Database;
use crate::error::StorageError;

impl Database {
    /// Bytes of the tables of each column family, by name. Rows that were written last may not be in a table yet: see
    /// [`Database::compact`].
    ///
    /// # Errors
    /// [`StorageError`] when RocksDB cannot tell.
    pub fn table_bytes(&self) -> Result<Vec<(&'static str, u64)>, StorageError> {
        let bytes = |name| -> Result<(&'static str, u64), StorageError> {
            let size = self.db.property_int_value_cf(self.column(name)?, "rocksdb.total-sst-files-size")?;
            Ok((name, size.unwrap_or(0)))
        };
        columns::ALL.into_iter().map(bytes).collect()
    }

    /// Writes everything into tables and merges them, so that nothing replaced or deleted takes room any more. Takes
    /// seconds and more on a large chain; reads and writes go on meanwhile.
    ///
    /// # Errors
    /// [`StorageError`] when the disk fails.
    pub fn compact(&self) -> Result<(), StorageError> {
        let mut options = CompactOptions::default();
        // Without this, tables that need not be merged only move down and keep the marks of what was deleted.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for name in columns::ALL {
            let column = self.column(name)?;
            self.db.flush_cf(column)?;
            self.db.compact_range_cf_opt(column, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }
}
