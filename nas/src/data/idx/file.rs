//! One IDX file: two zero bytes, the element type, the number of dimensions, their sizes (32 bits, big-endian), then the
//! elements.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::super::DataError;

/// First bytes of gzip data.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Images have 4 dimensions at most; nothing is allocated for more.
const MOST_DIMENSIONS: u8 = 4;

/// What a file says of itself.
pub(super) struct Header {
    /// Element type.
    pub element: u8,
    /// Sizes of the dimensions, records first.
    pub sizes: Vec<u32>,
}

impl Header {
    /// Number of records.
    pub fn records(&self) -> u32 {
        self.sizes.first().copied().unwrap_or(0)
    }
}

/// A file that is being read.
pub(super) struct IdxFile {
    path: PathBuf,
    reader: Box<dyn Read>,
}

impl IdxFile {
    /// Opens a file; a name that ends in `.gz` is decompressed while it is read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Read { path: path.into(), source })?;
        let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read> = if is_compressed {
            Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Box::new(BufReader::new(file))
        };
        Ok(Self { path: path.into(), reader })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as a whole is not what it should be.
    pub fn unfit(&self, reason: String) -> DataError {
        DataError::Unfit { path: self.path.clone(), reason }
    }

    /// One record is not what it should be.
    pub fn damaged(&self, record: usize, reason: String) -> DataError {
        DataError::Damaged { path: self.path.clone(), record, reason }
    }

    /// The header is one of something else.
    pub fn wrong_magic(&self, header: &Header, expected: &str) -> DataError {
        let (element, dimensions) = (header.element, header.sizes.len());
        self.unfit(format!("it begins with 00 00 {element:02x} {dimensions:02x}, expected {expected}"))
    }

    /// Reads the header.
    pub fn header(&mut self) -> Result<Header, DataError> {
        let magic = self.number("magic number")?;
        if magic.starts_with(&GZIP_MAGIC) {
            return Err(self.unfit("it is compressed with gzip; give it the ending .gz".into()));
        }
        let [0, 0, element, dimensions @ 1..=MOST_DIMENSIONS] = magic else {
            let [a, b, c, d] = magic;
            return Err(self.unfit(format!("it begins with {a:02x} {b:02x} {c:02x} {d:02x}, it is no IDX file")));
        };
        let size = |_| self.number("sizes").map(u32::from_be_bytes);
        Ok(Header { element, sizes: (0..dimensions).map(size).collect::<Result<_, _>>()? })
    }

    /// Four bytes of the header.
    fn number(&mut self, what: &str) -> Result<[u8; 4], DataError> {
        let mut bytes = [0; 4];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(self.unfit(format!("it ends within its header ({what})")))
            }
            Err(error) => Err(self.failed(error, 0)),
        }
    }

    /// Reads all records, behind which the file must end. The caller has bounded their bytes; memory is taken only as
    /// bytes arrive, whatever the header declares.
    pub fn records(&mut self, count: u32, record_bytes: usize) -> Result<Vec<u8>, DataError> {
        let total = u64::from(count) * record_bytes as u64;
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(total).read_to_end(&mut bytes);
        let (whole, rest) = (bytes.len() / record_bytes, bytes.len() % record_bytes);
        read.map_err(|error| self.failed(error, whole))?;
        if (bytes.len() as u64) < total {
            let reason = format!("the file ends after {rest} of {record_bytes} bytes; {count} records are declared");
            return Err(self.damaged(whole, reason));
        }
        // One byte more is asked for: it would be too many, and with gzip asking for it checks the checksum.
        let mut extra = [0];
        match self.reader.read(&mut extra) {
            Ok(0) => Ok(bytes),
            Ok(_) => Err(self.damaged(whole, format!("more bytes follow, {count} records are declared"))),
            Err(error) => Err(self.failed(error, whole)),
        }
    }

    /// Reading failed: at the disk, or because the compressed data are broken.
    fn failed(&self, source: std::io::Error, record: usize) -> DataError {
        if source.raw_os_error().is_some() {
            DataError::Read { path: self.path.clone(), source }
        } else {
            self.damaged(record, format!("the compressed data are broken: {source}"))
        }
    }
}
