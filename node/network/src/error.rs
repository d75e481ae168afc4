//! What goes wrong, and who is to blame.

use std::io;

use libp2p::{Multiaddr, PeerId, TransportError, swarm};

/// Failures of starting or steering the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The user's: somebody else listens there.
    #[error("address {address} is in use already: stop the other program or choose another port")]
    AddressInUse {
        /// Where.
        address: Multiaddr,
    },
    /// The user's or the system's: it cannot be listened there.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// The user's: an address that lacks what it must have.
    #[error("address {address} {reason}")]
    Address {
        /// Which.
        address: Multiaddr,
        /// What is wrong.
        reason: &'static str,
    },
    /// The node key cannot be used.
    #[error("the node key cannot be used: {0}")]
    Identity(String),
    /// A part of the network could not be set up.
    #[error("the network could not be set up: {0}")]
    Setup(String),
    /// Nobody is to blame: more commands than the network takes at a time.
    #[error("the network is busy: {0} commands wait already")]
    Busy(usize),
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
    /// The caller's: a topic that was not in the configuration.
    #[error("topic {0} was not joined")]
    UnknownTopic(String),
    /// The caller's: a message beyond its topic's limit.
    #[error("a message of {got} bytes for topic {topic}, at most {limit} are allowed")]
    TooLong {
        /// Which topic.
        topic: String,
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// Failures of connecting to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody answered there, or something that is not a podl node.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The peer is on another chain.
    #[error("the peer at {address} is on another chain ({theirs}); this node is on {ours}")]
    WrongChain {
        /// Where.
        address: Multiaddr,
        /// Its chain, as far as it could be seen.
        theirs: String,
        /// This node's chain.
        ours: String,
    },
    /// This node has banned the peer.
    #[error("peer {0} is banned here")]
    Banned(PeerId),
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}

impl DialError {
    /// A dial that failed, in one line: every transport that was tried wraps what the next one says, and the innermost
    /// is the system's word.
    pub(crate) fn unreachable(error: &swarm::DialError) -> Self {
        let swarm::DialError::Transport(tries) = error else { return Self::Unreachable(error.to_string()) };
        let mut reasons = Vec::new();
        for (_, error) in tries {
            // Displayed itself, an error of a transport is empty.
            let text = match error {
                TransportError::Other(error) => error.to_string(),
                unsupported => unsupported.to_string(),
            };
            // The last line is the innermost cause, and the end of it what the system says.
            let last = text.lines().next_back().unwrap_or_default().trim_start_matches(" - ");
            let reason = last.rsplit(": ").next().unwrap_or_default().to_owned();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        Self::Unreachable(reasons.join(", "))
    }
}

/// Failures of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer is not connected and could not be reached.
    #[error("peer {0} cannot be reached")]
    Unreachable(PeerId),
    /// No answer in time.
    #[error("peer {0} did not answer in time")]
    Timeout(PeerId),
    /// The connection broke, or the peer closed the stream without an answer: busy, or unwilling.
    #[error("peer {0} refused the request or went away")]
    Refused(PeerId),
    /// The peer does not speak this protocol.
    #[error("peer {0} does not speak this protocol")]
    Unsupported(PeerId),
    /// The peer's answer broke the protocol; it has been penalised.
    #[error("peer {peer} sent a bad answer: {reason}")]
    BadAnswer {
        /// Who.
        peer: PeerId,
        /// What was wrong.
        reason: String,
    },
    /// The caller's request is beyond the protocol's limit.
    #[error("a request of {got} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More commands than the network takes at a time.
    #[error("the network is busy")]
    Busy,
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}

/// Failures of the blob store.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk's.
    #[error("blob store at {path}: {source}")]
    Disk {
        /// Which file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The user's: the quota is full.
    #[error("the blob store holds {held} of {quota} bytes; {wanted} more do not fit: raise the quota")]
    Quota {
        /// Bytes held or reserved.
        held: u64,
        /// Bytes allowed.
        quota: u64,
        /// Bytes asked for.
        wanted: u64,
    },
    /// The blob is not here, or not whole.
    #[error("blob {0} is not here")]
    Missing(String),
    /// The disk's: the bytes are not those that were written. The blob has been dropped, to be fetched again.
    #[error("blob {0} was damaged on the disk and has been dropped")]
    Damaged(String),
    /// The caller's: a partial blob of the same root was begun with another length.
    #[error("blob {root} was begun with {begun} bytes, not {got}")]
    OtherLength {
        /// Which.
        root: String,
        /// Length begun with.
        begun: u64,
        /// Length given.
        got: u64,
    },
    /// A peer's: the bytes do not lead to the root.
    #[error("piece {piece} of blob {root} is not what its root says: {reason}")]
    BadPiece {
        /// Which blob.
        root: String,
        /// Which piece.
        piece: u32,
        /// What was wrong.
        reason: String,
    },
}

/// Failures of fetching a blob.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody reachable had the missing pieces for the configured time. What was fetched stays on disk.
    #[error("no peer gave more of blob {root} for {idle_s} s: {have} of {pieces} pieces are here")]
    NoProvider {
        /// Which blob.
        root: String,
        /// How long nothing came.
        idle_s: u64,
        /// Pieces here.
        have: u32,
        /// Pieces in all.
        pieces: u32,
    },
    /// Peers gave a piece now and then, too slowly to be worth a place among the fetches. What came stays on disk.
    #[error("blob {root} comes too slowly: {have} of {pieces} pieces after {elapsed_s} s")]
    TooSlow {
        /// Which blob.
        root: String,
        /// How long this fetch took.
        elapsed_s: u64,
        /// Pieces here.
        have: u32,
        /// Pieces in all.
        pieces: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] BlobError),
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_dial_is_told_in_one_line() {
        let refused = "Multiple dial errors occurred:\n - Connection refused (os error 111): Multiple dial errors \
                       occurred:\n - Connection refused (os error 111): Connection refused (os error 111)";
        let once = "Multiple dial errors occurred:\n - Connection refused (os error 111)";
        let tried = |text: &str| (Multiaddr::empty(), TransportError::Other(io::Error::other(text.to_owned())));
        let error = swarm::DialError::Transport(vec![tried(refused), tried(once), tried("Timeout has been reached")]);
        let told = DialError::unreachable(&error).to_string();
        assert_eq!(told, "cannot connect: Connection refused (os error 111), Timeout has been reached");
        assert!(!DialError::unreachable(&swarm::DialError::Aborted).to_string().contains('\n'));
    }
}
