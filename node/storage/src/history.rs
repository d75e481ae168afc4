//! What a block means to the accounts in it.

use podl_chain_spec::{AccountId, Amount};
use podl_consensus::types::{Block, BlockHash, SignedTransaction, TransactionKind};

use crate::columns::{HistoryEntry, HistoryKind};

/// The history rows of a block, oldest first: its producer's, then those of its transactions in order.
pub fn history_of(hash: &BlockHash, block: &Block) -> Vec<(AccountId, HistoryEntry)> {
    let produced = HistoryEntry {
        height: block.height(),
        block: *hash,
        kind: HistoryKind::Produced,
        transaction: None,
        amount: None,
        other: None,
        fee: None,
    };
    let mut rows = vec![(block.header.message.producer, produced)];
    block.body.transactions.iter().for_each(|t| rows.extend(transaction_rows(produced, t)));
    rows
}

/// Rows of one transaction: the sender's, then the receivers'.
fn transaction_rows(block: HistoryEntry, signed: &SignedTransaction) -> Vec<(AccountId, HistoryEntry)> {
    let t = &signed.message;
    let row = |kind, amount, other| HistoryEntry { kind, transaction: Some(t.id()), amount, other, ..block };
    let (own, received) = match &t.kind {
        TransactionKind::Transfer(p) => (
            row(HistoryKind::Sent, Some(p.amount), Some(p.to)),
            vec![(p.to, row(HistoryKind::Received, Some(p.amount), Some(t.sender)))],
        ),
        TransactionKind::BatchPayout(batch) => {
            // The block was executed, so the sum does not overflow.
            let sum = Amount(batch.payments.iter().fold(0, |sum, p| sum.saturating_add(p.amount.0)));
            let pay =
                |p: &podl_consensus::types::Payment| (p.to, row(HistoryKind::PoolPay, Some(p.amount), Some(t.sender)));
            (row(HistoryKind::PaidOut, Some(sum), None), batch.payments.iter().map(pay).collect())
        }
        TransactionKind::Publish(task) => {
            let held = task.reward.0.saturating_mul(task.shards.len() as u64).saturating_add(task.bond.0);
            (row(HistoryKind::Published, Some(Amount(held)), None), Vec::new())
        }
        TransactionKind::Cancel(_) => (row(HistoryKind::Cancelled, None, None), Vec::new()),
        TransactionKind::Evidence(_) | TransactionKind::LeaveSeat => (row(HistoryKind::Other, None, None), Vec::new()),
    };
    let own = HistoryEntry { fee: Some(t.fee), ..own };
    std::iter::once((t.sender, own)).chain(received).collect()
}
