//! The port to the state on disk: the values and tree nodes of the last final block.

use std::collections::BTreeMap;

use super::StateDelta;

/// The store failed; neither peer nor user is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state store failed: {0}")]
pub struct StoreError(pub String);

/// Reads the state of one block, the last final one that was folded in.
///
/// # Correctness
/// An implementation writes a whole [`StateDelta`] or nothing of it: values (with deletions), nodes, then the removal
/// of stale nodes. Deltas arrive in the order of their heights without gaps.
pub trait StateStore {
    /// The value under a [`super::StateKey`]'s bytes.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The tree node under a node key's bytes.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
}

impl<S: StateStore + ?Sized> StateStore for std::sync::Arc<S> {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).value(key)
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).node(key)
    }
}

/// A store in memory, for simulators, light tools and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    nodes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryStore {
    /// Folds in the next block's delta.
    pub fn apply(&mut self, delta: &StateDelta) {
        for (key, value) in &delta.values {
            match value {
                Some(value) => self.values.insert(key.clone(), value.clone()),
                None => self.values.remove(key),
            };
        }
        self.nodes.extend(delta.nodes.iter().map(|(key, node)| (key.clone(), node.clone())));
        for key in &delta.stale {
            self.nodes.remove(key);
        }
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// How many tree nodes it holds.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

impl StateStore for MemoryStore {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values.get(key).cloned())
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.nodes.get(key).cloned())
    }
}
