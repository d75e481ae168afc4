//! Small files of encrypted secrets: a header that is readable, a ciphertext that is bound to it, and a checksum that
//! tells a damaged file from a wrong key. Files appear whole, are readable by their owner only, and never replace
//! another file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use podl_chain_spec::Hash32;
use podl_rpc::types::HexBytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// No secret file is larger; more is not read.
const FILE_BYTES_LIMIT: u64 = 1 << 20;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a file of that name.
    #[error("{path} exists already and is never overwritten; choose another name")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not of this kind, or bytes of it changed.
    #[error("{path} is damaged or not a {what}: {reason}; restore it from a backup")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file is whole, but the key does not open it.
    #[error("the key does not open {path}")]
    WrongKey {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("no random numbers from the system: {0}")]
    Random(String),
}

/// A file: the caller's header, and a secret sealed to a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed<H> {
    /// Readable by anyone, bound to the secret.
    pub header: H,
    nonce: HexBytes,
    secret: HexBytes,
    checksum: Hash32,
}

/// 32 bytes that open a file.
pub type SecretKey = Zeroizing<[u8; 32]>;

/// Random bytes from the system.
///
/// # Errors
/// [`SealedError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], SealedError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| SealedError::Random(e.to_string()))?;
    Ok(bytes)
}

impl<H: Serialize + DeserializeOwned> Sealed<H> {
    /// Seals `secret` under `header`.
    ///
    /// # Errors
    /// [`SealedError::Random`].
    pub fn seal(header: H, key: &SecretKey, secret: &[u8]) -> Result<Self, SealedError> {
        let nonce: [u8; 24] = random()?;
        let bound = bound_bytes(&header);
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        let payload = Payload { msg: secret, aad: &bound };
        // The cipher only fails beyond 256 GiB.
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|e| SealedError::Random(e.to_string()))?;
        let mut file = Self { header, nonce: HexBytes(nonce.into()), secret: HexBytes(sealed), checksum: Hash32::ZERO };
        file.checksum = file.expected_checksum();
        Ok(file)
    }

    fn expected_checksum(&self) -> Hash32 {
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 secret file checksum");
        let bound = bound_bytes(&self.header);
        for part in [&bound, &self.nonce.0, &self.secret.0] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Hash32(*hasher.finalize().as_bytes())
    }

    /// Opens the secret of a file that [`Sealed::read`] found whole.
    ///
    /// # Errors
    /// [`SealedError::WrongKey`]; `path` is for the message.
    pub fn open(&self, key: &SecretKey, path: &Path) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let wrong = || SealedError::WrongKey { path: path.into() };
        let nonce: [u8; 24] = self.nonce.0.as_slice().try_into().map_err(|_| wrong())?;
        let bound = bound_bytes(&self.header);
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        let payload = Payload { msg: &self.secret.0, aad: &bound };
        cipher.decrypt(&XNonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| wrong())
    }

    /// Reads a file and checks that it is whole. `what` names the kind of file in messages.
    ///
    /// # Errors
    /// [`SealedError::Io`] or [`SealedError::Damaged`].
    pub fn read(path: &Path, what: &'static str) -> Result<Self, SealedError> {
        let damaged = |reason: String| SealedError::Damaged { path: path.into(), what, reason };
        let file: Self = serde_json::from_slice(&read_bounded(path)?).map_err(|e| damaged(e.to_string()))?;
        let expected = file.expected_checksum();
        if file.checksum != expected {
            return Err(damaged("its checksum does not match".into()));
        }
        Ok(file)
    }

    /// Writes a new file, whole or not at all, for its owner only.
    ///
    /// # Errors
    /// [`SealedError::Exists`] or [`SealedError::Io`].
    pub fn create(&self, path: &Path) -> Result<(), SealedError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| SealedError::Io { path: path.into(), source: io::Error::other(e) })?;
        text.push(b'\n');
        create_private(path, &text)
    }
}

/// Canonical bytes of the header.
fn bound_bytes<H: Serialize>(header: &H) -> Vec<u8> {
    serde_json::to_vec(header).unwrap_or_default()
}

/// The bytes of a small file.
///
/// # Errors
/// [`SealedError::Io`].
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, SealedError> {
    let refuse = |source| SealedError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(refuse)?.take(FILE_BYTES_LIMIT).read_to_end(&mut bytes).map_err(refuse)?;
    Ok(bytes)
}

/// Writes a new file with mode 0600: first under another name, synced, then linked to its own, which fails when it is
/// taken. Missing folders are made.
///
/// # Errors
/// [`SealedError::Exists`] or [`SealedError::Io`].
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), SealedError> {
    let refuse = |source| SealedError::Io { path: path.into(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(refuse)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(refuse)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(refuse)?;
    file.persist_noclobber(path).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => SealedError::Exists { path: path.into() },
        _ => refuse(e.error),
    })?;
    // The name must survive a power cut too.
    File::open(folder).and_then(|f| f.sync_all()).map_err(refuse)
}
