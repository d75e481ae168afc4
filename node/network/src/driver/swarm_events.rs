//! What the swarm reports.

use std::time::Instant;

use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::request_response::{Message, OutboundFailure};
use libp2p::swarm::{self, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, multiaddr};

use super::upkeep::LISTEN_AGAIN;
use super::{Driver, addresses};
use crate::error::{DialError, RequestError};
use crate::event::{GossipMessage, InboundRequest, NetworkEvent, ReplyHandle};
use crate::gossip::GossipId;
use crate::peers::{Admission, Link, Misbehaviour};
use crate::protocol::{self, Protocol, RequestBytes};
use crate::swarm::{BehaviourEvent, protocol_version};

/// Pings in a row that fail before a connection counts as dead.
const MAX_FAILED_PINGS: u32 = 2;
/// What can be said of a chain that only the TCP handshake tells.
const HANDSHAKE_REFUSED: &str = "unknown: the handshake fails as it does between two chains";

impl Driver {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr { address, .. } => self.outbox.news(NetworkEvent::Listening(address)),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let address = endpoint.get_remote_address().clone();
                let outbound = endpoint.is_dialer();
                let link = Link { id: connection_id, address, outbound, since: Instant::now(), failed_pings: 0 };
                self.book.connected(peer_id, link);
                let confirmed = self.book.get(&peer_id).is_some_and(|p| p.confirmed);
                self.dials.established(connection_id, peer_id, confirmed);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                if self.book.disconnected(&peer_id, connection_id) {
                    self.outbox.news(NetworkEvent::PeerDisconnected { peer: peer_id });
                }
                if num_established == 0 {
                    self.dials.disconnected(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failure(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "inbound connection refused");
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(address) = self.listeners.remove(&listener_id) {
                    tracing::error!(%address, ?reason, "no longer listening; tried again soon");
                    self.deaf.push((address, Instant::now() + LISTEN_AGAIN));
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listening"),
            _ => {}
        }
    }

    fn on_dial_failure(&mut self, connection: swarm::ConnectionId, peer: Option<PeerId>, error: &swarm::DialError) {
        let wrong = match error {
            swarm::DialError::Transport(tries) => tries.iter().find(|(_, e)| is_other_prologue(e)),
            _ => None,
        };
        if let Some((address, _)) = wrong {
            let ours = self.tag.clone();
            let theirs = HANDSHAKE_REFUSED.to_string();
            // The peer id is only what the address claims, so that nobody is banned for it.
            self.wrong_chain(None, address.clone(), theirs.clone());
            self.dials.failed(connection, DialError::WrongChain { address: address.clone(), theirs, ours });
            return;
        }
        tracing::debug!(?peer, %error, "dial failed");
        self.dials.failed(connection, DialError::unreachable(error));
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info);
            }
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Sync(event) => self.on_request_event(Protocol::Sync, event),
            BehaviourEvent::Pool(event) => self.on_request_event(Protocol::Pool, event),
            BehaviourEvent::Blob(event) => self.on_request_event(Protocol::Blob, event),
            BehaviourEvent::Ping(event) => {
                let failed = event.result.is_err();
                let links = self.book.get_mut(&event.peer).map(|p| &mut p.links);
                let link = links.and_then(|links| links.iter_mut().find(|l| l.id == event.connection));
                if let Some(link) = link {
                    link.failed_pings = if failed { link.failed_pings + 1 } else { 0 };
                    if link.failed_pings >= MAX_FAILED_PINGS {
                        self.swarm.close_connection(event.connection);
                    }
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    // Whoever is connected says itself where it listens.
                    if !self.swarm.is_connected(&peer) && self.book.confirmed().count() < self.limits.peer_target {
                        let options = swarm::dial_opts::DialOpts::peer_id(peer).addresses(vec![address]).build();
                        // An error means that it is being dialled already.
                        let _dialling = self.swarm.dial(options);
                    }
                }
            }
            BehaviourEvent::AutonatClient(event) => tracing::debug!(?event, "reachability"),
            _ => {}
        }
    }

    /// QUIC's handshake knows no chain; identify does, and every peer must send it.
    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        let Some(link) = self.book.get(&peer).and_then(|p| p.links.first()) else { return };
        let address = link.address.clone();
        if info.protocol_version != protocol_version(&self.tag) {
            let theirs = printable(&info.protocol_version);
            self.dials.wrong_chain(peer, &theirs, &self.tag);
            self.wrong_chain(Some(peer), address, theirs);
            return;
        }
        let named = addresses::worth_keeping(&info.listen_addrs, is_local(&address));
        if let Some(known) = self.book.get_mut(&peer) {
            known.agent = printable(&info.agent_version);
            let before = std::mem::replace(&mut known.addresses, named.clone());
            addresses::replace(&mut self.swarm.behaviour_mut().kad, &peer, &before, &named);
        }
        self.confirm(peer);
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source: peer, message_id, message } => {
                let Some(id) = GossipId::from_message_id(&message_id) else { return };
                let topic = self.topics.name(&message.topic).map(String::from);
                let Some(topic) = topic else { return self.settle(id, peer, MessageAcceptance::Ignore) };
                let admission = self.book.admit_gossip(peer, Instant::now());
                if admission != Admission::Take {
                    self.settle(id, peer, MessageAcceptance::Ignore);
                    return self.beyond_rate(peer, admission, "gossip");
                }
                if !self.outbox.has_room(&peer, message.data.len()) {
                    tracing::debug!(%peer, topic, "message dropped: too many wait");
                    return self.settle(id, peer, MessageAcceptance::Ignore);
                }
                if !self.verdicts.begin(id, peer, message.data.len(), Instant::now()) {
                    tracing::debug!(%peer, topic, "message dropped: too many wait for a verdict");
                    return self.settle(id, peer, MessageAcceptance::Ignore);
                }
                self.confirm(peer);
                let bytes = message.data;
                let length = bytes.len();
                let event = NetworkEvent::Gossip(GossipMessage { topic, peer, id, bytes });
                self.outbox.payload(peer, length, event);
            }
            gossipsub::Event::Subscribed { peer_id, topic } if self.topics.name(&topic).is_some() => {
                self.confirm(peer_id);
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(peer = %peer_id, "slow in taking gossip"),
            _ => {}
        }
    }

    fn on_request_event(&mut self, protocol: Protocol, event: protocol::Event) {
        match event {
            protocol::Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                let Some(commands) = self.own_commands.upgrade() else { return };
                let reply = ReplyHandle { peer, protocol, request: request_id, channel, commands };
                match request {
                    RequestBytes::Good(bytes) => self.on_request(InboundRequest { peer, protocol, bytes, reply }),
                    RequestBytes::Bad(reason) => self.penalise(peer, Misbehaviour::Malformed, &reason),
                }
            }
            protocol::Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(answer) = self.requests.remove(&(protocol, request_id)) {
                    // An error means that the caller no longer waits.
                    let _gone = answer.send(Ok(response));
                }
            }
            protocol::Event::OutboundFailure { peer, request_id, error, .. } => {
                let error = self.blame(peer, error);
                if let Some(answer) = self.requests.remove(&(protocol, request_id)) {
                    let _gone = answer.send(Err(error));
                }
            }
            protocol::Event::InboundFailure { request_id, .. } | protocol::Event::ResponseSent { request_id, .. } => {
                self.answers.end(&(protocol, request_id));
            }
        }
    }

    fn on_request(&mut self, request: InboundRequest) {
        let (peer, protocol, length) = (request.peer, request.protocol, request.bytes.len());
        self.confirm(peer);
        let admission = self.book.admit_request(peer, protocol, Instant::now());
        if admission != Admission::Take {
            return self.beyond_rate(peer, admission, protocol.name());
        }
        match &self.blob_requests {
            Some(server) if protocol == Protocol::Blob => server.take(request),
            _ if self.outbox.has_room(&peer, length) => {
                self.outbox.payload(peer, length, NetworkEvent::Request(request));
            }
            // Dropping the request refuses it.
            _ => tracing::debug!(%peer, ?protocol, "request refused: too many wait"),
        }
    }

    fn beyond_rate(&mut self, peer: PeerId, admission: Admission, what: &str) {
        if admission == Admission::Flood {
            self.penalise(peer, Misbehaviour::Flood, &format!("{what} far beyond its rate"));
        }
    }

    /// What a failed request means, with the peer penalised where it is to blame.
    fn blame(&mut self, peer: PeerId, failure: OutboundFailure) -> RequestError {
        match failure {
            OutboundFailure::DialFailure => RequestError::Unreachable(peer),
            OutboundFailure::Timeout => RequestError::Timeout(peer),
            OutboundFailure::ConnectionClosed => RequestError::Refused(peer),
            OutboundFailure::UnsupportedProtocols => RequestError::Unsupported(peer),
            OutboundFailure::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let reason = error.to_string();
                self.penalise(peer, Misbehaviour::Malformed, &reason);
                RequestError::BadAnswer { peer, reason }
            }
            OutboundFailure::Io(_) => RequestError::Refused(peer),
        }
    }
}

/// A stranger's text, fit for logs and answers.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(64).collect()
}

/// Whether a dial failed in Noise's decryption: between honest nodes only another prologue does that. Its text has to do,
/// because the transports wrap it in types that they do not export; a test over real sockets watches it.
fn is_other_prologue(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.to_string() == "decrypt error")
}

/// Whether a connection comes from this machine.
fn is_local(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(multiaddr::Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(multiaddr::Protocol::Ip6(ip)) => ip.to_canonical().is_loopback(),
        _ => false,
    }
}
