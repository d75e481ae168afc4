//! Callers that wait for a connection to be made and its peer's chain to be known.

use std::collections::{BTreeMap, HashMap};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::error::DialError;

type Answer = oneshot::Sender<Result<PeerId, DialError>>;

#[derive(Debug, Default)]
pub(crate) struct Dials {
    connecting: HashMap<ConnectionId, (Multiaddr, Answer)>,
    connected: BTreeMap<PeerId, Vec<(Multiaddr, Answer)>>,
}

/// Answers a caller; one that has gone away needs none.
fn answer(to: Answer, result: Result<PeerId, DialError>) {
    let _gone = to.send(result);
}

impl Dials {
    pub(crate) fn begin(&mut self, connection: ConnectionId, address: Multiaddr, to: Answer) {
        self.connecting.insert(connection, (address, to));
    }

    pub(crate) fn established(&mut self, connection: ConnectionId, peer: PeerId, confirmed: bool) {
        if let Some((address, to)) = self.connecting.remove(&connection) {
            if confirmed {
                answer(to, Ok(peer));
            } else {
                self.connected.entry(peer).or_default().push((address, to));
            }
        }
    }

    pub(crate) fn failed(&mut self, connection: ConnectionId, error: DialError) {
        if let Some((_, to)) = self.connecting.remove(&connection) {
            answer(to, Err(error));
        }
    }

    pub(crate) fn confirmed(&mut self, peer: PeerId) {
        for (_, to) in self.connected.remove(&peer).unwrap_or_default() {
            answer(to, Ok(peer));
        }
    }

    pub(crate) fn wrong_chain(&mut self, peer: PeerId, theirs: &str, ours: &str) {
        for (address, to) in self.connected.remove(&peer).unwrap_or_default() {
            answer(to, Err(DialError::WrongChain { address, theirs: theirs.into(), ours: ours.into() }));
        }
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        for (_, to) in self.connected.remove(&peer).unwrap_or_default() {
            answer(to, Err(DialError::Unreachable("the peer closed the connection".into())));
        }
    }
}
