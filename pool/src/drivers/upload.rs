//! Artefacts and states that arrive in chunks, one of each a miner, and few at a time.

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::Hash32;
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
    /// A state that an audit wants. There are as few as audits that wait for one, and each has a place whoever else uploads:
    /// a miner that finds none would fail its audit.
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
    artefact: BlobRef,
    bytes: Vec<u8>,
    touched_ms: u64,
}

/// Uploads under way.
#[derive(Default)]
pub(super) struct Uploads {
    /// By miner, and whether it is an artefact: results are handed in while a state is uploaded.
    open: BTreeMap<(MinerId, bool), Upload>,
}

impl Uploads {
    /// Forgets states that are no longer wanted.
    pub fn keep_states(&mut self, wanted: &BTreeSet<Hash32>) {
        self.open.retain(|(_, is_artefact), upload| *is_artefact || wanted.contains(&upload.artefact.root));
    }

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
        let is_artefact = matches!(kind, Kind::Artefact { .. });
        let key = (miner, is_artefact);
        if offset == 0 {
            self.open.remove(&key);
            self.open.retain(|_, u| now_ms < u.touched_ms.saturating_add(STALE_MS));
            let is_full = self.open.keys().filter(|(_, is_artefact)| *is_artefact).count() >= MOST_UPLOADS;
            if artefact.bytes > kind.cap_bytes() || (is_artefact && is_full) {
                return Err(());
            }
            self.open.insert(key, Upload { artefact, bytes: Vec::new(), touched_ms: now_ms });
        }
        let upload = self.open.get_mut(&key).ok_or(())?;
        let end = offset.saturating_add(chunk.len() as u64);
        if upload.artefact != artefact
            || upload.bytes.len() as u64 != offset
            || end > artefact.bytes
            || (end < artefact.bytes && chunk.len() < CHUNK_BYTES)
            || chunk.is_empty()
        {
            self.open.remove(&key);
            return Err(());
        }
        upload.bytes.extend_from_slice(chunk);
        upload.touched_ms = now_ms;
        if end < artefact.bytes {
            return Ok(None);
        }
        let whole = self.open.remove(&key).map(|u| u.bytes).unwrap_or_default();
        if blob_root(&whole) == artefact.root { Ok(Some(whole)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
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
        let state = BlobRef { bytes: 4 << 20, ..artefact };
        let upload = |uploads: &mut Uploads, number: usize| {
            uploads.take(MINER, state, (number * CHUNK_BYTES) as u64, &chunk, Kind::State, STALE_MS - 1)
        };
        assert_eq!(upload(&mut uploads, 0), Ok(None), "it is wanted");
        uploads.keep_states(&BTreeSet::from([state.root]));
        assert_eq!(upload(&mut uploads, 1), Ok(None), "it still is");
        uploads.keep_states(&BTreeSet::new());
        assert_eq!(upload(&mut uploads, 2), Err(()), "no longer");
        assert_eq!(uploads.take(late, artefact, 0, &chunk, ANY, STALE_MS), Ok(None));
    }
}
