//! Payouts as programs before pay by window wrote them: read once at the start, so that nobody whom an earlier program
//! owed goes unpaid.

use podl_chain_spec::{AccountId, Amount};
use podl_consensus::types::{BlockHash, Height};
use podl_pool::ledger::{PayScheme, PayTerms, ShareList, ShareRow};
use podl_pool::types::MinerId;
use serde::{Deserialize, Serialize};

use super::payouts::{Payout, Step};

#[derive(Serialize, Deserialize)]
struct Row {
    miner: MinerId,
    account: AccountId,
    macs: u128,
    amount: Amount,
}

#[derive(Serialize, Deserialize)]
struct List {
    block: BlockHash,
    reward: Amount,
    fee: Amount,
    rows: Vec<Row>,
}

/// A row of the database as it was.
#[derive(Serialize, Deserialize)]
pub(super) struct PayoutBefore {
    height: Height,
    list: List,
    step: Step,
}

impl From<PayoutBefore> for Payout {
    fn from(before: PayoutBefore) -> Self {
        let PayoutBefore { height, list, step } = before;
        let row = |row: Row| ShareRow {
            miner: row.miner,
            account: row.account,
            macs: u64::try_from(row.macs).unwrap_or(u64::MAX),
            points: 0,
            bonus: Amount::ZERO,
            amount: row.amount,
        };
        // The fee that was written down, as the terms that give it: rounded up, since fees are rounded down.
        let points = (u128::from(list.fee.0) * 10_000).div_ceil(u128::from(list.reward.0.max(1)));
        let fee_basis_points = u16::try_from(points).unwrap_or(10_000);
        let scheme = PayScheme::Pplns { window: 1, finder_basis_points: 0 };
        let list = ShareList {
            block: list.block,
            height,
            reward: list.reward,
            terms: PayTerms { fee_basis_points, scheme },
            model: None,
            finder: None,
            fee: list.fee,
            rows: list.rows.into_iter().map(row).collect(),
        };
        Self { height, list, step }
    }
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::Hash32;
    use podl_consensus::codec;
    use podl_pool::ledger::check_list;

    use super::*;

    #[test]
    fn a_payout_of_an_earlier_program_is_still_paid() {
        let row = |i: u8, macs, amount| Row {
            miner: MinerId(Hash32([i; 32])),
            account: AccountId([i; 32]),
            macs,
            amount: Amount(amount),
        };
        let rows = vec![row(1, 3_000_000, 742_500), row(2, 1_000_000, 247_500)];
        let list = List { block: Hash32([9; 32]), reward: Amount(1_000_000), fee: Amount(10_000), rows };
        let bytes = codec::encode(&PayoutBefore { height: 7, list, step: Step::Due });
        let payout = super::super::payouts::decode(&bytes).expect("read as it was");
        assert_eq!((payout.height, payout.list.height, payout.list.terms.fee_basis_points), (7, 7, 100));
        assert_eq!(check_list(&payout.list), [], "the division was the same over a window of one");
        let again = codec::encode(&payout);
        assert_eq!(super::super::payouts::decode(&again), Some(payout), "and written in the new form from then on");
    }
}
