//! How the disk of a full node grows: real blocks written into a real database as the node writes them.

use std::path::Path;

use podl_consensus::chain::BlockParts;
use podl_consensus::codec::encode;
use podl_consensus::testkit::Harness;
use podl_consensus::types::{Block, BlockHash};
use podl_storage::Database;

use crate::common::{FIRST_SENDER, OWNERS, chain, transfer};
use crate::grouped;

/// Blocks of each chain.
const BLOCKS: u64 = 500;
/// The first of the accounts that transfers bring into being.
const FIRST_STRANGER: u64 = 1_000_000;

/// What the blocks of a chain carry.
struct Plan {
    name: &'static str,
    seats: u64,
    commitments: usize,
    transfers: u64,
    /// Whether every transfer pays an account that is new, or one of the senders.
    to_strangers: bool,
}

const PLANS: [Plan; 4] = [
    Plan { name: "7 seats, 3 commitments, quiet", seats: 7, commitments: 3, transfers: 0, to_strangers: false },
    Plan { name: "7 seats, 60 commitments, quiet", seats: 7, commitments: 60, transfers: 0, to_strangers: false },
    Plan { name: "the same, 50 transfers", seats: 7, commitments: 60, transfers: 50, to_strangers: false },
    Plan { name: "the same, 50 to new accounts", seats: 7, commitments: 60, transfers: 50, to_strangers: true },
];

/// What a chain of [`BLOCKS`] blocks takes.
struct Growth {
    block_bytes: u64,
    values: usize,
    value_bytes: u64,
    nodes: usize,
    table_bytes: u64,
    /// Files of the folder that are no tables, such as the manifest and RocksDB's own log.
    other_bytes: u64,
    tables: Vec<(&'static str, u64)>,
}

pub fn print() {
    println!("## Disk and state after {BLOCKS} blocks, compacted\n");
    println!(
        "| blocks of | block | tables a block | state entries | their bytes | tree nodes |\n|---|---:|---:|---:|---:|---:|"
    );
    let grown: Vec<(&Plan, Growth)> = PLANS.iter().map(|plan| (plan, grow(plan))).collect();
    for (plan, g) in &grown {
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            plan.name,
            grouped(g.block_bytes / BLOCKS),
            grouped(g.table_bytes / BLOCKS),
            grouped(g.values as u64),
            grouped(g.value_bytes),
            grouped(g.nodes as u64),
        );
    }
    let other = grown.iter().map(|(_, g)| g.other_bytes).max().unwrap_or(0);
    println!("\nBeside the tables (manifest, options, RocksDB's own log): {} bytes at most.", grouped(other));
    println!("\n## Tables, bytes a block\n");
    let names: Vec<&str> = grown[0].1.tables.iter().map(|(name, _)| *name).collect();
    println!("| blocks of | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    for (plan, g) in &grown {
        let cells: Vec<String> = g.tables.iter().map(|(_, bytes)| grouped(bytes / BLOCKS)).collect();
        println!("| {} | {} |", plan.name, cells.join(" | "));
    }
}

fn grow(plan: &Plan) -> Growth {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut h, mut head) = chain(plan.seats, plan.transfers.max(1));
    let db = Database::open(folder.path(), h.chain.spec()).expect("a database").database;
    let first = h.chain.block(&head).expect("known").clone();
    let mut batch = db.batch();
    batch.insert_block(&head, &first.block, &first.delta).expect("a batch");
    db.commit(batch).expect("written");
    let mut block_bytes = 0;
    for number in 0..BLOCKS {
        let block = block(&mut h, head, plan, number);
        block_bytes += encode(&block).len() as u64;
        head = write(&mut h, &db, block);
    }
    db.compact().expect("compacted");
    let tables = db.table_bytes().expect("sizes");
    let table_bytes = tables.iter().map(|(_, bytes)| bytes).sum();
    drop(db);
    // Opening once more drops the log of what is in tables by now.
    let db = Database::open(folder.path(), h.chain.spec()).expect("a database").database;
    drop(db);
    let other_bytes = folder_bytes(folder.path()).saturating_sub(table_bytes);
    let state = h.chain.store();
    Growth {
        block_bytes,
        values: state.values().count(),
        value_bytes: state.values().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
        nodes: state.node_count(),
        table_bytes,
        other_bytes,
        tables,
    }
}

/// The next block: another owner wins each, so that seats change too.
fn block(h: &mut Harness, parent: BlockHash, plan: &Plan, number: u64) -> Block {
    let owners: Vec<u64> = OWNERS.collect();
    let first = usize::try_from(number).unwrap_or(0);
    let rounds: Vec<_> =
        (0..plan.commitments).map(|n| h.commit(parent, owners[(first + n) % owners.len()], 30)).collect();
    let sent = (0..plan.transfers).map(|n| {
        let to = if plan.to_strangers { FIRST_STRANGER + number * plan.transfers + n } else { FIRST_SENDER + n + 1 };
        transfer(h, FIRST_SENDER + n, number, to)
    });
    let parts = BlockParts { transactions: sent.collect(), ..h.parts(parent) };
    h.scored_rounds(parent, &rounds, 0, parts)
}

fn write(h: &mut Harness, db: &Database, block: Block) -> BlockHash {
    let imported = h.import(block).expect("valid");
    let mut batch = db.batch();
    batch.insert_block(&imported.hash, &imported.block, &imported.delta).expect("a batch");
    for f in &imported.newly_final {
        batch.finalise(&f.hash, &f.block, &f.delta).expect("a batch");
    }
    imported.pruned.iter().for_each(|block| batch.prune_block(&block.hash()).expect("a batch"));
    db.commit(batch).expect("written");
    imported.hash
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |meta| meta.len())).sum()
}
