//! Rules over commitments and closings that seats, producers and validators share.
//!
//! - A closing lists at most `list_cap` commitments, at most `commitments_per_owner` of one owner, all to the
//!   interval's parent, task and round.
//! - A block's closings are of distinct seats of S and of a majority of S.
//! - The opened commitment is listed by every closing that the block includes.
//! - A commitment is *counted* when more than |S|/2 of the included closings list it. In a scored block each counted
//!   commitment costs its owner the commitment fee, taken up to what the owner can spend; the winner must be able to
//!   pay for all of its own. Void and idle blocks charge nothing.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Hash32, Limits};

use crate::state::majority;
use crate::types::{BlockHash, ClosingSet, Commitment, TaskId};

/// Why a list of commitments cannot stand under a closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Too many commitments.
    #[error("the list holds {got} commitments, at most {limit} are allowed")]
    TooLong {
        /// Listed.
        got: usize,
        /// `limits.list_cap`.
        limit: u32,
    },
    /// One owner commits too often.
    #[error("{owner:?} has {got} commitments in the list, at most {limit} are allowed")]
    OwnerCap {
        /// Whose.
        owner: AccountId,
        /// Listed.
        got: usize,
        /// `limits.commitments_per_owner`.
        limit: u8,
    },
    /// A commitment to another interval.
    #[error("a commitment of {owner:?} is to another parent, task or round")]
    OtherInterval {
        /// Whose.
        owner: AccountId,
    },
}

/// Checks a list for one interval; order, signatures and funds are for the caller.
///
/// # Errors
/// [`ListError`].
pub fn check_list<'a>(
    limits: &Limits,
    interval: (&BlockHash, &TaskId, u32),
    list: impl Iterator<Item = &'a Commitment> + Clone,
) -> Result<(), ListError> {
    let (got, mut owners) = (list.clone().count(), BTreeMap::<AccountId, usize>::new());
    if got as u64 > u64::from(limits.list_cap) {
        return Err(ListError::TooLong { got, limit: limits.list_cap });
    }
    for commitment in list {
        *owners.entry(commitment.owner).or_default() += 1;
        if (&commitment.parent, &commitment.task, commitment.round) != interval {
            return Err(ListError::OtherInterval { owner: commitment.owner });
        }
    }
    let limit = limits.commitments_per_owner;
    match owners.into_iter().find(|(_, got)| *got > usize::from(limit)) {
        Some((owner, got)) => Err(ListError::OwnerCap { owner, got, limit }),
        None => Ok(()),
    }
}

/// How many commitments of each owner are counted: listed by a majority of all `seats` seats.
pub fn counted(set: &ClosingSet, seats: usize) -> BTreeMap<AccountId, u64> {
    let mut owners = BTreeMap::new();
    for (index, commitment) in set.union.iter().enumerate() {
        if set.times_listed(index) >= majority(seats) {
            *owners.entry(commitment.message.owner).or_insert(0u64) += 1;
        }
    }
    owners
}

/// Place in the union of the commitment of `owner` with this id.
pub fn position(set: &ClosingSet, owner: &AccountId, id: &Hash32) -> Option<usize> {
    set.union.iter().position(|c| c.message.owner == *owner && c.message.id == *id)
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::ChainSpec;

    use super::*;

    fn commitment(owner: u8, id: u8) -> Commitment {
        Commitment {
            parent: Hash32([1; 32]),
            task: Hash32([2; 32]),
            round: 3,
            owner: AccountId([owner; 32]),
            id: Hash32([id; 32]),
        }
    }

    fn check(list: &[Commitment]) -> Result<(), ListError> {
        let limits = ChainSpec::load("dev").unwrap().limits;
        check_list(&limits, (&Hash32([1; 32]), &Hash32([2; 32]), 3), list.iter())
    }

    #[test]
    fn lists_are_bounded_in_all_and_for_each_owner() {
        let full: Vec<_> = (0..64).map(|i| commitment(i / 3, i)).collect();
        assert_eq!(check(&full), Ok(()));
        let over: Vec<_> = (0..65).map(|i| commitment(i / 3, i)).collect();
        assert_eq!(check(&over), Err(ListError::TooLong { got: 65, limit: 64 }));
        let greedy: Vec<_> = (0..4).map(|i| commitment(7, i)).collect();
        assert_eq!(check(&greedy[..3]), Ok(()));
        assert_eq!(check(&greedy), Err(ListError::OwnerCap { owner: AccountId([7; 32]), got: 4, limit: 3 }));
    }

    #[test]
    fn commitments_to_other_intervals_are_refused() {
        let good = commitment(1, 1);
        let other = Err(ListError::OtherInterval { owner: good.owner });
        assert_eq!(check(&[Commitment { parent: Hash32([9; 32]), ..good.clone() }]), other);
        assert_eq!(check(&[Commitment { task: Hash32([9; 32]), ..good.clone() }]), other);
        assert_eq!(check(&[Commitment { round: 4, ..good.clone() }]), other);
        assert_eq!(check(&[good]), Ok(()));
    }
}
