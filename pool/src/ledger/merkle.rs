//! Merkle tree over a share list, so that a miner can check its own row against the root on chain.

use podl_chain_spec::Hash32;
use serde::{Deserialize, Serialize};

use super::ShareRow;

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
    hasher.update(&row.macs.to_le_bytes());
    hasher.update(&row.amount.0.to_le_bytes());
    Hash32(*hasher.finalize().as_bytes())
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

/// Root of a share list; zero for an empty one.
pub fn root(rows: &[ShareRow]) -> Hash32 {
    let mut level: Vec<Hash32> = rows.iter().map(leaf).collect();
    while level.len() > 1 {
        level = level_up(&level);
    }
    level.first().copied().unwrap_or(Hash32::ZERO)
}

/// Proof of row `index`; `None` when there is no such row.
pub fn prove(rows: &[ShareRow], index: usize) -> Option<ShareProof> {
    rows.get(index)?;
    let (mut level, mut index): (Vec<Hash32>, usize) = (rows.iter().map(leaf).collect(), index);
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
