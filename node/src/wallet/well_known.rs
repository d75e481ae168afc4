//! Accounts of development chains: their keys follow from their names, so that everybody has them. They let a test
//! network start without handing keys around, and must never hold anything of worth.

use ed25519_dalek::SigningKey;

use super::{Wallet, WalletError};

/// Key-derivation context; never changes, since genesis blocks name the accounts.
const CONTEXT: &str = "podl v1 well-known development account";

/// All names, in the order of the shipped specifications.
pub const NAMES: [&str; 9] =
    ["seat-0", "seat-1", "seat-2", "seat-3", "seat-4", "seat-5", "seat-6", "publisher", "faucet"];

/// Whether the well-known accounts may be used on a chain of this name.
pub fn is_development_chain(name: &str) -> bool {
    name == "dev" || name.starts_with("testnet")
}

/// The well-known account of that name.
///
/// # Errors
/// [`WalletError::UnknownDevelopmentAccount`].
pub fn wallet(name: &str) -> Result<Wallet, WalletError> {
    if !NAMES.contains(&name) {
        return Err(WalletError::UnknownDevelopmentAccount { got: name.into(), known: NAMES.join(", ") });
    }
    Ok(Wallet::new(SigningKey::from_bytes(&blake3::derive_key(CONTEXT, name.as_bytes()))))
}

/// The same for use on a chain, with a loud warning.
///
/// # Errors
/// As [`wallet`], and [`WalletError::NotADevelopmentChain`].
pub fn open(name: &str, chain: &str) -> Result<Wallet, WalletError> {
    let wallet = wallet(name)?;
    if !is_development_chain(chain) {
        return Err(WalletError::NotADevelopmentChain { name: name.into(), chain: chain.into() });
    }
    tracing::warn!(
        account = %wallet.account(),
        "dev:{name} is a WELL-KNOWN key: anyone can spend what it owns. For development chains only"
    );
    Ok(wallet)
}
