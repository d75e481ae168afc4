//! Wallets: one ed25519 account in one encrypted file, and the well-known accounts of development chains.

mod keystore;
mod passphrase;
mod place;
pub mod well_known;

pub use keystore::{KdfCost, Keystore, backup, create, open, restore};
pub use passphrase::{Passphrase, PassphraseSource};
pub use place::{WalletRef, list, wallet_folder};

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use podl_chain_spec::AccountId;
use podl_consensus::signed::account_of;
use podl_consensus::types::{SignedTransaction, Transaction};

use crate::sealed::{self, SealedError};

/// Why a wallet cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] SealedError),
    /// The file is whole, the passphrase is another.
    #[error("wrong passphrase for {path}; the file itself is whole")]
    WrongPassphrase {
        /// Which file.
        path: PathBuf,
    },
    /// The file asks for more work than any wallet of ours.
    #[error("{path} asks for {got} of {what} to open it, at most {limit} are allowed")]
    Costly {
        /// Which file.
        path: PathBuf,
        /// Which number.
        what: &'static str,
        /// What it is.
        got: u32,
        /// Most allowed.
        limit: u32,
    },
    /// The secret inside is not that of the address outside.
    #[error("{path} says {expected}, but holds the key of {got}; restore it from a backup")]
    OtherAccount {
        /// Which file.
        path: PathBuf,
        /// Address in the readable part.
        expected: AccountId,
        /// Address of the key.
        got: AccountId,
    },
    /// No passphrase was given.
    #[error("{0}")]
    Passphrase(String),
    /// There is no such well-known account.
    #[error("there is no development account {got:?}; known are {known}")]
    UnknownDevelopmentAccount {
        /// What was asked for.
        got: String,
        /// All names.
        known: String,
    },
    /// A well-known account on a chain that is worth something.
    #[error(
        "dev:{name} is a key that everyone knows; it can be used on chains named dev or testnet… only, not on {chain:?}"
    )]
    NotADevelopmentChain {
        /// Which account.
        name: String,
        /// Name of the chain.
        chain: String,
    },
}

/// An unlocked account. The key is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Wallet {
    key: SigningKey,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wallet({})", self.account())
    }
}

impl Wallet {
    /// A wallet of that key.
    pub fn new(key: SigningKey) -> Self {
        Self { key }
    }

    /// A wallet of a fresh key.
    ///
    /// # Errors
    /// [`SealedError::Random`].
    pub fn generate() -> Result<Self, WalletError> {
        let secret = zeroize::Zeroizing::new(sealed::random::<32>()?);
        Ok(Self { key: SigningKey::from_bytes(&secret) })
    }

    /// Its account.
    pub fn account(&self) -> AccountId {
        account_of(&self.key)
    }

    /// Its key, to sign with.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Signs a transaction of this account.
    pub fn sign(&self, transaction: Transaction, chain: &podl_chain_spec::Hash32) -> SignedTransaction {
        SignedTransaction::new(transaction, chain, &self.key)
    }

    /// A key that only this wallet can derive, for files that belong to it.
    pub fn derive_file_key(&self, context: &'static str) -> sealed::SecretKey {
        let secret = zeroize::Zeroizing::new(self.key.to_bytes());
        sealed::SecretKey::new(blake3::derive_key(context, secret.as_slice()))
    }
}

#[cfg(test)]
mod tests;
