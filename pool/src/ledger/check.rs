//! A miner's check of what it was paid: the division again from the list's own numbers, and the list against the
//! transaction on chain.

use std::collections::BTreeSet;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BatchPayment, BlockHash, Height, ModelRoot};

use super::{MOST_FINDER_BASIS_POINTS, PayScheme, ShareList, ShareProof, ShareRow, verify};
use crate::types::MinerId;

/// Where a share list, or what was paid, differs from what follows from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The fee is not the terms' share of the reward.
    #[error("the fee is {got}, the terms give {expected}")]
    Fee {
        /// In the list.
        got: Amount,
        /// Worked out.
        expected: Amount,
    },
    /// A higher finder bonus than pools may give.
    #[error("the finder bonus is {got} basis points, at most {expected} are allowed")]
    FinderCap {
        /// In the terms.
        got: u16,
        /// The limit.
        expected: u16,
    },
    /// Rows out of order, or two of one miner.
    #[error("the row of miner {} is out of order or there twice", .0.0.short())]
    Order(MinerId),
    /// A bonus that the row is not due, or is due and did not get.
    #[error("the bonus of miner {} is {got}, expected {expected}", miner.0.short())]
    Bonus {
        /// Whose.
        miner: MinerId,
        /// In the list.
        got: Amount,
        /// Worked out.
        expected: Amount,
    },
    /// Another amount than the row's work gives.
    #[error("the amount of miner {} is {got}, its work gives {expected}", miner.0.short())]
    Amount {
        /// Whose.
        miner: MinerId,
        /// In the list.
        got: Amount,
        /// Worked out.
        expected: Amount,
    },
    /// The block paid another reward.
    #[error("the list shares a reward of {got}, the block paid {expected}")]
    Reward {
        /// In the list.
        got: Amount,
        /// On chain.
        expected: Amount,
    },
    /// The block stands elsewhere.
    #[error("the list says height {got}, the block has {expected}")]
    Height {
        /// In the list.
        got: Height,
        /// On chain.
        expected: Height,
    },
    /// The transaction is no payout.
    #[error("transaction {0} is not a payout")]
    NotAPayout(Hash32),
    /// The manager says that the transaction is final, the chain has no such transaction.
    #[error("the manager says that transaction {0} is final, the chain does not have it")]
    Missing(Hash32),
    /// The block was won by another model.
    #[error("the list names another model than {expected}, which won the block")]
    Model {
        /// On chain.
        expected: ModelRoot,
    },
    /// The manager did not produce the block.
    #[error("the block is {got}'s, not the manager's {expected}")]
    Producer {
        /// On chain.
        got: AccountId,
        /// The manager's account.
        expected: AccountId,
    },
    /// The transaction is not the manager's.
    #[error("the transaction was sent by {got}, not by the manager {expected}")]
    Sender {
        /// On chain.
        got: AccountId,
        /// The manager's account.
        expected: AccountId,
    },
    /// The transaction pays for another block.
    #[error("the transaction pays for block {got}, not {expected}")]
    Block {
        /// On chain.
        got: BlockHash,
        /// The list's.
        expected: BlockHash,
    },
    /// The transaction carries another root than the list has.
    #[error("the root on chain is {got}, that of the list {expected}")]
    Root {
        /// On chain.
        got: Hash32,
        /// Worked out.
        expected: Hash32,
    },
    /// The transaction pays an account another sum than the list.
    #[error("{account} was paid {got}, the list gives {expected}")]
    Payment {
        /// Whom.
        account: AccountId,
        /// On chain.
        got: Amount,
        /// By the list.
        expected: Amount,
    },
    /// A row's Merkle proof does not lead to the root on chain.
    #[error("the proof of miner {}'s row does not lead to the root on chain", .0.0.short())]
    Proof(MinerId),
}

/// What the chain says of a won block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainBlock {
    /// Its height.
    pub height: Height,
    /// Who was paid for it.
    pub producer: AccountId,
    /// What the round paid.
    pub reward: Amount,
    /// The model that won.
    pub model: Option<ModelRoot>,
}

/// What is wrong within a list: fee, order, bonuses, amounts to the last unit.
pub fn check_list(list: &ShareList) -> Vec<Difference> {
    let mut found = Vec::new();
    let expected = list.terms.fee(list.reward);
    if list.fee != expected {
        found.push(Difference::Fee { got: list.fee, expected });
    }
    if let PayScheme::Pplns { finder_basis_points: got, .. } = list.terms.scheme
        && got > MOST_FINDER_BASIS_POINTS
    {
        found.push(Difference::FinderCap { got, expected: MOST_FINDER_BASIS_POINTS });
    }
    let pairs = list.rows.iter().zip(list.rows.iter().skip(1));
    found.extend(pairs.filter(|(a, b)| a.miner >= b.miner).map(|(_, b)| Difference::Order(b.miner)));
    for (row, (bonus, amount)) in list.rows.iter().zip(list.due()) {
        if row.bonus != bonus {
            found.push(Difference::Bonus { miner: row.miner, got: row.bonus, expected: bonus });
        }
        if row.amount != amount {
            found.push(Difference::Amount { miner: row.miner, got: row.amount, expected: amount });
        }
    }
    found
}

/// Where the transaction on chain differs from the list.
pub fn check_batch(list: &ShareList, manager: &AccountId, sender: &AccountId, paid: &BatchPayment) -> Vec<Difference> {
    let mut found = Vec::new();
    if sender != manager {
        found.push(Difference::Sender { got: *sender, expected: *manager });
    }
    if paid.block != list.block {
        found.push(Difference::Block { got: paid.block, expected: list.block });
    }
    let root = list.root();
    if paid.shares_root != root {
        found.push(Difference::Root { got: paid.shares_root, expected: root });
    }
    let due = list.batch(manager).map_or_else(Vec::new, |batch| batch.payments);
    let sum = |payments: &[podl_consensus::types::Payment], account: &AccountId| {
        let own = payments.iter().filter(|p| p.to == *account);
        Amount(own.fold(0u64, |sum, p| sum.saturating_add(p.amount.0)))
    };
    let accounts: BTreeSet<AccountId> = due.iter().chain(&paid.payments).map(|p| p.to).collect();
    for account in accounts {
        let (got, expected) = (sum(&paid.payments, &account), sum(&due, &account));
        if got != expected {
            found.push(Difference::Payment { account, got, expected });
        }
    }
    found
}

/// Where the won block on chain differs from what the list says of it.
pub fn check_block(list: &ShareList, manager: &AccountId, chain: &ChainBlock) -> Vec<Difference> {
    let mut found = Vec::new();
    if list.height != chain.height {
        found.push(Difference::Height { got: list.height, expected: chain.height });
    }
    if chain.producer != *manager {
        found.push(Difference::Producer { got: chain.producer, expected: *manager });
    }
    if list.reward != chain.reward {
        found.push(Difference::Reward { got: list.reward, expected: chain.reward });
    }
    // A manager that does not know the model gives the bonus to the pool.
    if let (Some(_), Some(expected)) = (list.model, chain.model)
        && list.model != chain.model
    {
        found.push(Difference::Model { expected });
    }
    found
}

/// Whether every row of an account is proven to be under the root on chain.
pub fn check_proofs(
    list: &ShareList,
    account: &AccountId,
    proofs: &[(ShareRow, ShareProof)],
    root: &Hash32,
) -> Vec<Difference> {
    let is_proven = |row: &ShareRow| proofs.iter().any(|(own, proof)| own == row && verify(row, proof, root));
    let own = list.rows.iter().filter(|row| row.account == *account);
    own.filter(|row| !is_proven(row)).map(|row| Difference::Proof(row.miner)).collect()
}
