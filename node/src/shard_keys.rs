//! The file in which a publisher keeps the keys of a task's test shards: sealed to its wallet, so that a node can read
//! it after a restart, and a copy elsewhere needs no other secret than the wallet.

use std::path::Path;

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::shard::key_hash;
use podl_consensus::types::{PublishTask, ShardKey, TaskId};
use serde::{Deserialize, Serialize};

use crate::sealed::{Sealed, SealedError};
use crate::wallet::Wallet;

const WHAT: &str = "podl shard-key file";
const VERSION: u16 = 1;
const KEY_CONTEXT: &str = "podl v1 shard key file";

/// The readable part of a key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Form of the file.
    pub version: u16,
    /// Genesis hash of the chain.
    pub chain: Hash32,
    /// Whose shards.
    pub task: TaskId,
    /// Whose wallet opens it.
    pub publisher: AccountId,
    /// How many keys.
    pub rounds: u32,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] SealedError),
    /// The wallet is another one.
    #[error("the shard keys of task {task} are sealed to {expected}, this wallet is {got}")]
    OtherWallet {
        /// Which task.
        task: TaskId,
        /// Whose wallet opens it.
        expected: AccountId,
        /// This wallet.
        got: AccountId,
    },
    /// The keys do not fit the task on chain.
    #[error("the key of round {round} is not the one that task {task} names; use the other copy of the file")]
    OtherKeys {
        /// Which task.
        task: TaskId,
        /// First round that does not fit.
        round: usize,
    },
}

/// Writes the keys of a task, in the order of its rounds, to a new file.
///
/// # Errors
/// [`KeyFileError::File`], also when the file exists.
pub fn create(
    path: &Path,
    wallet: &Wallet,
    chain: Hash32,
    task: TaskId,
    keys: &[ShardKey],
) -> Result<(), KeyFileError> {
    let rounds = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let header = KeyFile { version: VERSION, chain, task, publisher: wallet.account(), rounds };
    let secret = zeroize::Zeroizing::new(keys.iter().flat_map(|key| key.0).collect::<Vec<u8>>());
    Ok(Sealed::seal(header, &wallet.derive_file_key(KEY_CONTEXT), &secret)?.create(path)?)
}

/// Reads the keys of a task.
///
/// # Errors
/// [`KeyFileError::OtherWallet`] or [`KeyFileError::File`].
pub fn open(path: &Path, wallet: &Wallet) -> Result<(KeyFile, Vec<ShardKey>), KeyFileError> {
    let file = Sealed::<KeyFile>::read(path, WHAT)?;
    let damaged = |reason: String| SealedError::Damaged { path: path.into(), what: WHAT, reason };
    let header = &file.header;
    if header.version != VERSION {
        return Err(damaged(format!("version {}, this program knows {VERSION}", header.version)).into());
    }
    let (expected, got) = (header.publisher, wallet.account());
    if expected != got {
        return Err(KeyFileError::OtherWallet { task: header.task, expected, got });
    }
    let secret = file.open(&wallet.derive_file_key(KEY_CONTEXT), path)?;
    let (keys, rest) = secret.as_chunks::<32>();
    if !rest.is_empty() || keys.len() as u64 != u64::from(header.rounds) {
        return Err(damaged(format!("{} bytes of keys for {} rounds", secret.len(), header.rounds)).into());
    }
    let keys = keys.iter().map(|key| ShardKey(*key)).collect();
    Ok((file.header, keys))
}

/// Whether the keys are those whose hashes the task names.
///
/// # Errors
/// [`KeyFileError::OtherKeys`].
pub fn check(task: TaskId, published: &PublishTask, keys: &[ShardKey]) -> Result<(), KeyFileError> {
    let fits = |(shard, key): (&podl_consensus::types::ShardRef, &ShardKey)| shard.key_hash == key_hash(key);
    let first_bad = published.shards.iter().zip(keys).position(|pair| !fits(pair));
    let round = match first_bad {
        Some(index) => index + 1,
        None if published.shards.len() != keys.len() => published.shards.len().min(keys.len()) + 1,
        None => return Ok(()),
    };
    Err(KeyFileError::OtherKeys { task, round })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::well_known;

    const KEYS: [ShardKey; 2] = [ShardKey([1; 32]), ShardKey([2; 32])];

    #[test]
    fn keys_come_back_to_the_publisher_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("task.keys");
        let publisher = well_known::wallet("publisher").unwrap();
        create(&path, &publisher, Hash32([3; 32]), Hash32([4; 32]), &KEYS).unwrap();
        let (header, keys) = open(&path, &publisher).unwrap();
        assert_eq!((header.task, header.rounds, keys), (Hash32([4; 32]), 2, KEYS.to_vec()));
        let other = well_known::wallet("faucet").unwrap();
        assert!(matches!(open(&path, &other), Err(KeyFileError::OtherWallet { .. })));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode([1; 16])), "keys must not be readable");
        let again = create(&path, &publisher, Hash32([3; 32]), Hash32([4; 32]), &KEYS);
        assert!(matches!(again, Err(KeyFileError::File(SealedError::Exists { .. }))));
    }

    #[test]
    fn a_header_moved_to_another_task_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("task.keys");
        let publisher = well_known::wallet("publisher").unwrap();
        create(&path, &publisher, Hash32([3; 32]), Hash32([4; 32]), &KEYS).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let moved = text.replace(&Hash32([4; 32]).to_string(), &Hash32([5; 32]).to_string());
        assert_ne!(moved, text);
        std::fs::write(&path, moved).unwrap();
        assert!(matches!(open(&path, &publisher), Err(KeyFileError::File(SealedError::Damaged { .. }))));
    }
}
