//! Verified work of every miner, and how a won reward is shared by it.
//!
//! Work counts towards the next block that the pool wins. A miner caught lying loses what it has not been paid yet:
//! that is its escrow, so joining needs no funds.

mod merkle;
mod payout;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BatchPayment, BlockHash, Payment};
use serde::{Deserialize, Serialize};

pub use merkle::{ProofStep, ShareProof, prove, root, verify};
pub use payout::{basis_points, divide};

use crate::types::MinerId;

/// Blocks whose share lists are kept for proofs.
const KEPT_LISTS: usize = 64;
/// Won blocks that wait to become final.
const MOST_PENDING: usize = 64;

/// One miner's part of a block's reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShareRow {
    /// The miner.
    pub miner: MinerId,
    /// Whom it had paid.
    pub account: AccountId,
    /// Its verified training multiply-accumulates.
    pub macs: u128,
    /// Its part.
    pub amount: Amount,
}

/// How one block's reward is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareList {
    /// The block.
    pub block: BlockHash,
    /// What it paid the manager.
    pub reward: Amount,
    /// What the manager keeps of it.
    pub fee: Amount,
    /// Sorted by miner; the amounts sum to reward - fee, or to 0 when nobody had verified work.
    pub rows: Vec<ShareRow>,
}

impl ShareList {
    /// Merkle root of the rows.
    pub fn root(&self) -> Hash32 {
        root(&self.rows)
    }

    /// A miner's row and its proof.
    pub fn proof(&self, miner: &MinerId) -> Option<(ShareRow, ShareProof)> {
        let index = self.rows.iter().position(|row| row.miner == *miner)?;
        Some((*self.rows.get(index)?, prove(&self.rows, index)?))
    }

    /// The batch transaction's content: one payment an account, sorted, without those of 0 and without the manager's
    /// own, which is the sender. `None` when nothing is to be paid.
    pub fn batch(&self, manager: &AccountId) -> Option<BatchPayment> {
        let mut sums: BTreeMap<AccountId, u64> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.account != *manager && row.amount > Amount::ZERO) {
            // Parts of one reward sum to at most that reward.
            let sum = sums.entry(row.account).or_default();
            *sum = sum.saturating_add(row.amount.0);
        }
        let payments: Vec<Payment> =
            sums.into_iter().map(|(to, amount)| Payment { to, amount: Amount(amount) }).collect();
        (!payments.is_empty()).then(|| BatchPayment { block: self.block, shares_root: self.root(), payments })
    }
}

/// Work of one miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Work {
    account: AccountId,
    macs: u128,
}

/// The books of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    open: BTreeMap<MinerId, Work>,
    pending: Vec<ShareList>,
    paid: Vec<ShareList>,
}

impl Ledger {
    /// Adds verified work. The account is the one of the miner's last Hello.
    pub fn credit(&mut self, miner: MinerId, account: AccountId, macs: u64) {
        let work = self.open.entry(miner).or_insert(Work { account, macs: 0 });
        work.account = account;
        work.macs = work.macs.saturating_add(macs.into());
    }

    /// Takes all unpaid work of a miner that lied, and returns how much it was.
    pub fn forfeit(&mut self, miner: &MinerId) -> u128 {
        self.open.remove(miner).map_or(0, |work| work.macs)
    }

    /// Unpaid work of a miner.
    pub fn unpaid(&self, miner: &MinerId) -> u128 {
        self.open.get(miner).map_or(0, |work| work.macs)
    }

    /// Unpaid work of all.
    pub fn unpaid_total(&self) -> u128 {
        self.open.values().fold(0, |sum, work| sum.saturating_add(work.macs))
    }

    /// Closes the open work over a block that the pool has won. It is paid when the block is final. Telling of a block
    /// again changes nothing.
    pub fn close(&mut self, block: BlockHash, reward: Amount, fee_basis_points: u16) {
        if self.pending.len() >= MOST_PENDING || self.list(&block).is_some() {
            return;
        }
        let open = std::mem::take(&mut self.open);
        let macs: Vec<u128> = open.values().map(|work| work.macs).collect();
        let fee = basis_points(reward, fee_basis_points);
        let shared = Amount(reward.0.saturating_sub(fee.0));
        let amounts = divide(shared, &macs);
        let rows = open
            .into_iter()
            .zip(amounts)
            .map(|((miner, work), amount)| ShareRow { miner, account: work.account, macs: work.macs, amount })
            .collect();
        self.pending.push(ShareList { block, reward, fee, rows });
    }

    /// A won block is final: its share list is due and kept for proofs. `None` for a block that was not won.
    pub fn settle(&mut self, block: &BlockHash) -> Option<&ShareList> {
        let index = self.pending.iter().position(|list| list.block == *block)?;
        if self.paid.len() >= KEPT_LISTS {
            self.paid.remove(0);
        }
        self.paid.push(self.pending.remove(index));
        self.paid.last()
    }

    /// A won block left the chain: its work counts towards the next one again. False for a block that was not won.
    pub fn reopen(&mut self, block: &BlockHash) -> bool {
        let Some(index) = self.pending.iter().position(|list| list.block == *block) else { return false };
        for row in self.pending.remove(index).rows {
            let work = self.open.entry(row.miner).or_insert(Work { account: row.account, macs: 0 });
            work.macs = work.macs.saturating_add(row.macs);
        }
        true
    }

    /// The share list of a block, won or paid.
    pub fn list(&self, block: &BlockHash) -> Option<&ShareList> {
        self.pending.iter().chain(&self.paid).find(|list| list.block == *block)
    }

    /// Share lists of settled blocks, oldest first.
    pub fn paid(&self) -> &[ShareList] {
        &self.paid
    }

    /// Won blocks that are not settled.
    pub fn pending(&self) -> &[ShareList] {
        &self.pending
    }
}
