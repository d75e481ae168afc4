//! The task that drives the swarm: one loop over the network's events, the owner's commands and the clock.

mod addresses;
mod answers;
mod commands;
mod dials;
mod outbox;
mod swarm_events;
mod upkeep;
mod verdicts;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::OutboundRequestId;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot};

use crate::blob::serve::BlobRequests;
use crate::command::Command;
use crate::config::{Limits, chain_tag};
use crate::error::RequestError;
use crate::event::NetworkEvent;
use crate::gossip::Topics;
use crate::peers::{Misbehaviour, PeerBook};
use crate::protocol::Protocol;
use crate::swarm::Behaviour;
use crate::{NetworkConfig, NetworkHandle};

use answers::Answers;
use dials::Dials;
use outbox::Outbox;
use upkeep::Bootnode;
use verdicts::Verdicts;

pub(crate) use commands::peer_of;

/// How often bans, overdue peers and missing bootnodes are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long closing connections may take when the network stops.
const GOODBYE: Duration = Duration::from_millis(1500);
/// A peer of another chain is left alone for this long: long enough against a flood, short enough for a changed mind.
const WRONG_CHAIN_BAN: Duration = Duration::from_secs(60);

/// Where a caller waits for the answer to its request.
type Answer = oneshot::Sender<Result<Vec<u8>, RequestError>>;

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    topics: Topics,
    tag: String,
    limits: Limits,
    bootnodes: Vec<Bootnode>,
    listeners: HashMap<ListenerId, Multiaddr>,
    /// Where the node listened until the listener ended, and when that is tried again.
    deaf: Vec<(Multiaddr, Instant)>,
    book: PeerBook,
    outbox: Outbox,
    events: mpsc::Sender<NetworkEvent>,
    commands: mpsc::Receiver<Command>,
    /// Weak, so that the network stops when its owner has dropped every handle.
    own_commands: mpsc::WeakSender<Command>,
    blob_requests: Option<BlobRequests>,
    requests: HashMap<(Protocol, OutboundRequestId), Answer>,
    answers: Answers,
    verdicts: Verdicts,
    dials: Dials,
    /// Connected peers of other chains, to be refused at the next tick.
    strangers: Vec<PeerId>,
    /// When the owner was last told of a peer or address of another chain.
    told_wrong_chain: BTreeMap<String, Instant>,
    search_at: Instant,
}

/// What the driver is made of besides the swarm.
pub(crate) struct Parts {
    pub(crate) topics: Topics,
    pub(crate) bootnodes: Vec<(PeerId, Multiaddr)>,
    pub(crate) listeners: HashMap<ListenerId, Multiaddr>,
    pub(crate) events: mpsc::Sender<NetworkEvent>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) handle: NetworkHandle,
    pub(crate) blob_requests: Option<BlobRequests>,
}

impl Driver {
    pub(crate) fn new(config: &NetworkConfig, swarm: Swarm<Behaviour>, parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            swarm,
            topics: parts.topics,
            tag: chain_tag(&config.chain),
            limits: config.limits.clone(),
            bootnodes: upkeep::bootnodes(parts.bootnodes, now),
            listeners: parts.listeners,
            deaf: Vec::new(),
            book: PeerBook::new(config),
            outbox: Outbox::new(config.limits.waiting_bytes),
            events: parts.events,
            commands: parts.commands,
            own_commands: parts.handle.commands.downgrade(),
            blob_requests: parts.blob_requests,
            requests: HashMap::new(),
            answers: Answers::new(config.limits.answer_bytes_per_peer),
            verdicts: Verdicts::new(config.limits.unjudged_bytes),
            dials: Dials::default(),
            strangers: Vec::new(),
            told_wrong_chain: BTreeMap::new(),
            search_at: now,
        }
    }

    /// Runs until the owner shuts down or has dropped every handle.
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let events = self.events.clone();
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Shutdown { done }) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    // A dropped receiver is an owner that does not listen: the event is dropped too.
                    if let (Some(event), Ok(permit)) = (self.outbox.pop(), permit) {
                        permit.send(event);
                    }
                }
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        };
        self.say_goodbye().await;
        if let Some(done) = done {
            // An error means that the owner did not wait.
            let _waiting = done.send(());
        }
    }

    /// Closes every connection, so that peers need not wait for a timeout to notice.
    async fn say_goodbye(&mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error means that it is gone already.
            let _gone = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(GOODBYE, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    /// Counts a misbehaviour, and bans when it was one too many.
    fn penalise(&mut self, peer: PeerId, what: Misbehaviour, why: &str) {
        let now = Instant::now();
        tracing::debug!(%peer, %what, why, "peer misbehaved");
        if self.book.penalise(peer, what, now) {
            self.ban(peer, format!("{what}: {why}"));
        } else {
            let points = self.book.points(&peer, now);
            self.swarm.behaviour_mut().gossip.set_application_score(&peer, -f64::from(points));
        }
    }

    fn ban(&mut self, peer: PeerId, why: String) {
        if peer == *self.swarm.local_peer_id() || self.swarm.behaviour().gate.is_banned(&peer) {
            return;
        }
        let length = self.limits.ban_for;
        let address = self.book.get(&peer).and_then(|p| p.links.first()).map(|link| link.address.clone());
        let behaviour = self.swarm.behaviour_mut();
        behaviour.gate.ban(peer, address.as_ref(), length);
        behaviour.kad.remove_peer(&peer);
        self.outbox.news(NetworkEvent::Banned { peer, why, length });
    }

    /// Notes that a peer has shown to be on this chain.
    fn confirm(&mut self, peer: PeerId) {
        if !self.book.confirm(&peer) {
            return;
        }
        if let Some(link) = self.book.get(&peer).and_then(|p| p.links.first()) {
            let (address, outbound) = (link.address.clone(), link.outbound);
            self.outbox.news(NetworkEvent::PeerConnected { peer, address, outbound });
        }
        self.dials.confirmed(peer);
    }

    /// Refuses a peer of another chain and says so, not too often.
    fn wrong_chain(&mut self, peer: Option<PeerId>, address: Multiaddr, theirs: String) {
        // Not at once: closing the connection now could keep our own identity from reaching the peer, which would then not
        // know why it was refused. Two chains share no protocol, so it can do nothing meanwhile.
        self.strangers.extend(peer.filter(|peer| !self.strangers.contains(peer)));
        let key = peer.map_or_else(|| address.to_string(), |peer| peer.to_string());
        let now = Instant::now();
        let quiet_for = self.limits.ban_for;
        self.told_wrong_chain.retain(|_, told| now.saturating_duration_since(*told) < quiet_for);
        if self.told_wrong_chain.len() < 256 && self.told_wrong_chain.insert(key, now).is_none() {
            self.outbox.news(NetworkEvent::WrongChain { peer, address, theirs });
        }
    }
}
