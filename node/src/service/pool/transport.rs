//! How a miner reaches its pool over the network, and who a peer is to the pool.

use libp2p::identity::PublicKey;
use libp2p::{Multiaddr, PeerId};
use podl_chain_spec::Hash32;
use podl_consensus::types::BlobRef;
use podl_network::{BlobError, BlobStore, FetchError, NetworkHandle, Protocol, RequestError};
use podl_pool::drivers::{PoolTransport, TransportError};
use podl_pool::types::MinerId;
use tokio::runtime::Handle;

/// Multihash code of an identity that holds the key itself, as ed25519 peer ids do.
const IDENTITY: u64 = 0;

/// The miner that a peer is: its ed25519 key, which its peer id holds. `None` for other kinds of keys.
pub fn miner_id(peer: &PeerId) -> Option<MinerId> {
    let hash = peer.as_ref();
    let key = (hash.code() == IDENTITY).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok()).flatten()?;
    Some(MinerId(Hash32(key.try_into_ed25519().ok()?.to_bytes())))
}

/// A pool's manager over the network. Calls block, so they must not come from an async worker.
pub struct NetworkTransport {
    /// Where the network's futures run.
    pub runtime: Handle,
    /// The miner's network.
    pub network: NetworkHandle,
    /// The manager; a connection to anybody else is no connection to the pool.
    pub manager: PeerId,
    /// Where it is.
    pub address: Multiaddr,
}

impl PoolTransport for NetworkTransport {
    fn request(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let words = |error: &dyn std::fmt::Display| TransportError(error.to_string());
        self.runtime.block_on(async {
            match self.network.request(self.manager, Protocol::Pool, bytes.clone()).await {
                Err(RequestError::Unreachable(_)) => {
                    self.network.dial(self.address.clone()).await.map_err(|e| words(&e))?;
                    let again = self.network.request(self.manager, Protocol::Pool, bytes).await;
                    again.map_err(|e| words(&e))
                }
                answer => answer.map_err(|e| words(&e)),
            }
        })
    }

    fn fetch_blob(&self, blob: BlobRef) -> Result<Vec<u8>, TransportError> {
        let fetch = || self.runtime.block_on(self.network.fetch(blob.root, blob.bytes, &[self.manager]));
        let fetched = match fetch() {
            // What earlier tasks left here can be had again.
            Err(FetchError::Store(BlobError::Quota { .. })) => {
                forget_all(self.network.blobs());
                fetch()
            }
            fetched => fetched,
        };
        fetched.map_err(|e| TransportError(e.to_string()))?;
        self.network.blobs().get(&blob.root).map_err(|e| TransportError(e.to_string()))
    }
}

fn forget_all(blobs: &BlobStore) {
    let held = blobs.list().into_iter().chain(blobs.list_partial());
    for (root, _) in held {
        if let Err(error) = blobs.delete(&root) {
            tracing::warn!(%error, blob = %root, "cannot make room");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path(), 1_000_000).unwrap();
        let blob = |byte| vec![byte; 600_000];
        store.insert(&blob(1)).unwrap();
        assert!(matches!(store.insert(&blob(2)), Err(BlobError::Quota { .. })));
        forget_all(&store);
        let root = store.insert(&blob(2)).unwrap();
        assert_eq!(store.list(), [(root, 600_000)]);
    }

    #[test]
    fn a_miner_is_the_key_of_its_peer_id() {
        let pair = podl_network::keypair_from_seed([7; 32]).unwrap();
        let key = pair.public().try_into_ed25519().unwrap();
        assert_eq!(miner_id(&pair.public().to_peer_id()), Some(MinerId(Hash32(key.to_bytes()))));
        // A peer id that is only a hash names no key.
        assert_eq!(miner_id(&PeerId::random()), None);
    }
}
