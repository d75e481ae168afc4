//! Starting a network.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use libp2p::core::transport::TransportError;
use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::mpsc;

use crate::blob::fetch::Fetcher;
use crate::blob::serve;
use crate::blob::store::BlobStore;
use crate::command::MAX_COMMANDS;
use crate::config::NetworkConfig;
use crate::driver::{Driver, Parts, peer_of};
use crate::error::NetworkError;
use crate::event::NetworkEvent;
use crate::gossip::Topics;
use crate::handle::{NetworkHandle, Shared};
use crate::protocol::Protocol;
use crate::swarm::{self, Behaviour};

/// Events handed to the owner ahead of its reading; more wait inside, bounded in bytes.
const EVENTS_AHEAD: usize = 16;

/// What the network needs of its owner.
#[derive(Clone, Debug)]
pub struct NetworkPorts {
    /// Where blobs are fetched into and served from.
    pub blobs: Arc<BlobStore>,
}

/// The libp2p network of a node.
#[derive(Debug)]
pub struct Network;

impl Network {
    /// Starts a network in a task of the current tokio runtime. The receiver gives its events; while it is not read,
    /// messages and requests beyond the configured bytes are dropped, and news of peers wait.
    ///
    /// # Errors
    /// [`NetworkError`] when it cannot listen, in words for an operator, or when the configuration does not make sense.
    pub async fn start(
        config: NetworkConfig,
        ports: NetworkPorts,
    ) -> Result<(NetworkHandle, mpsc::Receiver<NetworkEvent>), NetworkError> {
        let topics = Topics::new(&config);
        let bootnodes = with_peers(&config.bootnodes)?;
        let mut swarm = swarm::build(&config, &topics)?;
        for address in &config.listen {
            listen(&mut swarm, address.clone())?;
        }
        for (peer, relay) in with_peers(&config.nat.relays)? {
            listen(&mut swarm, relay.with(Part::P2p(peer)).with(Part::P2pCircuit))?;
        }
        for address in &config.external {
            swarm.add_external_address(address.clone());
        }
        let (commands, incoming) = mpsc::channel(MAX_COMMANDS);
        let (events, receiver) = mpsc::channel(EVENTS_AHEAD);
        let blob_requests = config.blobs.serve.then(|| serve::start(Arc::clone(&ports.blobs), &config.blobs));
        let shared = Shared {
            peer_id: config.peer_id(),
            topics: topics.clone(),
            request_bytes: Protocol::ALL.map(|protocol| config.limits_of(protocol).request_bytes),
            fetcher: Fetcher::new(ports.blobs, config.blobs.clone()),
        };
        let handle = NetworkHandle { commands, shared: Arc::new(shared) };
        let parts = Parts { topics, events, commands: incoming, handle: handle.clone(), blob_requests };
        let driver = Driver::new(&config, swarm, bootnodes, parts);
        tokio::spawn(driver.run());
        Ok((handle, receiver))
    }
}

/// Addresses of peers, split from their peer ids.
fn with_peers(addresses: &[Multiaddr]) -> Result<Vec<(PeerId, Multiaddr)>, NetworkError> {
    let split = |address: &Multiaddr| {
        let reason = "must end in /p2p/PEER-ID";
        let peer = peer_of(address).ok_or_else(|| NetworkError::Address { address: address.clone(), reason })?;
        let mut plain = address.clone();
        plain.pop();
        Ok((peer, plain))
    };
    addresses.iter().map(split).collect()
}

fn listen(swarm: &mut Swarm<Behaviour>, address: Multiaddr) -> Result<(), NetworkError> {
    if is_in_use(&address) {
        return Err(NetworkError::AddressInUse { address });
    }
    match swarm.listen_on(address.clone()) {
        Ok(_) => Ok(()),
        Err(TransportError::MultiaddrNotSupported(address)) => {
            let reason = "is no address to listen on: use /ip4/ADDRESS/tcp/PORT or /ip4/ADDRESS/udp/PORT/quic-v1";
            Err(NetworkError::Address { address, reason })
        }
        Err(TransportError::Other(error)) => Err(NetworkError::Listen { address, reason: error.to_string() }),
    }
}

/// Whether another program listens there. libp2p shares ports, and would share them with another node too: each would
/// then get some of the other's connections. A plain socket does not share.
fn is_in_use(address: &Multiaddr) -> bool {
    if address.iter().any(|part| part == Part::P2pCircuit) {
        // A place at a relay: the socket is the relay's.
        return false;
    }
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Part::Ip4(ip)) => IpAddr::V4(ip),
        Some(Part::Ip6(ip)) => IpAddr::V6(ip),
        _ => return false,
    };
    let tried = match parts.next() {
        Some(Part::Tcp(port)) => TcpListener::bind((ip, port)).map(drop),
        Some(Part::Udp(port)) => UdpSocket::bind((ip, port)).map(drop),
        _ => return false,
    };
    tried.is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse)
}
