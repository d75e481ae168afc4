//! Votes of seats and certificates made of them.

use podl_chain_spec::AccountId;
use serde::{Deserialize, Serialize};

use super::{BlockHash, Height, TaskId};
use crate::hash::Domain;
use crate::signed::{Signable, Signed};

/// Most tasks that one vote can flag as ready.
pub const READY_CAP: usize = 4;

/// One vote per seat and height, ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Height of the block voted for.
    pub height: Height,
    /// The block voted for.
    pub block: BlockHash,
    /// j: justified height in the state of that block.
    pub justified: Height,
    /// Pending tasks all of whose blobs the seat holds: sorted, distinct, at most [`READY_CAP`].
    pub ready: Vec<TaskId>,
    /// Who votes.
    pub seat: AccountId,
}

impl Signable for Vote {
    const DOMAIN: Domain = Domain::Vote;

    fn signer(&self) -> AccountId {
        self.seat
    }
}

/// A vote with its signature.
pub type SignedVote = Signed<Vote>;

/// Votes of a quorum on an ancestor, carried later than by its child. Without certificates, branches with a lower
/// justified height deadlock (docs/protocol.md, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate<V = SignedVote> {
    /// Height of the ancestor.
    pub height: Height,
    /// The ancestor.
    pub block: BlockHash,
    /// Votes for it, sorted by seat, one per seat.
    pub votes: Vec<V>,
}
