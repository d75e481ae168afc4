//! The owner's commands.

use std::time::Instant;

use libp2p::gossipsub::{IdentTopic, MessageAcceptance, PublishError};
use libp2p::multiaddr;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::Driver;
use crate::command::{Answer, Command};
use crate::error::DialError;
use crate::event::Verdict;
use crate::gossip::GossipId;
use crate::handle::PeerInfo;
use crate::peers::Misbehaviour;
use crate::protocol::RequestBytes;

/// The peer id at the end of an address.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(multiaddr::Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

impl Driver {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, bytes } => self.publish(&topic, bytes),
            Command::Report { id, peer, verdict } => self.report(id, peer, verdict),
            Command::Request { peer, protocol, bytes, answer } => {
                let id = self.swarm.behaviour_mut().requests(protocol).send_request(&peer, RequestBytes::Good(bytes));
                self.requests.insert((protocol, id), answer);
            }
            Command::Respond(answer) => self.respond(answer),
            Command::Dial { address, answer } => self.dial(address, answer),
            Command::Peers { answer } => {
                // An error means that the caller no longer waits.
                let _gone = answer.send(self.peer_infos());
            }
            Command::Penalise { peer, what, why } => self.penalise(peer, what, &why),
            Command::Disconnect { peer } => {
                // An error means that it was not connected.
                let _gone = self.swarm.disconnect_peer_id(peer);
            }
            // The loop takes this one itself.
            Command::Shutdown { .. } => {}
            #[cfg(test)]
            Command::Panic => panic!("as the test wants"),
        }
    }

    fn publish(&mut self, topic: &IdentTopic, bytes: Vec<u8>) {
        match self.swarm.behaviour_mut().gossip.publish(topic.hash(), bytes) {
            // A lone node speaks to nobody, and what went round once needs no second round.
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => {}
            Err(error) => tracing::warn!(%topic, %error, "a message could not be published"),
        }
    }

    /// Passes an answer on. Dropping its channel refuses the request.
    fn respond(&mut self, answer: Answer) {
        let Answer { peer, protocol, request, channel, bytes } = answer;
        if !self.answers.begin((protocol, request), peer, bytes.len()) {
            return tracing::debug!(%peer, ?protocol, "answer dropped: the peer has many to take already");
        }
        if self.swarm.behaviour_mut().requests(protocol).send_response(channel, bytes).is_err() {
            self.answers.end(&(protocol, request));
            tracing::debug!(?protocol, "the peer no longer waits for the answer");
        }
    }

    fn report(&mut self, id: GossipId, peer: PeerId, verdict: Verdict) {
        if !self.verdicts.end(&id) {
            tracing::debug!(?verdict, "verdict on a message that does not wait for one");
            return;
        }
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        self.settle(id, peer, acceptance);
        if verdict == Verdict::Reject {
            self.penalise(peer, Misbehaviour::InvalidMessage, "rejected gossip");
        }
    }

    pub(super) fn settle(&mut self, id: GossipId, peer: PeerId, acceptance: MessageAcceptance) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if !gossip.report_message_validation_result(&id.message_id(), &peer, acceptance) {
            tracing::debug!("a verdict came after its message was forgotten");
        }
    }

    fn dial(&mut self, address: Multiaddr, answer: oneshot::Sender<Result<PeerId, DialError>>) {
        if let Some(peer) = peer_of(&address) {
            let known = if self.swarm.behaviour().gate.is_banned(&peer) {
                Some(Err(DialError::Banned(peer)))
            } else {
                self.book.get(&peer).filter(|p| p.confirmed).map(|_| Ok(peer))
            };
            if let Some(known) = known {
                // An error means that the caller no longer waits.
                let _gone = answer.send(known);
                return;
            }
        }
        let options = DialOpts::from(address.clone());
        let connection = options.connection_id();
        self.dials.begin(connection, address, answer);
        if let Err(error) = self.swarm.dial(options) {
            self.dials.failed(connection, DialError::unreachable(&error));
        }
    }

    fn peer_infos(&mut self) -> Vec<PeerInfo> {
        let now = Instant::now();
        let mut infos: Vec<PeerInfo> = self
            .book
            .confirmed()
            .filter_map(|(peer, p)| {
                let link = p.links.first()?;
                Some(PeerInfo {
                    peer: *peer,
                    address: link.address.clone(),
                    agent: p.agent.clone(),
                    outbound: link.outbound,
                    connected: link.since.elapsed(),
                    points: 0,
                })
            })
            .collect();
        for info in &mut infos {
            info.points = self.book.points(&info.peer, now);
        }
        infos
    }
}
