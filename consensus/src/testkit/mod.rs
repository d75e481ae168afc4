//! Ready-made chains for tests and simulators: known keys, small specs, a work verifier whose artefacts name their own
//! score, and helpers that make valid votes, closings, candidates and tasks. Never part of a node.

mod harness;
mod work;

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Amount, ChainSpec, GenesisAccount, Hash32};

use crate::signed::account_of;
use crate::verified::Verified;

pub use harness::{Harness, Round};
pub use work::{Blobs, FakeVerifier, fake_artefact, fake_shard, golden_architecture, small_workload};

/// Takes a value for verified without a check: for what tests made themselves, and for what only a broken door would let in.
pub fn unchecked<T>(value: T) -> Verified<T> {
    Verified::trusted(value)
}

/// A signing key that depends on nothing but its number.
pub fn signing_key(number: u64) -> SigningKey {
    let mut hasher = blake3::Hasher::new_derive_key("podl testkit key");
    hasher.update(&number.to_le_bytes());
    SigningKey::from_bytes(hasher.finalize().as_bytes())
}

/// The account of [`signing_key`].
pub fn account(number: u64) -> AccountId {
    account_of(&signing_key(number))
}

/// Balance of every account of [`small_spec`].
pub const BALANCE: Amount = Amount(1_000_000_000);

/// The dev chain with `seats` first seats (accounts 0 to seats - 1) and `accounts` funded accounts in all.
///
/// # Panics
/// When the numbers make no valid specification.
pub fn small_spec(seats: u64, accounts: u64) -> ChainSpec {
    let mut spec = ChainSpec::load("dev").expect("the dev specification is valid");
    let balance = BALANCE;
    spec.name = "testkit".into();
    spec.seats.window = u8::try_from(seats).expect("few seats");
    spec.seats.min_seats = spec.seats.window.min(spec.seats.min_seats);
    spec.seats.unbond_intervals = 8;
    spec.tasks.open_timeout = 6;
    spec.filler.shard_images = 100;
    spec.genesis.seats = (0..seats).map(account).collect();
    spec.genesis.accounts = (0..accounts).map(|n| GenesisAccount { account: account(n), balance }).collect();
    spec.check().expect("a valid specification");
    spec
}

/// A hash that depends on nothing but its number, for salts and the like.
pub fn number_hash(number: u64) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key("podl testkit hash");
    hasher.update(&number.to_le_bytes());
    Hash32(*hasher.finalize().as_bytes())
}
