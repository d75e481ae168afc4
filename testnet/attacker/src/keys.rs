//! Keys that everybody has, and keys made up: accounts of development chains, strangers' accounts, peer identities.

use anyhow::Context;
use ed25519_dalek::SigningKey;
use podl_chain_spec::Hash32;
use podl_network::{Keypair, keypair_from_seed};

/// Key derivation of the well-known accounts; genesis blocks name what comes of it, so that it never changes.
const WELL_KNOWN: &str = "podl v1 well-known development account";
const MADE_UP: &str = "podl v1 attacker";

/// The well-known account of a development chain, such as `seat-3`.
pub(crate) fn well_known(name: &str) -> SigningKey {
    SigningKey::from_bytes(&blake3::derive_key(WELL_KNOWN, name.as_bytes()))
}

/// 32 bytes that follow from what they are for and a number: an attack is the same each time.
pub(crate) fn made_up(what: &str, number: u64) -> Hash32 {
    Hash32(blake3::derive_key(MADE_UP, &[what.as_bytes(), &number.to_be_bytes()].concat()))
}

/// An account that owns nothing.
pub(crate) fn account(number: u64) -> SigningKey {
    SigningKey::from_bytes(&made_up("account", number).0)
}

/// The identity of a peer.
pub(crate) fn peer(number: u64) -> anyhow::Result<Keypair> {
    keypair_from_seed(made_up("peer", number).0).context("a peer key")
}

/// Of `tried` identities those with the lowest peer ids, lowest first.
pub(crate) fn lowest_peers(count: usize, tried: u64) -> anyhow::Result<Vec<Keypair>> {
    let mut keys = (0..tried)
        .map(|number| {
            let key = keypair_from_seed(made_up("low peer", number).0).context("a peer key")?;
            Ok((key.public().to_peer_id(), key))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    keys.sort_by_key(|(id, _)| *id);
    keys.truncate(count);
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// The identity with the highest peer id of `tried`: others come before it wherever peers stand in order.
pub(crate) fn highest_peer(tried: u64) -> anyhow::Result<Keypair> {
    let mut keys = lowest_peers(usize::MAX, tried)?;
    keys.pop().context("no identity was tried")
}

#[cfg(test)]
mod tests {
    use super::*;
    use podl_chain_spec::ChainSpec;
    use podl_consensus::signed::account_of;

    #[test]
    fn well_known_keys_are_those_of_the_development_chains_seats() {
        let spec = ChainSpec::load("dev").unwrap();
        for (number, seat) in spec.genesis.seats.iter().enumerate() {
            assert_eq!(account_of(&well_known(&format!("seat-{number}"))), *seat);
        }
    }

    #[test]
    fn ground_peer_ids_are_low() {
        let low = lowest_peers(3, 500).unwrap();
        let ids: Vec<_> = low.iter().map(|key| key.public().to_peer_id()).collect();
        assert!(ids.is_sorted() && ids.len() == 3);
        let high = highest_peer(500).unwrap().public().to_peer_id();
        let others = (0..50).map(|n| peer(n).unwrap().public().to_peer_id());
        let (below, above): (Vec<_>, Vec<_>) = others.partition(|id| *id < ids[2]);
        assert!(below.len() < above.len() && above.iter().filter(|id| **id > high).count() < 3);
    }
}
