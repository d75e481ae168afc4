//! What is done by the clock: bans that end, peers that are overdue, bootnodes and a few peers more to find.

use std::time::{Duration, Instant};

use libp2p::gossipsub::MessageAcceptance;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};

use super::{Driver, WRONG_CHAIN_BAN};
use crate::gossip::GRAYLIST_THRESHOLD;

/// A missing bootnode is tried again after this, doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const RETRY_LAST: Duration = Duration::from_secs(30);
/// After this a listener that ended is started again.
pub(super) const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// While peers are few, the routing table is searched this often.
const SEARCH_EVERY: Duration = Duration::from_secs(15);
/// A message waits this long for its verdict, about as long as gossip keeps it.
const VERDICT_WITHIN: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(crate) struct Bootnode {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    next_try: Instant,
    wait: Duration,
}

/// Bootnodes with all their addresses together.
pub(crate) fn bootnodes(list: Vec<(PeerId, Multiaddr)>, now: Instant) -> Vec<Bootnode> {
    let mut bootnodes: Vec<Bootnode> = Vec::new();
    for (peer, address) in list {
        match bootnodes.iter_mut().find(|b| b.peer == peer) {
            Some(bootnode) => bootnode.addresses.push(address),
            None => bootnodes.push(Bootnode { peer, addresses: vec![address], next_try: now, wait: RETRY_FIRST }),
        }
    }
    bootnodes
}

impl Driver {
    pub(super) fn on_tick(&mut self, now: Instant) {
        self.swarm.behaviour_mut().gate.expire();
        for stranger in std::mem::take(&mut self.strangers) {
            self.swarm.behaviour_mut().gate.ban(stranger, None, WRONG_CHAIN_BAN);
        }
        for peer in self.book.overdue(self.limits.identify_within, now) {
            tracing::debug!(%peer, "did not say in time which chain it is on");
            // An error means that it is gone already.
            let _gone = self.swarm.disconnect_peer_id(peer);
        }
        self.forget_unjudged(now);
        self.ban_graylisted();
        self.listen_again(now);
        self.dial_bootnodes(now);
        self.search_peers(now);
    }

    fn forget_unjudged(&mut self, now: Instant) {
        for (id, peer) in self.verdicts.take_late(VERDICT_WITHIN, now) {
            self.settle(id, peer, MessageAcceptance::Ignore);
        }
    }

    /// Gossip no longer reads what such peers send; their connections would only take places.
    fn ban_graylisted(&mut self) {
        let gossip = &self.swarm.behaviour().gossip;
        let bad = |peer: &PeerId| gossip.peer_score(peer).is_some_and(|score| score < GRAYLIST_THRESHOLD);
        let peers: Vec<PeerId> = self.book.confirmed().map(|(peer, _)| *peer).filter(bad).collect();
        for peer in peers {
            self.ban(peer, "gossip score: invalid messages or broken rules of the mesh".into());
        }
    }

    /// A listener that ended, a place at a relay above all, must not leave the node deaf for good.
    fn listen_again(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.deaf).into_iter().partition(|(_, at)| *at <= now);
        self.deaf = later;
        for (address, _) in due {
            match self.swarm.listen_on(address.clone()) {
                Ok(listener) => {
                    self.listeners.insert(listener, address);
                }
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot listen again");
                    self.deaf.push((address, now + LISTEN_AGAIN));
                }
            }
        }
    }

    fn dial_bootnodes(&mut self, now: Instant) {
        for bootnode in &mut self.bootnodes {
            if self.swarm.is_connected(&bootnode.peer) {
                (bootnode.next_try, bootnode.wait) = (now, RETRY_FIRST);
                continue;
            }
            if now < bootnode.next_try {
                continue;
            }
            bootnode.next_try = now + bootnode.wait;
            bootnode.wait = (bootnode.wait * 2).min(RETRY_LAST);
            let options = DialOpts::peer_id(bootnode.peer)
                .addresses(bootnode.addresses.clone())
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(peer = %bootnode.peer, %error, "bootnode not dialled");
            }
        }
    }

    fn search_peers(&mut self, now: Instant) {
        if now < self.search_at || self.book.confirmed().count() >= self.limits.peer_target {
            return;
        }
        self.search_at = now + SEARCH_EVERY;
        // Asking for a random key connects to peers all over the table.
        self.swarm.behaviour_mut().kad.get_closest_peers(PeerId::random());
    }
}
