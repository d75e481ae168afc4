//! Accounts of development chains: their keys follow from their names, so that everybody has them. They let a test
//! network start without handing keys around, and must never hold anything of worth.

use ed25519_dalek::SigningKey;

use super::{Wallet, WalletError};

/// Key-derivation context; never changes, since genesis blocks name the accounts.
const CONTEXT: &str = "podl v1 well-known development account";

/// Names of the accounts that the shipped specifications fund, in their order.
pub const FUNDED: [&str; 9] =
    ["seat-0", "seat-1", "seat-2", "seat-3", "seat-4", "seat-5", "seat-6", "publisher", "faucet"];
/// Names of accounts that own nothing at first: where test networks have their pool miners paid.
pub const MINERS: [&str; 9] =
    ["miner-0", "miner-1", "miner-2", "miner-3", "miner-4", "miner-5", "miner-6", "miner-7", "miner-8"];

/// Whether the well-known accounts may be used on a chain of this name.
pub fn is_development_chain(name: &str) -> bool {
    name == "dev" || name.starts_with("testnet")
}

/// The well-known account of that name.
///
/// # Errors
/// [`WalletError::UnknownDevelopmentAccount`].
pub fn wallet(name: &str) -> Result<Wallet, WalletError> {
    if !FUNDED.contains(&name) && !MINERS.contains(&name) {
        let known = [FUNDED, MINERS].concat().join(", ");
        return Err(WalletError::UnknownDevelopmentAccount { got: name.into(), known });
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
