//! Rules of closings with their lists that need no state.

use podl_chain_spec::Limits;

use super::commitments::{ListError, check_list};
use crate::signed::BadSignature;
use crate::types::ListedClosing;

/// Why a closing counts nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosingError {
    /// The list breaks a rule, or is to another parent than the closing.
    #[error(transparent)]
    List(#[from] ListError),
    /// The list is not sorted by hash and distinct.
    #[error("the commitments of the list are not sorted and distinct")]
    Order,
    /// The list is not the one that was signed.
    #[error("the list is not the one that the seat signed")]
    Root,
    /// Signature of the closing or of one of its commitments.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

/// Checks everything about a closing and its list that needs neither state nor signature. The task and round are those
/// of its first commitment: which ones the interval has is for whoever knows the parent.
///
/// # Errors
/// [`ClosingError`].
pub fn check_form(limits: &Limits, listed: &ListedClosing) -> Result<(), ClosingError> {
    let (closing, list) = (&listed.closing.message, &listed.list);
    if let Some(first) = list.0.first() {
        let interval = (&closing.parent, &first.message.task, first.message.round);
        check_list(limits, interval, list.0.iter().map(|c| &c.message))?;
    }
    if !list.is_sorted() {
        return Err(ClosingError::Order);
    }
    if list.root() == closing.list_root { Ok(()) } else { Err(ClosingError::Root) }
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::{AccountId, ChainSpec, Hash32};

    use super::*;
    use crate::signed::{Signature, Signed};
    use crate::types::{Closing, ClosingList, Commitment};

    const PARENT: Hash32 = Hash32([1; 32]);

    fn commitment(owner: u8, id: u8) -> Commitment {
        let (owner, id) = (AccountId([owner; 32]), Hash32([id; 32]));
        Commitment { parent: PARENT, task: Hash32([2; 32]), round: 3, owner, id }
    }

    fn unsigned<T>(message: T) -> Signed<T> {
        Signed { message, signature: Signature([0; 64]) }
    }

    fn listed(list: ClosingList) -> ListedClosing {
        let closing = Closing { parent: PARENT, seat: AccountId([9; 32]), list_root: list.root() };
        ListedClosing { closing: unsigned(closing), list }
    }

    fn check(listed: &ListedClosing) -> Result<(), ClosingError> {
        check_form(&ChainSpec::load("dev").unwrap().limits, listed)
    }

    #[test]
    fn lists_are_what_was_signed_in_order_and_of_one_interval() {
        let two = || [unsigned(commitment(1, 1)), unsigned(commitment(2, 2))];
        assert_eq!(check(&listed(ClosingList::default())), Ok(()));
        let good = listed(ClosingList::new(two()));
        assert_eq!(check(&good), Ok(()));

        let reversed = ClosingList(good.list.0.iter().rev().cloned().collect());
        assert_eq!(check(&listed(reversed)), Err(ClosingError::Order));
        let twice = ClosingList(vec![good.list.0[0].clone(); 2]);
        assert_eq!(check(&listed(twice)), Err(ClosingError::Order));
        let other = ListedClosing { list: ClosingList::default(), ..good.clone() };
        assert_eq!(check(&other), Err(ClosingError::Root));

        let elsewhere = Commitment { parent: Hash32([7; 32]), ..commitment(3, 3) };
        let elsewhere = listed(ClosingList::new([unsigned(elsewhere)]));
        assert!(matches!(check(&elsewhere), Err(ClosingError::List(ListError::OtherInterval { .. }))));
        let mixed = two().into_iter().chain([unsigned(Commitment { round: 4, ..commitment(3, 3) })]);
        assert!(matches!(check(&listed(ClosingList::new(mixed))), Err(ClosingError::List(_))));
    }

    #[test]
    fn lists_are_bounded_before_anything_is_hashed() {
        let many = (0..65).map(|n| unsigned(commitment(n, n)));
        let many = listed(ClosingList::new(many));
        assert!(matches!(check(&many), Err(ClosingError::List(ListError::TooLong { got: 65, limit: 64 }))));
        let greedy = listed(ClosingList::new((0..4).map(|n| unsigned(commitment(1, n)))));
        assert!(matches!(check(&greedy), Err(ClosingError::List(ListError::OwnerCap { got: 4, .. }))));
    }
}
