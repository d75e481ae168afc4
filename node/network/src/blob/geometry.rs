//! Pieces of a blob, and their verified encoding.

use std::io::Cursor;

use bao_tree::io::sync::Outboard;
use bao_tree::io::sync::{OutboardMut, ReadAt, WriteAt, decode_ranges, encode_ranges_validated};
use bao_tree::io::{DecodeError, EncodeError};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};

/// Bytes that are checked together: 2^4 chunks of 1 KiB. Hashes take 1/256 of the data then.
pub(crate) const GROUP: BlockSize = BlockSize::from_chunk_log(4);
/// Bytes of a piece, the unit of requests: large enough for few round trips, small enough to lose.
pub(crate) const PIECE_BYTES: u64 = 256 << 10;
/// Bytes of a blob at most: its map of pieces is then 8 KiB.
pub(crate) const MAX_BLOB_BYTES: u64 = 16 << 30;
/// Bytes of a piece's encoding beyond its data: 15 hash pairs inside, and one for each level above, of at most 34.
pub(crate) const PROOF_BYTES: usize = 64 * (16 + 34);
/// Chunks of a piece.
const PIECE_CHUNKS: u64 = PIECE_BYTES / 1024;

pub(crate) fn tree(bytes: u64) -> BaoTree {
    BaoTree::new(bytes, GROUP)
}

/// Pieces of a blob of so many bytes; an empty blob has one, which proves that it is empty.
pub(crate) fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE_BYTES).max(1)).unwrap_or(u32::MAX)
}

fn chunks(piece: u32) -> ChunkRanges {
    let start = u64::from(piece) * PIECE_CHUNKS;
    ChunkRanges::from(ChunkNum(start)..ChunkNum(start + PIECE_CHUNKS))
}

/// The encoding of one piece, checked against the root while it is made, so that a damaged disk is noticed here.
pub(crate) fn encode(data: impl ReadAt, outboard: impl Outboard, piece: u32) -> Result<Vec<u8>, EncodeError> {
    let mut encoded = Vec::new();
    encode_ranges_validated(data, outboard, &chunks(piece), &mut encoded)?;
    Ok(encoded)
}

/// Checks the encoding of one piece and writes what is in it. A failure may leave valid groups written; never false
/// ones.
pub(crate) fn decode(
    encoded: &[u8],
    target: impl WriteAt,
    outboard: impl OutboardMut + Outboard,
    piece: u32,
) -> Result<(), DecodeError> {
    let mut reader = Cursor::new(encoded);
    decode_ranges(&mut reader, &chunks(piece), target, outboard)?;
    if reader.position() == encoded.len() as u64 {
        Ok(())
    } else {
        Err(DecodeError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, "bytes behind the last group")))
    }
}

/// A set of pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PieceSet {
    bits: Vec<u8>,
    pieces: u32,
}

impl PieceSet {
    pub(crate) fn empty(pieces: u32) -> Self {
        Self { bits: vec![0; pieces.div_ceil(8) as usize], pieces }
    }

    /// The set that `bits` say, lowest bit first; none when they are not for so many pieces.
    pub(crate) fn from_bits(bits: Vec<u8>, pieces: u32) -> Option<Self> {
        let set = Self { bits, pieces };
        let spare = (set.bits.len() * 8).checked_sub(pieces as usize)?;
        let last = set.bits.last().copied().unwrap_or_default();
        (spare < 8 && last.leading_zeros() as usize >= spare).then_some(set)
    }

    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    pub(crate) fn insert(&mut self, piece: u32) {
        if piece < self.pieces {
            self.bits[(piece / 8) as usize] |= 1 << (piece % 8);
        }
    }

    pub(crate) fn remove(&mut self, piece: u32) {
        if piece < self.pieces {
            self.bits[(piece / 8) as usize] &= !(1 << (piece % 8));
        }
    }

    pub(crate) fn contains(&self, piece: u32) -> bool {
        piece < self.pieces && self.bits[(piece / 8) as usize] & (1 << (piece % 8)) != 0
    }

    pub(crate) fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.pieces).filter(|piece| !self.contains(*piece))
    }

    pub(crate) fn count(&self) -> u32 {
        self.bits.iter().map(|b| b.count_ones()).sum()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() == self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bao_tree::io::outboard::PreOrderMemOutboard;
    use bao_tree::io::outboard::PreOrderOutboard;

    fn blob(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 31 + i / 1000) as u8).collect()
    }

    #[test]
    fn every_piece_of_every_length_proves_itself_and_the_whole_is_rebuilt() {
        let piece = PIECE_BYTES as usize;
        for bytes in [0, 1, 1024, 16 << 10, piece - 1, piece, piece + 1, 3 * piece, 3 * piece + 20_000] {
            let data = blob(bytes);
            let full = PreOrderMemOutboard::create(&data, GROUP);
            assert_eq!(full.root, blake3::hash(&data), "the root is plain BLAKE3");
            let mut rebuilt: Vec<u8> = Vec::new();
            let mut outboard = PreOrderOutboard { root: full.root, tree: tree(bytes as u64), data: Vec::<u8>::new() };
            for piece in (0..pieces(bytes as u64)).rev() {
                let encoded = encode(data.as_slice(), &full, piece).unwrap();
                assert!(encoded.len() <= PIECE_BYTES as usize + PROOF_BYTES);
                decode(&encoded, &mut rebuilt, &mut outboard, piece).unwrap();
            }
            assert_eq!(rebuilt, data, "{bytes} bytes");
        }
    }

    #[test]
    fn false_truncated_longer_and_misplaced_pieces_are_refused() {
        let data = blob(3 * PIECE_BYTES as usize + 5000);
        let full = PreOrderMemOutboard::create(&data, GROUP);
        let good = encode(data.as_slice(), &full, 1).unwrap();
        let check = |encoded: &[u8], piece: u32, bytes: u64| {
            let outboard = PreOrderOutboard { root: full.root, tree: tree(bytes), data: Vec::<u8>::new() };
            decode(encoded, Vec::<u8>::new(), outboard, piece)
        };
        let bytes = data.len() as u64;
        assert!(check(&good, 1, bytes).is_ok());
        for at in [0, 63, 200, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(check(&bad, 1, bytes).is_err(), "byte {at}");
        }
        assert!(check(&good[..good.len() - 1], 1, bytes).is_err());
        assert!(check(&[good.as_slice(), &[0]].concat(), 1, bytes).is_err());
        assert!(check(&good, 2, bytes).is_err());
        assert!(check(&[], 1, bytes).is_err());
        // Another length is refuted by the last piece at the latest.
        let last = encode(data.as_slice(), &full, 3).unwrap();
        assert!(check(&last, 3, bytes).is_ok());
        assert!(check(&last, 3, bytes - 1).is_err() && check(&last, 3, bytes + 1).is_err());
    }

    #[test]
    fn piece_sets_count_and_refuse_bits_for_others() {
        let mut set = PieceSet::empty(10);
        set.insert(0);
        set.insert(9);
        set.insert(10);
        assert_eq!((set.count(), set.missing().count()), (2, 8));
        assert_eq!(PieceSet::from_bits(set.bits().to_vec(), 10), Some(set.clone()));
        assert_eq!(PieceSet::from_bits(vec![0, 0b100], 10), None, "a piece beyond the last");
        assert_eq!(PieceSet::from_bits(vec![0], 10), None);
        assert_eq!(PieceSet::from_bits(vec![0; 3], 10), None);
        set.remove(9);
        assert!(!set.contains(9) && !set.is_full());
    }
}
