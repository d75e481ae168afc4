//! A blob that is being fetched: its data, its hashes and the pieces that are here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bao_tree::io::outboard::PreOrderOutboard;
use podl_chain_spec::Hash32;

use super::geometry::{PieceSet, decode, encode, pieces, tree};
use crate::error::BlobError;

/// The three files of a partial blob, and those of a whole one.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) data: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) map: PathBuf,
}

impl Files {
    pub(crate) fn new(folder: &Path, root: &Hash32) -> Self {
        let name = hex(root);
        let file = |kind: &str| folder.join(format!("{name}.{kind}"));
        Self { data: file("data"), tree: file("tree"), map: file("map") }
    }
}

pub(crate) fn hex(root: &Hash32) -> String {
    root.as_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> BlobError + '_ {
    move |source| BlobError::Disk { path: path.into(), source }
}

#[derive(Debug)]
struct Inner {
    here: PieceSet,
    data: File,
    tree: PreOrderOutboard<File>,
    map: File,
}

/// A blob of which some pieces are here.
#[derive(Debug)]
pub(crate) struct Partial {
    root: Hash32,
    bytes: u64,
    files: Files,
    inner: Mutex<Inner>,
}

impl Partial {
    /// Opens the files of a partial blob, or makes them. Pieces that the map promises are checked against the root: after
    /// a crash it may promise what the disk never got.
    pub(crate) fn open(files: Files, root: Hash32, bytes: u64) -> Result<Self, BlobError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(disk(path))
        };
        let (data, tree_file, map) = (open(&files.data)?, open(&files.tree)?, open(&files.map)?);
        let outboard = PreOrderOutboard { root: blake3::Hash::from(root.0), tree: tree(bytes), data: tree_file };
        let promised = read_map(&files.map)?.filter(|(begun, _)| *begun == bytes).map(|(_, pieces)| pieces);
        let mut here = promised.unwrap_or_else(|| PieceSet::empty(pieces(bytes)));
        for piece in 0..pieces(bytes) {
            if here.contains(piece) && encode(&data, &outboard, piece).is_err() {
                here.remove(piece);
            }
        }
        let partial = Self { root, bytes, files, inner: Mutex::new(Inner { here, data, tree: outboard, map }) };
        partial.save_map(&partial.lock())?;
        Ok(partial)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves at worst a piece that is written and not noted.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn root(&self) -> Hash32 {
        self.root
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn here(&self) -> PieceSet {
        self.lock().here.clone()
    }

    /// Checks a piece and keeps it.
    ///
    /// # Errors
    /// [`BlobError::BadPiece`] when the root refutes it, whose sender is to blame, or [`BlobError::Disk`].
    pub(crate) fn write(&self, piece: u32, encoded: &[u8]) -> Result<(), BlobError> {
        let mut inner = self.lock();
        if inner.here.contains(piece) {
            return Ok(());
        }
        let Inner { data, tree, .. } = &mut *inner;
        decode(encoded, data, tree, piece).map_err(|e| self.blame(piece, &e))?;
        inner.here.insert(piece);
        self.save_map(&inner)
    }

    fn blame(&self, piece: u32, error: &bao_tree::io::DecodeError) -> BlobError {
        match error {
            // Our own disk, unless it only means that the sender's bytes ended or went on.
            bao_tree::io::DecodeError::Io(e)
                if !matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                BlobError::Disk { path: self.files.data.clone(), source: io::Error::new(e.kind(), e.to_string()) }
            }
            other => BlobError::BadPiece { root: hex(&self.root), piece, reason: other.to_string() },
        }
    }

    /// The encoding of a piece that is here, for others.
    pub(crate) fn read(&self, piece: u32) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.here.contains(piece).then(|| encode(&inner.data, &inner.tree, piece).ok()).flatten()
    }

    /// Puts data and hashes on the disk for good; the caller then moves the files.
    pub(crate) fn sync(&self) -> Result<&Files, BlobError> {
        let inner = self.lock();
        inner.data.set_len(self.bytes).map_err(disk(&self.files.data))?;
        inner.data.sync_all().map_err(disk(&self.files.data))?;
        inner.tree.data.sync_all().map_err(disk(&self.files.tree))?;
        Ok(&self.files)
    }

    /// The map is not synced: what it lacks is fetched again, and what it promises is checked.
    fn save_map(&self, inner: &Inner) -> Result<(), BlobError> {
        let row = [&self.bytes.to_be_bytes(), inner.here.bits()].concat();
        inner.map.write_all_at(&row, 0).map_err(disk(&self.files.map))
    }
}

/// Length and pieces that a map file says; none when it is not one.
pub(crate) fn read_map(path: &Path) -> Result<Option<(u64, PieceSet)>, BlobError> {
    let row = std::fs::read(path).map_err(disk(path))?;
    let Some((bytes, bits)) = row.split_first_chunk::<8>() else { return Ok(None) };
    let bytes = u64::from_be_bytes(*bytes);
    if bytes > super::geometry::MAX_BLOB_BYTES {
        return Ok(None);
    }
    Ok(PieceSet::from_bits(bits.to_vec(), pieces(bytes)).map(|set| (bytes, set)))
}
