//! Artefacts that arrive in chunks, one a miner and few at a time.

use std::collections::BTreeMap;

use podl_consensus::hash::blob_root;
use podl_consensus::types::BlobRef;

use crate::protocol::CHUNK_BYTES;
use crate::training::STATE_BYTES;
use crate::types::MinerId;

/// Most artefacts that are uploaded at a time; with the chain's cap on them this bounds their memory.
const MOST_UPLOADS: usize = 8;
/// After how long without a chunk another miner may take an upload's place.
const STALE_MS: u64 = 10_000;

/// What is uploaded, and how long it may be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// An artefact, up to the chain's cap.
    Artefact { cap_bytes: u64 },
    /// A state that an audit wants. There are few, and each has a place whoever else uploads: a miner that finds none
    /// would fail its audit.
    State,
}

impl Kind {
    fn cap_bytes(self) -> u64 {
        match self {
            Self::Artefact { cap_bytes } => cap_bytes,
            Self::State => STATE_BYTES,
        }
    }
}

struct Upload {
    is_artefact: bool,
    artefact: BlobRef,
    bytes: Vec<u8>,
    touched_ms: u64,
}

/// Uploads under way.
#[derive(Default)]
pub(super) struct Uploads {
    open: BTreeMap<MinerId, Upload>,
}

impl Uploads {
    /// Takes in a chunk. The whole artefact when it is complete and its root is right; an error when the chunk does
    /// not fit, after which the miner begins again. Only the last chunk is shorter than the others, so that an upload
    /// comes to an end.
    pub fn take(
        &mut self,
        miner: MinerId,
        artefact: BlobRef,
        offset: u64,
        chunk: &[u8],
        kind: Kind,
        now_ms: u64,
    ) -> Result<Option<Vec<u8>>, ()> {
        if offset == 0 {
            self.open.remove(&miner);
            self.open.retain(|_, u| now_ms < u.touched_ms.saturating_add(STALE_MS));
            let is_artefact = matches!(kind, Kind::Artefact { .. });
            let is_full = self.open.values().filter(|u| u.is_artefact).count() >= MOST_UPLOADS;
            if artefact.bytes > kind.cap_bytes() || (is_artefact && is_full) {
                return Err(());
            }
            self.open.insert(miner, Upload { is_artefact, artefact, bytes: Vec::new(), touched_ms: now_ms });
        }
        let upload = self.open.get_mut(&miner).ok_or(())?;
        let end = offset.saturating_add(chunk.len() as u64);
        if upload.artefact != artefact
            || upload.bytes.len() as u64 != offset
            || end > artefact.bytes
            || (end < artefact.bytes && chunk.len() < CHUNK_BYTES)
            || chunk.is_empty()
        {
            self.open.remove(&miner);
            return Err(());
        }
        upload.bytes.extend_from_slice(chunk);
        upload.touched_ms = now_ms;
        if end < artefact.bytes {
            return Ok(None);
        }
        let whole = self.open.remove(&miner).map(|u| u.bytes).unwrap_or_default();
        if blob_root(&whole) == artefact.root { Ok(Some(whole)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::Hash32;

    use super::*;

    const MINER: MinerId = MinerId(Hash32([1; 32]));
    const ANY: Kind = Kind::Artefact { cap_bytes: 1 << 20 };

    #[test]
    fn chunks_in_order_make_the_artefact_and_all_others_are_refused() {
        const FIRST: usize = CHUNK_BYTES;
        let whole = vec![7u8; FIRST + 100];
        let bytes = whole.len() as u64;
        let artefact = BlobRef { root: blob_root(&whole), bytes };
        let mut uploads = Uploads::default();
        let mut take = |offset: usize, chunk: &[u8]| uploads.take(MINER, artefact, offset as u64, chunk, ANY, 0);
        assert_eq!(take(0, &whole[..FIRST]), Ok(None));
        assert_eq!(take(FIRST, &whole[FIRST..]), Ok(Some(whole.clone())));
        assert_eq!(take(FIRST, &whole[FIRST..]), Err(()), "nothing is open any more");
        assert_eq!(take(0, &whole[..FIRST]), Ok(None));
        assert_eq!(take(FIRST - 1, &whole[FIRST - 1..]), Err(()), "out of order");
        assert_eq!(take(0, &vec![8; FIRST + 100]), Err(()), "another root");
        assert_eq!(take(0, &vec![8; FIRST + 101]), Err(()), "too long");
        assert_eq!(take(0, &[]), Err(()), "no progress");
        assert_eq!(take(0, &whole[..FIRST - 1]), Err(()), "a drop at a time");
        let cap_bytes = bytes - 1;
        assert_eq!(uploads.take(MINER, artefact, 0, &whole, Kind::Artefact { cap_bytes }, 0), Err(()), "over the cap");
    }

    #[test]
    fn few_uploads_at_a_time_and_stale_ones_make_room() {
        let artefact = BlobRef { root: Hash32([0; 32]), bytes: 1 << 20 };
        let chunk = vec![1; CHUNK_BYTES];
        let mut uploads = Uploads::default();
        for i in 0..8 {
            assert_eq!(uploads.take(MinerId(Hash32([i; 32])), artefact, 0, &chunk, ANY, 0), Ok(None));
        }
        let late = MinerId(Hash32([99; 32]));
        assert_eq!(uploads.take(late, artefact, 0, &chunk, ANY, STALE_MS - 1), Err(()));
        assert_eq!(uploads.take(MINER, artefact, 0, &chunk, Kind::State, STALE_MS - 1), Ok(None), "it is wanted");
        assert_eq!(uploads.take(late, artefact, 0, &chunk, ANY, STALE_MS), Ok(None));
    }
}
