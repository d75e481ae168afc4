//! What can go wrong with the storage, and whose fault it is.

use std::path::PathBuf;

use podl_chain_spec::Hash32;
use podl_consensus::state::StateError;

/// Storage errors. Each says in words what the user can do, or that the disk is to blame.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process holds the database.
    #[error("{path} is in use by another podl process; stop that one, or choose another --data-dir")]
    InUse {
        /// The database folder.
        path: PathBuf,
    },
    /// The folder belongs to another chain.
    #[error(
        "{path} holds chain {got}, this node runs chain {expected}; choose another --data-dir or the chain it was made for"
    )]
    WrongChain {
        /// The database folder.
        path: PathBuf,
        /// Genesis hash in the database.
        got: Hash32,
        /// Genesis hash of the specification.
        expected: Hash32,
    },
    /// Written by a newer program.
    #[error("{path} was written by a newer podl (format {got}, this one knows {expected}); update podl")]
    NewerSchema {
        /// The database folder.
        path: PathBuf,
        /// Format on disk.
        got: u32,
        /// Format of this program.
        expected: u32,
    },
    /// Too little space is left to write safely.
    #[error("only {free_mib} MiB are free on the disk of {path}, at least {least_mib} MiB are needed; make room")]
    DiskFull {
        /// The database folder.
        path: PathBuf,
        /// Free space.
        free_mib: u64,
        /// Needed space.
        least_mib: u64,
    },
    /// The folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Folder {
        /// The database folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// RocksDB reports a failure: the disk is to blame.
    #[error("the database failed: {0}")]
    Rocks(#[from] rocksdb::Error),
    /// A row does not decode: the disk, or a bug of ours.
    #[error("the database is damaged: {what}; restore a copy of the data folder, or delete it and sync again")]
    Damaged {
        /// Which row.
        what: String,
    },
    /// The caller broke the order of blocks.
    #[error("storage was used out of order: {0}")]
    Order(String),
    /// The genesis state could not be made.
    #[error(transparent)]
    State(#[from] StateError),
}
