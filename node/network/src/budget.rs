//! Bytes that are held for peers, bounded in all and for each.

use std::collections::BTreeMap;

use libp2p::PeerId;

/// Part of all bytes that one peer may fill, so that a flooder cannot shut others out.
const PEER_PART: usize = 4;

/// Counts bytes that are held for peers.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    peer_limit_bytes: usize,
    bytes: usize,
    of_peer: BTreeMap<PeerId, usize>,
}

impl Budget {
    /// So many bytes in all, of which one peer may fill a part.
    pub(crate) fn shared(limit_bytes: usize) -> Self {
        Self { limit_bytes, peer_limit_bytes: limit_bytes / PEER_PART, bytes: 0, of_peer: BTreeMap::new() }
    }

    /// So many bytes for each peer: in all they are bounded by the number of connections.
    pub(crate) fn each(peer_limit_bytes: usize) -> Self {
        Self { limit_bytes: usize::MAX, peer_limit_bytes, bytes: 0, of_peer: BTreeMap::new() }
    }

    /// Whether `bytes` more for a peer may be held. One message always fits when nothing else of the peer is held,
    /// however its part is set.
    pub(crate) fn has_room(&self, peer: &PeerId, bytes: usize) -> bool {
        let of_peer = self.of_peer.get(peer).copied().unwrap_or_default();
        let fits = |held: usize, limit: usize| held.checked_add(bytes).is_some_and(|sum| sum <= limit);
        fits(self.bytes, self.limit_bytes) && (of_peer == 0 || fits(of_peer, self.peer_limit_bytes))
    }

    /// Charges a peer, for which [`has_room`](Self::has_room) said yes.
    pub(crate) fn charge(&mut self, peer: PeerId, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let of_peer = self.of_peer.entry(peer).or_default();
        *of_peer = of_peer.saturating_add(bytes);
    }

    /// Gives back what was charged.
    pub(crate) fn release(&mut self, peer: &PeerId, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(of_peer) = self.of_peer.get_mut(peer) {
            *of_peer = of_peer.saturating_sub(bytes);
            if *of_peer == 0 {
                self.of_peer.remove(peer);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.bytes == 0 && self.of_peer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_for_each_and_a_bound_for_all() {
        let mut budget = Budget::shared(8);
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        for peer in &peers[..4] {
            assert!(budget.has_room(peer, 2));
            budget.charge(*peer, 2);
            assert!(!budget.has_room(peer, 1));
        }
        assert!(!budget.has_room(&peers[4], 1), "all is taken");
        budget.release(&peers[0], 2);
        assert!(budget.has_room(&peers[0], 2) && !budget.has_room(&peers[1], 1));
        peers[1..4].iter().for_each(|peer| budget.release(peer, 2));
        assert!(budget.is_unused());
        assert!(budget.has_room(&peers[0], 8), "one alone may be larger than its part");
        assert!(!budget.has_room(&peers[0], usize::MAX));
    }

    #[test]
    fn one_that_takes_all_of_its_own_leaves_others_theirs() {
        let mut budget = Budget::each(3);
        let (a, b) = (PeerId::random(), PeerId::random());
        budget.charge(a, 3);
        assert!(!budget.has_room(&a, 1) && budget.has_room(&b, 3));
        assert!(budget.has_room(&b, 9), "one alone may be larger than its part");
    }
}
