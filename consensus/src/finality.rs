//! Justification and finality (docs/protocol.md, section 6), as a pure change of [`Meta`].
//!
//! A block is **justified** on a branch that carries votes of a quorum of both seat sets for it: in its child, or later
//! in a certificate. It is **final** once a child of it, in whose state it is the justified block, is justified too.
//! Everything needed is in the state, so whoever syncs years later computes the same heights.

use std::collections::BTreeSet;
use std::ops::Range;

use podl_chain_spec::AccountId;

use crate::state::{Checkpoint, Meta, Seat, SeatSets};
use crate::types::Height;

/// What a block's votes and certificate changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalityChange {
    /// The justified block, if it moved.
    pub justified: Option<Checkpoint>,
    /// The final block, if it moved.
    pub finalised: Option<Checkpoint>,
    /// Heights that became final, in rising order; empty if none did.
    pub newly_final: Range<Height>,
}

/// The value that held at `height` in a log of values by the height from which on they held.
fn held_at<T>(log: &[(Height, T)], height: Height) -> Option<&T> {
    log.iter().rev().find(|(from, _)| *from <= height).map(|(_, value)| value)
}

/// Drops what no height from `lowest` on needs: all but the last of the entries that began at or below it.
fn prune<T>(log: &mut Vec<(Height, T)>, lowest: Height) {
    let unneeded = log.iter().filter(|(from, _)| *from <= lowest).count().saturating_sub(1);
    log.drain(..unneeded);
}

/// The seat sets that vote on the block at `height` of this branch: those of its parent's state. `None` for genesis and
/// for heights below the justified one, which nobody votes on any more.
pub fn voters_on(meta: &Meta, height: Height) -> Option<&SeatSets> {
    held_at(&meta.seats_log, height.checked_sub(1)?)
}

/// Whether these accounts, repeats counted once, are a quorum of both sets that vote on the block at `height`.
pub fn is_quorum(meta: &Meta, height: Height, voters: &[AccountId]) -> bool {
    let distinct: BTreeSet<&AccountId> = voters.iter().collect();
    voters_on(meta, height).is_some_and(|sets| sets.has_quorum(distinct))
}

/// Applies the votes that a block carries: `meta` is the state of its parent on entry. Votes on the parent and the
/// certificate must have passed the block's validity rules: signed, by voters, for these blocks, which are the parent
/// and an ancestor of it. What is no quorum changes nothing. `meta.height` is neither read nor written.
///
/// The certificate counts before the votes, so that both can count in one block. Neither height ever falls.
pub fn apply(
    meta: &mut Meta,
    parent: Checkpoint,
    votes: &[AccountId],
    certificate: Option<(Checkpoint, &[AccountId])>,
) -> FinalityChange {
    let before = (meta.justified, meta.finalised);
    if let Some((ancestor, voters)) = certificate
        && ancestor.height <= parent.height
    {
        justify(meta, ancestor, voters);
    }
    justify(meta, parent, votes);

    let mut change = FinalityChange {
        newly_final: before.1.height.saturating_add(1)..meta.finalised.height.saturating_add(1),
        ..FinalityChange::default()
    };
    if meta.justified != before.0 {
        meta.justified_log.push((parent.height.saturating_add(1), meta.justified.height));
        prune(&mut meta.seats_log, meta.justified.height);
        change.justified = Some(meta.justified);
    }
    if meta.finalised != before.1 {
        prune(&mut meta.justified_log, meta.finalised.height);
        change.finalised = Some(meta.finalised);
    }
    change
}

/// Justifies `block` if it is above the justified height and its voters are a quorum; then, if the justified block so far
/// is its parent and is the one in its own state, that parent is final.
fn justify(meta: &mut Meta, block: Checkpoint, voters: &[AccountId]) {
    if block.height <= meta.justified.height || !is_quorum(meta, block.height, voters) {
        return;
    }
    let in_its_state = held_at(&meta.justified_log, block.height).copied();
    let parent = meta.justified;
    // The justified height only rises along the branch, so if it was the parent's in the state of `block` and is below
    // `block` now, it is the parent's now too, and `meta.justified` names the parent.
    if in_its_state == Some(parent.height) && parent.height.checked_add(1) == Some(block.height) {
        meta.finalised = meta.finalised.max(parent);
    }
    meta.justified = block;
}

/// Replaces the seats from the state at `height` on, as finality does when it gives winners their seats: the accounts
/// that held seats until then become the previous set.
pub fn replace_seats(meta: &mut Meta, height: Height, current: Vec<Seat>) {
    let previous = meta.seats.current.iter().map(|seat| seat.account).collect();
    meta.seats = SeatSets { current, previous };
    meta.seats_log.push((height, meta.seats.clone()));
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::{Amount, Hash32};

    use super::*;

    fn account(n: u8) -> AccountId {
        AccountId([n; 32])
    }

    fn accounts(numbers: impl IntoIterator<Item = u8>) -> Vec<AccountId> {
        numbers.into_iter().map(account).collect()
    }

    fn seat(n: u8) -> Seat {
        Seat { account: account(n), bond: Amount::ZERO, since: 0, last_vote: 0 }
    }

    fn at(height: Height) -> Checkpoint {
        Checkpoint { height, block: Hash32([u8::try_from(height).unwrap(); 32]) }
    }

    fn genesis(seats: u8) -> Meta {
        let sets = SeatSets { current: (0..seats).map(seat).collect(), previous: accounts(0..seats) };
        Meta {
            height: 0,
            time_ms: 0,
            justified: at(0),
            finalised: at(0),
            seats_log: vec![(0, sets.clone())],
            seats: sets,
            justified_log: vec![(0, 0)],
            winners: Vec::new(),
            supply: Amount::ZERO,
            minted: Amount::ZERO,
            burned: Amount::ZERO,
        }
    }

    /// Executes the block above `meta` with votes on its parent.
    fn block(meta: &mut Meta, votes: &[AccountId], certificate: Option<(Height, &[AccountId])>) -> FinalityChange {
        let change = apply(meta, at(meta.height), votes, certificate.map(|(height, votes)| (at(height), votes)));
        meta.height += 1;
        change
    }

    #[test]
    fn in_calm_a_block_is_final_two_heights_later() {
        let mut meta = genesis(4);
        assert_eq!(block(&mut meta, &[], None), FinalityChange { newly_final: 1..1, ..FinalityChange::default() });
        for height in 2..20 {
            let change = block(&mut meta, &accounts(0..3), None);
            assert_eq!(change.justified, Some(at(height - 1)));
            let newly = if height == 2 { 1..1 } else { height - 2..height - 1 };
            assert_eq!(change.newly_final, newly, "block {height}");
            assert_eq!(meta.finalised, at(height - 2));
            assert!(meta.justified_log.len() <= 3 && meta.seats_log.len() == 1);
        }
    }

    #[test]
    fn less_than_a_quorum_or_a_repeated_voter_justifies_nothing() {
        let mut meta = genesis(4);
        block(&mut meta, &[], None);
        let change = block(&mut meta, &[account(0), account(1), account(1), account(9)], None);
        assert_eq!((change.justified, meta.justified), (None, at(0)));
    }

    #[test]
    fn a_gap_in_justification_finalises_nothing_until_two_in_a_row() {
        let mut meta = genesis(4);
        let quorum = accounts(0..3);
        block(&mut meta, &[], None);
        block(&mut meta, &[], None); // 2: no votes on 1
        block(&mut meta, &quorum, None); // 3 justifies 2, in whose state 0 is justified
        assert_eq!((meta.justified, meta.finalised), (at(2), at(0)));
        // 4 justifies 3, a child of 2 in whose state 2 is justified: 2 is final and 1 with it.
        assert_eq!(block(&mut meta, &quorum, None).newly_final, 1..3);
        assert_eq!((meta.justified, meta.finalised), (at(3), at(2)));
    }

    #[test]
    fn a_certificate_justifies_late_and_finalises_only_with_the_state_it_meets() {
        let quorum = accounts(0..3);
        let mut meta = genesis(4);
        block(&mut meta, &[], None);
        block(&mut meta, &quorum, None); // 2 justifies 1
        block(&mut meta, &[], None); // 3: votes on 2 are left out
        block(&mut meta, &[], Some((2, &quorum))); // 4 certifies 2, in whose state its parent 1 is justified
        assert_eq!((meta.justified, meta.finalised), (at(2), at(1)));

        let mut meta = genesis(4);
        block(&mut meta, &[], None);
        block(&mut meta, &[], None); // 2: votes on 1 are left out
        // 3 certifies 1 and carries a quorum for 2: in the state of 2 nothing above 0 is justified, so 1 is not final.
        block(&mut meta, &quorum, Some((1, &quorum)));
        assert_eq!((meta.justified, meta.finalised), (at(2), at(0)));
    }

    #[test]
    fn a_certificate_at_or_below_the_justified_height_is_inert() {
        let quorum = accounts(0..3);
        let mut meta = genesis(4);
        block(&mut meta, &[], None);
        block(&mut meta, &quorum, None);
        block(&mut meta, &quorum, None);
        let before = meta.clone();
        block(&mut meta, &[], Some((1, &quorum)));
        assert_eq!((meta.justified, meta.finalised), (before.justified, before.finalised));
        block(&mut meta, &[], Some((9, &quorum))); // no ancestor at all
        assert_eq!(meta.justified, before.justified);
    }

    #[test]
    fn after_a_change_of_seats_both_sets_must_agree() {
        let mut meta = genesis(4);
        block(&mut meta, &[], None);
        block(&mut meta, &accounts(0..3), None); // state 2
        // Finality brings seats 4 to 7 for 1 to 3 in the state of block 3.
        block(&mut meta, &accounts(0..3), None);
        replace_seats(&mut meta, 3, vec![seat(0), seat(4), seat(5), seat(6)]);
        // Block 3 is still voted on by the seats of state 2; seats 4 to 6 alone are none of them.
        assert_eq!(voters_on(&meta, 3).unwrap().previous, accounts(0..4));
        assert!(!is_quorum(&meta, 3, &accounts(4..7)) && is_quorum(&meta, 3, &accounts(0..3)));
        // Block 4 is voted on by both sets.
        assert!(!is_quorum(&meta, 4, &accounts(4..7)) && !is_quorum(&meta, 4, &accounts(0..4)));
        assert!(is_quorum(&meta, 4, &[account(0), account(4), account(5), account(1), account(2)]));
        block(&mut meta, &accounts(0..3), None); // 4 justifies 3
        block(&mut meta, &accounts(0..7), None); // 5 justifies 4
        assert_eq!((meta.justified, meta.finalised), (at(4), at(3)));
        assert_eq!(meta.seats_log.len(), 1, "the old sets are pruned");
        assert_eq!(meta.seats_log[0].0, 3);
    }

    #[test]
    fn logs_do_not_grow_while_finality_pauses() {
        let mut meta = genesis(7);
        for _ in 0..100 {
            block(&mut meta, &accounts(0..4), None);
        }
        assert_eq!((meta.seats_log.len(), meta.justified_log.len()), (1, 1));
        block(&mut meta, &accounts(0..5), None);
        block(&mut meta, &accounts(0..5), None);
        assert_eq!(meta.finalised, at(100));
    }
}
