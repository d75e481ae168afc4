//! Blocks and deltas that storage can tell apart; it does not judge their validity.
#![allow(dead_code, reason = "each test file uses its own part")]

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::signed::{Signed, account_of};
use podl_consensus::state::{Checkpoint, StateDelta};
use podl_consensus::types::{Block, Body, Header, Outcome, OutcomeKind, Payment, Transaction, TransactionKind};

pub fn spec() -> ChainSpec {
    ChainSpec::load("dev").unwrap()
}

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// A block with one transfer.
pub fn block(chain: &Hash32, parent: Checkpoint, salt: u8) -> Block {
    let kind = TransactionKind::Transfer(Payment { to: AccountId([salt; 32]), amount: Amount(7) });
    let sent = Transaction { sender: account_of(&key(1)), nonce: parent.height, fee: Amount(1), kind };
    let body = Body {
        votes: vec![],
        certificate: None,
        outcome: Outcome::Idle { key: None },
        transactions: vec![Signed::new(sent, chain, &key(1))],
    };
    let header = Header {
        chain: *chain,
        height: parent.height + 1,
        parent: parent.block,
        time_ms: u64::from(salt),
        kind: OutcomeKind::Idle,
        view: 0,
        task: Hash32::ZERO,
        round: 0,
        producer: account_of(&key(2)),
        body_root: body.root(),
        state_root: Hash32::ZERO,
    };
    Block { header: Signed::new(header, chain, &key(2)), body }
}

pub fn checkpoint(block: &Block) -> Checkpoint {
    Checkpoint { height: block.height(), block: block.hash() }
}

/// A delta that sets one value and one node to the height, makes one of each for the height, and removes those of the
/// height before.
pub fn delta(height: u64) -> StateDelta {
    let mut delta = StateDelta { height, root: Hash32([9; 32]), ..StateDelta::default() };
    delta.values.insert(b"value".to_vec(), Some(height.to_be_bytes().to_vec()));
    delta.values.insert(format!("old {}", height - 1).into_bytes(), None);
    delta.values.insert(format!("old {height}").into_bytes(), Some(vec![1]));
    delta.nodes.insert(height.to_be_bytes().to_vec(), vec![2]);
    delta.stale.push((height - 1).to_be_bytes().to_vec());
    delta
}
