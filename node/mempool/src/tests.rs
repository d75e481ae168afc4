use podl_consensus::signed::{Signature, Signed};
use podl_consensus::testkit::unchecked;
use podl_consensus::types::{Payment, Transaction, TransactionKind};

use super::*;

fn account(n: u8) -> AccountId {
    AccountId([n; 32])
}

fn transfer(sender: u8, nonce: u64, fee: u64) -> Verified<SignedTransaction> {
    let kind = TransactionKind::Transfer(Payment { to: account(9), amount: Amount(1) });
    let message = Transaction { sender: account(sender), nonce, fee: Amount(fee), kind };
    unchecked(Signed { message, signature: Signature([0; 64]) })
}

const RICH: SenderState = SenderState { nonce: 0, spendable: Amount(1 << 40) };

fn pool(total_bytes: usize) -> Mempool {
    Mempool::new(Limits { total_bytes, ..Limits::new(Amount(1)) })
}

#[test]
fn selects_the_best_payers_in_nonce_order() {
    let mut pool = pool(1 << 20);
    for t in [transfer(1, 0, 1_000), transfer(1, 1, 90_000), transfer(2, 0, 5_000), transfer(3, 1, 99_000)] {
        pool.insert(t, RICH).unwrap();
    }
    let order: Vec<_> =
        pool.select(1 << 20, 10, |_| RICH).iter().map(|t| (t.message.sender.0[0], t.message.nonce)).collect();
    // Sender 3's nonce 0 is missing; sender 1's rich second transaction waits for its poor first one.
    assert_eq!(order, [(2, 0), (1, 0), (1, 1)]);
    assert_eq!(pool.select(1 << 20, 1, |_| RICH).len(), 1);
    assert_eq!(pool.select(10, 10, |_| RICH).len(), 0);
}

#[test]
fn each_refusal_has_its_own_error() {
    let mut pool = pool(1 << 20);
    let first = transfer(1, 0, 1_000);
    pool.insert(first.clone(), RICH).unwrap();
    let state = |nonce, spendable| SenderState { nonce, spendable: Amount(spendable) };
    assert_eq!(pool.insert(first, RICH), Err(MempoolError::Known));
    assert_eq!(pool.insert(transfer(1, 1, 500), state(2, 999)), Err(MempoolError::NonceUsed { got: 1, expected: 2 }));
    assert_eq!(pool.insert(transfer(1, 64, 500), RICH), Err(MempoolError::NonceAhead { got: 64, limit: 64 }));
    assert!(matches!(pool.insert(transfer(1, 1, 3), RICH), Err(MempoolError::FeeTooLow { got: 3, .. })));
    assert!(matches!(pool.insert(transfer(1, 1, 500), state(0, 499)), Err(MempoolError::CannotPay { .. })));
    assert_eq!(pool.insert(transfer(1, 0, 1_099), RICH), Err(MempoolError::Underpriced { got: 1_099, least: 1_100 }));
    pool.insert(transfer(1, 0, 1_100), RICH).unwrap();
    assert_eq!(pool.len(), 1);
}

#[test]
fn a_full_pool_keeps_who_pays_more_and_never_strands_a_nonce() {
    let size = codec::encode(&*transfer(1, 0, 1_000)).len();
    let mut pool = pool(3 * size);
    pool.insert(transfer(1, 0, 1_000), RICH).unwrap();
    pool.insert(transfer(1, 1, 1_500), RICH).unwrap();
    pool.insert(transfer(2, 0, 1_200), RICH).unwrap();
    assert_eq!(pool.insert(transfer(3, 0, 1_100), RICH), Err(MempoolError::Full));
    // The tails are sender 1's second (1,500) and sender 2's only one (1,200): the cheapest tail goes.
    pool.insert(transfer(3, 0, 1_400), RICH).unwrap();
    assert!(pool.get(&transfer(2, 0, 1_200).message.id()).is_none());
    assert!(pool.get(&transfer(1, 0, 1_000).message.id()).is_some());
    assert_eq!((pool.len(), pool.bytes()), (3, 3 * size));
}

#[test]
fn prune_drops_the_included_and_the_unpayable() {
    let mut pool = pool(1 << 20);
    for t in [transfer(1, 0, 1_000), transfer(1, 1, 1_000), transfer(2, 0, 1_000)] {
        pool.insert(t, RICH).unwrap();
    }
    assert_eq!(pool.next_nonce(&account(1), 0), 2);
    pool.prune(|a| if *a == account(1) { SenderState { nonce: 1, ..RICH } } else { SenderState::default() });
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.next_nonce(&account(1), 1), 2);
    pool.prune(|_| SenderState { nonce: 9, ..RICH });
    assert!(pool.is_empty() && pool.bytes() == 0);
}
