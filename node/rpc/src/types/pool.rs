//! The pool that a node manages as RPC shows it.

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BlockHash, Height, ModelRoot};
use serde::{Deserialize, Serialize};

/// A miner of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMinerView {
    /// Its peer id.
    pub peer_id: String,
    /// Where its pay goes.
    pub account: AccountId,
    /// `strong` or `weak`.
    pub class: String,
    /// `online`, `idle` (online without a lease) or `offline`.
    pub state: String,
    /// Verified multiply-accumulates a second.
    pub verified_macs_per_second: u64,
    /// Verified multiply-accumulates in the pay window.
    pub window_macs: u64,
    /// Its share of the pay window, in millionths.
    pub share_ppm: u32,
    /// Verified multiply-accumulates that count when a first audit passes, and are lost if it fails.
    pub kept_back_macs: u64,
    /// Its part of won blocks that are not final yet.
    pub pending: Amount,
    /// Its part of final blocks since the pool knows it: paid, or about to be.
    pub paid: Amount,
    /// What a block won now would pay it, a finder's bonus aside; null before the pool has won one.
    pub next_payment: Option<Amount>,
    /// Leases under way.
    pub leases: u32,
    /// Results accepted.
    pub accepted: u64,
    /// Results refused.
    pub refused: u64,
    /// Replays of its training that found what it handed in.
    pub audits_passed: u32,
    /// Replays that found something else, and states that it did not show.
    pub audits_failed: u32,
    /// Its networks that others took over when it was gone.
    pub own_networks_taken_over: u32,
    /// Its networks that others trained as well, for fear that it would not finish.
    pub own_networks_backed_up: u32,
    /// Networks of miners that were gone that it took over.
    pub networks_taken_over: u32,
    /// Networks of others that it trained as well.
    pub networks_backed_up: u32,
}

/// The pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// What miners join: a multiaddress that ends in the manager's peer id.
    pub urls: Vec<String>,
    /// Account that commits and is paid.
    pub account: AccountId,
    /// What the manager keeps, in hundredths of a percent.
    pub fee_basis_points: u32,
    /// How the rest is shared.
    pub pay: PayView,
    /// Work of all in the pay window.
    pub window_macs: u64,
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
    /// What became of the work that it leased.
    pub work: PoolWorkView,
    /// How much of the current task's space it has looked at; null before its first interval.
    pub coverage: Option<PoolCoverageView>,
    /// How often it has won lately.
    pub luck: PoolLuckView,
    /// Its miners.
    pub miners: Vec<PoolMinerView>,
}

/// Networks that a pool leased, and checks of their training, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolWorkView {
    /// Networks whose training was begun.
    pub begun: u64,
    /// Networks trained as far as they should be.
    pub done: u64,
    /// Left unfinished by miners that were lost, and by everybody else.
    pub dropped: u64,
    /// Taken over from miners that were lost.
    pub taken_over: u64,
    /// Trained by a second miner for fear that the first would not finish.
    pub backed_up: u64,
    /// Trainings replayed and found as handed in.
    pub audits_passed: u64,
    /// Trainings replayed and found different, or whose state was not shown.
    pub audits_failed: u64,
}

/// How much of a task's space a pool has looked at. Counts are exact and can have more digits than JSON numbers keep, hence
/// decimal strings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolCoverageView {
    /// Networks in the space: all that its lists allow, whatever the task's bounds admit of them.
    pub space_networks: String,
    /// Of these, those in the parts that are searched now: all, unless a partition leaves or has given up some. Null when
    /// there are too many parts to count what they cover together.
    pub searched_networks: Option<String>,
    /// Of these, those whose training was begun; 65,536 are remembered. In filler intervals, whose data change, of this
    /// interval alone.
    pub begun_networks: u64,
    /// Those begun as a share of the space, from 0 to 1.
    pub begun_share: f64,
}

/// Luck of a pool, over the last intervals (64 at most) that are over and in which it had verified work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLuckView {
    /// Intervals that it won.
    pub won_intervals: u32,
    /// Of so many.
    pub worked_intervals: u32,
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

/// How a pool shares what its fee leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayView {
    /// By verified work in a window of intervals.
    Pplns {
        /// Intervals in the window.
        window: u16,
        /// Bonus of the miner whose model won, in hundredths of a percent.
        finder_basis_points: u16,
    },
    /// By how far a miner's best confirmed model of the block's interval is above chance.
    Performance,
}

/// One miner's part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRowView {
    /// The miner's ed25519 key.
    pub miner: Hash32,
    /// Whom it had paid.
    pub account: AccountId,
    /// Its verified multiply-accumulates in the window.
    pub macs: u64,
    /// By how many images, times the classes, its best confirmed model of the interval is above chance.
    pub points: u64,
    /// What it is paid because its model won.
    pub bonus: Amount,
    /// What it is paid, the bonus included.
    pub amount: Amount,
}

/// The share list of a block: all that its division follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareListView {
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: Height,
    /// What it paid the manager.
    pub reward: Amount,
    /// What the manager keeps, in hundredths of a percent.
    pub fee_basis_points: u16,
    /// How the rest is shared.
    pub pay: PayView,
    /// The model that won the block.
    pub model: Option<ModelRoot>,
    /// The miner whose model it is.
    pub finder: Option<Hash32>,
    /// What the manager keeps.
    pub fee: Amount,
    /// Merkle root of all this.
    pub shares_root: Hash32,
    /// Sorted by miner.
    pub rows: Vec<ShareRowView>,
}

/// A row and the way from it to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareProofView {
    /// The row.
    pub row: ShareRowView,
    /// Neighbours from the row upward: their hash, and whether they stand left.
    pub steps: Vec<(Hash32, bool)>,
}
