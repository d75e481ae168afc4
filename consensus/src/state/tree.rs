//! The authenticated tree over the state: a Jellyfish Merkle tree (`jmt`) with BLAKE3.
//!
//! The tree's version is the block's height. Candidates of one height write nodes under the same node keys, so a
//! block's nodes stay in its [`super::StateDelta`] until the block is final; the store only ever holds the nodes of
//! one branch. A leaf commits to key and value: `encode((key, value))` under the hash of the key, so that whoever
//! holds the leaves can rebuild the state.

use std::collections::BTreeMap;

use anyhow::Error;
use jmt::proof::SparseMerkleProof;
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, Version};
use podl_chain_spec::Hash32;
use serde::{Deserialize, Serialize};

use super::{StateError, StateKey, StoreError};
use crate::codec;
use crate::hash::{Domain, hash_bytes};
use crate::types::Height;

/// Key-derivation context of the tree's hashes; never changes.
const CONTEXT: &str = "podl v1 state tree";
/// Most bytes of an encoded proof: 256 siblings of two hashes each, and a leaf.
const PROOF_BYTES_LIMIT: usize = 256 * 65 + 128;

/// BLAKE3 as jmt wants it.
#[derive(Clone, Debug)]
struct TreeHash(blake3::Hasher);

impl SimpleHasher for TreeHash {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key(CONTEXT))
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

type Tree<'a, R> = JellyfishMerkleTree<'a, R, TreeHash>;

/// Where tree nodes are read from, by the bytes of their keys.
pub(super) trait NodeSource {
    /// The bytes of a node.
    fn tree_node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Adapts a [`NodeSource`] to jmt. `value` answers the one value that a proof is about.
struct Reader<'a, N: ?Sized> {
    nodes: &'a N,
    value: Option<Vec<u8>>,
}

impl<N: NodeSource + ?Sized> TreeReader for Reader<'_, N> {
    fn get_node_option(&self, key: &NodeKey) -> Result<Option<Node>, Error> {
        let Some(bytes) = self.nodes.tree_node(&node_key_bytes(key))? else { return Ok(None) };
        Ok(Some(postcard::from_bytes(&bytes)?))
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> Result<Option<OwnedValue>, Error> {
        Ok(self.value.clone())
    }

    fn get_rightmost_leaf(&self) -> Result<Option<(NodeKey, LeafNode)>, Error> {
        // Only jmt's restore asks for it, which is not used here.
        Ok(None)
    }
}

/// Big-endian version, then the path: nodes of one height lie together in a sorted store.
fn node_key_bytes(key: &NodeKey) -> Vec<u8> {
    let mut bytes = key.version().to_be_bytes().to_vec();
    bytes.extend(codec::encode(key.nibble_path()));
    bytes
}

/// The height in which the node of these key bytes was written.
pub(super) fn node_version(key: &[u8]) -> Option<Height> {
    key.first_chunk::<8>().map(|bytes| Height::from_be_bytes(*bytes))
}

fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(hash_bytes(Domain::StateKey, key).0)
}

fn leaf_bytes(key: &[u8], value: &[u8]) -> Vec<u8> {
    codec::encode(&(key, value))
}

fn tree_error(error: &dyn std::fmt::Display) -> StateError {
    StateError::Tree(error.to_string())
}

/// What a block changes in the tree.
pub(super) struct TreeUpdate {
    pub(super) root: Hash32,
    pub(super) nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) stale: Vec<Vec<u8>>,
}

/// The tree of height `version` from that of the height before and the changed values.
pub(super) fn update<N: NodeSource + ?Sized>(
    nodes: &N,
    version: Height,
    changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
) -> Result<TreeUpdate, StateError> {
    let reader = Reader { nodes, value: None };
    let leaves = changes.iter().map(|(key, value)| (key_hash(key), value.as_ref().map(|value| leaf_bytes(key, value))));
    let (root, batch) = Tree::new(&reader).put_value_set(leaves, version).map_err(|e| tree_error(&e))?;
    let nodes = batch.node_batch.nodes().iter().map(|(key, node)| (node_key_bytes(key), codec::encode(node)));
    let stale = batch.stale_node_index_batch.iter().map(|index| node_key_bytes(&index.node_key));
    Ok(TreeUpdate { root: Hash32(root.0), nodes: nodes.collect(), stale: stale.collect() })
}

/// That a state root commits to a value under a key, or to none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateProof(SparseMerkleProof<TreeHash>);

/// A proof that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes are not a proof.
    #[error("not a state proof: {0}")]
    Codec(#[from] codec::CodecError),
    /// It does not lead from the value to the root.
    #[error("the proof does not hold: {0}")]
    Mismatch(String),
}

impl StateProof {
    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The proof of these bytes.
    ///
    /// # Errors
    /// [`ProofError::Codec`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        Ok(codec::decode(bytes, PROOF_BYTES_LIMIT)?)
    }
}

/// The proof for a key in the tree of height `version`, whose value the caller read from the same state.
pub(super) fn prove<N: NodeSource + ?Sized>(
    nodes: &N,
    version: Height,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<StateProof, StateError> {
    let reader = Reader { nodes, value: value.map(|value| leaf_bytes(key, value)) };
    let (_, proof) = Tree::new(&reader).get_with_proof(key_hash(key), version).map_err(|e| tree_error(&e))?;
    Ok(StateProof(proof))
}

/// Whether `root` commits to `value` under `key` (`None`: to no value under it).
///
/// # Errors
/// [`ProofError::Mismatch`].
pub fn verify_proof(root: Hash32, key: StateKey, value: Option<&[u8]>, proof: &StateProof) -> Result<(), ProofError> {
    let key = key.to_bytes();
    let leaf = value.map(|value| leaf_bytes(&key, value));
    let checked = proof.0.verify(RootHash(root.0), key_hash(&key), leaf);
    checked.map_err(|e| ProofError::Mismatch(e.to_string()))
}
