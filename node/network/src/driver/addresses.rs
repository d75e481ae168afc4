//! What peers say of where they listen.

use libp2p::kad::{self, store::MemoryStore};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// Addresses taken from one peer's identity at most.
const MAX_ADDRESSES: usize = 8;

/// Those of a peer's addresses that are worth keeping.
pub(crate) fn worth_keeping(named: &[Multiaddr], remote_is_local: bool) -> Vec<Multiaddr> {
    named.iter().filter(|address| is_dialable(address, remote_is_local)).take(MAX_ADDRESSES).cloned().collect()
}

/// Passes a peer's addresses to the routing table, in place of those that it named before: a peer may name others as often
/// as it likes, and the table would keep them all.
pub(crate) fn replace(kad: &mut kad::Behaviour<MemoryStore>, peer: &PeerId, before: &[Multiaddr], now: &[Multiaddr]) {
    // The new ones first: without an address a peer leaves the table.
    for address in now {
        kad.add_address(peer, address.clone());
    }
    for address in before.iter().filter(|address| !now.contains(address)) {
        kad.remove_address(peer, address);
    }
}

/// Whether another node's own address is worth keeping: loopback only from peers that are there themselves.
fn is_dialable(address: &Multiaddr, remote_is_local: bool) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && (remote_is_local || !ip.is_loopback()),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && (remote_is_local || !ip.is_loopback()),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_change_all_the_time_do_not_pile_up() {
        let (own, peer) = (PeerId::random(), PeerId::random());
        let mut kad = kad::Behaviour::new(own, MemoryStore::new(own));
        let mut before = Vec::new();
        for round in 1..=50 {
            let named: Vec<Multiaddr> =
                (1..=20).map(|port| format!("/ip4/192.0.2.{round}/tcp/{port}").parse().unwrap()).collect();
            let now = worth_keeping(&named, false);
            replace(&mut kad, &peer, &before, &now);
            before = now;
        }
        let bucket = kad.kbucket(peer).unwrap();
        let known: Vec<&Multiaddr> = bucket.iter().flat_map(|entry| entry.node.value.iter()).collect();
        assert_eq!(known.len(), MAX_ADDRESSES);
        assert!(known.iter().all(|address| address.to_string().starts_with("/ip4/192.0.2.50/")));
    }

    #[test]
    fn loopback_is_kept_of_local_peers_only() {
        let named = ["/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/192.0.2.1/tcp/1", "/memory/1"];
        let named: Vec<Multiaddr> = named.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(worth_keeping(&named, false), [named[2].clone()]);
        assert_eq!(worth_keeping(&named, true), [named[0].clone(), named[2].clone()]);
    }
}
