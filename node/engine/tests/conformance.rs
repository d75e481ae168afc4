//! The bytes of every message and of every kind of block, pinned: whoever changes them changes the network's language, and
//! must do so knowingly. `PIN=1 cargo test -p podl-engine --test conformance` writes the file anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::codec::encode;
use podl_consensus::hash::blob_root;
use podl_consensus::signed::{Signature, Signed};
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{
    BatchPayment, Block, Body, Certificate, Closing, ClosingList, ClosingSet, Commitment, Evidence, Header,
    ListedClosing, Opening, Outcome, Payment, ShardKey, SignedTransaction, SignedVote, Transaction, TransactionKind,
    Vote,
};
use podl_engine::sync::Status;
use podl_engine::wire::{Gossip, IntervalMessages, KeyRelease, SyncRequest, SyncResponse};

fn hash(n: u8) -> Hash32 {
    Hash32([n; 32])
}

fn account(n: u8) -> AccountId {
    AccountId([n; 32])
}

fn signed<T>(message: T) -> Signed<T> {
    Signed { message, signature: Signature([7; 64]) }
}

fn commitment() -> Signed<Commitment> {
    signed(Commitment { parent: hash(1), task: hash(2), round: 300, owner: account(3), id: hash(4) })
}

fn vote() -> SignedVote {
    signed(Vote { height: 70_000, block: hash(5), justified: 69_999, ready: vec![hash(6), hash(7)], seat: account(8) })
}

fn closing() -> ListedClosing {
    let list = ClosingList::new([commitment()]);
    ListedClosing { closing: signed(Closing { parent: hash(1), seat: account(8), list_root: list.root() }), list }
}

fn transaction(kind: TransactionKind) -> SignedTransaction {
    signed(Transaction { sender: account(9), nonce: 200, fee: Amount(1_234_567), kind })
}

fn pay() -> TransactionKind {
    TransactionKind::Transfer(Payment { to: account(11), amount: Amount(5) })
}

fn payout() -> TransactionKind {
    let payments = vec![Payment { to: account(11), amount: Amount(5) }, Payment { to: account(12), amount: Amount(6) }];
    TransactionKind::BatchPayout(BatchPayment { block: hash(5), shares_root: hash(18), payments })
}

fn block(outcome: Outcome) -> Block {
    let certificate = Certificate { height: 69_998, block: hash(10), votes: vec![vote()] };
    let transactions = vec![transaction(pay())];
    let body = Body { votes: vec![vote()], certificate: Some(certificate), outcome, transactions };
    let header = Header {
        chain: hash(12),
        height: 70_001,
        parent: hash(5),
        time_ms: 1_700_000_000_000,
        kind: body.outcome.kind(),
        view: 2,
        task: hash(2),
        round: 300,
        producer: account(3),
        body_root: body.root(),
        state_root: hash(13),
    };
    Block { header: signed(header), body }
}

fn scored() -> Block {
    let opening =
        Opening { model_root: hash(14), artefact_bytes: 54_321, salt: [15; 32], correct: 486, mac_bits: 987_654_321 };
    block(Outcome::Scored { closings: ClosingSet::new([&closing()]), opening, key: Some(ShardKey([16; 32])) })
}

/// Every message by its name.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let place = Checkpoint { height: 70_000, block: hash(5) };
    let status = Status { chain: hash(12), head: place, finalised: Checkpoint { height: 69_998, block: hash(10) } };
    let key = KeyRelease { task: hash(2), round: 300, key: ShardKey([16; 32]) };
    let interval = IntervalMessages {
        commitments: vec![commitment()],
        closings: vec![closing()],
        key: Some(key.clone()),
        votes: vec![vote()],
        blocks: vec![hash(17)],
    };
    let void = block(Outcome::Void { closings: ClosingSet::new([&closing()]) });
    let evidence = TransactionKind::Evidence(Box::new(Evidence::Votes(vote(), vote())));
    vec![
        ("gossip commitment", Gossip::Commitment(commitment()).encode()),
        ("gossip closing", Gossip::Closing(closing()).encode()),
        ("gossip key", Gossip::Key(key).encode()),
        ("gossip vote", Gossip::Vote(vote()).encode()),
        ("gossip block scored", Gossip::Block(Box::new(scored())).encode()),
        ("gossip block void", Gossip::Block(Box::new(void)).encode()),
        ("gossip block idle", Gossip::Block(Box::new(block(Outcome::Idle { key: None }))).encode()),
        ("gossip transaction transfer", Gossip::Transaction(transaction(pay())).encode()),
        ("gossip transaction payout", Gossip::Transaction(transaction(payout())).encode()),
        ("gossip transaction cancel", Gossip::Transaction(transaction(TransactionKind::Cancel(hash(2)))).encode()),
        ("gossip transaction leave", Gossip::Transaction(transaction(TransactionKind::LeaveSeat)).encode()),
        ("gossip transaction evidence", Gossip::Transaction(transaction(evidence)).encode()),
        ("request status", encode(&SyncRequest::Status(status))),
        ("request range", encode(&SyncRequest::Range { from: 70_001, count: 32 })),
        ("request block", encode(&SyncRequest::Block(hash(17)))),
        ("request interval", encode(&SyncRequest::Interval(hash(5)))),
        ("answer status", encode(&SyncResponse::Status(status))),
        ("answer blocks", encode(&SyncResponse::Blocks(vec![scored()]))),
        ("answer interval", encode(&SyncResponse::Interval(Box::new(interval)))),
    ]
}

#[test]
fn the_bytes_of_every_message_are_pinned() {
    let mut lines = String::new();
    for (name, bytes) in messages() {
        writeln!(lines, "{name}: {} bytes, blake3 {}", bytes.len(), hex(&blob_root(&bytes))).unwrap();
    }
    // Asked for when the test runs: a target folder may be another checkout's.
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let file = folder.join("tests/conformance.txt");
    if std::env::var_os("PIN").is_some() {
        std::fs::write(&file, &lines).unwrap();
    }
    let pinned = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines, pinned, "the network's language has changed: see the head of this test");
}

fn hex(hash: &Hash32) -> String {
    hash.as_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
