//! What peers say to each other about blobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::geometry::{MAX_BLOB_BYTES, PIECE_BYTES, PROOF_BYTES};
use crate::protocol::ProtocolLimits;

/// Limits of the protocol: a response is a piece with its proof, or the map of the largest blob. The rate allows 500 MB/s
/// to one peer, which a loopback reaches.
pub(crate) const LIMITS: ProtocolLimits = ProtocolLimits {
    request_bytes: 128,
    response_bytes: PIECE_BYTES as usize + PROOF_BYTES + 64,
    timeout: Duration::from_secs(30),
    streams: 32,
    requests_per_s: 2_000,
    requests_burst: 4_000,
};
const _: () = assert!(MAX_BLOB_BYTES / PIECE_BYTES / 8 < PIECE_BYTES);

/// A question about a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlobRequest {
    /// How much of it do you have?
    Have { root: [u8; 32] },
    /// Give me a piece of it, of which I think that it has so many bytes.
    Piece { root: [u8; 32], bytes: u64, piece: u32 },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlobResponse {
    /// Not that blob, not that piece, or it has another length.
    Missing,
    /// All of it.
    Whole { bytes: u64 },
    /// The pieces whose bits are set, lowest bit first.
    Partial { bytes: u64, pieces: Vec<u8> },
    /// Groups of the piece with the hashes that prove them.
    Piece(Vec<u8>),
    /// Not now: ask again later.
    Busy { retry_ms: u32 },
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Plain data always encodes; an empty message would be refused by every decoder.
    postcard::to_stdvec(message).unwrap_or_default()
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|e| e.to_string())?;
    if rest.is_empty() { Ok(message) } else { Err(format!("{} bytes behind the message", rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_messages_fit() {
        let request = BlobRequest::Piece { root: [255; 32], bytes: u64::MAX, piece: u32::MAX };
        assert!(encode(&request).len() <= LIMITS.request_bytes);
        let piece = BlobResponse::Piece(vec![1; PIECE_BYTES as usize + PROOF_BYTES]);
        assert!(encode(&piece).len() <= LIMITS.response_bytes);
        assert_eq!(decode::<BlobRequest>(&encode(&request)), Ok(request.clone()));
        assert!(decode::<BlobRequest>(&[encode(&request), vec![0]].concat()).is_err());
    }
}
