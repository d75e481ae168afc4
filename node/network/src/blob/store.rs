//! Blobs on disk, named by root, within a quota.
//!
//! # Correctness
//! A blob appears in `whole/` only by a rename after its bytes and hashes are synced, so that what is there is complete.
//! Reading checks it against its root once more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bao_tree::io::outboard::{PreOrderMemOutboard, PreOrderOutboard};
use podl_chain_spec::Hash32;

use super::geometry::{GROUP, MAX_BLOB_BYTES, PieceSet, encode, pieces, tree};
use super::partial::{Files, Partial, disk, hex, read_map};
use crate::error::BlobError;

#[derive(Debug)]
enum Entry {
    Whole,
    /// Begun, and open while somebody fetches it.
    Partial(Option<Arc<Partial>>),
}

#[derive(Debug, Default)]
struct Index {
    entries: BTreeMap<Hash32, (u64, Entry)>,
    held: u64,
}

/// How much of a blob is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    None,
    Whole { bytes: u64 },
    Partial { bytes: u64, here: PieceSet },
}

/// A folder of blobs. Cheap to share; all calls may block on the disk.
#[derive(Debug)]
pub struct BlobStore {
    folder: PathBuf,
    quota_bytes: u64,
    index: Mutex<Index>,
}

impl BlobStore {
    /// Opens a folder of blobs, or makes it. Only one process may use it at a time. The quota is over the bytes of blobs,
    /// begun ones counted in full; their hashes take 1/256 more.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn open(folder: &Path, quota_bytes: u64) -> Result<Self, BlobError> {
        let mut index = Index::default();
        for name in ["whole", "partial"] {
            let folder = folder.join(name);
            fs::create_dir_all(&folder).map_err(disk(&folder))?;
        }
        scan(&folder.join("partial"), "map", |root, path| {
            // A map that says nothing belongs to a blob that was begun at the moment of a crash.
            if let Some((bytes, _)) = read_map(path)? {
                index.entries.insert(root, (bytes, Entry::Partial(None)));
            }
            Ok(())
        })?;
        scan(&folder.join("whole"), "data", |root, path| {
            let bytes = fs::metadata(path).map_err(disk(path))?.len();
            index.entries.insert(root, (bytes, Entry::Whole));
            Ok(())
        })?;
        for (name, kinds) in [("whole", ["tree", "", ""]), ("partial", ["data", "tree", "map"])] {
            sweep(
                &folder.join(name),
                |root| match index.entries.get(&root) {
                    Some((_, Entry::Whole)) => name == "whole",
                    Some((_, Entry::Partial(_))) => name == "partial",
                    None => false,
                },
                &kinds,
            )?;
        }
        index.held = index.entries.values().map(|(bytes, _)| *bytes).fold(0, u64::saturating_add);
        Ok(Self { folder: folder.into(), quota_bytes, index: Mutex::new(index) })
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // The index is changed only after the disk, in steps that cannot panic between.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn whole(&self, root: &Hash32) -> Files {
        Files::new(&self.folder.join("whole"), root)
    }

    fn partial(&self, root: &Hash32) -> Files {
        Files::new(&self.folder.join("partial"), root)
    }

    /// Stores a blob and tells its root. Storing it twice is no error.
    ///
    /// # Errors
    /// [`BlobError::Quota`], [`BlobError::Disk`].
    pub fn insert(&self, bytes: &[u8]) -> Result<Hash32, BlobError> {
        let outboard = PreOrderMemOutboard::create(bytes, GROUP);
        let root = Hash32(*outboard.root.as_bytes());
        let mut index = self.lock();
        if matches!(index.entries.get(&root), Some((_, Entry::Whole))) {
            return Ok(root);
        }
        // Perhaps begun with a length that somebody made up; a fetch under way ends with what is stored here.
        if let Some((begun, _)) = index.entries.remove(&root) {
            index.held -= begun;
        }
        let length = bytes.len() as u64;
        self.reserve(&mut index, length)?;
        let (from, to) = (self.partial(&root), self.whole(&root));
        let written = write_synced(&from.data.with_extension("new"), bytes, &to.data, |temporary| {
            write_synced(temporary, &outboard.data, &to.tree, |_| Ok(()))
        });
        if let Err(error) = written {
            index.held -= length;
            return Err(error);
        }
        self.sync_folder("whole")?;
        index.entries.insert(root, (length, Entry::Whole));
        remove(&from);
        Ok(root)
    }

    fn reserve(&self, index: &mut Index, wanted: u64) -> Result<(), BlobError> {
        let held = index.held;
        match held.checked_add(wanted).filter(|sum| *sum <= self.quota_bytes && wanted <= MAX_BLOB_BYTES) {
            Some(sum) => index.held = sum,
            None => return Err(BlobError::Quota { held, quota: self.quota_bytes, wanted }),
        }
        Ok(())
    }

    fn sync_folder(&self, name: &str) -> Result<(), BlobError> {
        let folder = self.folder.join(name);
        File::open(&folder).and_then(|f| f.sync_all()).map_err(disk(&folder))
    }

    /// The bytes of a blob, checked against its root.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Damaged`] (the blob has then been dropped), [`BlobError::Disk`].
    pub fn get(&self, root: &Hash32) -> Result<Vec<u8>, BlobError> {
        if !self.contains(root) {
            return Err(BlobError::Missing(hex(root)));
        }
        let path = self.whole(root).data;
        let bytes = fs::read(&path).map_err(disk(&path))?;
        if blake3::hash(&bytes).as_bytes() == root.as_bytes() {
            return Ok(bytes);
        }
        self.delete(root)?;
        Err(BlobError::Damaged(hex(root)))
    }

    /// Whether the whole blob is here.
    pub fn contains(&self, root: &Hash32) -> bool {
        self.size(root).is_some()
    }

    /// Length of a blob that is wholly here.
    pub fn size(&self, root: &Hash32) -> Option<u64> {
        match self.lock().entries.get(root) {
            Some((bytes, Entry::Whole)) => Some(*bytes),
            _ => None,
        }
    }

    /// All whole blobs with their lengths, in the order of their roots.
    pub fn list(&self) -> Vec<(Hash32, u64)> {
        self.entries(|entry| matches!(entry, Entry::Whole))
    }

    /// Blobs of which a fetch was begun and is not done, with their lengths.
    pub fn list_partial(&self) -> Vec<(Hash32, u64)> {
        self.entries(|entry| matches!(entry, Entry::Partial(_)))
    }

    fn entries(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<(Hash32, u64)> {
        let index = self.lock();
        index.entries.iter().filter(|(_, (_, e))| wanted(e)).map(|(root, (bytes, _))| (*root, *bytes)).collect()
    }

    /// Bytes held, begun blobs counted in full.
    pub fn held_bytes(&self) -> u64 {
        self.lock().held
    }

    /// Bytes that may be held.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes
    }

    /// Drops a blob, whole or begun; tells whether there was one.
    ///
    /// # Errors
    /// [`BlobError::Disk`].
    pub fn delete(&self, root: &Hash32) -> Result<bool, BlobError> {
        let mut index = self.lock();
        let Some((bytes, _)) = index.entries.remove(root) else { return Ok(false) };
        index.held = index.held.saturating_sub(bytes);
        remove(&self.whole(root));
        remove(&self.partial(root));
        Ok(true)
    }

    pub(crate) fn held(&self, root: &Hash32) -> Held {
        match self.lock().entries.get(root) {
            Some((bytes, Entry::Whole)) => Held::Whole { bytes: *bytes },
            Some((bytes, Entry::Partial(Some(partial)))) => Held::Partial { bytes: *bytes, here: partial.here() },
            _ => Held::None,
        }
    }

    /// Whether a piece is here and the blob is as long as the asker thinks.
    pub(crate) fn has_piece(&self, root: &Hash32, bytes: u64, piece: u32) -> bool {
        match self.lock().entries.get(root) {
            Some((held, Entry::Whole)) => *held == bytes && piece < pieces(bytes),
            Some((held, Entry::Partial(Some(partial)))) => *held == bytes && partial.here().contains(piece),
            _ => false,
        }
    }

    /// The verified encoding of a piece, if it is here and the blob is as long as the asker thinks.
    pub(crate) fn read_piece(&self, root: &Hash32, bytes: u64, piece: u32) -> Option<Vec<u8>> {
        let open = {
            let index = self.lock();
            match index.entries.get(root) {
                Some((held, entry)) if *held == bytes && piece < pieces(bytes) => match entry {
                    Entry::Whole => None,
                    Entry::Partial(partial) => Some(Arc::clone(partial.as_ref()?)),
                },
                _ => return None,
            }
        };
        match open {
            Some(partial) => partial.read(piece),
            None => self.read_whole(root, bytes, piece),
        }
    }

    fn read_whole(&self, root: &Hash32, bytes: u64, piece: u32) -> Option<Vec<u8>> {
        let files = self.whole(root);
        let read = || -> Result<Vec<u8>, String> {
            let data = File::open(&files.data).map_err(|e| e.to_string())?;
            let hashes = File::open(&files.tree).map_err(|e| e.to_string())?;
            let outboard = PreOrderOutboard { root: blake3::Hash::from(root.0), tree: tree(bytes), data: hashes };
            encode(&data, &outboard, piece).map_err(|e| e.to_string())
        };
        read().map_err(|error| tracing::error!(root = hex(root), piece, error, "a stored blob cannot be read")).ok()
    }

    /// Begins a blob, or goes on with one that was begun.
    pub(crate) fn begin(&self, root: Hash32, bytes: u64) -> Result<Arc<Partial>, BlobError> {
        let mut index = self.lock();
        match index.entries.get(&root) {
            Some((begun, Entry::Partial(open))) if *begun == bytes => {
                if let Some(partial) = open {
                    return Ok(Arc::clone(partial));
                }
            }
            // Somebody made up a length, or does now. Only a fetch under way is worth keeping: a claim must not keep the
            // blob out for good.
            Some((begun, Entry::Partial(open))) if open.as_ref().is_none_or(|open| Arc::strong_count(open) == 1) => {
                let begun = *begun;
                index.entries.remove(&root);
                index.held = index.held.saturating_sub(begun);
                remove(&self.partial(&root));
                self.reserve(&mut index, bytes)?;
            }
            Some((begun, _)) => return Err(BlobError::OtherLength { root: hex(&root), begun: *begun, got: bytes }),
            None => self.reserve(&mut index, bytes)?,
        }
        let opened = Partial::open(self.partial(&root), root, bytes).map(Arc::new);
        match &opened {
            Ok(partial) => {
                index.entries.insert(root, (bytes, Entry::Partial(Some(Arc::clone(partial)))));
            }
            Err(_) if !index.entries.contains_key(&root) => index.held -= bytes,
            Err(_) => {}
        }
        opened
    }

    /// Drops a begun blob of which no piece has come. Root and length may be made up: they must not take room until
    /// somebody sweeps.
    pub(crate) fn abandon_empty(&self, partial: &Arc<Partial>) {
        let mut index = self.lock();
        let root = partial.root();
        let is_it =
            |(_, entry): &(u64, Entry)| matches!(entry, Entry::Partial(Some(open)) if Arc::ptr_eq(open, partial));
        if partial.here().count() == 0 && index.entries.get(&root).is_some_and(is_it) {
            index.entries.remove(&root);
            index.held = index.held.saturating_sub(partial.bytes());
            remove(&self.partial(&root));
        }
    }

    /// Moves a blob of which every piece is here among the whole ones.
    pub(crate) fn finish(&self, partial: &Partial) -> Result<(), BlobError> {
        let root = partial.root();
        let from = partial.sync()?.clone();
        let mut index = self.lock();
        // Deleted meanwhile: its files are gone, and nobody wants it.
        if !matches!(index.entries.get(&root), Some((_, Entry::Partial(_)))) {
            return Err(BlobError::Missing(hex(&root)));
        }
        let to = self.whole(&root);
        // The data last: a blob counts as whole when its data is there.
        fs::rename(&from.tree, &to.tree).map_err(disk(&to.tree))?;
        fs::rename(&from.data, &to.data).map_err(disk(&to.data))?;
        self.sync_folder("whole")?;
        remove(&from);
        index.entries.insert(root, (partial.bytes(), Entry::Whole));
        Ok(())
    }
}

/// Calls `found` for every file of a kind that is named by a root.
fn scan(
    folder: &Path,
    kind: &str,
    mut found: impl FnMut(Hash32, &Path) -> Result<(), BlobError>,
) -> Result<(), BlobError> {
    for entry in fs::read_dir(folder).map_err(disk(folder))? {
        let path = entry.map_err(disk(folder))?.path();
        let root = path.file_stem().and_then(|stem| stem.to_str()).and_then(parse_root);
        if let Some(root) = root.filter(|_| path.extension().is_some_and(|e| e == kind)) {
            found(root, &path)?;
        }
    }
    Ok(())
}

/// Removes what a crash left: files of no blob, and those that were never moved to their place.
fn sweep(folder: &Path, is_here: impl Fn(Hash32) -> bool, kinds: &[&str]) -> Result<(), BlobError> {
    for entry in fs::read_dir(folder).map_err(disk(folder))? {
        let path = entry.map_err(disk(folder))?.path();
        let root = path.file_stem().and_then(|stem| stem.to_str()).and_then(parse_root);
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let keep = root.is_some_and(&is_here) && (kinds.contains(&kind) || kind == "data");
        if root.is_some() && !keep {
            fs::remove_file(&path).map_err(disk(&path))?;
        }
    }
    Ok(())
}

fn parse_root(name: &str) -> Option<Hash32> {
    let digits: Vec<u8> = name.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (name.len() == 64).then_some(()).and(bytes.try_into().ok()).map(Hash32)
}

/// Writes a file beside its place, syncs it, lets `before` run, and moves it there.
fn write_synced(
    temporary: &Path,
    bytes: &[u8],
    to: &Path,
    before: impl FnOnce(&Path) -> Result<(), BlobError>,
) -> Result<(), BlobError> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(disk(temporary))?;
    before(&temporary.with_extension("newer"))?;
    fs::rename(temporary, to).map_err(disk(to))
}

/// Removes files that may not be there; one that stays is overwritten or removed later.
fn remove(files: &Files) {
    for path in [&files.data, &files.tree, &files.map] {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a file of a blob could not be removed");
        }
    }
}
