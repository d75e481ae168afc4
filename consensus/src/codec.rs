//! Canonical bytes: postcard, with every other encoding of the same value refused.
//!
//! postcard itself accepts trailing bytes and overlong integers; [`decode`] re-encodes and compares, so that a value
//! has exactly one encoding and hashes over bytes and over values agree. Consensus types hold no maps, floats or
//! zero-sized elements, for which even that would not be enough.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the kind of message may have.
    #[error("{got} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not the encoding of such a value.
    #[error("malformed bytes: {0}")]
    Malformed(String),
    /// A second encoding of a value: trailing bytes, or an overlong integer.
    #[error("bytes are not the canonical encoding")]
    NotCanonical,
}

/// Canonical bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Consensus types are plain data; postcard fails on them only for lists of unknown length, which serde's derives
    // never produce. An empty vector would be refused by every decoder, so even a bug here cannot split the chain.
    let encoded = postcard::to_stdvec(value);
    debug_assert!(encoded.is_ok(), "consensus types always encode");
    encoded.unwrap_or_default()
}

/// The value that `bytes` canonically encode.
///
/// # Errors
/// [`CodecError`] when there are more than `limit_bytes`, when they do not parse, or when they are not canonical.
/// Memory used while decoding is bounded by a small multiple of the input: postcard's sequences reserve at most what
/// serde's size hint caution allows, and every element consumes at least one byte.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit_bytes: usize) -> Result<T, CodecError> {
    if bytes.len() > limit_bytes {
        return Err(CodecError::TooLong { got: bytes.len(), limit: limit_bytes });
    }
    let value: T = postcard::from_bytes(bytes).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if encode(&value) == bytes { Ok(value) } else { Err(CodecError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_encoding_is_accepted() {
        let bytes = encode(&(7u64, vec![1u8, 2]));
        assert_eq!(decode::<(u64, Vec<u8>)>(&bytes, 64).unwrap(), (7, vec![1, 2]));
        let mut trailing = bytes.clone();
        trailing.push(0);
        assert_eq!(decode::<(u64, Vec<u8>)>(&trailing, 64), Err(CodecError::NotCanonical));
        // 7 as an overlong varint: 0x87 0x00.
        assert_eq!(decode::<(u64, Vec<u8>)>(&[0x87, 0, 2, 1, 2], 64), Err(CodecError::NotCanonical));
        assert!(matches!(decode::<(u64, Vec<u8>)>(&bytes[..2], 64), Err(CodecError::Malformed(_))));
        assert_eq!(decode::<(u64, Vec<u8>)>(&bytes, 3), Err(CodecError::TooLong { got: 4, limit: 3 }));
    }

    #[test]
    fn a_huge_claimed_length_allocates_nothing() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(decode::<Vec<u64>>(&claim, 64).is_err());
    }
}
