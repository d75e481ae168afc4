//! What the handle asks of the task that drives the swarm.

use libp2p::gossipsub::IdentTopic;
use libp2p::request_response::{InboundRequestId, ResponseChannel};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::error::{DialError, NetworkError, RequestError};
use crate::event::Verdict;
use crate::gossip::GossipId;
use crate::handle::PeerInfo;
use crate::peers::Misbehaviour;
use crate::protocol::Protocol;

/// Commands that wait at most. Each is one call of the owner or one answer to an event it was given.
pub(crate) const MAX_COMMANDS: usize = 4096;

#[derive(Debug)]
pub(crate) enum Command {
    Publish {
        topic: IdentTopic,
        bytes: Vec<u8>,
    },
    Report {
        id: GossipId,
        peer: PeerId,
        verdict: Verdict,
    },
    Request {
        peer: PeerId,
        protocol: Protocol,
        bytes: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>, RequestError>>,
    },
    Respond(Answer),
    Dial {
        address: Multiaddr,
        answer: oneshot::Sender<Result<PeerId, DialError>>,
    },
    Peers {
        answer: oneshot::Sender<Vec<PeerInfo>>,
    },
    Penalise {
        peer: PeerId,
        what: Misbehaviour,
        why: String,
    },
    Disconnect {
        peer: PeerId,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
    /// Ends the task as a bug would.
    #[cfg(test)]
    Panic,
}

/// The answer to a request of a peer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) peer: PeerId,
    pub(crate) protocol: Protocol,
    pub(crate) request: InboundRequestId,
    pub(crate) channel: ResponseChannel<Vec<u8>>,
    pub(crate) bytes: Vec<u8>,
}

/// Hands a command over without waiting.
pub(crate) fn post(commands: &mpsc::Sender<Command>, command: Command) -> Result<(), NetworkError> {
    commands.try_send(command).map_err(|e| match e {
        mpsc::error::TrySendError::Full(_) => NetworkError::Busy(MAX_COMMANDS),
        mpsc::error::TrySendError::Closed(_) => NetworkError::Closed,
    })
}
