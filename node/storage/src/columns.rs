//! Column families, and the bytes of their keys and rows.

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BlockHash, Height};
use serde::{Deserialize, Serialize};

/// Block hash -> canonical bytes of the block, for every stored block.
pub(crate) const BLOCKS: &str = "blocks";
/// Height (big-endian) -> hash of the final block there.
pub(crate) const HEIGHTS: &str = "heights";
/// Block hash -> its delta, for every stored block above the final one.
pub(crate) const PENDING: &str = "pending";
/// State key -> value, of the final block's state.
pub(crate) const STATE: &str = "state";
/// Tree node key -> node, of the final block's state.
pub(crate) const NODES: &str = "nodes";
/// Transaction id -> [`TransactionPlace`], for final blocks.
pub(crate) const TRANSACTIONS: &str = "transactions";
/// Account, height and position (both big-endian) -> [`HistoryEntry`], for final blocks.
pub(crate) const HISTORY: &str = "history";
/// Fixed names -> what the database is and where it stands.
pub(crate) const META: &str = "meta";
/// Owner tag and key -> bytes of other parts of the node.
pub(crate) const AUX: &str = "aux";

pub(crate) const ALL: [&str; 9] = [BLOCKS, HEIGHTS, PENDING, STATE, NODES, TRANSACTIONS, HISTORY, META, AUX];

pub(crate) const META_SCHEMA: &[u8] = b"schema";
pub(crate) const META_GENESIS: &[u8] = b"genesis";
pub(crate) const META_FINAL: &[u8] = b"final";
pub(crate) const META_HEAD: &[u8] = b"head";

/// Which part of the node a row of the auxiliary column belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aux {
    /// The signing guard.
    Guard,
    /// What the pool manager owes its miners, and the transactions that pay it.
    Payouts,
    /// What this node's miner has committed to.
    Commitments,
    /// Transactions that were waiting when the node stopped.
    Mempool,
    /// Until which height the final chain needs a blob.
    Blobs,
    /// What blocks of this node's own models paid.
    Won,
}

impl Aux {
    pub(crate) fn key(self, key: &[u8]) -> Vec<u8> {
        let tag = match self {
            Self::Guard => 0u8,
            // 1 is free: no version wrote it.
            Self::Payouts => 2,
            Self::Commitments => 3,
            Self::Mempool => 4,
            Self::Blobs => 5,
            Self::Won => 6,
        };
        [&[tag], key].concat()
    }
}

/// Where a transaction stands in the final chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionPlace {
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: Height,
    /// Position among the block's transactions.
    pub position: u32,
}

/// What happened to an account in a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// It sent a transfer.
    Sent,
    /// It received a transfer.
    Received,
    /// It paid its pool's miners.
    PaidOut,
    /// Its pool paid it.
    PoolPay,
    /// It published a task.
    Published,
    /// It withdrew a task.
    Cancelled,
    /// It produced the block.
    Produced,
    /// Another transaction of its own.
    Other,
}

/// A row of an account's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Height of the block.
    pub height: Height,
    /// The block.
    pub block: BlockHash,
    /// What happened.
    pub kind: HistoryKind,
    /// The transaction, if it was one.
    pub transaction: Option<Hash32>,
    /// How much moved, if money did, in the smallest unit.
    pub amount: Option<Amount>,
    /// The other side of a transfer or payment.
    pub other: Option<AccountId>,
    /// The fee, of a transaction of its own.
    pub fee: Option<Amount>,
}

pub(crate) fn height_key(height: Height) -> [u8; 8] {
    height.to_be_bytes()
}

pub(crate) fn history_key(account: &AccountId, height: Height, position: u32) -> Vec<u8> {
    [account.as_bytes().as_slice(), &height.to_be_bytes(), &position.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_numbers_do() {
        let a = AccountId([1; 32]);
        assert!(height_key(255) < height_key(256));
        assert!(history_key(&a, 1, 300) < history_key(&a, 2, 0));
        assert!(history_key(&a, u64::MAX, 0) < history_key(&AccountId([2; 32]), 0, 0));
        assert_ne!(Aux::Guard.key(b"x"), Aux::Payouts.key(b"x"));
    }
}
