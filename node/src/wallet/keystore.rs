//! The wallet file: an ed25519 secret under argon2id and XChaCha20-Poly1305.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use ed25519_dalek::SigningKey;
use podl_chain_spec::AccountId;
use podl_rpc::types::HexBytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Passphrase, Wallet, WalletError};
use crate::sealed::{self, Sealed, SealedError, SecretKey};

/// What the file is called in messages.
const WHAT: &str = "podl wallet";
/// Version of the file's form.
const VERSION: u16 = 1;
/// Upper limits on what opening a file may cost: a file is the one thing of a wallet that a stranger may have made.
const MEMORY_KIB_LIMIT: u32 = 1 << 20;
const PASSES_LIMIT: u32 = 64;
const LANES_LIMIT: u32 = 16;

/// What one guess of the passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdfCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for KdfCost {
    /// 64 MiB and 3 passes: the second recommendation of RFC 9106 on one lane; about a fifth of a second.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

/// The readable part of a wallet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keystore {
    /// Form of the file.
    pub version: u16,
    /// Whose key it holds.
    pub address: AccountId,
    /// `argon2id`.
    pub kdf: String,
    /// Its cost.
    pub cost: KdfCost,
    /// Its salt.
    pub salt: HexBytes,
    /// `xchacha20poly1305`.
    pub cipher: String,
}

impl Keystore {
    /// The readable part of a file, once the file is found to be whole.
    ///
    /// # Errors
    /// [`WalletError::File`].
    pub fn read(path: &Path) -> Result<Self, WalletError> {
        Ok(read(path)?.header)
    }
}

fn read(path: &Path) -> Result<Sealed<Keystore>, WalletError> {
    let file = Sealed::<Keystore>::read(path, WHAT)?;
    let header = &file.header;
    let form = (header.version, header.kdf.as_str(), header.cipher.as_str());
    if form != (VERSION, "argon2id", "xchacha20poly1305") {
        let reason = format!("version {} with {} and {} is not known to this program", form.0, form.1, form.2);
        return Err(SealedError::Damaged { path: path.into(), what: WHAT, reason }.into());
    }
    Ok(file)
}

fn derive(path: &Path, header: &Keystore, passphrase: &Passphrase) -> Result<SecretKey, WalletError> {
    let cost = header.cost;
    let limits = [
        ("memory (KiB)", cost.memory_kib, MEMORY_KIB_LIMIT),
        ("passes", cost.passes, PASSES_LIMIT),
        ("lanes", cost.lanes, LANES_LIMIT),
    ];
    if let Some((what, got, limit)) = limits.into_iter().find(|(_, got, limit)| got > limit) {
        return Err(WalletError::Costly { path: path.into(), what, got, limit });
    }
    let damaged = |e: argon2::Error| SealedError::Damaged { path: path.into(), what: WHAT, reason: e.to_string() };
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(damaged)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &header.salt.0, key.as_mut_slice())
        .map_err(damaged)?;
    Ok(key)
}

/// Writes a wallet to a new file.
///
/// # Errors
/// [`WalletError::File`], also when the file exists.
pub fn create(path: &Path, wallet: &Wallet, passphrase: &Passphrase, cost: KdfCost) -> Result<(), WalletError> {
    let header = Keystore {
        version: VERSION,
        address: wallet.account(),
        kdf: "argon2id".into(),
        cost,
        salt: HexBytes(sealed::random::<16>()?.into()),
        cipher: "xchacha20poly1305".into(),
    };
    let key = derive(path, &header, passphrase)?;
    let secret = Zeroizing::new(wallet.key().to_bytes());
    Ok(Sealed::seal(header, &key, secret.as_slice())?.create(path)?)
}

/// Opens a wallet.
///
/// # Errors
/// [`WalletError::WrongPassphrase`] when the file is whole, [`WalletError::File`] when it is not.
pub fn open(path: &Path, passphrase: &Passphrase) -> Result<Wallet, WalletError> {
    let file = read(path)?;
    let key = derive(path, &file.header, passphrase)?;
    let secret = match file.open(&key, path) {
        Err(SealedError::WrongKey { path }) => return Err(WalletError::WrongPassphrase { path }),
        other => other?,
    };
    let damaged = |reason: String| SealedError::Damaged { path: path.into(), what: WHAT, reason };
    let secret: Zeroizing<[u8; 32]> = match secret.as_slice().try_into() {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(_) => return Err(damaged(format!("a secret of {} bytes, expected 32", secret.len())).into()),
    };
    let wallet = Wallet::new(SigningKey::from_bytes(&secret));
    let (got, expected) = (wallet.account(), file.header.address);
    if got == expected { Ok(wallet) } else { Err(WalletError::OtherAccount { path: path.into(), expected, got }) }
}

/// Copies a wallet to a new file and opens the copy, so that a backup that cannot be opened is noticed now.
///
/// # Errors
/// As [`open`] for the wallet, then for the copy; [`SealedError::Exists`] when there is a file already.
pub fn backup(path: &Path, copy: &Path, passphrase: &Passphrase) -> Result<AccountId, WalletError> {
    let wallet = open(path, passphrase)?;
    sealed::create_private(copy, &sealed::read_bounded(path)?)?;
    let (expected, got) = (wallet.account(), open(copy, passphrase)?.account());
    if got == expected { Ok(got) } else { Err(WalletError::OtherAccount { path: copy.into(), expected, got }) }
}

/// Brings a backup back: the same as [`backup`] in the other direction.
///
/// # Errors
/// As [`backup`].
pub fn restore(copy: &Path, path: &Path, passphrase: &Passphrase) -> Result<AccountId, WalletError> {
    backup(copy, path, passphrase)
}
