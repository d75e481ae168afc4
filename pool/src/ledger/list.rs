//! The share list of a block: who is paid what, and from what it follows.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BatchPayment, BlockHash, Height, ModelRoot, Payment};
use serde::{Deserialize, Serialize};

use super::{PayTerms, ShareProof, divide, merkle};
use crate::types::MinerId;

/// One miner's part of a block's reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShareRow {
    /// The miner.
    pub miner: MinerId,
    /// Whom it had paid.
    pub account: AccountId,
    /// Its verified training multiply-accumulates in the window.
    pub macs: u64,
    /// By how many images, times the classes, its best confirmed model of the interval is above chance.
    pub points: u64,
    /// What it is paid because its model won.
    pub bonus: Amount,
    /// What it is paid, the bonus included.
    pub amount: Amount,
}

/// How one block's reward is shared. Everything that [`ShareList::due`] computes with is in it, so that anyone can
/// compute it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareList {
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: Height,
    /// What it paid the manager.
    pub reward: Amount,
    /// The terms.
    pub terms: PayTerms,
    /// The model that won it.
    pub model: Option<ModelRoot>,
    /// The miner who found that model; unknown when it forfeited or the books do not reach back. The pool shares the
    /// bonus then.
    pub finder: Option<MinerId>,
    /// What the manager keeps.
    pub fee: Amount,
    /// Sorted by miner; the amounts sum to reward - fee, or to the bonus alone when nobody had verified work.
    pub rows: Vec<ShareRow>,
}

impl ShareList {
    /// The list with fee, bonus and amounts worked out.
    pub(super) fn new(mut list: Self) -> Self {
        list.fee = list.terms.fee(list.reward);
        let due = list.due();
        for (row, (bonus, amount)) in list.rows.iter_mut().zip(due) {
            (row.bonus, row.amount) = (bonus, amount);
        }
        list
    }

    /// Bonus and amount of every row as they follow from the terms, the reward and the work.
    pub fn due(&self) -> Vec<(Amount, Amount)> {
        let finder = self.finder.filter(|finder| self.rows.iter().any(|row| row.miner == *finder));
        let bonus = finder.map_or(Amount::ZERO, |_| self.terms.bonus(self.reward));
        let shared = Amount(self.terms.net(self.reward).0.saturating_sub(bonus.0));
        let weight = |row: &ShareRow| self.terms.scheme.weight(row.macs, row.points).into();
        let weights: Vec<u128> = self.rows.iter().map(weight).collect();
        let own = |row: &ShareRow| if Some(row.miner) == finder { bonus } else { Amount::ZERO };
        // Parts of one reward sum to at most that reward.
        let parts = divide(shared, &weights).into_iter().zip(&self.rows);
        parts.map(|(part, row)| (own(row), Amount(part.0.saturating_add(own(row).0)))).collect()
    }

    /// Merkle root of terms and rows.
    pub fn root(&self) -> Hash32 {
        merkle::root(self)
    }

    /// A miner's row and its proof.
    pub fn proof(&self, miner: &MinerId) -> Option<(ShareRow, ShareProof)> {
        let index = self.rows.iter().position(|row| row.miner == *miner)?;
        Some((*self.rows.get(index)?, merkle::prove(self, index)?))
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
