//! The consensus part of the state: seats, justification, finality, supply. One value under one key.

use podl_chain_spec::{AccountId, Amount};
use serde::{Deserialize, Serialize};

use crate::types::{BlockHash, Height};

/// A block by height and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub block: BlockHash,
}

/// A place among the voters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Who holds it; one seat per key.
    pub account: AccountId,
    /// What is locked for it.
    pub bond: Amount,
    /// Height of the block whose finality gave (or renewed) it; 0 for genesis seats.
    pub since: Height,
    /// Highest height whose block carried a vote of this seat.
    pub last_vote: Height,
}

/// The seats of a state and the set that they replaced.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeatSets {
    /// S: today's seats, oldest first.
    pub current: Vec<Seat>,
    /// The accounts that held seats before the last change made by finality (at genesis: the first seats).
    /// Without them two sets could finalise apart.
    pub previous: Vec<AccountId>,
}

/// More than half of `seats`, counted over all of them.
pub const fn majority(seats: usize) -> usize {
    seats / 2 + 1
}

/// More than two thirds of `seats`, counted over all of them.
pub const fn quorum(seats: usize) -> usize {
    seats * 2 / 3 + 1
}

impl SeatSets {
    /// Whether the account holds a seat today.
    pub fn is_seat(&self, account: &AccountId) -> bool {
        self.current.iter().any(|s| s.account == *account)
    }

    /// Whether the account may vote: it holds a seat, or held one in the set before.
    pub fn is_voter(&self, account: &AccountId) -> bool {
        self.is_seat(account) || self.previous.contains(account)
    }

    /// Whether votes of these distinct accounts are a majority of today's seats.
    pub fn has_majority<'a>(&self, voters: impl IntoIterator<Item = &'a AccountId>) -> bool {
        voters.into_iter().filter(|v| self.is_seat(v)).count() >= majority(self.current.len())
    }

    /// Whether votes of these distinct accounts are a quorum of today's seats and of the set before, each counted
    /// over all its seats.
    pub fn has_quorum<'a>(&self, voters: impl IntoIterator<Item = &'a AccountId>) -> bool {
        let (mut today, mut before) = (0, 0);
        for voter in voters {
            today += usize::from(self.is_seat(voter));
            before += usize::from(self.previous.contains(voter));
        }
        today >= quorum(self.current.len()) && before >= quorum(self.previous.len())
    }
}

/// Consensus part of the state after a block. All lists are bounded by the distance to the last final block and are
/// written only when something changes, so a pause of finality does not make them grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Height of the block whose state this is.
    pub height: Height,
    /// Time in its header.
    pub time_ms: u64,
    /// Highest justified block of this branch.
    pub justified: Checkpoint,
    /// Highest final block of this branch.
    pub finalised: Checkpoint,
    /// Today's seats and the set before.
    pub seats: SeatSets,
    /// Seat sets by the height of the state from which on they held, in rising order: who voted on the block at
    /// height h are the sets that held at state height h - 1. Reaches down to the justified height.
    pub seats_log: Vec<(Height, SeatSets)>,
    /// Justified heights by the height of the state from which on they held, in rising order. Reaches down to the
    /// final height; tells the justified height of any state on this branch above it.
    pub justified_log: Vec<(Height, Height)>,
    /// Producers of scored blocks that are not final yet, by height: they get seats when their block is final.
    pub winners: Vec<(Height, AccountId)>,
    /// All money there is: balances, locks, escrows and bonds.
    pub supply: Amount,
    /// All money ever made after genesis.
    pub minted: Amount,
    /// All money ever burned.
    pub burned: Amount,
}

impl Meta {
    /// Justified height in the state of the block at `height` of this branch; `None` below the final height, where
    /// the log no longer reaches.
    pub fn justified_at(&self, height: Height) -> Option<Height> {
        self.justified_log.iter().rev().find(|(from, _)| *from <= height).map(|(_, justified)| *justified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_strictly_more_than_their_share() {
        for n in 1..=64 {
            assert!(2 * majority(n) > n && 2 * (majority(n) - 1) <= n);
            assert!(3 * quorum(n) > 2 * n && 3 * (quorum(n) - 1) <= 2 * n);
        }
    }
}
