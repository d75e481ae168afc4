//! Waiting transactions over restarts, lost blocks and silence.

use std::collections::BTreeSet;

use podl_chain_spec::{Amount, Hash32};
use podl_consensus::codec;
use podl_consensus::testkit::{account, small_spec, unchecked};
use podl_consensus::types::{Payment, SignedTransaction, TransactionKind};
use podl_mempool::SenderState;
use podl_storage::Aux;

use super::super::waiting::Row;
use super::Bed;

fn transfer(bed: &Bed, sender: u64, nonce: u64) -> SignedTransaction {
    let kind = TransactionKind::Transfer(Payment { to: account(20), amount: Amount(5) });
    bed.h.transaction(sender, nonce, kind).into_inner()
}

fn rows(bed: &mut Bed) -> Vec<Hash32> {
    let rows = bed.core().db.aux_rows(Aux::Mempool).unwrap();
    rows.into_iter().map(|(key, _)| Hash32(key.try_into().unwrap())).collect()
}

#[test]
fn what_waits_survives_a_kill_and_leaves_the_disk_when_it_is_in_a_block() {
    let mut bed = Bed::new(small_spec(4, 24), Some(9));
    let sent = [transfer(&bed, 6, 0), transfer(&bed, 6, 1), transfer(&bed, 7, 0)];
    for transaction in &sent[..2] {
        bed.core().submit(transaction.clone()).unwrap();
    }
    bed.core().add_transaction(sent[2].clone()).unwrap();
    bed.core().tend_waiting(1).unwrap();
    assert_eq!(rows(&mut bed).len(), 3);

    bed.restart();
    assert_eq!(bed.core().waiting_transactions(), 3);
    let own: BTreeSet<u64> = bed.core().own_waiting().iter().map(|(_, t)| t.message.nonce).collect();
    assert_eq!(own, BTreeSet::from([0, 1]), "those that its users gave it are still told");

    let genesis = bed.h.genesis();
    bed.mine(genesis, 10, vec![unchecked(sent[0].clone()), unchecked(sent[2].clone())]);
    assert_eq!(bed.core().waiting_transactions(), 1);
    bed.core().keep_waiting().unwrap();
    assert_eq!(rows(&mut bed), [sent[1].message.id()]);
    bed.restart();
    assert_eq!(bed.core().waiting_transactions(), 1);
}

#[test]
fn rows_go_through_the_same_checks_as_strangers_transactions() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let good = transfer(&bed, 6, 0);
    let mut forged = transfer(&bed, 7, 0);
    forged.message.fee = Amount(forged.message.fee.0 + 1);
    let poor = transfer(&bed, 40, 0);
    let db = bed.core().db.clone();
    let mut batch = db.batch();
    for (n, transaction) in [(1u8, good.clone()), (2, forged), (3, poor)] {
        let key = if n == 1 { transaction.message.id() } else { Hash32([n; 32]) };
        let row = codec::encode(&Row { local: false, transaction });
        batch.put_aux(Aux::Mempool, key.as_bytes(), &row).unwrap();
    }
    batch.put_aux(Aux::Mempool, &[4; 32], b"no row").unwrap();
    db.commit(batch).unwrap();
    drop(db);
    bed.restart();
    assert_eq!(bed.core().waiting_transactions(), 1);
    assert_eq!(rows(&mut bed), [good.message.id()], "what was refused has left the disk");
}

#[test]
fn little_room_on_disk_is_for_own_transactions() {
    let mut bed = Bed::new(small_spec(4, 24), Some(9));
    let strangers: Vec<_> = (0..8).map(|n| transfer(&bed, n, 0)).collect();
    let own = transfer(&bed, 9, 0);
    let bytes = codec::encode(&Row { local: true, transaction: own.clone() }).len();
    for transaction in strangers.into_iter().chain([own.clone()]) {
        bed.core().add_transaction(transaction).unwrap();
    }
    let rows = bed.core().rows_to_keep(3 * bytes + bytes / 2);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].0, own.message.id());
    assert_eq!(bed.core().rows_to_keep(bytes - 1), []);
}

#[test]
fn a_transaction_of_a_block_that_lost_waits_again() {
    let mut bed = Bed::new(small_spec(4, 24), None);
    let genesis = bed.h.genesis();
    let sent = transfer(&bed, 6, 0);
    bed.core().submit(sent.clone()).unwrap();
    // The first block carries it; a better one beside it, which becomes the head, does not.
    let parts =
        podl_consensus::chain::BlockParts { transactions: vec![unchecked(sent.clone())], ..bed.h.parts(genesis) };
    let first = bed.h.scored(genesis, 10, 30, parts);
    bed.advance(first);
    assert_eq!(bed.core().waiting_transactions(), 0);
    let parts = bed.h.parts(genesis);
    let better = bed.h.scored(genesis, 11, 50, parts);
    let better = bed.advance(better);
    assert_eq!(bed.core().head().block, better);
    assert_eq!(bed.core().waiting_transactions(), 1);
    // Also out of the block when that is forgotten, because the other branch is final.
    bed.core().mempool.prune(|_| SenderState { nonce: 1, spendable: Amount(0) });
    assert_eq!(bed.core().waiting_transactions(), 0);
    let mut at = better;
    for _ in 0..3 {
        at = bed.mine(at, 12, Vec::new());
    }
    assert!(bed.core().finalised().height >= 1);
    assert!(bed.core().mempool.get(&sent.message.id()).is_some());
    bed.mine(at, 13, vec![unchecked(sent)]);
    assert_eq!(bed.core().waiting_transactions(), 0);
}
