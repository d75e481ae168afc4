//! Starting a network.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

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
    /// The receiver ends when the network has ended, for whatever reason, and every call on the handle then fails with
    /// [`NetworkError::Closed`] or its like: an owner that did not shut it down must take that for a failure.
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
        let relays = with_peers(&config.nat.relays)?;
        let relays = relays.into_iter().map(|(peer, relay)| relay.with(Part::P2p(peer)).with(Part::P2pCircuit));
        let listeners = config.listen.iter().cloned().chain(relays);
        let listeners = listeners.map(|address| listen(&mut swarm, address)).collect::<Result<_, _>>()?;
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
        let handle_of_driver = handle.clone();
        let parts =
            Parts { topics, bootnodes, listeners, events, commands: incoming, handle: handle_of_driver, blob_requests };
        tokio::spawn(watch(tokio::spawn(Driver::new(&config, swarm, parts).run())));
        Ok((handle, receiver))
    }
}

/// Says in the log when the driver ended by a bug. Its owner sees it too: the task owned the other ends of the handle and
/// of the events.
async fn watch(driver: JoinHandle<()>) {
    if let Err(error) = driver.await
        && error.is_panic()
    {
        tracing::error!(%error, "the network has ended by a bug; the node must be restarted");
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

fn listen(swarm: &mut Swarm<Behaviour>, address: Multiaddr) -> Result<(ListenerId, Multiaddr), NetworkError> {
    if is_in_use(&address) {
        return Err(NetworkError::AddressInUse { address });
    }
    match swarm.listen_on(address.clone()) {
        Ok(listener) => Ok((listener, address)),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;
    use podl_chain_spec::Hash32;

    use super::*;
    use crate::command::Command;
    use crate::error::{DialError, FetchError, RequestError};

    /// Far above what any step takes on a busy machine.
    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_owns_a_network_that_ended_by_a_bug_finds_out() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Arc::new(BlobStore::open(folder.path(), 1 << 20).unwrap());
        let mut config = NetworkConfig::new(Hash32([1; 32]), Keypair::generate_ed25519());
        config.topics = vec![crate::TopicConfig { name: "votes".into(), limit_bytes: 512 }];
        let (handle, mut events) = Network::start(config, NetworkPorts { blobs }).await.unwrap();
        // An address that never answers, so that the call is still waiting when the task ends.
        let (waiting, nowhere) = (handle.clone(), "/ip4/192.0.2.1/tcp/9".parse::<Multiaddr>().unwrap());
        let (address, peer) = (nowhere.clone(), PeerId::random());
        let waiting = tokio::spawn(async move { waiting.dial(address).await });
        let fetching = handle.clone();
        let fetching = tokio::spawn(async move { fetching.fetch(Hash32([2; 32]), 9, &[]).await });
        handle.peers().await.unwrap();
        handle.commands.send(Command::Panic).await.unwrap();
        let ended = async { while events.recv().await.is_some() {} };
        tokio::time::timeout(SOON, ended).await.expect("the events end");
        let within = |what| tokio::time::timeout(SOON, what);
        assert!(within(waiting).await.unwrap().unwrap().is_err(), "a call that waits is let go");
        assert!(matches!(tokio::time::timeout(SOON, fetching).await.unwrap().unwrap(), Err(FetchError::Closed)));
        assert!(matches!(handle.publish("votes", vec![1]), Err(NetworkError::Closed)));
        assert!(matches!(handle.peers().await, Err(NetworkError::Closed)));
        assert_eq!(handle.dial(nowhere).await, Err(DialError::Closed));
        assert_eq!(handle.request(peer, Protocol::Sync, vec![1]).await, Err(RequestError::Closed));
        handle.shutdown().await;
    }
}
