//! What the network tells its owner.

use std::time::Duration;

use libp2p::request_response::{InboundRequestId, ResponseChannel};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use crate::command::{Answer, Command};
use crate::error::NetworkError;
use crate::gossip::GossipId;
use crate::protocol::Protocol;

/// Something that happened on the network.
#[derive(Debug)]
pub enum NetworkEvent {
    /// The node listens on one more address.
    Listening(Multiaddr),
    /// A peer of this chain is connected; told once however many connections it has.
    PeerConnected {
        /// Who.
        peer: PeerId,
        /// Where, as this node sees it.
        address: Multiaddr,
        /// Whether this node opened the connection.
        outbound: bool,
    },
    /// The last connection of a peer that was told as connected is gone.
    PeerDisconnected {
        /// Who.
        peer: PeerId,
    },
    /// A message on one of the topics; it is passed on only after the verdict [`Accept`](Verdict::Accept).
    Gossip(GossipMessage),
    /// A peer asks something.
    Request(InboundRequest),
    /// A peer was refused because it is on another chain.
    WrongChain {
        /// Who, where the handshake got so far.
        peer: Option<PeerId>,
        /// Where.
        address: Multiaddr,
        /// Its chain in words.
        theirs: String,
    },
    /// A peer was banned.
    Banned {
        /// Who.
        peer: PeerId,
        /// For what.
        why: String,
        /// For how long.
        length: Duration,
    },
}

/// A gossiped message that waits for the owner's verdict, to be given by
/// [`NetworkHandle::report`](crate::NetworkHandle::report).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipMessage {
    /// Name of the topic, without the chain's prefix.
    pub topic: String,
    /// Who passed it on: not necessarily its author, but to blame if it is invalid.
    pub peer: PeerId,
    /// Hash of topic and payload.
    pub id: GossipId,
    /// The payload, within the topic's limit.
    pub bytes: Vec<u8>,
}

/// The owner's word on a gossiped message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid: pass it on.
    Accept,
    /// Not wanted, but nobody's fault: early, late, known already.
    Ignore,
    /// No honest node would have passed it on: the peer is penalised.
    Reject,
}

/// A request that waits for an answer. Dropping it refuses.
#[derive(Debug)]
pub struct InboundRequest {
    /// Who asks.
    pub peer: PeerId,
    /// In which protocol.
    pub protocol: Protocol,
    /// The request, within the protocol's limit.
    pub bytes: Vec<u8>,
    /// Where the answer goes.
    pub reply: ReplyHandle,
}

/// Where the answer to one request goes. Dropping it refuses the request.
#[derive(Debug)]
pub struct ReplyHandle {
    pub(crate) peer: PeerId,
    pub(crate) protocol: Protocol,
    pub(crate) request: InboundRequestId,
    pub(crate) channel: ResponseChannel<Vec<u8>>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl ReplyHandle {
    /// Answers; never waits. An answer that comes after the peer's timeout is dropped, as is one to a peer that has not
    /// taken in those before.
    ///
    /// # Errors
    /// [`NetworkError::Busy`] and [`NetworkError::Closed`].
    pub fn send(self, bytes: Vec<u8>) -> Result<(), NetworkError> {
        let Self { peer, protocol, request, channel, commands } = self;
        crate::command::post(&commands, Command::Respond(Answer { peer, protocol, request, channel, bytes }))
    }

    /// Whether the peer still waits.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }
}
