//! A node's data folder: whose it is while the node runs, and the identity kept in it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs4::FileExt;
use libp2p::identity::Keypair;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process works in it.
    #[error("{path} is in use by another podl node; stop that one, or choose another --data-dir")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The identity file is damaged.
    #[error("{path} does not hold a node key (64 hexadecimal digits); restore it, or remove it for a new identity")]
    NodeKey {
        /// The file.
        path: PathBuf,
    },
}

/// The data folder, held by this process until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The system releases the lock when the process ends, however it ends.
    _lock: File,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataDirError + '_ {
    move |source| DataDirError::Io { path: path.into(), source }
}

impl DataDir {
    /// Makes the folder if there is none, and takes it for this process.
    ///
    /// # Errors
    /// [`DataDirError`], in words for the operator.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        std::fs::create_dir_all(path).map_err(io_error(path))?;
        let file = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(io_error(&file))?;
        match FileExt::try_lock(&lock) {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(fs4::TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.into() }),
            Err(fs4::TryLockError::Error(source)) => Err(DataDirError::Io { path: file, source }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The node's identity on the network; made on the first run. It is not an account.
    ///
    /// # Errors
    /// [`DataDirError`] when the file cannot be used.
    pub fn node_key(&self) -> Result<Keypair, DataDirError> {
        let path = self.join("node-key");
        match std::fs::read_to_string(&path) {
            Ok(text) => parse_node_key(&text).ok_or(DataDirError::NodeKey { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make_node_key(&path),
            Err(source) => Err(DataDirError::Io { path, source }),
        }
    }

    fn make_node_key(&self, path: &Path) -> Result<Keypair, DataDirError> {
        let mut seed = zeroize::Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|e| io_error(path)(io::Error::other(e.to_string())))?;
        let text = zeroize::Zeroizing::new(hex::encode(*seed));
        // Temporary files are readable by their owner alone; the name appears only when the key is on disk.
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(io_error(path))?;
        writeln!(file, "{}", *text).and_then(|()| file.as_file().sync_all()).map_err(io_error(path))?;
        file.persist_noclobber(path).map_err(|e| io_error(path)(e.error))?;
        parse_node_key(&text).ok_or_else(|| DataDirError::NodeKey { path: path.into() })
    }
}

fn parse_node_key(text: &str) -> Option<Keypair> {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text.trim(), seed.as_mut_slice()).ok()?;
    podl_network::keypair_from_seed(*seed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_held_by_one_and_the_identity_stays() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse { .. })));
        let id = held.node_key().unwrap().public().to_peer_id();
        drop(held);
        let again = DataDir::open(dir.path()).unwrap();
        assert_eq!(again.node_key().unwrap().public().to_peer_id(), id);
        std::fs::write(again.join("node-key"), "zz").unwrap();
        assert!(matches!(again.node_key(), Err(DataDirError::NodeKey { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn the_identity_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        held.node_key().unwrap();
        let mode = std::fs::metadata(held.join("node-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
