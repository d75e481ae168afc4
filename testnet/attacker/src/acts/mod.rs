//! What attackers do: a function each, grouped by what they misuse. Each ends by itself and says in words what it did.

mod blocks;
mod closings;
mod floods;
mod links;
mod offers;
mod sync;
mod votes;

use std::time::Duration;

pub(crate) use blocks::{false_candidates, far_future, twin_blocks, unknown_parents};
pub(crate) use closings::{bad_closings, hollow_closings};
pub(crate) use floods::{commitment_flood, key_flood, transaction_flood};
pub(crate) use links::{malformed, reconnect, silent_peers};
pub(crate) use offers::false_offers;
pub(crate) use sync::{false_status, range_overflow, request_flood};
pub(crate) use votes::{bad_votes, ghost_votes, twice_ready};

/// A pause between two volleys: within a node's rate for one peer, 200 messages a second, more is thrown away unread.
const VOLLEY: Duration = Duration::from_millis(500);
/// Messages of one volley.
const SHOTS: u64 = 90;
