//! Events that wait for the owner, bounded in bytes in all and for each peer.

use std::collections::VecDeque;

use libp2p::PeerId;

use crate::budget::Budget;
use crate::event::NetworkEvent;

/// Bans and words of other chains that wait at most: they only inform.
const MAX_REPORTS: usize = 256;
/// What a waiting event costs besides its payload.
const EVENT_BYTES: usize = 512;

#[derive(Debug)]
struct Waiting {
    event: NetworkEvent,
    charged: Option<(PeerId, usize)>,
}

/// A queue towards the owner. Payloads are refused beyond the bound. News of peers are not, and are bounded all the same:
/// a connection that ended before the owner heard of it is not told at all, so that no more wait than there are
/// connections and than there were when the owner last listened.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Waiting>,
    budget: Budget,
    reports: usize,
}

/// Whether an event only informs.
fn is_report(event: &NetworkEvent) -> bool {
    matches!(event, NetworkEvent::Banned { .. } | NetworkEvent::WrongChain { .. })
}

impl Outbox {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), budget: Budget::shared(limit_bytes), reports: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues news.
    pub(crate) fn news(&mut self, event: NetworkEvent) {
        if let NetworkEvent::PeerDisconnected { peer } = &event
            && let Some(untold) = self.untold_connection(peer)
        {
            self.queue.remove(untold);
            return;
        }
        if is_report(&event) {
            if self.reports >= MAX_REPORTS {
                return tracing::debug!(?event, "not told: too much waits");
            }
            self.reports += 1;
        }
        self.queue.push_back(Waiting { event, charged: None });
    }

    /// Where the news wait that this peer is connected.
    fn untold_connection(&self, peer: &PeerId) -> Option<usize> {
        let told = |w: &Waiting| matches!(&w.event, NetworkEvent::PeerConnected { peer: who, .. } if who == peer);
        self.queue.iter().rposition(told)
    }

    /// Whether `bytes` more from a peer may wait.
    pub(crate) fn has_room(&self, peer: &PeerId, bytes: usize) -> bool {
        self.budget.has_room(peer, bytes.saturating_add(EVENT_BYTES))
    }

    /// Queues a payload from a peer, for which [`has_room`](Self::has_room) said yes.
    pub(crate) fn payload(&mut self, peer: PeerId, bytes: usize, event: NetworkEvent) {
        let cost = bytes.saturating_add(EVENT_BYTES);
        self.budget.charge(peer, cost);
        self.queue.push_back(Waiting { event, charged: Some((peer, cost)) });
    }

    pub(crate) fn pop(&mut self) -> Option<NetworkEvent> {
        let Waiting { event, charged } = self.queue.pop_front()?;
        if let Some((peer, cost)) = charged {
            self.budget.release(&peer, cost);
        }
        self.reports -= usize::from(is_report(&event));
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::Multiaddr;

    use super::*;

    #[test]
    fn one_peer_fills_its_part_only_and_all_of_it_is_freed() {
        let mut outbox = Outbox::new(8 * (1000 + EVENT_BYTES));
        let (a, b) = (PeerId::random(), PeerId::random());
        let mut queued = 0;
        while outbox.has_room(&a, 1000) {
            outbox.payload(a, 1000, NetworkEvent::PeerDisconnected { peer: a });
            queued += 1;
        }
        assert_eq!(queued, 2, "a quarter of eight");
        assert!(outbox.has_room(&b, 1000));
        outbox.news(NetworkEvent::PeerDisconnected { peer: b });
        while outbox.pop().is_some() {}
        assert!(outbox.has_room(&a, 1000) && outbox.budget.is_unused());
        assert!(!outbox.has_room(&a, 8 * (1000 + EVENT_BYTES)), "more than the whole bound never waits");
    }

    #[test]
    fn peers_that_come_and_go_do_not_pile_up_while_the_owner_is_busy() {
        let mut outbox = Outbox::new(1 << 20);
        let connected = |peer| NetworkEvent::PeerConnected { peer, address: Multiaddr::empty(), outbound: false };
        let known = PeerId::random();
        outbox.news(NetworkEvent::PeerDisconnected { peer: known });
        for _ in 0..10_000 {
            for peer in [PeerId::random(), known] {
                outbox.news(connected(peer));
                outbox.news(NetworkEvent::PeerDisconnected { peer });
            }
        }
        assert_eq!(outbox.queue.len(), 1, "only the end of a connection that was told");
        outbox.news(connected(known));
        assert!(matches!(outbox.pop(), Some(NetworkEvent::PeerDisconnected { peer }) if peer == known));
        assert!(matches!(outbox.pop(), Some(NetworkEvent::PeerConnected { peer, .. }) if peer == known));
    }

    #[test]
    fn bans_wait_in_bounded_number() {
        let mut outbox = Outbox::new(1 << 20);
        let ban = || NetworkEvent::Banned { peer: PeerId::random(), why: String::new(), length: Duration::ZERO };
        for _ in 0..2 * MAX_REPORTS {
            outbox.news(ban());
        }
        assert_eq!(outbox.queue.len(), MAX_REPORTS);
        while outbox.pop().is_some() {}
        outbox.news(ban());
        assert_eq!(outbox.queue.len(), 1);
    }
}
