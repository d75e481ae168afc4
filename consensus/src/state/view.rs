//! Reading the state of any block that is not below the last final one: deltas over the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount, Hash32};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tree::{self, NodeSource, StateProof};
use super::{Account, Meta, MoneyError, StateKey, StateStore, StoreError, TaskSpec, TaskStatus};
use crate::codec;
use crate::types::{Height, TaskId};

/// Why the state could not be read or written. Never the fault of whoever sent a block, but for
/// [`StateError::Money`], which execution turns into its own errors where a block can cause it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored value does not decode.
    #[error("the state under {key} is corrupt: {reason}")]
    Corrupt {
        /// Hexadecimal key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The authenticated tree failed, which means that nodes are missing.
    #[error("the state tree failed: {0}")]
    Tree(String),
    /// Money does not add up.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// The supply invariant does not hold.
    #[error("supply: the changed entries held {before} and hold {after}, {minted} was minted and {burned} burned")]
    Supply {
        /// Sum over the changed entries before the block.
        before: u128,
        /// Sum over them after the block.
        after: u128,
        /// Made by the block.
        minted: Amount,
        /// Destroyed by the block.
        burned: Amount,
    },
}

/// What one block changes: values, tree nodes, and the nodes that nothing refers to from then on. Persisted with every
/// block that is not final, and folded into the store when it becomes final.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDelta {
    /// Height of the block.
    pub height: Height,
    /// State root after it.
    pub root: Hash32,
    /// New values by key; `None` deletes.
    pub values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// New tree nodes by key.
    pub nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Nodes of earlier heights that leave the tree.
    pub stale: Vec<Vec<u8>>,
}

impl StateDelta {
    /// The consensus part of the state after the block; every block writes it.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] for a delta that no block made.
    pub fn meta(&self) -> Result<Meta, StateError> {
        let key = StateKey::Meta.to_bytes();
        let missing = || corrupt(&key, "the delta has no meta");
        let bytes = self.values.get(&key).and_then(Option::as_ref).ok_or_else(missing)?;
        decode_value(&key, bytes)
    }
}

/// The state of one block: the deltas of its branch above the store.
#[derive(Clone)]
pub struct StateView<'a> {
    store: &'a dyn StateStore,
    height: Height,
    /// Newest first.
    deltas: Vec<Arc<StateDelta>>,
}

fn corrupt(key: &[u8], reason: &str) -> StateError {
    StateError::Corrupt { key: hex::encode(key), reason: reason.into() }
}

/// Decodes a stored value; its size was checked when it was written.
pub(super) fn decode_value<T: Serialize + DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, StateError> {
    codec::decode(bytes, usize::MAX).map_err(|e| corrupt(key, &e.to_string()))
}

impl<'a> StateView<'a> {
    /// The state of the block at `height` whose branch adds these deltas (newest first) to the store.
    pub fn new(store: &'a dyn StateStore, height: Height, deltas: Vec<Arc<StateDelta>>) -> Self {
        Self { store, height, deltas }
    }

    /// Height of the block whose state this is.
    pub fn height(&self) -> Height {
        self.height
    }

    /// The bytes under a key.
    ///
    /// # Errors
    /// [`StateError::Store`].
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.deltas.iter().find_map(|delta| delta.values.get(key)) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.store.value(key)?),
        }
    }

    fn typed<T: Serialize + DeserializeOwned>(&self, key: StateKey) -> Result<Option<T>, StateError> {
        let key = key.to_bytes();
        self.value(&key)?.map(|bytes| decode_value(&key, &bytes)).transpose()
    }

    /// The consensus part.
    ///
    /// # Errors
    /// [`StateError`]; also when there is none, which a store with a genesis always has.
    pub fn meta(&self) -> Result<Meta, StateError> {
        self.typed(StateKey::Meta)?.ok_or_else(|| corrupt(&StateKey::Meta.to_bytes(), "there is none"))
    }

    /// An account; one that never was is empty.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn account(&self, id: &AccountId) -> Result<Account, StateError> {
        Ok(self.typed(StateKey::Account(*id))?.unwrap_or_default())
    }

    /// The static part of a task.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn task_spec(&self, id: &TaskId) -> Result<Option<TaskSpec>, StateError> {
        self.typed(StateKey::TaskSpec(*id))
    }

    /// The changing part of a task.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn task_status(&self, id: &TaskId) -> Result<Option<TaskStatus>, StateError> {
        self.typed(StateKey::TaskStatus(*id))
    }

    /// Sorted ids of the tasks that are pending, open or active.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn live_tasks(&self) -> Result<Vec<TaskId>, StateError> {
        Ok(self.typed(StateKey::LiveTasks)?.unwrap_or_default())
    }

    /// The bytes under a key with the proof that this state's root commits to them, or to their absence.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn prove(&self, key: StateKey) -> Result<(Option<Vec<u8>>, StateProof), StateError> {
        let key = key.to_bytes();
        let value = self.value(&key)?;
        let proof = tree::prove(self, self.height, &key, value.as_deref())?;
        Ok((value, proof))
    }
}

impl NodeSource for StateView<'_> {
    fn tree_node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // A node lies in the delta of the height that wrote it: no need to search the others.
        let written = tree::node_version(key);
        match self.deltas.iter().find(|delta| Some(delta.height) == written) {
            Some(delta) => Ok(delta.nodes.get(key).cloned()),
            None => self.store.node(key),
        }
    }
}
