//! Rules of votes that need no state.

use podl_chain_spec::AccountId;

use crate::signed::BadSignature;
use crate::types::{READY_CAP, Vote};

/// Why a vote counts nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    /// Ready flags out of order, repeated or too many.
    #[error("the ready flags of {seat:?} are not sorted, distinct and at most four")]
    ReadyFlags {
        /// Whose vote.
        seat: AccountId,
    },
    /// Its signature.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

/// Checks everything about a vote that needs neither state nor signature.
///
/// # Errors
/// [`VoteError`].
pub fn check_form(vote: &Vote) -> Result<(), VoteError> {
    let fits = vote.ready.len() <= READY_CAP && vote.ready.is_sorted_by(|a, b| a < b);
    if fits { Ok(()) } else { Err(VoteError::ReadyFlags { seat: vote.seat }) }
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::Hash32;

    use super::*;

    fn vote(ready: &[u8]) -> Vote {
        let ready = ready.iter().map(|n| Hash32([*n; 32])).collect();
        Vote { height: 2, block: Hash32([1; 32]), justified: 1, ready, seat: AccountId([2; 32]) }
    }

    #[test]
    fn ready_flags_are_sorted_distinct_and_few() {
        let seat = AccountId([2; 32]);
        for good in [&[][..], &[1], &[1, 2, 3, 4]] {
            assert_eq!(check_form(&vote(good)), Ok(()));
        }
        for bad in [&[1, 1][..], &[2, 1], &[1, 2, 3, 4, 5], &[3, 3, 3]] {
            assert_eq!(check_form(&vote(bad)), Err(VoteError::ReadyFlags { seat }));
        }
    }
}
