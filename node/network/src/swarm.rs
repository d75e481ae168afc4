//! The parts of libp2p that a node runs, put together.

use std::error::Error;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::kad::{self, store::MemoryStore};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm, SwarmBuilder, autonat, connection_limits, dcutr, dns, identify, mdns, noise, ping,
    relay, tcp, yamux,
};

use crate::config::{Limits, NetworkConfig, chain_tag};
use crate::error::NetworkError;
use crate::gate::Gate;
use crate::gossip::{self, Topics};
use crate::protocol::{self, Protocol};

/// A connection that nobody uses stays open this long: pool miners and sync peers are often silent for hours.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Half-open connections at most, each way.
const PENDING: u32 = 32;

/// All protocols of a node.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // First, so that no other part sees a connection that is refused.
    pub(crate) gate: Gate,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) gossip: gossip::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) sync: protocol::Behaviour,
    pub(crate) pool: protocol::Behaviour,
    pub(crate) blob: protocol::Behaviour,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) relay_client: relay::client::Behaviour,
    pub(crate) relay: Toggle<relay::Behaviour>,
    pub(crate) dcutr: Toggle<dcutr::Behaviour>,
    pub(crate) autonat_client: Toggle<autonat::v2::client::Behaviour>,
    pub(crate) autonat_server: Toggle<autonat::v2::server::Behaviour>,
}

impl Behaviour {
    pub(crate) fn requests(&mut self, protocol: Protocol) -> &mut protocol::Behaviour {
        match protocol {
            Protocol::Sync => &mut self.sync,
            Protocol::Pool => &mut self.pool,
            Protocol::Blob => &mut self.blob,
        }
    }

    fn new(
        config: &NetworkConfig,
        topics: &Topics,
        key: &Keypair,
        relay_client: relay::client::Behaviour,
    ) -> Result<Self, String> {
        let (tag, id) = (chain_tag(&config.chain), key.public().to_peer_id());
        let nat = &config.nat;
        Ok(Self {
            gate: Gate::new(config.limits.connections_per_ip),
            limits: connection_limits::Behaviour::new(connection_limits(&config.limits)),
            identify: identify::Behaviour::new(
                identify::Config::new(protocol_version(&tag), key.public())
                    .with_agent_version(config.agent.clone())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::new(ping::Config::new()),
            gossip: gossip::behaviour(config, topics, key)?,
            kad: kademlia(&tag, id)?,
            sync: protocol::behaviour(&tag, Protocol::Sync, config)?,
            pool: protocol::behaviour(&tag, Protocol::Pool, config)?,
            blob: protocol::behaviour(&tag, Protocol::Blob, config)?,
            mdns: local_discovery(config.mdns, id),
            relay_client,
            relay: Toggle::from(nat.serve.then(|| relay::Behaviour::new(id, relay::Config::default()))),
            dcutr: Toggle::from(nat.enabled.then(|| dcutr::Behaviour::new(id))),
            autonat_client: Toggle::from(nat.enabled.then(autonat::v2::client::Behaviour::default)),
            autonat_server: Toggle::from(nat.serve.then(autonat::v2::server::Behaviour::default)),
        })
    }
}

/// What identify tells: the chain, where QUIC has no place for it in the handshake.
pub(crate) fn protocol_version(tag: &str) -> String {
    format!("podl/1/{tag}")
}

fn connection_limits(limits: &Limits) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING))
        .with_max_pending_outgoing(Some(PENDING))
        .with_max_established(Some(limits.connections))
        .with_max_established_incoming(Some(limits.inbound_connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
}

fn kademlia(tag: &str, id: PeerId) -> Result<kad::Behaviour<MemoryStore>, String> {
    let name = StreamProtocol::try_from_owned(format!("/podl/{tag}/kad/1")).map_err(|e| e.to_string())?;
    let mut config = kad::Config::new(name);
    config
        .set_query_timeout(Duration::from_secs(20))
        .disjoint_query_paths(true)
        // Peers are found here, nothing is stored: records of strangers would only take memory.
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_periodic_bootstrap_interval(Some(Duration::from_secs(300)));
    let store = kad::store::MemoryStoreConfig { max_records: 0, max_provided_keys: 0, ..Default::default() };
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::with_config(id, store), config);
    kad.set_mode(Some(kad::Mode::Server));
    Ok(kad)
}

fn local_discovery(wanted: bool, id: PeerId) -> Toggle<mdns::tokio::Behaviour> {
    if !wanted {
        return Toggle::from(None);
    }
    match mdns::tokio::Behaviour::new(mdns::Config::default(), id) {
        Ok(mdns) => Toggle::from(Some(mdns)),
        Err(error) => {
            // Closed networks and containers often forbid multicast; bootnodes do without.
            tracing::warn!(%error, "no discovery on the local network");
            Toggle::from(None)
        }
    }
}

/// Noise with the chain in its prologue: the handshake of two chains cannot succeed.
fn secured(tag: &str) -> impl FnOnce(&Keypair) -> Result<noise::Config, noise::Error> + use<> {
    let prologue = protocol_version(tag).into_bytes();
    move |key| noise::Config::new(key).map(|config| config.with_prologue(prologue))
}

/// A swarm that does not listen yet.
pub(crate) fn build(config: &NetworkConfig, topics: &Topics) -> Result<Swarm<Behaviour>, NetworkError> {
    let tag = chain_tag(&config.chain);
    // The builder's type changes with every step, and differs between the two resolvers.
    macro_rules! finished {
        ($with_names:expr) => {
            $with_names
                .with_relay_client(secured(&tag), yamux::Config::default)
                .map_err(setup)?
                .with_behaviour(|key, relay_client| {
                    Behaviour::new(config, topics, key, relay_client).map_err(Box::<dyn Error + Send + Sync>::from)
                })
                .map_err(setup)?
                .with_swarm_config(|swarm| {
                    swarm.with_idle_connection_timeout(IDLE).with_max_negotiating_inbound_streams(64)
                })
                .build()
        };
    }
    let transports = || {
        SwarmBuilder::with_existing_identity(config.keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), secured(&tag), yamux::Config::default)
            .map(|builder| builder.with_quic())
            .map_err(setup)
    };
    match transports()?.with_dns() {
        Ok(builder) => Ok(finished!(builder)),
        Err(error) => {
            // A closed network may have no resolver, and needs no names.
            tracing::warn!(%error, "no name resolver: only addresses in numbers can be dialled");
            let none = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
            Ok(finished!(transports()?.with_dns_config(none.0, none.1)))
        }
    }
}

fn setup(error: impl std::fmt::Display) -> NetworkError {
    NetworkError::Setup(error.to_string())
}
