//! What a miner can see by itself: every tampering with a list or a transaction.

use podl_consensus::types::{BatchPayment, Payment};

use super::*;

const MANAGER: u8 = 9;

fn sample() -> ShareList {
    let terms = pplns(4, 500);
    let mut ledger = books(terms);
    for who in 1..=5u8 {
        ledger.credit(miner(who), account(who.min(4)), u64::from(who) * 1_000_003);
    }
    ledger.credit(miner(MANAGER), account(MANAGER), 77);
    ledger.note_model(block(101), miner(2), account(2));
    ledger.close(&won(1), terms);
    ledger.list(&block(1)).unwrap().clone()
}

#[test]
fn an_honest_list_and_its_transaction_hold() {
    let list = sample();
    let paid = list.batch(&account(MANAGER)).unwrap();
    assert_eq!(check_list(&list), []);
    assert_eq!(check_batch(&list, &account(MANAGER), &account(MANAGER), &paid), []);
}

#[test]
fn every_tampering_with_a_list_is_caught() {
    type Case = (&'static str, fn(&mut ShareList), fn(&Difference) -> bool);
    let cases: [Case; 9] = [
        ("a higher fee", |l| l.fee.0 += 1, |d| matches!(d, Difference::Fee { .. })),
        ("other terms", |l| l.terms.fee_basis_points = 300, |d| matches!(d, Difference::Fee { .. })),
        ("less work", |l| l.rows[0].macs /= 2, |d| matches!(d, Difference::Amount { .. })),
        ("a lower amount", |l| l.rows[1].amount.0 -= 1, |d| matches!(d, Difference::Amount { .. })),
        ("a bonus for another", |l| l.rows[0].bonus.0 = 5, |d| matches!(d, Difference::Bonus { .. })),
        ("no finder", |l| l.finder = None, |d| matches!(d, Difference::Bonus { .. })),
        ("a lower reward", |l| l.reward.0 -= 1000, |d| matches!(d, Difference::Fee { .. })),
        ("a row twice", |l| l.rows.push(l.rows[5]), |d| matches!(d, Difference::Order(_))),
        (
            "an inflated bonus",
            |l| l.terms.scheme = PayScheme::Pplns { window: 4, finder_basis_points: 5000 },
            |d| matches!(d, Difference::FinderCap { got: 5000, expected: 1000 }),
        ),
    ];
    let honest = sample();
    for (name, tamper, is_named) in cases {
        let mut list = honest.clone();
        tamper(&mut list);
        let found = check_list(&list);
        assert!(found.iter().any(is_named), "{name}: {found:?}");
        assert_ne!(list.root(), honest.root(), "{name}: the root on chain tells as well");
    }
    // Worked out afresh a tampered list holds by itself; the root on chain gives it away.
    let paid = honest.batch(&account(MANAGER)).unwrap();
    let mut list = honest.clone();
    list.rows[0].macs /= 2;
    let list = ShareList::new(list);
    assert_eq!(check_list(&list), []);
    let found = check_batch(&list, &account(MANAGER), &account(MANAGER), &paid);
    assert!(matches!(found[0], Difference::Root { .. }), "{found:?}");
    assert!(found.iter().any(|d| matches!(d, Difference::Payment { .. })), "{found:?}");
}

#[test]
fn every_tampering_with_the_transaction_is_caught() {
    let list = sample();
    let manager = account(MANAGER);
    let paid = list.batch(&manager).unwrap();
    let check = |sender: u8, change: &dyn Fn(&mut BatchPayment)| {
        let mut paid = paid.clone();
        change(&mut paid);
        check_batch(&list, &manager, &account(sender), &paid)
    };
    assert!(matches!(check(1, &|_| ())[..], [Difference::Sender { .. }]));
    assert!(matches!(check(MANAGER, &|p| p.block = block(3))[..], [Difference::Block { .. }]));
    assert!(matches!(check(MANAGER, &|p| p.shares_root = block(3))[..], [Difference::Root { .. }]));
    let less = check(MANAGER, &|p| p.payments[2].amount.0 -= 1);
    assert!(matches!(less[..], [Difference::Payment { account: a, .. }] if a == account(3)), "{less:?}");
    let none = check(MANAGER, &|p| p.payments.truncate(3));
    assert!(matches!(none[..], [Difference::Payment { got: Amount(0), .. }]));
    let extra = check(MANAGER, &|p| p.payments.push(Payment { to: account(50), amount: Amount(5) }));
    assert!(matches!(extra[..], [Difference::Payment { expected: Amount(0), .. }]));
    for difference in less.iter().chain(&none) {
        let text = difference.to_string();
        assert!(text.contains("was paid") && text.contains("the list gives"), "{text}");
    }
}

#[test]
fn every_lie_about_the_block_is_caught() {
    let list = sample();
    let manager = account(MANAGER);
    let honest = ChainBlock { height: 1, producer: manager, reward: REWARD, model: list.model };
    assert_eq!(check_block(&list, &manager, &honest), []);
    let check = |chain: ChainBlock| check_block(&list, &manager, &chain);
    assert!(matches!(check(ChainBlock { height: 2, ..honest })[..], [Difference::Height { got: 1, expected: 2 }]));
    assert!(matches!(check(ChainBlock { producer: account(1), ..honest })[..], [Difference::Producer { .. }]));
    assert!(matches!(check(ChainBlock { reward: Amount(5), ..honest })[..], [Difference::Reward { .. }]));
    assert!(matches!(check(ChainBlock { model: Some(block(1)), ..honest })[..], [Difference::Model { .. }]));
    let unknown = ShareList { model: None, ..list.clone() };
    assert_eq!(check_block(&unknown, &manager, &honest), [], "the pool has the bonus then");
}

#[test]
fn an_account_has_a_proof_of_each_of_its_rows() {
    let list = sample();
    // Account 4 has two miners.
    let proofs: Vec<_> = [4, 5].iter().filter_map(|who| list.proof(&miner(*who))).collect();
    assert_eq!(check_proofs(&list, &account(4), &proofs, &list.root()), []);
    let missing = check_proofs(&list, &account(4), &proofs[..1], &list.root());
    assert_eq!(missing, [Difference::Proof(miner(5))]);
    assert_eq!(check_proofs(&list, &account(4), &proofs, &block(1)).len(), 2, "another root");
}

proptest! {
    #[test]
    fn proofs_hold_for_every_row_and_for_no_other(
        macs in proptest::collection::vec(any::<u64>(), 1..40),
        change in 0u8..6,
    ) {
        let terms = pplns(4, 0);
        let mut ledger = books(terms);
        for (who, macs) in (0u8..).zip(&macs) {
            ledger.credit(miner(who), account(who), *macs | 1);
        }
        ledger.close(&won(1), terms);
        let list = ledger.list(&block(1)).unwrap();
        for row in &list.rows {
            let (own, proof) = list.proof(&row.miner).unwrap();
            prop_assert!(own == *row && verify(row, &proof, &list.root()));
            let mut forged = *row;
            match change {
                0 => forged.amount.0 ^= 1,
                1 => forged.macs ^= 1,
                2 => forged.account.0[0] ^= 1,
                3 => forged.bonus.0 ^= 1,
                4 => forged.points ^= 1,
                _ => forged.miner.0.0[0] ^= 1,
            }
            prop_assert!(!verify(&forged, &proof, &list.root()));
        }
        prop_assert!(list.proof(&miner(250)).is_none());
    }
}
