//! The database as the node uses it, and what it says when something is wrong.

mod blocks;

use std::sync::Arc;

use blocks::{checkpoint, delta, key, spec};
use podl_chain_spec::{AccountId, ChainSpec, Hash32};
use podl_consensus::signed::account_of;
use podl_consensus::state::{Checkpoint, StateKey, StateStore, genesis_checkpoint};
use podl_consensus::types::Block;
use podl_storage::{Aux, Database, HistoryKind, StorageError};

fn block(parent: Checkpoint, salt: u8) -> Block {
    blocks::block(&spec().genesis_hash(), parent, salt)
}

#[test]
fn a_new_database_holds_the_genesis_state_and_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Database::open(dir.path(), &spec()).unwrap();
    assert!(opened.created);
    assert_eq!(opened.database.finalised().unwrap(), genesis_checkpoint(&spec()));
    assert!(opened.database.value(&StateKey::Meta.to_bytes()).unwrap().is_some());
    drop(opened);
    assert!(!Database::open(dir.path(), &spec()).unwrap().created);
}

#[test]
fn blocks_wait_with_their_deltas_and_fold_when_final() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Database::open(dir.path(), &spec()).unwrap().database);
    let genesis = genesis_checkpoint(&spec());
    let (first, rival) = (block(genesis, 1), block(genesis, 2));
    let second = block(Checkpoint { height: 1, block: first.hash() }, 3);
    let mut batch = db.batch();
    for (b, h) in [(&first, 1), (&rival, 1), (&second, 2)] {
        batch.insert_block(&b.hash(), b, &delta(h)).unwrap();
    }
    batch.set_head(Checkpoint { height: 2, block: second.hash() }).unwrap();
    db.commit(batch).unwrap();
    let found = db.recover().unwrap();
    assert_eq!((found.finalised, found.head.height, found.pending.len()), (genesis, 2, 3));
    assert!(found.pending.windows(2).all(|w| w[0].block.height() <= w[1].block.height()));
    assert_eq!(db.value(b"value").unwrap(), None, "a block above the final one does not touch the state");

    let mut batch = db.batch();
    batch.finalise(&first.hash(), &first, &delta(1)).unwrap();
    batch.prune_block(&rival.hash()).unwrap();
    db.commit(batch).unwrap();
    let found = db.recover().unwrap();
    assert_eq!((found.finalised.block, found.pending.len()), (first.hash(), 1));
    assert_eq!(found.pending[0].delta, delta(2));
    assert_eq!(db.value(b"value").unwrap(), Some(1u64.to_be_bytes().to_vec()));
    assert_eq!(db.node(&1u64.to_be_bytes()).unwrap(), Some(vec![2]));
    assert_eq!(db.final_hash(1).unwrap(), Some(first.hash()));
    assert_eq!(db.block(&rival.hash()).unwrap(), None);

    let mut batch = db.batch();
    batch.finalise(&second.hash(), &second, &delta(2)).unwrap();
    db.commit(batch).unwrap();
    assert_eq!(db.value(b"old 1").unwrap(), None);
    assert_eq!(db.node(&1u64.to_be_bytes()).unwrap(), None, "stale nodes go");
    let place = db.transaction(&second.body.transactions[0].message.id()).unwrap().unwrap();
    assert_eq!((place.height, place.position, place.block), (2, 0, second.hash()));
    let history = db.history(&account_of(&key(1)), u64::MAX, 10).unwrap();
    assert_eq!(
        history.iter().map(|e| (e.height, e.kind)).collect::<Vec<_>>(),
        [(2, HistoryKind::Sent), (1, HistoryKind::Sent)]
    );
    assert_eq!(db.history(&account_of(&key(1)), 2, 10).unwrap().len(), 1);
    assert_eq!(db.history(&AccountId([3; 32]), u64::MAX, 10).unwrap()[0].kind, HistoryKind::Received);
}

#[test]
fn rows_of_other_parts_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    let mut batch = db.batch();
    batch.put_aux(Aux::Guard, b"a", b"1").unwrap();
    batch.put_aux(Aux::Payouts, b"a", b"2").unwrap();
    batch.put_aux(Aux::Payouts, b"b", b"3").unwrap();
    db.commit(batch).unwrap();
    assert_eq!(db.aux(Aux::Guard, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(db.aux_rows(Aux::Payouts).unwrap(), [(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), b"3".to_vec())]);
    let mut batch = db.batch();
    batch.delete_aux(Aux::Payouts, b"a").unwrap();
    db.commit(batch).unwrap();
    assert_eq!(db.aux(Aux::Payouts, b"a").unwrap(), None);
}

#[test]
fn wrong_chain_and_held_lock_are_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let held = Database::open(dir.path(), &spec()).unwrap();
    let error = Database::open(dir.path(), &spec()).unwrap_err();
    assert!(matches!(error, StorageError::InUse { .. }), "{error}");
    drop(held);
    let testnet = ChainSpec::load("testnet").unwrap();
    let error = Database::open(dir.path(), &testnet).unwrap_err();
    assert!(matches!(error, StorageError::WrongChain { .. }), "{error}");
    assert!(error.to_string().contains("--data-dir"));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Database::open(&file.path().join("db"), &spec()).unwrap_err();
    assert!(matches!(error, StorageError::Folder { .. }), "{error}");
}

#[test]
fn blocks_become_final_in_order_and_only_once_stored() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    let genesis = genesis_checkpoint(&spec());
    let (first, rival) = (block(genesis, 1), block(genesis, 2));
    let second = block(checkpoint(&first), 3);
    let refused = |wanted: &[(&Block, u64)], stored: &[&Block]| {
        let mut batch = db.batch();
        for b in stored {
            batch.insert_block(&b.hash(), b, &delta(b.height())).unwrap();
        }
        let error = wanted.iter().find_map(|(b, height)| batch.finalise(&b.hash(), b, &delta(*height)).err());
        assert!(matches!(&error, Some(StorageError::Order(_))), "{error:?}");
        error.unwrap().to_string()
    };
    assert!(refused(&[(&first, 1)], &[]).contains("not stored"));
    assert!(refused(&[(&second, 2)], &[&first, &second]).contains("height"));
    assert!(refused(&[(&first, 2)], &[&first]).contains("delta"));
    assert!(refused(&[(&rival, 1), (&second, 2)], &[&rival, &second]).contains("parent"));
    assert!(refused(&[(&first, 1), (&first, 1)], &[&first]).contains("height"));
    assert_eq!(db.recover().unwrap().finalised, genesis, "nothing was committed");
    // Stored, and made final with its parent, in one batch.
    let mut batch = db.batch();
    for b in [&first, &second] {
        batch.insert_block(&b.hash(), b, &delta(b.height())).unwrap();
    }
    for b in [&first, &second] {
        batch.finalise(&b.hash(), b, &delta(b.height())).unwrap();
    }
    db.commit(batch).unwrap();
    assert_eq!(db.finalised().unwrap(), checkpoint(&second));
    assert_eq!(db.final_hash(1).unwrap(), Some(first.hash()));
    assert_eq!(db.transaction(&Hash32([1; 32])).unwrap(), None);
}

#[test]
fn growth_of_a_block_on_disk_is_bounded() {
    // 500 blocks with one transfer each: what the indexes cost besides block and delta.
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    let mut tip = genesis_checkpoint(&spec());
    let began = std::time::Instant::now();
    let mut logical = 0;
    for _ in 0..500 {
        let b = block(tip, 1);
        tip = checkpoint(&b);
        let d = delta(tip.height);
        logical += podl_consensus::codec::encode(&b).len() + 2 * podl_consensus::codec::encode(&d).len();
        let mut batch = db.batch();
        batch.insert_block(&b.hash(), &b, &d).unwrap();
        batch.finalise(&b.hash(), &b, &d).unwrap();
        db.commit(batch).unwrap();
    }
    let each_us = began.elapsed().as_micros() / 500;
    drop(db);
    let files = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len());
    let held: u64 = files.sum();
    eprintln!("{held} bytes on disk for {logical} of blocks and deltas; {each_us} us a block, made and written");
    assert!(held < 4 * logical as u64 + (4 << 20), "{held} bytes on disk for {logical}; {each_us} us a block");
}

#[test]
fn rows_are_read_a_page_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    let mut batch = db.batch();
    for key in [[1u8], [2], [3], [255]] {
        batch.put_aux(Aux::Mempool, &key, &key).unwrap();
    }
    batch.put_aux(Aux::Blobs, b"x", b"another part's").unwrap();
    db.commit(batch).unwrap();
    let page = |after: &[u8], limit| -> Vec<Vec<u8>> {
        db.aux_page(Aux::Mempool, after, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(page(&[], 2), [vec![1], vec![2]]);
    assert_eq!(page(&[2], 2), [vec![3], vec![255]]);
    assert_eq!(page(&[2, 7], 9), [vec![3], vec![255]], "after a key that is gone");
    assert!(page(&[255], 2).is_empty());
}
