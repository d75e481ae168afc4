//! The attacks by name.

use crate::acts;
use crate::attacker::Attacker;

/// What an attacker does to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Sync requests for ranges at the end of the number line.
    RangeOverflow,
    /// Statuses with heads that do not exist.
    FalseStatus,
    /// A seat's votes whose ready flags break the form.
    TwiceReady,
    /// A seat's votes for blocks that nobody has.
    GhostVotes,
    /// Votes that are badly signed or say nothing true.
    BadVotes,
    /// A seat's closings with bad lists.
    BadClosings,
    /// A seat's early closings that list nobody.
    HollowClosings,
    /// Blocks far ahead of the clock.
    FarFuture,
    /// Blocks, votes and commitments on made-up parents.
    UnknownParents,
    /// Blocks named and not had, by peers with low ids.
    FalseOffers,
    /// Candidates with false counts and without models.
    FalseCandidates,
    /// A seat's many blocks on one parent.
    TwinBlocks,
    /// Bytes that are no message.
    Malformed,
    /// Made-up keys.
    KeyFlood,
    /// Commitments of owners without money.
    CommitmentFlood,
    /// Cheap and senseless transactions.
    TransactionFlood,
    /// Requests as fast as they are taken.
    RequestFlood,
    /// Peers that never answer.
    SilentPeers,
    /// Peers that come and go.
    Reconnect,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::RangeOverflow,
        Self::FalseStatus,
        Self::TwiceReady,
        Self::GhostVotes,
        Self::BadVotes,
        Self::BadClosings,
        Self::HollowClosings,
        Self::FarFuture,
        Self::UnknownParents,
        Self::FalseOffers,
        Self::FalseCandidates,
        Self::TwinBlocks,
        Self::Malformed,
        Self::KeyFlood,
        Self::CommitmentFlood,
        Self::TransactionFlood,
        Self::RequestFlood,
        Self::SilentPeers,
        Self::Reconnect,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RangeOverflow => "range-overflow",
            Self::FalseStatus => "false-status",
            Self::TwiceReady => "twice-ready",
            Self::GhostVotes => "ghost-votes",
            Self::BadVotes => "bad-votes",
            Self::BadClosings => "bad-closings",
            Self::HollowClosings => "hollow-closings",
            Self::FarFuture => "far-future",
            Self::UnknownParents => "unknown-parents",
            Self::FalseOffers => "false-offers",
            Self::FalseCandidates => "false-candidates",
            Self::TwinBlocks => "twin-blocks",
            Self::Malformed => "malformed",
            Self::KeyFlood => "key-flood",
            Self::CommitmentFlood => "commitment-flood",
            Self::TransactionFlood => "transaction-flood",
            Self::RequestFlood => "request-flood",
            Self::SilentPeers => "silent-peers",
            Self::Reconnect => "reconnect",
        }
    }

    /// Whether the attacker holds the key of a seat. No node then signs with it.
    pub(crate) const fn is_seats(self) -> bool {
        matches!(
            self,
            Self::TwiceReady
                | Self::GhostVotes
                | Self::BadVotes
                | Self::BadClosings
                | Self::HollowClosings
                | Self::FarFuture
                | Self::TwinBlocks
        )
    }

    /// Does it; the words say what was done.
    ///
    /// # Errors
    /// When the attacker could not act: nobody takes its connections, or nobody answers any more.
    pub(crate) async fn act(self, attacker: &mut Attacker) -> anyhow::Result<String> {
        match self {
            Self::RangeOverflow => acts::range_overflow(attacker).await,
            Self::FalseStatus => acts::false_status(attacker).await,
            Self::TwiceReady => acts::twice_ready(attacker).await,
            Self::GhostVotes => acts::ghost_votes(attacker).await,
            Self::BadVotes => acts::bad_votes(attacker).await,
            Self::BadClosings => acts::bad_closings(attacker).await,
            Self::HollowClosings => acts::hollow_closings(attacker).await,
            Self::FarFuture => acts::far_future(attacker).await,
            Self::UnknownParents => acts::unknown_parents(attacker).await,
            Self::FalseOffers => acts::false_offers(attacker).await,
            Self::FalseCandidates => acts::false_candidates(attacker).await,
            Self::TwinBlocks => acts::twin_blocks(attacker).await,
            Self::Malformed => acts::malformed(attacker).await,
            Self::KeyFlood => acts::key_flood(attacker).await,
            Self::CommitmentFlood => acts::commitment_flood(attacker).await,
            Self::TransactionFlood => acts::transaction_flood(attacker).await,
            Self::RequestFlood => acts::request_flood(attacker).await,
            Self::SilentPeers => acts::silent_peers(attacker).await,
            Self::Reconnect => acts::reconnect(attacker).await,
        }
    }
}

impl std::str::FromStr for Attack {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|attack| attack.name() == name)
            .ok_or_else(|| format!("no attack {name:?}; there are: {}", known()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_found_by_name() {
        for attack in Attack::ALL {
            assert_eq!(attack.name().parse(), Ok(attack));
        }
        assert!("kindness".parse::<Attack>().is_err());
    }
}
