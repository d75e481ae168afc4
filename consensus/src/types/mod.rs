//! The messages and blocks of the protocol (docs/protocol.md, sections 2 to 4).

mod block;
mod closing;
mod commitment;
mod transaction;
mod vote;

pub use block::{Block, Body, Header, Opening, Outcome, OutcomeKind, ShardKey, SignedHeader};
pub use closing::{Closing, ClosingList, ClosingSet, ClosingSetError, ListedClosing, SeatClosing};
pub use commitment::{Commitment, CommitmentId, commitment_id};
pub use transaction::{
    BatchPayment, BlobRef, Evidence, Payment, PublishTask, ShardRef, SignedTransaction, Transaction, TransactionKind,
};
pub use vote::{Certificate, READY_CAP, SignedVote, Vote};

use podl_chain_spec::Hash32;

/// Hash of a block's header; names the block.
pub type BlockHash = Hash32;
/// Hash of a publish transaction; names the task.
pub type TaskId = Hash32;
/// BLAKE3 of an artefact's bytes; names the model.
pub type ModelRoot = Hash32;
/// BLAKE3 of a blob's bytes.
pub type BlobRoot = Hash32;
/// Number of an interval and of the block that ends it; genesis is 0.
pub type Height = u64;
