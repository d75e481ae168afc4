//! Gossiped messages that wait for the owner's verdict. The library keeps their bytes until then, so that they are
//! bounded: an owner that is too busy to judge must not fill the memory with what strangers send meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::budget::Budget;
use crate::gossip::GossipId;

/// What a waiting message costs besides its payload.
const MESSAGE_BYTES: usize = 512;

#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    since: Instant,
    cost: usize,
}

/// The messages without a verdict.
#[derive(Debug)]
pub(crate) struct Verdicts {
    waiting: BTreeMap<GossipId, Waiting>,
    budget: Budget,
}

impl Verdicts {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { waiting: BTreeMap::new(), budget: Budget::shared(limit_bytes) }
    }

    /// Notes a message that begins to wait; false, and nothing is noted, when too many wait already.
    pub(crate) fn begin(&mut self, id: GossipId, peer: PeerId, bytes: usize, now: Instant) -> bool {
        let cost = bytes.saturating_add(MESSAGE_BYTES);
        if !self.budget.has_room(&peer, cost) {
            return false;
        }
        // The library tells of a message again once it has forgotten that it did, which is later than its verdict is due.
        self.end(&id);
        self.budget.charge(peer, cost);
        self.waiting.insert(id, Waiting { peer, since: now, cost });
        true
    }

    /// Forgets a message; false when it does not wait.
    pub(crate) fn end(&mut self, id: &GossipId) -> bool {
        let Some(ended) = self.waiting.remove(id) else { return false };
        self.budget.release(&ended.peer, ended.cost);
        true
    }

    /// Takes out those that have waited for longer than `within`, with who sent them.
    pub(crate) fn take_late(&mut self, within: Duration, now: Instant) -> Vec<(GossipId, PeerId)> {
        let late = |w: &Waiting| now.saturating_duration_since(w.since) > within;
        let late: Vec<_> = self.waiting.iter().filter(|(_, w)| late(w)).map(|(id, w)| (*id, w.peer)).collect();
        late.iter().for_each(|(id, _)| {
            self.end(id);
        });
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_for_each_peer_until_its_verdict() {
        let (mut verdicts, now) = (Verdicts::new(8 * (1000 + MESSAGE_BYTES)), Instant::now());
        let (a, b) = (PeerId::random(), PeerId::random());
        let id = |n| GossipId([n; 32]);
        assert!(verdicts.begin(id(0), a, 1000, now) && verdicts.begin(id(1), a, 1000, now));
        assert!(!verdicts.begin(id(2), a, 1000, now), "a quarter of eight");
        assert!(verdicts.begin(id(2), b, 1000, now));
        assert!(verdicts.end(&id(0)) && !verdicts.end(&id(0)));
        assert!(verdicts.begin(id(3), a, 1000, now), "a verdict makes room");
        let within = Duration::from_secs(9);
        assert!(verdicts.take_late(within, now + within).is_empty());
        let late = verdicts.take_late(within, now + 2 * within);
        assert_eq!(late, [(id(1), a), (id(2), b), (id(3), a)]);
        assert!(verdicts.budget.is_unused() && verdicts.waiting.is_empty());
    }
}
