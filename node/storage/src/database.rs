//! Opening the database: whose it is, which chain, which format, and whether the disk has room.

use std::path::{Path, PathBuf};

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::codec;
use podl_consensus::state::{Checkpoint, StateStore, StoreError, genesis_checkpoint, genesis_delta};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options, WriteOptions,
};

use crate::batch::{Batch, fold};
use crate::columns::{self, META_FINAL, META_GENESIS, META_HEAD, META_SCHEMA};
use crate::error::StorageError;

/// Format of the rows. Raised when a change needs old databases to be converted, or must keep old programs away:
/// 2. Rows say until when the final chain needs each blob. A program of format 1 would write blocks without them, and
///    their blobs would then look needless. Nothing is converted: the node begins the rows with the blobs it finds.
const SCHEMA: u32 = 2;
/// Below this much free space nothing is written any more: RocksDB needs room to compact what it has.
pub const MIN_DISK_BYTES: u64 = 256 << 20;
/// Memory for blocks read from disk: enough for the tree's upper levels of millions of accounts.
const CACHE_BYTES: usize = 64 << 20;
/// Memory for rows not yet in a table, per column family.
const WRITE_BUFFER_BYTES: usize = 8 << 20;

/// The database of one node on one chain.
pub struct Database {
    pub(crate) db: DB,
    path: PathBuf,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A database with what was found.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub database: Database,
    /// Whether it was made just now, with the genesis state in it.
    pub created: bool,
}

/// Free bytes on the disk that holds `path`.
///
/// # Errors
/// When the system cannot tell.
pub fn free_disk_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(256);
    options.set_max_total_wal_size(64 << 20);
    options
}

fn column_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options
}

impl Database {
    /// Opens the database in `path` for a chain; makes it, with the genesis state, when there is none.
    ///
    /// # Errors
    /// [`StorageError`], in words that tell the operator what to do.
    pub fn open(path: &Path, spec: &ChainSpec) -> Result<Opened, StorageError> {
        let folder = |source| StorageError::Folder { path: path.into(), source };
        std::fs::create_dir_all(path).map_err(folder)?;
        let free = free_disk_bytes(path).map_err(folder)?;
        if free < MIN_DISK_BYTES {
            let (free_mib, least_mib) = (free >> 20, MIN_DISK_BYTES >> 20);
            return Err(StorageError::DiskFull { path: path.into(), free_mib, least_mib });
        }
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let families = columns::ALL.map(|name| ColumnFamilyDescriptor::new(name, column_options(&cache)));
        let db = DB::open_cf_descriptors(&options(), path, families).map_err(|e| open_error(path, e))?;
        let database = Self { db, path: path.into() };
        let created = match database.meta(META_SCHEMA)? {
            None => {
                database.initialise(spec)?;
                true
            }
            Some(schema) => {
                database.check(&schema, spec.genesis_hash())?;
                false
            }
        };
        Ok(Opened { database, created })
    }

    fn initialise(&self, spec: &ChainSpec) -> Result<(), StorageError> {
        let genesis = genesis_checkpoint(spec);
        let mut batch = rocksdb::WriteBatch::default();
        fold(self, &mut batch, &genesis_delta(spec)?)?;
        let meta = self.column(columns::META)?;
        batch.put_cf(meta, META_SCHEMA, SCHEMA.to_be_bytes());
        batch.put_cf(meta, META_GENESIS, genesis.block.as_bytes());
        batch.put_cf(meta, META_FINAL, codec::encode(&genesis));
        batch.put_cf(meta, META_HEAD, codec::encode(&genesis));
        self.write(batch)
    }

    fn check(&self, schema: &[u8], expected: Hash32) -> Result<(), StorageError> {
        let damaged = |what: &str| StorageError::Damaged { what: what.into() };
        let schema = u32::from_be_bytes(schema.try_into().map_err(|_| damaged("the schema row"))?);
        if schema > SCHEMA {
            return Err(StorageError::NewerSchema { path: self.path.clone(), got: schema, expected: SCHEMA });
        }
        let genesis = self.meta(META_GENESIS)?.and_then(|b| b.try_into().ok()).map(Hash32);
        let got = genesis.ok_or_else(|| damaged("the genesis row"))?;
        if got != expected {
            return Err(StorageError::WrongChain { path: self.path.clone(), got, expected });
        }
        if schema == SCHEMA { Ok(()) } else { self.upgrade() }
    }

    /// Takes over a database of an older format.
    fn upgrade(&self) -> Result<(), StorageError> {
        let mut batch = rocksdb::WriteBatch::default();
        batch.put_cf(self.column(columns::META)?, META_SCHEMA, SCHEMA.to_be_bytes());
        self.write(batch)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty batch of changes.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Writes a batch whole and waits until the disk has it.
    ///
    /// # Errors
    /// [`StorageError::Rocks`]; nothing of the batch is then visible.
    pub fn commit(&self, batch: Batch<'_>) -> Result<(), StorageError> {
        self.write(batch.into_inner())
    }

    fn write(&self, batch: rocksdb::WriteBatch) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(batch, &options)?)
    }

    pub(crate) fn column(&self, name: &str) -> Result<&ColumnFamily, StorageError> {
        self.db.cf_handle(name).ok_or_else(|| StorageError::Damaged { what: format!("column family {name} is gone") })
    }

    pub(crate) fn row(&self, column: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.db.get_cf(self.column(column)?, key)?)
    }

    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.row(columns::META, key)
    }

    pub(crate) fn checkpoint(&self, key: &[u8]) -> Result<Checkpoint, StorageError> {
        let bytes = self.meta(key)?.ok_or_else(|| StorageError::Damaged { what: "a checkpoint row is gone".into() })?;
        codec::decode(&bytes, 64).map_err(|e| StorageError::Damaged { what: format!("a checkpoint row: {e}") })
    }
}

fn open_error(path: &Path, error: rocksdb::Error) -> StorageError {
    // RocksDB has no kind of its own for a held lock; its text has named the LOCK file since it exists.
    let text = error.to_string();
    if text.contains("LOCK") && (text.contains("lock") || text.contains("temporarily unavailable")) {
        StorageError::InUse { path: path.into() }
    } else if error.kind() == rocksdb::ErrorKind::Corruption {
        StorageError::Damaged { what: text }
    } else {
        StorageError::Rocks(error)
    }
}

impl StateStore for Database {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.row(columns::STATE, key).map_err(|e| StoreError(e.to_string()))
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.row(columns::NODES, key).map_err(|e| StoreError(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ChainSpec {
        ChainSpec::load("dev").unwrap_or_else(|e| panic!("{e}"))
    }

    /// Opens again after one meta row was changed.
    fn reopen_with(key: &[u8], row: &[u8]) -> StorageError {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), &spec()).unwrap().database;
        let mut batch = rocksdb::WriteBatch::default();
        batch.put_cf(database.column(columns::META).unwrap(), key, row);
        database.write(batch).unwrap();
        drop(database);
        Database::open(dir.path(), &spec()).unwrap_err()
    }

    #[test]
    fn a_newer_format_and_damaged_rows_are_said_in_words() {
        let newer = reopen_with(META_SCHEMA, &(SCHEMA + 1).to_be_bytes());
        assert!(matches!(newer, StorageError::NewerSchema { got, expected, .. } if got == expected + 1), "{newer}");
        assert!(newer.to_string().contains("update podl"));
        for (key, row) in [(META_SCHEMA, &b"x"[..]), (META_GENESIS, b"short")] {
            let damaged = reopen_with(key, row);
            assert!(matches!(damaged, StorageError::Damaged { .. }), "{damaged}");
        }
    }

    #[test]
    fn a_database_of_the_first_format_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let schema = |database: &Database| database.meta(META_SCHEMA).unwrap().unwrap();
        let database = Database::open(dir.path(), &spec()).unwrap().database;
        let mut batch = rocksdb::WriteBatch::default();
        batch.put_cf(database.column(columns::META).unwrap(), META_SCHEMA, 1u32.to_be_bytes());
        database.write(batch).unwrap();
        drop(database);
        let opened = Database::open(dir.path(), &spec()).unwrap();
        assert!(!opened.created);
        assert_eq!(schema(&opened.database), SCHEMA.to_be_bytes());
    }

    #[test]
    fn damage_inside_a_table_is_named_and_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), &spec()).unwrap().database;
        for name in columns::ALL {
            database.db.flush_cf(database.column(name).unwrap()).unwrap();
        }
        drop(database);
        let mut damaged = 0;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "sst") {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[20] ^= 0x55;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0);
        let read = || -> Result<(), StorageError> {
            let database = Database::open(dir.path(), &spec())?.database;
            database.recover()?;
            database.state_values(&[]).map(drop)
        };
        let error = read().unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. } | StorageError::Rocks(_)), "{error}");
        assert!(error.to_string().contains("database"), "{error}");
    }
}
