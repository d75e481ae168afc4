//! Sealed test shards: how a publisher hides a round's test data until its interval, and how everybody opens it.
//!
//! The cipher is a BLAKE3 key stream. A key is used for one shard only, so no nonce is needed; integrity comes from the
//! roots on chain, which also fix what the key opens (a cipher alone does not commit to its key).

use podl_chain_spec::Hash32;

use crate::hash::{Domain, blob_root, hash_bytes};
use crate::types::{BlobRef, ShardKey, ShardRef};

/// Why a key does not open a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The key is another one.
    #[error("the key hashes to {got}, the task names {expected}")]
    KeyHash {
        /// Hash of the key given.
        got: Hash32,
        /// Hash on chain.
        expected: Hash32,
    },
    /// The bytes are not the sealed shard.
    #[error("the sealed shard hashes to {got}, the task names {expected}")]
    SealedRoot {
        /// Root of the bytes given.
        got: Hash32,
        /// Root on chain.
        expected: Hash32,
    },
    /// The publisher sealed something else than it declared, or declared another key.
    #[error("the opened shard hashes to {got}, the task names {expected}")]
    PlainRoot {
        /// Root of what was opened.
        got: Hash32,
        /// Root on chain.
        expected: Hash32,
    },
}

/// Hash of a key as it stands on chain.
pub fn key_hash(key: &ShardKey) -> Hash32 {
    hash_bytes(Domain::ShardKey, &key.0)
}

/// Seals plaintext bytes; sealing twice opens, since the cipher is an exclusive or with the key stream.
pub fn seal(key: &ShardKey, plain: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key(Domain::ShardStream.context());
    hasher.update(&key.0);
    let mut bytes = vec![0; plain.len()];
    hasher.finalize_xof().fill(&mut bytes);
    bytes.iter_mut().zip(plain).for_each(|(stream, byte)| *stream ^= byte);
    bytes
}

/// Opens sealed bytes. Says nothing about whether the key is right: see [`open_checked`].
pub fn open(key: &ShardKey, sealed: &[u8]) -> Vec<u8> {
    seal(key, sealed)
}

/// Seals a shard and makes its entry in a publish transaction.
pub fn seal_shard(key: &ShardKey, plain: &[u8]) -> (ShardRef, Vec<u8>) {
    let sealed = seal(key, plain);
    let blob = BlobRef { root: blob_root(&sealed), bytes: sealed.len() as u64 };
    (ShardRef { sealed: blob, key_hash: key_hash(key), plain_root: blob_root(plain) }, sealed)
}

/// Opens the shard that the chain names and checks key, sealed bytes and plaintext.
///
/// # Errors
/// [`ShardError`].
pub fn open_checked(shard: &ShardRef, key: &ShardKey, sealed: &[u8]) -> Result<Vec<u8>, ShardError> {
    let got = key_hash(key);
    if got != shard.key_hash {
        return Err(ShardError::KeyHash { got, expected: shard.key_hash });
    }
    let got = blob_root(sealed);
    if got != shard.sealed.root {
        return Err(ShardError::SealedRoot { got, expected: shard.sealed.root });
    }
    let plain = open(key, sealed);
    let got = blob_root(&plain);
    if got == shard.plain_root { Ok(plain) } else { Err(ShardError::PlainRoot { got, expected: shard.plain_root }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ShardKey = ShardKey([7; 32]);

    #[test]
    fn a_sealed_shard_opens_with_its_key_only() {
        let plain: Vec<u8> = (0..3000u32).map(|i| i.to_le_bytes()[0]).collect();
        let (shard, sealed) = seal_shard(&KEY, &plain);
        assert_ne!(sealed, plain);
        assert_eq!(open_checked(&shard, &KEY, &sealed), Ok(plain.clone()));
        assert!(matches!(open_checked(&shard, &ShardKey([8; 32]), &sealed), Err(ShardError::KeyHash { .. })));
        assert!(matches!(open_checked(&shard, &KEY, &sealed[1..]), Err(ShardError::SealedRoot { .. })));
        let lie = ShardRef { plain_root: Hash32([1; 32]), ..shard };
        assert!(matches!(open_checked(&lie, &KEY, &sealed), Err(ShardError::PlainRoot { .. })));
    }

    #[test]
    fn the_key_stream_never_changes() {
        // Golden: shards sealed by one version must open in every later one.
        let stream = seal(&KEY, &[0; 16]);
        assert_eq!(hex::encode(stream), "06b62fb5115b30c732f74c83751cca04");
        assert_eq!(hex::encode(key_hash(&KEY).0), "2dabc2a919d5b2efd27966697a22f13ad07c878015fde0eb552f8673967e269a");
    }
}
