//! The pool that a node manages as RPC shows it.

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BlockHash, Height};
use serde::{Deserialize, Serialize};

/// A miner of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMinerView {
    /// Its peer id.
    pub peer_id: String,
    /// Where its pay goes.
    pub account: AccountId,
    /// `strong` or `weak`, and why.
    pub class: String,
    /// `online`, `idle` or `offline`.
    pub state: String,
    /// Verified multiply-accumulates a second.
    pub verified_macs_per_second: u64,
    /// Verified multiply-accumulates in the pay window.
    pub window_macs: u64,
    /// Its share of the pay window, in millionths.
    pub share_ppm: u32,
    /// Its part of won blocks that are not final yet.
    pub pending: Amount,
    /// Leases under way.
    pub leases: u32,
    /// Results accepted.
    pub accepted: u64,
    /// Results refused.
    pub refused: u64,
}

/// The pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// What miners join: a multiaddress that ends in the manager's peer id.
    pub urls: Vec<String>,
    /// Account that commits and is paid.
    pub account: AccountId,
    /// What the manager keeps, in hundredths of a percent.
    pub fee_basis_points: u32,
    /// Name of the partition.
    pub partition: String,
    /// Best confirmed result of the interval: images correct of the manager's hold-out.
    pub best_correct: Option<u32>,
    /// Images of the hold-out.
    pub holdout_images: u32,
    /// Commitments of the interval so far.
    pub commitments: u32,
    /// Leases under way.
    pub running_leases: u32,
    /// Its miners.
    pub miners: Vec<PoolMinerView>,
}

/// One payout of a won block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutView {
    /// The block whose reward is shared.
    pub block: BlockHash,
    /// Its height.
    pub height: Height,
    /// The batch transaction; null until it is sent.
    pub tx: Option<Hash32>,
    /// Whether that transaction is final.
    pub is_final: bool,
    /// Merkle root of the share list.
    pub shares_root: Hash32,
    /// What the block paid.
    pub reward: Amount,
    /// What the manager keeps of it.
    pub fee: Amount,
    /// Account, verified multiply-accumulates, amount.
    pub payments: Vec<(AccountId, u64, Amount)>,
}
