//! How the owner steers the network.

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use podl_chain_spec::Hash32;
use tokio::sync::{mpsc, oneshot};

use crate::blob::fetch::Fetcher;
use crate::blob::store::BlobStore;
use crate::command::{Command, post};
use crate::error::{DialError, FetchError, NetworkError, RequestError};
use crate::event::Verdict;
use crate::gossip::{GossipId, Topics};
use crate::peers::Misbehaviour;
use crate::protocol::Protocol;

/// A connected peer of this chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Where, as this node sees it.
    pub address: Multiaddr,
    /// Program and version that it names; at most 64 printable characters, which may be anything.
    pub agent: String,
    /// Whether this node opened the connection.
    pub outbound: bool,
    /// Since it is connected.
    pub connected: Duration,
    /// Points for misbehaviour now; a peer is banned at 100.
    pub points: u32,
}

pub(crate) struct Shared {
    pub(crate) peer_id: PeerId,
    pub(crate) topics: Topics,
    pub(crate) request_bytes: [usize; Protocol::ALL.len()],
    pub(crate) fetcher: Fetcher,
}

/// A cheap handle on a running network. The network stops when [`shutdown`](Self::shutdown) is called, or when every
/// handle and the event receiver are gone.
#[derive(Clone)]
pub struct NetworkHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for NetworkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkHandle").field("peer_id", &self.shared.peer_id).finish_non_exhaustive()
    }
}

impl NetworkHandle {
    /// Peer id of this node.
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer_id
    }

    /// Sends a message to the peers of a topic; never waits. A node without peers sends it to nobody, and a message that
    /// went round already is not sent again: neither is an error.
    ///
    /// # Errors
    /// [`NetworkError::UnknownTopic`], [`NetworkError::TooLong`], [`NetworkError::Busy`], [`NetworkError::Closed`].
    pub fn publish(&self, topic: &str, bytes: Vec<u8>) -> Result<(), NetworkError> {
        let known = self.shared.topics.get(topic);
        let (ident, limit) = known.ok_or_else(|| NetworkError::UnknownTopic(topic.into()))?;
        if bytes.len() > *limit {
            return Err(NetworkError::TooLong { topic: topic.into(), got: bytes.len(), limit: *limit });
        }
        post(&self.commands, Command::Publish { topic: ident.clone(), bytes })
    }

    /// Gives the verdict on a gossiped message; never waits. A message without a verdict is forgotten after some minutes.
    ///
    /// # Errors
    /// [`NetworkError::Busy`], [`NetworkError::Closed`].
    pub fn report(&self, id: GossipId, peer: PeerId, verdict: Verdict) -> Result<(), NetworkError> {
        post(&self.commands, Command::Report { id, peer, verdict })
    }

    /// Asks a peer, connecting first where its address is known, and waits for the answer.
    ///
    /// # Errors
    /// [`RequestError`]; the peer is penalised where it is to blame.
    pub async fn request(&self, peer: PeerId, protocol: Protocol, bytes: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let limit = self.shared.request_bytes[protocol as usize];
        if bytes.len() > limit {
            return Err(RequestError::TooLong { got: bytes.len(), limit });
        }
        let (answer, answered) = oneshot::channel();
        post(&self.commands, Command::Request { peer, protocol, bytes, answer }).map_err(|e| match e {
            NetworkError::Busy(_) => RequestError::Busy,
            _ => RequestError::Closed,
        })?;
        answered.await.map_err(|_| RequestError::Closed)?
    }

    /// Connects to an address, with or without `/p2p/PEER-ID` at its end, and waits until the peer has shown that it is
    /// on this chain.
    ///
    /// # Errors
    /// [`DialError`], in words for an operator.
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, DialError> {
        let (answer, answered) = oneshot::channel();
        post(&self.commands, Command::Dial { address, answer }).map_err(|e| match e {
            NetworkError::Busy(_) => DialError::Unreachable(e.to_string()),
            _ => DialError::Closed,
        })?;
        answered.await.map_err(|_| DialError::Closed)?
    }

    /// Connected peers of this chain.
    ///
    /// # Errors
    /// [`NetworkError::Busy`], [`NetworkError::Closed`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, NetworkError> {
        let (answer, answered) = oneshot::channel();
        post(&self.commands, Command::Peers { answer })?;
        answered.await.map_err(|_| NetworkError::Closed)
    }

    /// Counts a misbehaviour against a peer; enough of them ban it.
    ///
    /// # Errors
    /// [`NetworkError::Busy`], [`NetworkError::Closed`].
    pub fn penalise(&self, peer: PeerId, what: Misbehaviour, why: impl Into<String>) -> Result<(), NetworkError> {
        post(&self.commands, Command::Penalise { peer, what, why: why.into() })
    }

    /// Closes the connections of a peer without blame.
    ///
    /// # Errors
    /// [`NetworkError::Busy`], [`NetworkError::Closed`].
    pub fn disconnect(&self, peer: PeerId) -> Result<(), NetworkError> {
        post(&self.commands, Command::Disconnect { peer })
    }

    /// The blob store that this network serves from and fetches into.
    pub fn blobs(&self) -> &Arc<BlobStore> {
        self.shared.fetcher.store()
    }

    /// Fetches a blob of known root and length into the store, from the given peers and all connected ones at once, each
    /// chunk checked against the root. Returns at once when it is here; a fetch of the same blob that is under way is
    /// joined; one that was broken off goes on where it stopped.
    ///
    /// # Errors
    /// [`FetchError`]; peers that lied or stalled have been penalised.
    pub async fn fetch(&self, root: Hash32, bytes: u64, providers: &[PeerId]) -> Result<(), FetchError> {
        self.shared.fetcher.fetch(self, root, bytes, providers).await
    }

    /// Closes all connections and stops; returns when that is done, within two seconds.
    pub async fn shutdown(&self) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Shutdown { done }).await.is_ok() {
            // An error means that the network stopped by itself meanwhile.
            let _stopped = is_done.await;
        }
    }
}
