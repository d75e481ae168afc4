//! RocksDB storage of a podl node: one column family per index, big-endian keys, one atomic synced batch per block.
//!
//! The disk holds the state of the last final block, and every block above it with its forward delta. Nothing is ever
//! undone: a block becomes final by folding its delta into the state, in the same batch that moves the final mark.
//!
//! # Correctness
//! Every [`Batch`] is written whole or not at all, and is on disk before [`Database::commit`] returns. Whatever instant
//! the power goes, the database reopens as it was before or after that batch.

#![forbid(unsafe_code)]

mod batch;
mod columns;
mod database;
mod error;
mod history;
mod read;
mod snapshot;
mod usage;

pub use batch::Batch;
pub use columns::{Aux, HistoryEntry, HistoryKind, TransactionPlace};
pub use database::{Database, MIN_DISK_BYTES, Opened, free_disk_bytes};
pub use error::StorageError;
pub use history::history_of;
pub use read::{Recovered, Row, StoredBlock};
pub use snapshot::FinalState;
