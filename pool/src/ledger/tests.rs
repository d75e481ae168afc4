use proptest::prelude::*;

use super::*;

fn miner(i: u8) -> MinerId {
    MinerId(Hash32([i; 32]))
}

fn account(i: u8) -> AccountId {
    AccountId([i; 32])
}

const BLOCK: Hash32 = Hash32([9; 32]);

#[test]
fn a_reward_is_shared_by_work_and_paid_when_final() {
    let mut ledger = Ledger::default();
    ledger.credit(miner(1), account(1), 600);
    ledger.credit(miner(2), account(2), 300);
    ledger.credit(miner(3), account(2), 100);
    ledger.credit(miner(4), account(9), 0);
    ledger.close(BLOCK, Amount(1_000_000), 200);
    assert!(ledger.list(&BLOCK).is_some());
    let list = ledger.settle(&BLOCK).unwrap().clone();
    assert_eq!((list.fee, list.rows.len()), (Amount(20_000), 4));
    let batch = list.batch(&account(9)).unwrap();
    let paid: Vec<_> = batch.payments.iter().map(|p| (p.to, p.amount.0)).collect();
    assert_eq!(paid, [(account(1), 588_000), (account(2), 392_000)], "two miners of one account are one payment");
    assert_eq!(batch.shares_root, list.root());
    assert!(ledger.settle(&BLOCK).is_none(), "never paid twice");
    ledger.credit(miner(1), account(1), 5);
    ledger.close(BLOCK, Amount(1_000_000), 200);
    assert!(ledger.pending().is_empty(), "a node that tells of a block once more changes nothing");
    ledger.forfeit(&miner(1));
    assert_eq!(ledger.unpaid_total(), 0);
}

#[test]
fn an_orphaned_block_pays_nothing_and_its_work_counts_on() {
    let mut ledger = Ledger::default();
    ledger.credit(miner(1), account(1), 10);
    ledger.close(BLOCK, Amount(100), 0);
    ledger.credit(miner(1), account(1), 5);
    assert!(ledger.reopen(&BLOCK) && !ledger.reopen(&BLOCK));
    assert_eq!(ledger.unpaid(&miner(1)), 15);
    assert!(ledger.settle(&BLOCK).is_none());
}

#[test]
fn forfeited_work_pays_nobody_and_the_manager_alone_needs_no_batch() {
    let mut ledger = Ledger::default();
    ledger.credit(miner(1), account(1), 10);
    ledger.credit(miner(2), account(2), 10);
    assert_eq!(ledger.forfeit(&miner(1)), 10);
    ledger.close(BLOCK, Amount(100), 0);
    let list = ledger.list(&BLOCK).unwrap();
    assert_eq!(list.rows.iter().map(|r| (r.miner, r.amount)).collect::<Vec<_>>(), [(miner(2), Amount(100))]);
    assert_eq!(list.batch(&account(2)), None);
}

#[test]
fn extreme_weights_divide_exactly() {
    assert_eq!(divide(Amount(u64::MAX), &[u128::MAX, 1]), [Amount(u64::MAX), Amount(0)]);
    assert_eq!(divide(Amount(7), &[]), []);
    assert_eq!(divide(Amount(7), &[0, 0]), [Amount(0), Amount(0)]);
    assert_eq!(divide(Amount(10), &[1, 1, 1]), [Amount(4), Amount(3), Amount(3)]);
}

proptest! {
    #[test]
    fn parts_sum_to_the_total_and_are_within_one_unit(
        total in any::<u64>(),
        weights in proptest::collection::vec(any::<u64>(), 1..20),
    ) {
        let weights: Vec<u128> = weights.into_iter().map(|w| u128::from(w) >> 5).collect();
        let sum: u128 = weights.iter().sum();
        let parts = divide(Amount(total), &weights);
        let given: u128 = parts.iter().map(|p| u128::from(p.0)).sum();
        prop_assert_eq!(given, if sum == 0 { 0 } else { u128::from(total) });
        for (part, weight) in parts.iter().zip(&weights) {
            if let Some(floor) = (u128::from(total) * weight).checked_div(sum) {
                prop_assert!(u128::from(part.0) == floor || u128::from(part.0) == floor + 1);
            }
        }
    }

    #[test]
    fn splitting_into_identities_gains_at_most_a_unit_each(own in 2u64..1 << 40, others in 1u64..1 << 40, total: u64) {
        let whole = divide(Amount(total), &[own.into(), others.into()])[0].0;
        let split = divide(Amount(total), &[(own / 2).into(), (own - own / 2).into(), others.into()]);
        let gained = i128::from(split[0].0) + i128::from(split[1].0) - i128::from(whole);
        prop_assert!(gained.abs() <= 2);
    }

    #[test]
    fn proofs_hold_for_every_row_and_for_no_other(
        macs in proptest::collection::vec(any::<u64>(), 1..40),
        change in 0u8..4,
    ) {
        let rows: Vec<ShareRow> = macs
            .iter()
            .zip(0u8..)
            .map(|(&m, i)| ShareRow { miner: miner(i), account: account(i), macs: m.into(), amount: Amount(m / 3) })
            .collect();
        let top = root(&rows);
        for (index, row) in rows.iter().enumerate() {
            let proof = prove(&rows, index).unwrap();
            prop_assert!(verify(row, &proof, &top));
            let mut forged = *row;
            match change {
                0 => forged.amount.0 ^= 1,
                1 => forged.macs ^= 1,
                2 => forged.account.0[0] ^= 1,
                _ => forged.miner.0.0[0] ^= 1,
            }
            prop_assert!(!verify(&forged, &proof, &top));
        }
        prop_assert!(prove(&rows, rows.len()).is_none());
    }
}
