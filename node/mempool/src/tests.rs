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
    Mempool::new(Limits { total_bytes, ..Limits::default() })
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

/// A state of an account that can pay a hundred transfers of one unit with such a fee, and no more.
fn modest(fee: u64) -> SenderState {
    SenderState { nonce: 0, spendable: Amount(100 * (fee + 1)) }
}

fn big_transfer(sender: u8, nonce: u64, fee: u64, amount: u64) -> Verified<SignedTransaction> {
    let mut signed = transfer(sender, nonce, fee).into_inner();
    signed.message.kind = TransactionKind::Transfer(Payment { to: account(9), amount: Amount(amount) });
    unchecked(signed)
}

#[test]
fn what_no_block_can_carry_takes_no_place_from_what_it_can() {
    // The largest of them, so that the pool's bytes hold just so many.
    let size = codec::encode(&big_transfer(1, 63, 9_000, 1 << 40)).len();
    for flood in [
        // Behind a nonce that is missing.
        (1..=63).map(|nonce| big_transfer(1, nonce, 9_000, 1)).collect::<Vec<_>>(),
        // Behind one that takes all the money.
        (0..=63).map(|nonce| big_transfer(1, nonce, 9_000, 900_000 * u64::from(nonce == 0))).collect(),
        // More money than there is, from the first on.
        (0..=63).map(|nonce| big_transfer(1, nonce, 9_000, 1 << 40)).collect(),
        // More than there can be.
        (0..=63).map(|nonce| big_transfer(1, nonce, 9_000, u64::MAX)).collect(),
    ] {
        let mut pool = pool(20 * size);
        let state = modest(9_000);
        for t in &flood {
            // Those beyond the pool's bytes are refused.
            let _ = pool.insert(t.clone(), state);
        }
        assert!(pool.bytes() > 18 * size, "the flood fills the pool while nobody else wants it");
        for sender in 10..25 {
            pool.insert(transfer(sender, 0, 1_000), RICH).unwrap();
        }
        // It may push out others like itself at most.
        let _ = pool.insert(big_transfer(2, 5, 90_000, 1), RICH);
        assert_eq!(pool.iter().filter(|(_, t)| t.message.sender.0[0] >= 10).count(), 15, "nor do others push them out");
        assert!(pool.bytes() <= 20 * size);
    }
}

#[test]
fn a_missing_nonce_that_comes_makes_the_others_worth_their_fees() {
    let size = codec::encode(&transfer(1, 0, 1_000)).len();
    let mut pool = pool(3 * size);
    pool.insert(transfer(1, 1, 5_000), RICH).unwrap();
    pool.insert(transfer(1, 0, 4_000), RICH).unwrap();
    pool.insert(transfer(2, 0, 1_000), RICH).unwrap();
    pool.insert(transfer(3, 0, 2_000), RICH).unwrap();
    assert_eq!(pool.of_sender(&account(1)).count(), 2);
    assert_eq!(pool.of_sender(&account(2)).count(), 0);
    // The head moves to a branch where the account has less: what it cannot pay any more goes first.
    pool.prune(|a| if *a == account(1) { SenderState { nonce: 0, spendable: Amount(5_000) } } else { RICH });
    pool.insert(transfer(4, 0, 1_500), RICH).unwrap();
    assert_eq!(pool.of_sender(&account(1)).map(|(_, t)| t.message.nonce).collect::<Vec<_>>(), [0]);
}

#[test]
fn the_largest_numbers_end_in_refusals() {
    let mut pool = pool(1 << 20);
    let last = SenderState { nonce: u64::MAX, spendable: Amount(u64::MAX) };
    assert!(matches!(pool.insert(transfer(1, u64::MAX, u64::MAX), last), Err(MempoolError::NonceAhead { .. })));
    assert_eq!(pool.next_nonce(&account(1), u64::MAX), u64::MAX);
    let near = SenderState { nonce: u64::MAX - 1, spendable: Amount(u64::MAX) };
    pool.insert(big_transfer(1, u64::MAX - 1, u64::MAX, u64::MAX), near).unwrap();
    assert_eq!(pool.next_nonce(&account(1), u64::MAX - 1), u64::MAX);
    let raised = pool.insert(big_transfer(1, u64::MAX - 1, u64::MAX, 7), near);
    assert_eq!(raised, Err(MempoolError::Underpriced { got: u64::MAX, least: u64::MAX }));
    assert_eq!(pool.select(usize::MAX, usize::MAX, |_| near).len(), 1);
}
