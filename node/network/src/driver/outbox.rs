//! Events that wait for the owner, bounded in bytes in all and for each peer.

use std::collections::{BTreeMap, VecDeque};

use libp2p::PeerId;

use crate::event::NetworkEvent;

/// Part of all waiting bytes that one peer may fill, so that a flooder cannot shut others out.
const PEER_PART: usize = 4;
/// What a waiting event costs besides its payload.
const EVENT_BYTES: usize = 512;

#[derive(Debug)]
struct Waiting {
    event: NetworkEvent,
    charged: Option<(PeerId, usize)>,
}

/// A queue towards the owner. Payloads are refused beyond the bound; news of peers never are, their number is bounded
/// by that of connections.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Waiting>,
    limit_bytes: usize,
    bytes: usize,
    of_peer: BTreeMap<PeerId, usize>,
}

impl Outbox {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), limit_bytes, bytes: 0, of_peer: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues news that must not be lost.
    pub(crate) fn news(&mut self, event: NetworkEvent) {
        self.queue.push_back(Waiting { event, charged: None });
    }

    /// Whether `bytes` more from a peer may wait.
    pub(crate) fn has_room(&self, peer: &PeerId, bytes: usize) -> bool {
        let cost = bytes + EVENT_BYTES;
        let of_peer = self.of_peer.get(peer).copied().unwrap_or_default();
        // One message always fits when nothing else waits, however the bound is set.
        let peer_limit = self.limit_bytes / PEER_PART;
        self.bytes + cost <= self.limit_bytes && (of_peer == 0 || of_peer + cost <= peer_limit)
    }

    /// Queues a payload from a peer, for which [`has_room`](Self::has_room) said yes.
    pub(crate) fn payload(&mut self, peer: PeerId, bytes: usize, event: NetworkEvent) {
        let cost = bytes + EVENT_BYTES;
        self.bytes += cost;
        *self.of_peer.entry(peer).or_default() += cost;
        self.queue.push_back(Waiting { event, charged: Some((peer, cost)) });
    }

    pub(crate) fn pop(&mut self) -> Option<NetworkEvent> {
        let Waiting { event, charged } = self.queue.pop_front()?;
        if let Some((peer, cost)) = charged {
            self.bytes -= cost;
            if let Some(of_peer) = self.of_peer.get_mut(&peer) {
                *of_peer -= cost;
                if *of_peer == 0 {
                    self.of_peer.remove(&peer);
                }
            }
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
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
        assert!(outbox.has_room(&a, 1000) && outbox.bytes == 0 && outbox.of_peer.is_empty());
        assert!(!outbox.has_room(&a, 8 * (1000 + EVENT_BYTES)), "more than the whole bound never waits");
    }
}
