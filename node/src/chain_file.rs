//! The file of `podl chain export`: blocks in rising order, each after the artefact and sealed shard that it is judged
//! by, for copies of a chain and for verification elsewhere.
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 8 | `podlblks` |
//! | 2 | version, 1 |
//! | 32 | genesis hash |
//! | 1, 4, then so many | kind (0 block, 1 blob), length and bytes, repeated; blocks in canonical bytes |

use std::io::{self, Read, Write};

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::codec::{self, CodecError};
use podl_consensus::types::Block;

const MAGIC: &[u8; 8] = b"podlblks";
const VERSION: u16 = 1;
const BLOCK: u8 = 0;
const BLOB: u8 = 1;

/// What a chain file consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A block.
    Block(Box<Block>),
    /// A blob that later blocks refer to.
    Blob(Vec<u8>),
}

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
    /// A record does not decode.
    #[error("record {index} of the chain file: {source}")]
    Record {
        /// Which, from 0.
        index: u64,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A record of a kind that is not known.
    #[error("record {index} of the chain file is of the unknown kind {got}")]
    Kind {
        /// Which, from 0.
        index: u64,
        /// Its kind.
        got: u8,
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
    pub fn block(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.record(BLOCK, bytes)
    }

    /// Appends a blob; it belongs before the first block that needs it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn blob(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.record(BLOB, bytes)
    }

    fn record(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a record of more than 4 GiB"))?;
        self.0.write_all(&[kind])?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(bytes)
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

/// Reads a chain file record by record.
pub struct ChainReader<R: Read> {
    input: R,
    block_limit_bytes: usize,
    blob_limit_bytes: usize,
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
        let (caps, block_limit_bytes) = (&spec.caps, spec.limits.block_bytes as usize);
        let blob_limit_bytes = caps.artefact_bytes.max(caps.shard_bytes) as usize;
        Ok(Self { input, block_limit_bytes, blob_limit_bytes, index: 0 })
    }

    /// The next record, or `None` at the end.
    ///
    /// # Errors
    /// [`ChainFileError`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ChainFileError> {
        let mut header = [0; 5];
        // A file may end between two records only.
        match self.input.read(&mut header[..1])? {
            0 => return Ok(None),
            _ => self.input.read_exact(&mut header[1..])?,
        }
        let [kind, l0, l1, l2, l3] = header;
        let (index, got) = (self.index, u32::from_le_bytes([l0, l1, l2, l3]) as usize);
        let limit = match kind {
            BLOCK => self.block_limit_bytes,
            BLOB => self.blob_limit_bytes,
            got => return Err(ChainFileError::Kind { index, got }),
        };
        if got > limit {
            return Err(ChainFileError::Record { index, source: CodecError::TooLong { got, limit } });
        }
        let mut bytes = vec![0; got];
        self.input.read_exact(&mut bytes)?;
        self.index += 1;
        if kind == BLOB {
            return Ok(Some(Record::Blob(bytes)));
        }
        let block = codec::decode(&bytes, limit).map_err(|source| ChainFileError::Record { index, source })?;
        Ok(Some(Record::Block(Box::new(block))))
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
        for height in 1..=3 {
            writer.blob(&[7; 9]).unwrap();
            writer.block(&codec::encode(&block(height))).unwrap();
        }
        writer.finish().unwrap()
    }

    fn all(bytes: &[u8], spec: &ChainSpec) -> Result<Vec<Record>, ChainFileError> {
        let mut reader = ChainReader::new(bytes, spec)?;
        std::iter::from_fn(|| reader.next_record().transpose()).collect()
    }

    #[test]
    fn records_come_back_in_order() {
        let spec = ChainSpec::load("dev").unwrap();
        let read = all(&file(spec.genesis_hash()), &spec).unwrap();
        let expected = (1..=3).flat_map(|height| [Record::Blob(vec![7; 9]), Record::Block(Box::new(block(height)))]);
        assert_eq!(read, expected.collect::<Vec<_>>());
    }

    #[test]
    fn every_damage_has_its_error() {
        let spec = ChainSpec::load("dev").unwrap();
        let bytes = file(spec.genesis_hash());
        let refused = |bytes: &[u8]| all(bytes, &spec).unwrap_err();
        assert!(matches!(refused(&bytes[..20]), ChainFileError::NotAChainFile));
        assert!(matches!(refused(&[&b"x"[..], &bytes[1..]].concat()), ChainFileError::NotAChainFile));
        assert!(matches!(refused(&[&bytes[..8], &[2], &bytes[9..]].concat()), ChainFileError::Version { got: 2 }));
        assert!(matches!(refused(&file(Hash32::ZERO)), ChainFileError::OtherChain { .. }));
        let mut kind = bytes.clone();
        kind[42] = 2;
        assert!(matches!(refused(&kind), ChainFileError::Kind { index: 0, got: 2 }));
        let huge = [&bytes[..43], &[0xff; 4]].concat();
        let source = CodecError::TooLong { got: u32::MAX as usize, limit: spec.caps.shard_bytes as usize };
        assert_eq!(refused(&huge).to_string(), ChainFileError::Record { index: 0, source }.to_string());
        // Cut anywhere but between two records it is refused, never shortened.
        let block_bytes = codec::encode(&block(1)).len() + 5;
        let ends: Vec<usize> = (0..3).flat_map(|i| [i * (block_bytes + 14), i * (block_bytes + 14) + 14]).collect();
        for cut in 42..bytes.len() {
            assert_eq!(all(&bytes[..cut], &spec).is_ok(), ends.contains(&(cut - 42)), "{cut}");
        }
    }
}
