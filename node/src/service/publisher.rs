//! The publisher's duty: release the key of a round when its interval's collection is closed. Keys live in encrypted
//! files in the data folder; a second copy was made when the task was published.

use std::collections::BTreeMap;
use std::path::Path;

use podl_chain_spec::Hash32;
use podl_consensus::types::{ShardKey, TaskId};

use crate::shard_keys;
use crate::wallet::Wallet;

/// Folder of the key files in the data folder.
pub const KEYS_FOLDER: &str = "tasks";

/// The keys of the tasks that this node published.
#[derive(Default)]
pub(super) struct Publisher {
    keys: BTreeMap<TaskId, Vec<ShardKey>>,
}

impl Publisher {
    /// Reads all key files of the wallet; a damaged or foreign one is named in the log and left alone.
    pub fn open(data_dir: &Path, wallet: &Wallet, chain: Hash32) -> Self {
        let mut publisher = Self::default();
        let Ok(files) = std::fs::read_dir(data_dir.join(KEYS_FOLDER)) else { return publisher };
        for path in files.flatten().map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "keys")) {
            match shard_keys::open(&path, wallet) {
                Ok((header, keys)) if header.chain == chain => publisher.add(header.task, keys),
                Ok(_) => tracing::warn!(file = %path.display(), "these shard keys are for another chain, left alone"),
                Err(error) => tracing::error!(file = %path.display(), %error, "cannot read shard keys"),
            }
        }
        publisher
    }

    /// Takes the keys of a task.
    pub fn add(&mut self, task: TaskId, keys: Vec<ShardKey>) {
        self.keys.insert(task, keys);
    }

    /// The key of a round, counted from 1.
    pub fn key(&self, task: &TaskId, round: u32) -> Option<ShardKey> {
        let index = usize::try_from(round).ok()?.checked_sub(1)?;
        self.keys.get(task)?.get(index).copied()
    }

    /// How many tasks it keeps keys of.
    pub fn tasks(&self) -> usize {
        self.keys.len()
    }
}
