//! Verified work of every miner, and how a won reward is shared by it.
//!
//! Work is kept by interval ([`PayScheme`] says why) and is paid by every block that the pool wins while it is in the
//! window; it is never used up, so a block that leaves the chain takes nothing with it. A miner caught lying loses what it
//! has in the window: that is its escrow, so joining needs no funds.

mod check;
mod list;
mod merkle;
mod payout;
mod scheme;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::{AccountId, Amount};
use podl_consensus::types::{BlockHash, Height, ModelRoot};
use serde::{Deserialize, Serialize};

pub use check::{ChainBlock, Difference, check_batch, check_block, check_list, check_proofs};
pub use list::{ShareList, ShareRow};
pub use merkle::{ProofStep, ShareProof, verify};
pub use payout::{basis_points, divide};
pub use scheme::{MOST_FINDER_BASIS_POINTS, MOST_WINDOW, PayScheme, PayTerms};

use crate::types::MinerId;
use work::{Found, Intervals, Work};

/// Blocks whose share lists are kept for proofs.
const KEPT_LISTS: usize = 64;
/// Intervals that a pool's luck is told of. Lists of all that were won among them are kept.
pub const LUCK_INTERVALS: usize = KEPT_LISTS;
/// Won blocks that wait to become final.
const MOST_PENDING: usize = 64;

/// A block of the manager's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WonBlock {
    /// Which.
    pub block: BlockHash,
    /// Its height, which names the interval that it ended.
    pub height: Height,
    /// What it paid the manager.
    pub reward: Amount,
    /// The model that won it, where that is known.
    pub model: Option<ModelRoot>,
}

/// Luck of a pool: of the last intervals that are over and in which it had verified work, at most [`LUCK_INTERVALS`], how
/// many it won. A block that left the chain is not won. What to compare it with is the pool's share of all work on the
/// chain, which nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Luck {
    /// Intervals won.
    pub won: u32,
    /// Of so many.
    pub intervals: u32,
}

/// The books of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    intervals: Intervals,
    pending: Vec<ShareList>,
    paid: Vec<ShareList>,
    /// Height of the last settled block whose list was dropped: blocks up to it were shared, whatever is told of them.
    forgotten: Height,
}

impl Ledger {
    /// An interval begins: work verified from now on belongs to it. Again after a reorg to another parent of the same
    /// height, where both count as one.
    pub fn begin(&mut self, height: Height, scheme: PayScheme) {
        self.intervals.begin(height, scheme.window());
    }

    /// Adds verified work. The account is the one of the miner's last Hello.
    pub fn credit(&mut self, miner: MinerId, account: AccountId, macs: u64) {
        self.intervals.credit(miner, account, macs);
    }

    /// Notes how far above chance a confirmed model is; the best of an interval counts.
    pub fn note_points(&mut self, miner: MinerId, account: AccountId, points: u64) {
        self.intervals.note_points(miner, account, points);
    }

    /// Notes whose model the pool committed to.
    pub fn note_model(&mut self, root: ModelRoot, miner: MinerId, account: AccountId) {
        self.intervals.note_model(Found { root, miner, account });
    }

    /// Takes everything that a miner that lied has in the window, its part in committed models too, and returns how
    /// much work it was. Lists of blocks that were won before stand.
    pub fn forfeit(&mut self, miner: &MinerId) -> u64 {
        self.intervals.forfeit(miner)
    }

    /// Work of a miner in the window: what blocks still to be won will pay.
    pub fn window_macs(&self, miner: &MinerId, scheme: PayScheme) -> u64 {
        self.intervals.macs(miner, scheme.window())
    }

    /// Whether a block still to be won could pay a miner, for work or for a model that the pool committed to.
    pub fn is_owed(&self, miner: &MinerId, scheme: PayScheme) -> bool {
        self.intervals.is_owed(miner, scheme.window())
    }

    /// Work of all in the window.
    pub fn window_total(&self, scheme: PayScheme) -> u128 {
        self.intervals.total_macs(scheme.window())
    }

    /// A miner's part of won blocks that are not settled.
    pub fn pending_of(&self, miner: &MinerId) -> Amount {
        let row = |list: &ShareList| list.rows.binary_search_by_key(miner, |row| row.miner).map(|at| list.rows[at]);
        let amounts = self.pending.iter().filter_map(|list| row(list).ok()).map(|row| row.amount.0);
        Amount(amounts.fold(0, u64::saturating_add))
    }

    /// What a block won now would pay a miner, if its reward were that of the last one (by height) and its finder, who has
    /// a bonus where there is one, were another. `None` while no block was won.
    pub fn next_payment(&self, miner: &MinerId, terms: PayTerms) -> Option<Amount> {
        let reward = self.lists().max_by_key(|list| list.height)?.reward;
        let shared = Amount(terms.net(reward).0.saturating_sub(terms.bonus(reward).0));
        let (own, all) = self.intervals.weights(miner, terms.scheme);
        divide(shared, &[own, all.saturating_sub(own)]).first().copied()
    }

    /// How often the pool has won lately.
    pub fn luck(&self) -> Luck {
        let won: BTreeSet<Height> = self.lists().map(|list| list.height).collect();
        self.intervals.worked().fold(Luck::default(), |luck, height| Luck {
            won: luck.won + u32::from(won.contains(&height)),
            intervals: luck.intervals + 1,
        })
    }

    /// Shares the reward of a block that the pool has won. It is paid when the block is final. Telling of a block again
    /// changes nothing.
    pub fn close(&mut self, won: &WonBlock, terms: PayTerms) {
        let known = won.height <= self.forgotten || self.list(&won.block).is_some();
        if known || self.pending.len() >= MOST_PENDING {
            return;
        }
        let mut sums = self.intervals.sums(won.height, terms.scheme.window());
        let found = won.model.and_then(|root| self.intervals.finder(won.height, &root));
        let found = found.filter(|_| terms.bonus(won.reward) > Amount::ZERO);
        if let Some(Found { miner, account, .. }) = found {
            sums.entry(miner).or_insert(Work { account, macs: 0, points: 0 });
        }
        let finder = found.map(|f| f.miner);
        self.pending.push(ShareList::new(ShareList {
            block: won.block,
            height: won.height,
            reward: won.reward,
            terms,
            model: won.model,
            finder,
            fee: Amount::ZERO,
            rows: rows(&sums, terms.scheme, finder),
        }));
        self.intervals.end(won.height);
    }

    /// A won block is final: its share list is due and kept for proofs. `None` for a block that was not won.
    pub fn settle(&mut self, block: &BlockHash) -> Option<&ShareList> {
        let index = self.pending.iter().position(|list| list.block == *block)?;
        if self.paid.len() >= KEPT_LISTS {
            self.forgotten = self.forgotten.max(self.paid.remove(0).height);
        }
        self.paid.push(self.pending.remove(index));
        self.paid.last()
    }

    /// A won block left the chain: nobody is paid for it, and all work stays in the window as if it had not been won.
    /// False for a block that was not won.
    pub fn reopen(&mut self, block: &BlockHash) -> bool {
        let before = self.pending.len();
        self.pending.retain(|list| list.block != *block);
        self.pending.len() < before
    }

    /// The share list of a block, won or paid.
    pub fn list(&self, block: &BlockHash) -> Option<&ShareList> {
        self.lists().find(|list| list.block == *block)
    }

    fn lists(&self) -> impl Iterator<Item = &ShareList> {
        self.pending.iter().chain(&self.paid)
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

/// The rows of a list, by miner, without those that can be paid nothing.
fn rows(sums: &BTreeMap<MinerId, Work>, scheme: PayScheme, finder: Option<MinerId>) -> Vec<ShareRow> {
    let is_paid = |miner: &MinerId, work: &Work| finder == Some(*miner) || scheme.weight(work.macs, work.points) > 0;
    let row = |(miner, work): (&MinerId, &Work)| ShareRow {
        miner: *miner,
        account: work.account,
        macs: work.macs,
        points: work.points,
        bonus: Amount::ZERO,
        amount: Amount::ZERO,
    };
    sums.iter().filter(|(miner, work)| is_paid(miner, work)).map(row).collect()
}
