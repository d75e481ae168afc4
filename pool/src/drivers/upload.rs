//! Artefacts that arrive in chunks, one a miner and few at a time.

use std::collections::BTreeMap;

use podl_consensus::hash::blob_root;
use podl_consensus::types::BlobRef;

use crate::types::MinerId;

/// Most uploads at a time; with the chain's cap on artefacts this bounds their memory.
const MOST_UPLOADS: usize = 8;
/// After how long without a chunk another miner may take an upload's place.
const STALE_MS: u64 = 10_000;

struct Upload {
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
    /// not fit, after which the miner begins again.
    pub fn take(
        &mut self,
        miner: MinerId,
        artefact: BlobRef,
        offset: u64,
        chunk: &[u8],
        cap_bytes: u64,
        now_ms: u64,
    ) -> Result<Option<Vec<u8>>, ()> {
        if offset == 0 {
            self.open.remove(&miner);
            self.open.retain(|_, u| now_ms < u.touched_ms.saturating_add(STALE_MS));
            if artefact.bytes > cap_bytes || self.open.len() >= MOST_UPLOADS {
                return Err(());
            }
            self.open.insert(miner, Upload { artefact, bytes: Vec::new(), touched_ms: now_ms });
        }
        let upload = self.open.get_mut(&miner).ok_or(())?;
        let end = offset.saturating_add(chunk.len() as u64);
        if upload.artefact != artefact
            || upload.bytes.len() as u64 != offset
            || end > artefact.bytes
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

    #[test]
    fn chunks_in_order_make_the_artefact_and_all_others_are_refused() {
        let whole = [7u8; 100];
        let artefact = BlobRef { root: blob_root(&whole), bytes: 100 };
        let mut uploads = Uploads::default();
        let mut take = |offset: u64, chunk: &[u8]| uploads.take(MINER, artefact, offset, chunk, 1000, 0);
        assert_eq!(take(0, &whole[..60]), Ok(None));
        assert_eq!(take(60, &whole[60..]), Ok(Some(whole.to_vec())));
        assert_eq!(take(60, &whole[60..]), Err(()), "nothing is open any more");
        assert_eq!(take(0, &whole[..60]), Ok(None));
        assert_eq!(take(50, &whole[50..]), Err(()), "out of order");
        assert_eq!(take(0, &[8; 100]), Err(()), "another root");
        assert_eq!(take(0, &[8; 101]), Err(()), "too long");
        assert_eq!(take(0, &[]), Err(()), "no progress");
        assert_eq!(uploads.take(MINER, artefact, 0, &whole, 99, 0), Err(()), "over the cap");
    }

    #[test]
    fn few_uploads_at_a_time_and_stale_ones_make_room() {
        let artefact = BlobRef { root: Hash32([0; 32]), bytes: 100 };
        let mut uploads = Uploads::default();
        for i in 0..8 {
            assert_eq!(uploads.take(MinerId(Hash32([i; 32])), artefact, 0, &[1], 1000, 0), Ok(None));
        }
        let late = MinerId(Hash32([99; 32]));
        assert_eq!(uploads.take(late, artefact, 0, &[1], 1000, STALE_MS - 1), Err(()));
        assert_eq!(uploads.take(late, artefact, 0, &[1], 1000, STALE_MS), Ok(None));
    }
}
