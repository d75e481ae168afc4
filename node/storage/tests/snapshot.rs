//! The final state of one instant, and what compaction leaves.

mod blocks;

use blocks::{checkpoint, delta, spec};
use podl_consensus::state::{Checkpoint, StateStore, genesis_checkpoint};
use podl_storage::{Database, StorageError};

/// Makes a child of the final block final and returns it.
fn grow(db: &Database) -> Checkpoint {
    let last = db.finalised().unwrap();
    let block = blocks::block(&spec().genesis_hash(), last, 1);
    let mut batch = db.batch();
    batch.insert_block(&block.hash(), &block, &delta(block.height())).unwrap();
    batch.finalise(&block.hash(), &block, &delta(block.height())).unwrap();
    db.commit(batch).unwrap();
    checkpoint(&block)
}

#[test]
fn later_blocks_do_not_show_in_a_state_that_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    let first = grow(&db);
    let held = db.final_state().unwrap();
    assert_eq!(held.at(), first);
    let second = grow(&db);
    assert_eq!((held.at(), db.final_state().unwrap().at()), (first, second));
    assert_eq!(held.value(b"value").unwrap(), Some(1u64.to_be_bytes().to_vec()));
    assert_eq!(db.value(b"value").unwrap(), Some(2u64.to_be_bytes().to_vec()));
    let mut seen = Vec::new();
    held.visit(|key, _| {
        seen.push(key.to_vec());
        Ok::<(), StorageError>(())
    })
    .unwrap();
    assert!(seen.contains(&b"old 1".to_vec()) && !seen.contains(&b"old 2".to_vec()));
    assert!(seen.is_sorted(), "in the order of their keys");
    let now = db.state_values(&[]).unwrap().len();
    assert_eq!(seen.len(), now, "both states hold as many values");
}

#[test]
fn a_visit_ends_with_the_first_error() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    let mut visited = 0;
    let result = db.final_state().unwrap().visit(|_, _| {
        visited += 1;
        Err(StorageError::Order("enough".into()))
    });
    assert!(matches!(result, Err(StorageError::Order(_))));
    assert_eq!(visited, 1);
}

#[test]
fn compaction_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path(), &spec()).unwrap().database;
    assert_eq!(db.finalised().unwrap(), genesis_checkpoint(&spec()));
    let blocks: Vec<Checkpoint> = (0..20).map(|_| grow(&db)).collect();
    let before = db.state_values(&[]).unwrap();
    db.compact().unwrap();
    assert_eq!(db.state_values(&[]).unwrap(), before);
    assert!(blocks.iter().all(|block| db.block(&block.block).unwrap().is_some()));
    let tables = db.table_bytes().unwrap();
    let bytes = |name| tables.iter().find(|(table, _)| *table == name).unwrap().1;
    // Every block is final, so that nothing is pending but the marks of what was.
    assert!(bytes("blocks") > 0 && bytes("pending") == 0, "{tables:?}");
}
