//! Where a manager keeps artefacts until they are committed, revealed, or no longer among the best, and where managers and
//! miners keep states of training until they are audited.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podl_chain_spec::Hash32;
use podl_consensus::hash::blob_root;

/// Artefacts, or states, by root. Implementations need not be safe against concurrent use; the driver holds one.
pub trait ArtefactStore: Send {
    /// Keeps bytes of that root.
    ///
    /// # Errors
    /// What the system says.
    fn put(&mut self, root: Hash32, bytes: Arc<Vec<u8>>) -> std::io::Result<()>;

    /// What was kept.
    fn get(&self, root: &Hash32) -> Option<Arc<Vec<u8>>>;

    /// Bytes kept.
    fn bytes(&self) -> u64;

    /// Drops all others.
    fn retain(&mut self, wanted: &BTreeSet<Hash32>);
}

/// Artefacts in memory.
#[derive(Default)]
pub struct MemoryStore {
    kept: BTreeMap<Hash32, Arc<Vec<u8>>>,
}

impl ArtefactStore for MemoryStore {
    fn put(&mut self, root: Hash32, bytes: Arc<Vec<u8>>) -> std::io::Result<()> {
        self.kept.insert(root, bytes);
        Ok(())
    }

    fn get(&self, root: &Hash32) -> Option<Arc<Vec<u8>>> {
        self.kept.get(root).cloned()
    }

    fn bytes(&self) -> u64 {
        self.kept.values().map(|b| b.len() as u64).sum()
    }

    fn retain(&mut self, wanted: &BTreeSet<Hash32>) {
        self.kept.retain(|root, _| wanted.contains(root));
    }
}

/// Bytes in memory and in a folder, so that they outlive the process: a restarted manager can still reveal what it committed
/// to, a restarted miner still shows the state that an audit wants.
pub struct DirStore {
    folder: PathBuf,
    memory: MemoryStore,
}

impl DirStore {
    /// What is kept, as it was written: the oldest first.
    pub fn oldest_first(&self) -> Vec<Hash32> {
        let written = |root: &Hash32| std::fs::metadata(self.path(root)).and_then(|file| file.modified()).ok();
        let mut roots: Vec<Hash32> = self.memory.kept.keys().copied().collect();
        roots.sort_by_cached_key(written);
        roots
    }

    /// Opens a folder, made if it is not there, and reads what it holds. Files whose bytes are not of the root that
    /// they are named by are dropped: a write that was cut short.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut memory = MemoryStore::default();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            // What is no file was not written here, and is nobody's loss.
            if !path.is_file() {
                continue;
            }
            let root = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<Hash32>().ok());
            let bytes = std::fs::read(&path)?;
            match root {
                Some(root) if blob_root(&bytes) == root => memory.put(root, Arc::new(bytes))?,
                _ => std::fs::remove_file(&path)?,
            }
        }
        Ok(Self { folder: folder.to_owned(), memory })
    }

    fn path(&self, root: &Hash32) -> PathBuf {
        self.folder.join(root.to_string())
    }
}

impl ArtefactStore for DirStore {
    fn put(&mut self, root: Hash32, bytes: Arc<Vec<u8>>) -> std::io::Result<()> {
        if self.memory.kept.contains_key(&root) {
            return Ok(());
        }
        let path = self.path(&root);
        // A folder that cannot be written to costs what a restart loses, nothing before.
        self.memory.put(root, bytes.clone())?;
        std::fs::write(path, bytes.as_slice())
    }

    fn get(&self, root: &Hash32) -> Option<Arc<Vec<u8>>> {
        self.memory.get(root)
    }

    fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    fn retain(&mut self, wanted: &BTreeSet<Hash32>) {
        let dropped: Vec<Hash32> = self.memory.kept.keys().filter(|r| !wanted.contains(r)).copied().collect();
        for root in dropped {
            // A file that stays is found again at the next start.
            let _ = std::fs::remove_file(self.path(&root));
        }
        self.memory.retain(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_back_what_was_written_and_drops_what_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (blob_root(b"one"), blob_root(b"two"));
        let mut store = DirStore::open(folder.path()).unwrap();
        store.put(one, Arc::new(b"one".to_vec())).unwrap();
        store.put(two, Arc::new(b"two".to_vec())).unwrap();
        std::fs::write(folder.path().join(two.to_string()), b"tw").unwrap();
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        let mut store = DirStore::open(folder.path()).unwrap();
        assert_eq!(store.get(&one).unwrap().as_slice(), b"one");
        assert!(store.get(&two).is_none());
        store.retain(&BTreeSet::new());
        assert_eq!((store.bytes(), std::fs::read_dir(folder.path()).unwrap().count()), (0, 1), "but for the folder");
    }
}
