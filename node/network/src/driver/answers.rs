//! Answers that are on their way out. A peer that asks much and takes nothing in makes this node hold them until its
//! requests time out, so that their bytes are bounded for each peer.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::request_response::InboundRequestId;

use crate::budget::Budget;
use crate::protocol::Protocol;

/// What an answer under way costs besides its bytes.
const ANSWER_BYTES: usize = 512;

/// Names a request of a peer.
pub(crate) type RequestKey = (Protocol, InboundRequestId);

/// The answers under way.
#[derive(Debug)]
pub(crate) struct Answers {
    under_way: HashMap<RequestKey, (PeerId, usize)>,
    budget: Budget,
}

impl Answers {
    pub(crate) fn new(peer_limit_bytes: usize) -> Self {
        Self { under_way: HashMap::new(), budget: Budget::each(peer_limit_bytes) }
    }

    /// Notes an answer; false, and nothing is noted, when the peer has too many to take already.
    pub(crate) fn begin(&mut self, request: RequestKey, peer: PeerId, bytes: usize) -> bool {
        let cost = bytes.saturating_add(ANSWER_BYTES);
        let admitted = self.budget.has_room(&peer, cost);
        if admitted {
            self.budget.charge(peer, cost);
            self.under_way.insert(request, (peer, cost));
        }
        admitted
    }

    /// The answer was taken, or given up.
    pub(crate) fn end(&mut self, request: &RequestKey) {
        if let Some((peer, cost)) = self.under_way.remove(request) {
            self.budget.release(&peer, cost);
        }
    }
}
