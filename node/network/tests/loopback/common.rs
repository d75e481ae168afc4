//! Nodes on loopback sockets for the tests of the network.

use std::sync::Arc;
use std::time::Duration;

use podl_chain_spec::Hash32;
use podl_network::{
    BlobStore, GossipMessage, InboundRequest, Keypair, Misbehaviour, Multiaddr, Network, NetworkConfig, NetworkEvent,
    NetworkHandle, NetworkPorts, PeerId, TopicConfig,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub const CHAIN: Hash32 = Hash32([0xaa; 32]);
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// Far above what any step takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub struct TestNode {
    pub handle: NetworkHandle,
    pub events: mpsc::Receiver<NetworkEvent>,
    pub addresses: Vec<Multiaddr>,
    pub folder: TempDir,
}

/// Logs to the test's output when `RUST_LOG` asks for it.
pub fn logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub fn config(chain: Hash32) -> NetworkConfig {
    let mut config = NetworkConfig::new(chain, Keypair::generate_ed25519());
    config.listen = vec![TCP.parse().unwrap(), QUIC.parse().unwrap()];
    config.topics = vec![
        TopicConfig { name: "votes".into(), limit_bytes: 512 },
        TopicConfig { name: "blocks".into(), limit_bytes: 3 << 20 },
    ];
    config
}

pub async fn start(config: NetworkConfig) -> TestNode {
    start_in(config, tempfile::tempdir().unwrap()).await
}

pub async fn start_in(config: NetworkConfig, folder: TempDir) -> TestNode {
    logs();
    let listeners = config.listen.len();
    let blobs = Arc::new(BlobStore::open(folder.path(), 1 << 30).unwrap());
    let (handle, mut events) = Network::start(config, NetworkPorts { blobs }).await.unwrap();
    let mut addresses = Vec::new();
    while addresses.len() < listeners {
        if let Some(NetworkEvent::Listening(address)) = events.recv().await {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(|a| a.to_string().contains("quic"));
    TestNode { handle, events, addresses, folder }
}

/// A node with the usual configuration that knows the given others.
pub async fn node(bootnodes: &[&TestNode]) -> TestNode {
    let mut config = config(CHAIN);
    config.bootnodes = bootnodes.iter().map(|n| n.tcp()).collect();
    start(config).await
}

impl TestNode {
    pub fn id(&self) -> PeerId {
        self.handle.peer_id()
    }

    pub fn tcp(&self) -> Multiaddr {
        self.addresses[0].clone().with_p2p(self.id()).unwrap()
    }

    pub fn quic(&self) -> Multiaddr {
        self.addresses[1].clone().with_p2p(self.id()).unwrap()
    }

    /// The first event that `pick` wants; others are dropped.
    pub async fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("no {what} in time"))
    }

    /// Whether `pick` wants an event that comes within a time.
    pub async fn sees<T>(&mut self, within: Duration, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> Option<T> {
        let found = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = pick(event) {
                    return Some(found);
                }
            }
            None
        };
        tokio::time::timeout(within, found).await.ok().flatten()
    }

    /// Makes the node refuse a peer from now on.
    pub fn ban(&self, peer: PeerId) {
        for _ in 0..2 {
            self.handle.penalise(peer, Misbehaviour::BadBlob, "as the test wants").unwrap();
        }
    }

    pub async fn connected(&mut self, peer: PeerId) {
        self.wait_for("connection", |e| match e {
            NetworkEvent::PeerConnected { peer: who, .. } if who == peer => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn gossip(&mut self) -> GossipMessage {
        self.wait_for("gossip", gossip).await
    }

    pub async fn request(&mut self) -> InboundRequest {
        self.wait_for("request", |e| match e {
            NetworkEvent::Request(request) => Some(request),
            _ => None,
        })
        .await
    }

    /// Waits until the peers of the topic are in the mesh: a beat after they have subscribed.
    pub async fn settle(&self, peers: usize) {
        let settled = async {
            while self.handle.peers().await.unwrap().len() < peers {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, settled).await.expect("peers in time");
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
}

pub fn gossip(event: NetworkEvent) -> Option<GossipMessage> {
    match event {
        NetworkEvent::Gossip(message) => Some(message),
        _ => None,
    }
}

pub fn banned(event: NetworkEvent) -> Option<(PeerId, String)> {
    match event {
        NetworkEvent::Banned { peer, why, .. } => Some((peer, why)),
        _ => None,
    }
}
