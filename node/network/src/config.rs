//! What a network is started with, and the reasons for the numbers in it.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use podl_chain_spec::Hash32;

use crate::protocol::{Protocol, ProtocolLimits};

/// Bytes that a gossiped message may carry besides its payload: signature, key, author, topic.
pub(crate) const GOSSIP_OVERHEAD_BYTES: usize = 1024;

/// A gossip topic of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name without the chain's prefix, e.g. `votes`.
    pub name: String,
    /// Most bytes of a message on it. Larger ones are refused while they are read and count against their sender.
    pub limit_bytes: usize,
}

/// Bounds on what strangers can make a node spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: u32,
    /// Connections that others opened: fewer than all, so that strangers cannot take every place (eclipse).
    pub inbound_connections: u32,
    /// Connections with one peer: one for each transport, and one more for two that crossed.
    pub connections_per_peer: u32,
    /// Inbound connections from one address, and all of one /64 network of IPv6. Loopback is exempt, where a whole test
    /// network lives on one.
    pub connections_per_ip: u32,
    /// Peers to look for through the routing table while there are fewer.
    pub peer_target: usize,
    /// Gossiped messages a second that are taken from one peer in the long run; more are dropped.
    pub gossip_per_s: u32,
    /// Gossiped messages that are taken from one peer at once: an interval's votes and commitments come in bursts.
    pub gossip_burst: u32,
    /// Beyond this many times a rate, of gossip or of requests, a peer is punished and not only ignored. Far more than one:
    /// an honest node passes on what several floods pour into it, each within its rate.
    pub flood_factor: u32,
    /// Bytes of gossip and requests that wait for the application; more are dropped, the first to lose are new ones.
    pub waiting_bytes: usize,
    /// Bytes of gossip that wait for the owner's verdict, whether it has read them or not; more are dropped.
    pub unjudged_bytes: usize,
    /// Bytes of answers that wait for one peer to take them in; more are refused. One answer always goes out.
    pub answer_bytes_per_peer: usize,
    /// How long a peer that misbehaved stays banned.
    pub ban_for: Duration,
    /// How long a fresh connection may take to say which chain it is on.
    pub identify_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 96,
            inbound_connections: 64,
            connections_per_peer: 3,
            connections_per_ip: 8,
            peer_target: 8,
            gossip_per_s: 200,
            gossip_burst: 2_000,
            flood_factor: 10,
            waiting_bytes: 32 << 20,
            unjudged_bytes: 128 << 20,
            answer_bytes_per_peer: 8 << 20,
            ban_for: Duration::from_secs(600),
            identify_within: Duration::from_secs(10),
        }
    }
}

/// Reaching nodes behind home routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatConfig {
    /// Ask others whether this node can be reached (AutoNAT), and open direct paths through relays (DCUtR).
    pub enabled: bool,
    /// Carry connections of others, within the relay's default limits, and answer their AutoNAT probes.
    pub serve: bool,
    /// Relays to be reachable through, each with its peer id.
    pub relays: Vec<Multiaddr>,
}

/// How blobs are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobConfig {
    /// Answer requests for blobs from the store. When false they come out as
    /// [`NetworkEvent::Request`](crate::NetworkEvent::Request) and the caller answers.
    pub serve: bool,
    /// Bytes a second sent to all peers together; 0 is unlimited.
    pub serve_bytes_per_s: u64,
    /// Bytes a second fetched from all peers together; 0 is unlimited.
    pub fetch_bytes_per_s: u64,
    /// A piece that takes longer is asked of somebody else.
    pub piece_timeout: Duration,
    /// A fetch that has received nothing valid for this long fails; what it has stays for the next try.
    pub idle_timeout: Duration,
    /// A fetch that stays below this in the long run fails too: whoever alone has a blob must not hold one of the few
    /// places for fetches with a piece now and then. 0 is any speed.
    pub least_bytes_per_s: u64,
}

impl Default for BlobConfig {
    fn default() -> Self {
        Self {
            serve: true,
            serve_bytes_per_s: 0,
            fetch_bytes_per_s: 0,
            piece_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            // A tenth of a slow home line.
            least_bytes_per_s: 16 << 10,
        }
    }
}

/// What a network is started with.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Genesis hash. Its first 8 bytes are in every topic and protocol name and in the handshake.
    pub chain: Hash32,
    /// Identity of the node on the network; not an account.
    pub keypair: Keypair,
    /// Shown to peers, e.g. `podl/0.1.0`.
    pub agent: String,
    /// Where to listen, e.g. `/ip4/0.0.0.0/tcp/4710` and `/ip4/0.0.0.0/udp/4710/quic-v1`.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach this node, when it is behind a forwarded port.
    pub external: Vec<Multiaddr>,
    /// Peers to stay connected with, each address ending in `/p2p/PEER-ID`.
    pub bootnodes: Vec<Multiaddr>,
    /// Find peers on the local network. Nothing may depend on it.
    pub mdns: bool,
    /// Topics to join.
    pub topics: Vec<TopicConfig>,
    /// Protocols whose requests this node answers; peers are told that it does not speak the others.
    pub serves: Vec<Protocol>,
    /// Limits of the sync protocol.
    pub sync: ProtocolLimits,
    /// Limits of the pool protocol.
    pub pool: ProtocolLimits,
    /// Bounds on what strangers can make the node spend.
    pub limits: Limits,
    /// Home routers.
    pub nat: NatConfig,
    /// Blobs.
    pub blobs: BlobConfig,
}

impl NetworkConfig {
    /// A network that listens nowhere, knows nobody and has no topics: a starting point.
    pub fn new(chain: Hash32, keypair: Keypair) -> Self {
        Self {
            chain,
            keypair,
            agent: concat!("podl/", env!("CARGO_PKG_VERSION")).into(),
            listen: Vec::new(),
            external: Vec::new(),
            bootnodes: Vec::new(),
            mdns: false,
            topics: Vec::new(),
            serves: Protocol::ALL.to_vec(),
            sync: ProtocolLimits::default(),
            pool: ProtocolLimits::default(),
            limits: Limits::default(),
            nat: NatConfig::default(),
            blobs: BlobConfig::default(),
        }
    }

    /// Peer id that others know this node by.
    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    pub(crate) fn limits_of(&self, protocol: Protocol) -> ProtocolLimits {
        match protocol {
            Protocol::Sync => self.sync,
            Protocol::Pool => self.pool,
            Protocol::Blob => crate::blob::protocol::LIMITS,
        }
    }
}

/// The chain as it stands in names: the first 8 bytes of the genesis hash, in hex.
pub fn chain_tag(chain: &Hash32) -> String {
    chain.as_bytes()[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// A node identity from 32 secret bytes, as a key file holds them.
///
/// # Errors
/// Never for 32 bytes of today's ed25519; kept because the library may refuse.
pub fn keypair_from_seed(mut seed: [u8; 32]) -> Result<Keypair, crate::NetworkError> {
    Keypair::ed25519_from_bytes(&mut seed).map_err(|e| crate::NetworkError::Identity(e.to_string()))
}
