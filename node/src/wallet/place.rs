//! Which wallet a name means, and where wallets lie.

use std::path::{Path, PathBuf};

use podl_chain_spec::AccountId;

use super::{Keystore, PassphraseSource, Wallet, WalletError, open, well_known};

/// Environment variable that moves the wallet folder.
const FOLDER_VARIABLE: &str = "PODL_WALLET_DIR";

/// A wallet as it is named on the command line: `dev:NAME`, a path, or the name of a file in the wallet folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalletRef {
    /// A well-known development account.
    Development(String),
    /// A file.
    File(PathBuf),
}

impl WalletRef {
    /// What `text` names, with bare names in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Self {
        match text.strip_prefix("dev:") {
            Some(name) => Self::Development(name.into()),
            None if text.contains(['/', '.']) => Self::File(text.into()),
            None => Self::File(folder.join(format!("{text}.json"))),
        }
    }

    /// Opens it, for use on the chain of that name.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn open(&self, chain: &str, passphrase: &PassphraseSource) -> Result<Wallet, WalletError> {
        match self {
            Self::Development(name) => well_known::open(name, chain),
            Self::File(path) => {
                let header = Keystore::read(path)?;
                open(path, &passphrase.get(&format!("Passphrase of {}: ", header.address))?)
            }
        }
    }

    /// Its account, which needs no passphrase.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn account(&self) -> Result<AccountId, WalletError> {
        match self {
            Self::Development(name) => well_known::wallet(name).map(|wallet| wallet.account()),
            Self::File(path) => Ok(Keystore::read(path)?.address),
        }
    }
}

/// Where wallets lie unless a path is given: `$PODL_WALLET_DIR`, or `podl/wallets` below the user's data folder.
pub fn wallet_folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE).map_or_else(|| crate::paths::user_data_folder().join("wallets"), PathBuf::from)
}

/// The wallet files of a folder with what can be read of them, by name. A missing folder is an empty one.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> std::io::Result<Vec<(PathBuf, Result<Keystore, WalletError>)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    Ok(paths.into_iter().map(|path| (path.clone(), Keystore::read(&path))).collect())
}
