//! What consensus costs in bytes: messages, blocks, state and disk. Prints the tables of docs/costs.md.
#![allow(clippy::print_stdout, reason = "printing is what it does")]

#[path = "../common/mod.rs"]
mod common;
mod growth;

use podl_consensus::codec::encode;
use podl_consensus::signed::Signed;
use podl_consensus::testkit::{Harness, Round, account, number_hash};
use podl_consensus::types::{Block, BlockHash, Closing, ClosingList, Commitment, SignedVote, TaskId};
use podl_consensus::verified::Verified;

use common::{FIRST_SENDER, chain, commitments, full_block, golden, golden_artefact, shard, transfer};

/// Rows of a table: what, bytes, remark.
type Rows = Vec<(String, usize, String)>;

fn main() {
    // Only `cargo bench` means it; runs of all tests start every target.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("# {}\n", common::machine());
    table("Messages", &messages());
    table("Commitments in a block", &lists());
    table("Blocks", &blocks());
    table("Work", &work());
    growth::print();
}

fn table(title: &str, rows: &Rows) {
    println!("## {title}\n\n| what | bytes | |\n|---|---:|---|");
    rows.iter().for_each(|(what, bytes, remark)| println!("| {what} | {} | {remark} |", grouped(*bytes as u64)));
    println!();
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn row(what: impl Into<String>, bytes: Vec<u8>, remark: impl Into<String>) -> (String, usize, String) {
    (what.into(), bytes.len(), remark.into())
}

/// A closing of a seat as it is gossiped: with its whole list.
fn gossiped(h: &Harness, parent: BlockHash, rounds: &[Round]) -> (Signed<Closing>, ClosingList) {
    let list = ClosingList::new(rounds.iter().map(|round| round.commitment.clone()));
    let closing = Closing { parent, seat: account(0), list_root: list.root() };
    (Signed::new(closing, &h.chain.chain_hash(), h.key_of(&account(0))), list)
}

fn messages() -> Rows {
    let (mut h, parent) = chain(7, 1);
    let rounds = commitments(&mut h, parent);
    let commitment: &Signed<Commitment> = &rounds[0].commitment;
    let mut flags: Vec<TaskId> = (0..4).map(number_hash).collect();
    flags.sort_unstable();
    let vote = |ready: &[TaskId]| encode(&h.vote(&account(0), parent, ready));
    let mut rows = vec![
        row("commitment", encode(commitment), "one a model, at most 3 an owner"),
        row("closing, gossiped with 60 commitments", encode(&gossiped(&h, parent, &rounds)), "one a seat"),
        row("closing, gossiped with none", encode(&gossiped(&h, parent, &[])), ""),
        row("vote", vote(&[]), "one a seat"),
        row("vote with 4 ready flags", vote(&flags), ""),
        row("transfer", encode(&transfer(&h, FIRST_SENDER, 0, 1)), "least fee: 10 units a byte"),
    ];
    let input_table = "with an input table of three channels";
    rows.push(row("task of 1 round, published", encode(&published(&mut h, 1)), input_table));
    rows.push(row("task of 256 rounds, published", encode(&published(&mut h, 256)), ""));
    rows
}

fn published(h: &mut Harness, rounds: u32) -> podl_consensus::types::SignedTransaction {
    let (task, keys) = h.task(rounds);
    h.publish(7, 0, task, keys).0.into_inner()
}

fn lists() -> Rows {
    let mut rows = Rows::new();
    for seats in [7, 21] {
        let (mut h, parent) = chain(seats, 1);
        let rounds = commitments(&mut h, parent);
        let set = h.closings(parent, &h.interval(parent).seats, &rounds);
        let apart = usize::try_from(seats).unwrap_or(0) * encode(&gossiped(&h, parent, &rounds)).len();
        let remark = format!("{} if every list stood for itself", grouped(apart as u64));
        rows.push(row(format!("{seats} closings of the same 60 commitments"), encode(&set), remark));
        rows.push(row(format!("of these, the {seats} bitmaps and signatures"), encode(&set.closings), ""));
        let votes: Vec<SignedVote> = h.votes(parent, &[]).into_iter().map(Verified::into_inner).collect();
        rows.push(row(format!("votes of {seats} seats"), encode(&votes), "every block"));
    }
    rows
}

fn blocks() -> Rows {
    let mut rows = Rows::new();
    for (seats, transfers) in [(7, 0), (7, 2000), (21, 0), (21, 2000)] {
        let (mut h, parent) = chain(seats, transfers);
        let block: Block = full_block(&mut h, parent, transfers);
        let limit = f64::from(h.chain.spec().limits.block_bytes);
        let share = 100.0 * encode(&block).len() as f64 / limit;
        let what = format!("scored, {seats} seats, 60 commitments, {transfers} transfers");
        rows.push(row(what, encode(&block), format!("{share:.0} % of `limits.block_bytes`")));
        if transfers == 0 && seats == 7 {
            rows.push(row("of these, the signed header", encode(&block.header), ""));
        }
    }
    let (h, parent) = chain(7, 1);
    rows.push(row("idle, 7 seats", encode(&h.idle(parent, 0, None, h.parts(parent))), ""));
    rows
}

fn work() -> Rows {
    let blob = |what: &str, bytes: usize, remark: &str| (what.to_owned(), bytes, remark.to_owned());
    let macs = format!("{} multiply-accumulates an image", grouped(golden().macs()));
    vec![
        blob("artefact of golden-36x6", golden_artefact().len(), &macs),
        blob("shard of 500 images of 32x32x3", shard(500).len(), "as sealed"),
        blob("shard of 1,000 images", shard(1000).len(), ""),
    ]
}
