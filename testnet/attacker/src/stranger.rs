//! One peer of an attacker: an identity, connections, and a conduct.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use podl_chain_spec::ChainSpec;
use podl_consensus::codec;
use podl_engine::wire::{Gossip, SYNC_REQUEST_BYTES, SyncRequest, SyncResponse, Topic, sync_response_bytes};
use podl_network::{
    BlobStore, Keypair, Multiaddr, Network, NetworkConfig, NetworkError, NetworkEvent, NetworkHandle, NetworkPorts,
    PeerId, Protocol, ProtocolLimits, TopicConfig,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::conduct::{Answer, Conduct};

/// How long a node may take to take a connection. One that is full or has banned the peer never does.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// A request without an answer is given up after this.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes beyond what honest nodes take, so that the attacker's own limits never stop it.
const BEYOND: usize = 1 << 20;
/// How long the network may be busy with what was sent before.
const BUSY: Duration = Duration::from_millis(20);
/// Requests held open at most: a node closes them itself in time.
const HELD: usize = 4096;

/// A peer.
#[derive(Debug)]
pub(crate) struct Stranger {
    handle: NetworkHandle,
    serving: JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It holds a handle, which keeps the network running.
        self.serving.abort();
    }
}

impl Stranger {
    /// Starts a peer that nobody knows yet.
    ///
    /// # Errors
    /// When the network does not start.
    pub(crate) async fn start(
        spec: &Arc<ChainSpec>,
        keypair: Keypair,
        folder: &Path,
        conduct: Arc<dyn Conduct>,
    ) -> anyhow::Result<Self> {
        let blobs = Arc::new(BlobStore::open(folder, 1 << 20).context("a blob store for a peer")?);
        let (handle, events) = Network::start(config(spec, keypair), NetworkPorts { blobs }).await?;
        let serving = tokio::spawn(serve(events, handle.clone(), spec.clone(), conduct));
        Ok(Self { handle, serving })
    }

    /// Connects; whether the node took it.
    pub(crate) async fn dial(&self, address: &Multiaddr) -> bool {
        matches!(tokio::time::timeout(DIAL_LIMIT, self.handle.dial(address.clone())).await, Ok(Ok(_)))
    }

    /// Closes the connections with a peer.
    pub(crate) fn leave(&self, peer: PeerId) {
        // A network that is busy or gone has nothing to close.
        let _ = self.handle.disconnect(peer);
    }

    /// How many nodes it is connected with.
    pub(crate) async fn connections(&self) -> usize {
        self.handle.peers().await.map_or(0, |peers| peers.len())
    }

    /// Gossips a message.
    pub(crate) async fn gossip(&self, message: &Gossip) {
        self.gossip_bytes(message.topic(), message.encode()).await;
    }

    /// Gossips bytes.
    pub(crate) async fn gossip_bytes(&self, topic: Topic, bytes: Vec<u8>) {
        while let Err(NetworkError::Busy(_)) = self.handle.publish(topic.name(), bytes.clone()) {
            tokio::time::sleep(BUSY).await;
        }
    }

    /// Asks a node; `None` when it did not answer in time, or refused.
    pub(crate) async fn ask(&self, peer: PeerId, request: &SyncRequest) -> Option<SyncResponse> {
        let bytes = self.ask_bytes(peer, Protocol::Sync, codec::encode(request)).await?;
        codec::decode(&bytes, usize::MAX).ok()
    }

    /// Asks with whatever bytes.
    pub(crate) async fn ask_bytes(&self, peer: PeerId, protocol: Protocol, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let asked = self.handle.request(peer, protocol, bytes);
        tokio::time::timeout(ANSWER_LIMIT, asked).await.ok()?.ok()
    }

    /// A handle for a task of its own.
    pub(crate) fn handle(&self) -> NetworkHandle {
        self.handle.clone()
    }
}

/// As a node's, without limits on what others send, and above theirs in what is sent.
fn config(spec: &ChainSpec, keypair: Keypair) -> NetworkConfig {
    let mut config = NetworkConfig::new(spec.genesis_hash(), keypair);
    let topic = |topic: Topic| TopicConfig { name: topic.name().into(), limit_bytes: topic.limit_bytes(spec) + BEYOND };
    config.topics = Topic::ALL.into_iter().map(topic).collect();
    config.sync = ProtocolLimits {
        request_bytes: SYNC_REQUEST_BYTES + BEYOND,
        response_bytes: sync_response_bytes(spec) + BEYOND,
        requests_per_s: 0,
        streams: 1024,
        ..ProtocolLimits::default()
    };
    config.pool = ProtocolLimits { request_bytes: 2 * BEYOND, ..config.sync };
    config.limits.gossip_per_s = 0;
    config.limits.ban_for = Duration::ZERO;
    config.limits.peer_target = 0;
    config
}

async fn serve(
    mut events: mpsc::Receiver<NetworkEvent>,
    handle: NetworkHandle,
    spec: Arc<ChainSpec>,
    conduct: Arc<dyn Conduct>,
) {
    let mut held = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::Gossip(message) => {
                let topic = Topic::from_name(&message.topic);
                let heard = topic.and_then(|topic| Gossip::decode(topic, &message.bytes, &spec).ok());
                for said in heard.iter().flat_map(|gossip| conduct.hear(gossip)) {
                    // What the network has no room for is not said.
                    let _ = handle.publish(said.topic().name(), said.encode());
                }
            }
            NetworkEvent::Request(request) if request.protocol == Protocol::Sync => {
                let asked: Option<SyncRequest> = codec::decode(&request.bytes, usize::MAX).ok();
                let bytes = match asked.map_or(Answer::Refuse, |asked| conduct.answer(&asked)) {
                    Answer::Say(response) => codec::encode(&*response),
                    Answer::Bytes(bytes) => bytes,
                    Answer::Hold => {
                        if held.len() < HELD {
                            held.push(request.reply);
                        }
                        continue;
                    }
                    Answer::Refuse => continue,
                };
                // A node that no longer waits has nothing to hear.
                let _ = request.reply.send(bytes);
            }
            _ => {}
        }
    }
}
