//! Merkle tree over a share list, so that a miner can check its own row against the root on chain. The first leaf is what
//! all rows follow from (block, reward, terms, finder, fee): the manager cannot show different terms to different miners.

use podl_chain_spec::Hash32;
use podl_consensus::codec;
use serde::{Deserialize, Serialize};

use super::{ShareList, ShareRow};

/// Most steps of a proof: more rows than memory holds.
const MOST_STEPS: usize = 64;

/// One step towards the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStep {
    /// The neighbour's hash.
    pub sibling: Hash32,
    /// Whether the neighbour stands left.
    pub sibling_is_left: bool,
}

/// The way from a row to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareProof {
    /// From the row upward.
    pub steps: Vec<ProofStep>,
}

fn leaf(row: &ShareRow) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool share row");
    hasher.update(row.miner.0.as_bytes());
    hasher.update(row.account.as_bytes());
    for number in [row.macs, row.points, row.bonus.0, row.amount.0] {
        hasher.update(&number.to_le_bytes());
    }
    Hash32(*hasher.finalize().as_bytes())
}

/// The leaf of everything but the rows.
fn head(list: &ShareList) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool share head");
    let ShareList { block, height, reward, terms, model, finder, fee, rows: _ } = list;
    hasher.update(&codec::encode(&(block, height, reward, terms, model, finder, fee)));
    Hash32(*hasher.finalize().as_bytes())
}

fn leaves(list: &ShareList) -> Vec<Hash32> {
    std::iter::once(head(list)).chain(list.rows.iter().map(leaf)).collect()
}

/// Inner nodes have a context of their own, so that no row can pass for a node.
fn node(left: &Hash32, right: &Hash32) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool share node");
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Hash32(*hasher.finalize().as_bytes())
}

/// The next level; a node without neighbour moves up as it is, since doubling it would let two lists share a root.
fn level_up(level: &[Hash32]) -> Vec<Hash32> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => node(left, right),
            [alone] => *alone,
            _ => Hash32::ZERO,
        })
        .collect()
}

/// Root of a share list.
pub(super) fn root(list: &ShareList) -> Hash32 {
    let mut level = leaves(list);
    while level.len() > 1 {
        level = level_up(&level);
    }
    level.first().copied().unwrap_or(Hash32::ZERO)
}

/// Proof of row `index`; `None` when there is no such row.
pub(super) fn prove(list: &ShareList, index: usize) -> Option<ShareProof> {
    list.rows.get(index)?;
    // The head stands before the rows.
    let (mut level, mut index) = (leaves(list), index + 1);
    let mut steps = Vec::new();
    while level.len() > 1 {
        if let Some(sibling) = level.get(index ^ 1) {
            steps.push(ProofStep { sibling: *sibling, sibling_is_left: index % 2 == 1 });
        }
        level = level_up(&level);
        index /= 2;
    }
    Some(ShareProof { steps })
}

/// Whether the row belongs to the list of that root.
pub fn verify(row: &ShareRow, proof: &ShareProof, expected: &Hash32) -> bool {
    let up = |hash: Hash32, step: &ProofStep| {
        if step.sibling_is_left { node(&step.sibling, &hash) } else { node(&hash, &step.sibling) }
    };
    proof.steps.len() <= MOST_STEPS && proof.steps.iter().fold(leaf(row), up) == *expected
}
