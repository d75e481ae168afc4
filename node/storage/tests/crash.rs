//! A writer of blocks is killed with SIGKILL at random moments; the database always reopens to a whole step.
//!
//! This proves that no step is torn by the death of the process. What the disk itself loses in a power cut rests on
//! RocksDB's synced write-ahead log.

mod blocks;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use blocks::{block, checkpoint, delta, spec};
use podl_chain_spec::Hash32;
use podl_consensus::state::{Checkpoint, StateStore, genesis_checkpoint};
use podl_consensus::types::Block;
use podl_storage::{Aux, Database};

const WRITER: &str = "PODL_CRASH_TEST_WRITER";
/// Blocks above the final one at any time, as on a calm network.
const UNFINAL: u64 = 2;
const MAIN: u8 = 1;
const RIVAL: u8 = 2;

/// The same chain in every process: a step is one block, and so is what must be found of it.
struct Chain {
    tag: Hash32,
    tips: Vec<Checkpoint>,
}

impl Chain {
    fn new() -> Self {
        let spec = spec();
        Self { tag: spec.genesis_hash(), tips: vec![genesis_checkpoint(&spec)] }
    }

    fn grow(&mut self, height: u64) {
        while self.tips.len() as u64 <= height {
            let parent = self.tips[self.tips.len() - 1];
            self.tips.push(checkpoint(&block(&self.tag, parent, MAIN)));
        }
    }

    fn at(&self, height: u64, salt: u8) -> Block {
        block(&self.tag, self.tips[height as usize - 1], salt)
    }
}

/// One step: a block and its rival come, the block two below becomes final and its rival goes; a guard row besides.
fn step(db: &Database, chain: &mut Chain, height: u64) {
    chain.grow(height);
    let mut batch = db.batch();
    for salt in [MAIN, RIVAL] {
        let block = chain.at(height, salt);
        batch.insert_block(&block.hash(), &block, &delta(height)).unwrap();
    }
    batch.set_head(chain.tips[height as usize]).unwrap();
    batch.put_aux(Aux::Guard, b"voted", &height.to_be_bytes()).unwrap();
    if let Some(low) = height.checked_sub(UNFINAL).filter(|low| *low > 0) {
        let block = chain.at(low, MAIN);
        batch.finalise(&block.hash(), &block, &delta(low)).unwrap();
        batch.prune_block(&chain.at(low, RIVAL).hash()).unwrap();
    }
    db.commit(batch).unwrap();
}

fn write_for_ever(dir: &Path) {
    let db = Database::open(dir, &spec()).unwrap().database;
    let mut chain = Chain::new();
    let mut height = db.recover().unwrap().head.height;
    loop {
        height += 1;
        step(&db, &mut chain, height);
    }
}

/// Checks every column against the one height that the head tells; a mix of two steps fails somewhere.
fn check(db: &Database, chain: &mut Chain) -> u64 {
    let found = db.recover().unwrap();
    let height = found.head.height;
    chain.grow(height);
    let low = height.saturating_sub(UNFINAL);
    assert_eq!(found.head, chain.tips[height as usize]);
    assert_eq!(found.finalised, chain.tips[low as usize]);
    let guard = db.aux(Aux::Guard, b"voted").unwrap();
    assert_eq!(guard, (height > 0).then(|| height.to_be_bytes().to_vec()));
    let mut pending: Vec<_> = found.pending.iter().map(|p| (p.block.height(), p.hash)).collect();
    let mut expected: Vec<_> =
        (low + 1..=height).flat_map(|h| [MAIN, RIVAL].map(|salt| (h, chain.at(h, salt).hash()))).collect();
    pending.sort();
    expected.sort();
    assert_eq!(pending, expected);
    assert!(found.pending.iter().all(|p| p.delta == delta(p.block.height())));
    if low > 0 {
        let last = chain.at(low, MAIN);
        assert_eq!(db.value(b"value").unwrap(), Some(low.to_be_bytes().to_vec()));
        assert_eq!(db.value(format!("old {}", low - 1).as_bytes()).unwrap(), None);
        assert_eq!(
            (db.node(&low.to_be_bytes()).unwrap(), db.node(&(low - 1).to_be_bytes()).unwrap()),
            (Some(vec![2]), None)
        );
        assert_eq!((db.final_hash(low).unwrap(), db.final_hash(low + 1).unwrap()), (Some(last.hash()), None));
        assert_eq!(db.block(&last.hash()).unwrap().as_ref(), Some(&last));
        assert_eq!(db.block(&chain.at(low, RIVAL).hash()).unwrap(), None);
        let place = db.transaction(&last.body.transactions[0].message.id()).unwrap();
        assert_eq!(place.map(|p| p.height), Some(low));
    }
    height
}

#[test]
fn a_killed_writer_leaves_whole_blocks() {
    if let Some(dir) = std::env::var_os(WRITER) {
        return write_for_ever(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new();
    let mut before = 0;
    for round in 0..16u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["a_killed_writer_leaves_whole_blocks", "--exact", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Different moments, without a clock or a generator in the test's verdict; some fall into the opening.
        std::thread::sleep(Duration::from_millis(20 + (round * 37) % 230));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let db = Database::open(dir.path(), &spec()).unwrap().database;
        let height = check(&db, &mut chain);
        assert!(height >= before, "height {height} after {before}: a committed block was lost");
        before = height;
        // The opened database goes on from there too.
        step(&db, &mut chain, height + 1);
        before += 1;
        assert_eq!(check(&db, &mut chain), before);
    }
    assert!(before > 32, "the writers hardly wrote: height {before}");
}
