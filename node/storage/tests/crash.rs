//! A writer is killed with SIGKILL at random moments; the database always reopens to a whole step.
//!
//! This proves that no step is torn by the death of the process. What the disk itself loses in a power cut rests on
//! RocksDB's synced write-ahead log.

use std::process::{Command, Stdio};
use std::time::Duration;

use podl_chain_spec::ChainSpec;
use podl_consensus::state::StateStore;
use podl_storage::{Aux, Database};

const WRITER: &str = "PODL_CRASH_TEST_WRITER";
const KEYS: u64 = 50;

/// Writes steps for ever: each sets all of the rows to the number of the step.
fn write_for_ever(dir: &str) {
    let db = Database::open(dir.as_ref(), &ChainSpec::load("dev").unwrap()).unwrap().database;
    let mut step = last_step(&db);
    loop {
        step += 1;
        let mut batch = db.batch();
        for key in 0..KEYS {
            batch.put_aux(Aux::Pool, &key.to_be_bytes(), &step.to_be_bytes()).unwrap();
            batch.put_aux(Aux::Guard, &key.to_be_bytes(), &[step.to_be_bytes(); 64].concat()).unwrap();
        }
        db.commit(batch).unwrap();
    }
}

fn last_step(db: &Database) -> u64 {
    let row = db.aux(Aux::Pool, &0u64.to_be_bytes()).unwrap();
    row.map_or(0, |row| u64::from_be_bytes(row.try_into().unwrap()))
}

#[test]
fn a_killed_writer_leaves_whole_steps() {
    if let Ok(dir) = std::env::var(WRITER) {
        return write_for_ever(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..12u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["a_killed_writer_leaves_whole_steps", "--exact", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Different moments, without a clock or a generator in the test's verdict.
        std::thread::sleep(Duration::from_millis(60 + (round * 37) % 190));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let db = Database::open(dir.path(), &ChainSpec::load("dev").unwrap()).unwrap().database;
        let step = last_step(&db);
        assert!(step >= before, "step {step} after {before}");
        for key in 0..KEYS {
            assert_eq!(db.aux(Aux::Pool, &key.to_be_bytes()).unwrap().unwrap_or_default(), encoded(step));
        }
        assert!(db.value(&[0]).unwrap().is_some(), "the genesis state is there");
        before = step;
    }
    assert!(before > 0, "the writer never wrote");
}

fn encoded(step: u64) -> Vec<u8> {
    if step == 0 { Vec::new() } else { step.to_be_bytes().to_vec() }
}
