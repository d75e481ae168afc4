//! The file of `podl chain export`: blocks in rising order, for copies of a chain and for verification elsewhere.
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 8 | `podlblks` |
//! | 2 | version, 1 |
//! | 32 | genesis hash |
//! | 4, then so many | length and canonical bytes of a block, repeated |

use std::io::{self, Read, Write};

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::codec::{self, CodecError};
use podl_consensus::types::Block;

const MAGIC: &[u8; 8] = b"podlblks";
const VERSION: u16 = 1;

/// Why a chain file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChainFileError {
    /// The disk failed, or the file ends in the middle of a block.
    #[error("the chain file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not such a file.
    #[error("this is not a file of `podl chain export`")]
    NotAChainFile,
    /// Of a later program.
    #[error("the chain file has version {got}, this program reads {VERSION}")]
    Version {
        /// What it has.
        got: u16,
    },
    /// Of another chain.
    #[error("the chain file is of chain {got}, this is chain {expected}")]
    OtherChain {
        /// Genesis hash in the file.
        got: Hash32,
        /// Genesis hash of the specification.
        expected: Hash32,
    },
    /// A block does not decode.
    #[error("block {index} of the chain file: {source}")]
    Block {
        /// Which, from 0.
        index: u64,
        /// What is wrong with it.
        source: CodecError,
    },
}

/// Writes a chain file.
pub struct ChainWriter<W: Write>(W);

impl<W: Write> ChainWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(mut out: W, chain: Hash32) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(chain.as_bytes())?;
        Ok(Self(out))
    }

    /// Appends the canonical bytes of a block.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let length = u32::try_from(block.len()).map_err(|_| io::Error::other("a block of more than 4 GiB"))?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(block)
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.0.flush()?;
        Ok(self.0)
    }
}

/// Reads a chain file block by block.
pub struct ChainReader<R: Read> {
    input: R,
    limit_bytes: usize,
    index: u64,
}

impl<R: Read> ChainReader<R> {
    /// Opens a file of this chain.
    ///
    /// # Errors
    /// [`ChainFileError`].
    pub fn new(mut input: R, spec: &ChainSpec) -> Result<Self, ChainFileError> {
        let mut header = [0; 42];
        input.read_exact(&mut header).map_err(|_| ChainFileError::NotAChainFile)?;
        let [magic @ .., v0, v1] = header.first_chunk::<10>().ok_or(ChainFileError::NotAChainFile)?;
        if magic != MAGIC {
            return Err(ChainFileError::NotAChainFile);
        }
        let got = u16::from_le_bytes([*v0, *v1]);
        if got != VERSION {
            return Err(ChainFileError::Version { got });
        }
        let got = Hash32(*header.last_chunk::<32>().ok_or(ChainFileError::NotAChainFile)?);
        let expected = spec.genesis_hash();
        if got != expected {
            return Err(ChainFileError::OtherChain { got, expected });
        }
        Ok(Self { input, limit_bytes: spec.limits.block_bytes as usize, index: 0 })
    }

    /// The next block, or `None` at the end.
    ///
    /// # Errors
    /// [`ChainFileError`].
    pub fn next_block(&mut self) -> Result<Option<Block>, ChainFileError> {
        let mut length = [0; 4];
        // A file may end between two blocks only.
        match self.input.read(&mut length[..1])? {
            0 => return Ok(None),
            _ => self.input.read_exact(&mut length[1..])?,
        }
        let (index, got) = (self.index, u32::from_le_bytes(length) as usize);
        if got > self.limit_bytes {
            let source = CodecError::TooLong { got, limit: self.limit_bytes };
            return Err(ChainFileError::Block { index, source });
        }
        let mut bytes = vec![0; got];
        self.input.read_exact(&mut bytes)?;
        self.index += 1;
        codec::decode(&bytes, self.limit_bytes).map(Some).map_err(|source| ChainFileError::Block { index, source })
    }
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::AccountId;
    use podl_consensus::signed::{Signature, Signed};
    use podl_consensus::types::{Body, Header, Outcome, OutcomeKind};

    use super::*;

    fn block(height: u64) -> Block {
        let header = Header {
            chain: Hash32::ZERO,
            height,
            parent: Hash32::ZERO,
            time_ms: 0,
            kind: OutcomeKind::Idle,
            view: 0,
            task: Hash32::ZERO,
            round: 0,
            producer: AccountId([1; 32]),
            body_root: Hash32::ZERO,
            state_root: Hash32::ZERO,
        };
        let outcome = Outcome::Idle { key: None };
        Block {
            header: Signed { message: header, signature: Signature([0; 64]) },
            body: Body { votes: Vec::new(), certificate: None, outcome, transactions: Vec::new() },
        }
    }

    fn file(chain: Hash32) -> Vec<u8> {
        let mut writer = ChainWriter::new(Vec::new(), chain).unwrap();
        (1..=3).for_each(|height| writer.write(&codec::encode(&block(height))).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn blocks_come_back_in_order() {
        let spec = ChainSpec::load("dev").unwrap();
        let bytes = file(spec.genesis_hash());
        let mut reader = ChainReader::new(bytes.as_slice(), &spec).unwrap();
        for height in 1..=3 {
            assert_eq!(reader.next_block().unwrap(), Some(block(height)));
        }
        assert_eq!(reader.next_block().unwrap(), None);
    }

    #[test]
    fn every_damage_has_its_error() {
        let spec = ChainSpec::load("dev").unwrap();
        let bytes = file(spec.genesis_hash());
        let open = |bytes: &[u8]| ChainReader::new(bytes, &spec).err().unwrap();
        assert!(matches!(open(&bytes[..20]), ChainFileError::NotAChainFile));
        assert!(matches!(open(&[&b"x"[..], &bytes[1..]].concat()), ChainFileError::NotAChainFile));
        assert!(matches!(open(&[&bytes[..8], &[2], &bytes[9..]].concat()), ChainFileError::Version { got: 2 }));
        assert!(matches!(open(&file(Hash32::ZERO)), ChainFileError::OtherChain { .. }));
        let all = |bytes: &[u8]| {
            let mut reader = ChainReader::new(bytes, &spec).unwrap();
            std::iter::from_fn(|| reader.next_block().transpose()).collect::<Result<Vec<_>, _>>()
        };
        for cut in 1..bytes.len() - 42 {
            let left = &bytes[..bytes.len() - cut];
            assert!(all(left).is_err() || (bytes.len() - cut - 42).is_multiple_of((bytes.len() - 42) / 3), "{cut}");
        }
        let huge = [&bytes[..42], &[0xff; 4]].concat();
        assert!(matches!(all(&huge), Err(ChainFileError::Block { index: 0, source: CodecError::TooLong { .. } })));
    }
}
