//! Openings that the closings do not cover, and models that are somebody else's.

use podl_chain_spec::AccountId;
use podl_consensus::rules::{BlockError, IsolationError};
use podl_consensus::signed::BadSignature;
use podl_consensus::testkit::Round;
use podl_consensus::types::{Block, ClosingSet, ClosingSetError, Opening};

use crate::world::{OTHER, OWNER, World, artefact};

fn seats(w: &World) -> Vec<AccountId> {
    w.h.interval(w.parent).seats
}

/// Closings of all seats, each with all of these commitments.
fn listed_by_all(w: &World, rounds: &[&Round]) -> ClosingSet {
    let lists: Vec<_> = seats(w).into_iter().map(|seat| (seat, rounds.to_vec())).collect();
    w.closings(&lists)
}

fn not_committed() -> Result<(), BlockError> {
    Err(IsolationError::NotCommitted.into())
}

#[test]
fn an_opening_that_nobody_listed_is_refused() {
    let mut w = World::task();
    let (late, listed) = (w.commit(OWNER, &artefact(1)), w.commit(OTHER, &artefact(2)));
    let block = w.proposal(OWNER, listed_by_all(&w, &[&listed]), late.opening.clone());
    assert_eq!(w.judge(block), not_committed());
    let block = w.proposal(OWNER, listed_by_all(&w, &[&listed, &late]), late.opening);
    assert_eq!(w.judge(block), Ok(()));
}

#[test]
fn an_opening_that_one_closing_lacks_is_refused() {
    let mut w = World::task();
    let (mine, other) = (w.commit(OWNER, &artefact(1)), w.commit(OTHER, &artefact(2)));
    let mut lists: Vec<_> = seats(&w).into_iter().map(|seat| (seat, vec![&mine, &other])).collect();
    lists[2].1 = vec![&other];
    let seat = lists[2].0;
    let block = w.proposal(OWNER, w.closings(&lists), mine.opening.clone());
    assert_eq!(w.judge(block), Err(IsolationError::NotListed { seat }.into()));
    // Three of four seats are a majority: the producer may leave the fourth out.
    lists.remove(2);
    let block = w.proposal(OWNER, w.closings(&lists), mine.opening.clone());
    assert_eq!(w.judge(block), Ok(()));
}

/// A thief's block with its own late commitment to a model that it saw revealed.
struct Theft {
    w: World,
    honest: Round,
    late: Round,
}

fn theft() -> Theft {
    let mut w = World::task();
    let honest = w.commit(OWNER, &artefact(1));
    // The artefact is out: the owner's candidate is on its way, and everybody can fetch and score it.
    assert_eq!(w.judge(w.candidate(std::slice::from_ref(&honest))), Ok(()));
    let late = w.commit(OTHER, &artefact(1));
    assert_eq!((late.opening.model_root, late.opening.correct), (honest.opening.model_root, honest.opening.correct));
    Theft { w, honest, late }
}

impl Theft {
    fn block(&self, closings: ClosingSet) -> Block {
        self.w.proposal(OTHER, closings, self.late.opening.clone())
    }
}

#[test]
fn a_revealed_model_under_an_own_late_commitment_is_refused() {
    let t = theft();
    assert_eq!(t.w.judge(t.block(listed_by_all(&t.w, &[&t.honest]))), not_committed());
    // Its closings cannot be made anew: the bitmaps stand for lists that the seats signed.
    let mut forged = listed_by_all(&t.w, &[&t.honest, &t.late]);
    let signed = listed_by_all(&t.w, &[&t.honest]);
    for (forged, signed) in forged.closings.iter_mut().zip(&signed.closings) {
        forged.signature = signed.signature;
    }
    let signer = forged.closings[0].seat;
    let expected = IsolationError::ClosingSignature(BadSignature { signer });
    assert_eq!(t.w.judge(t.block(forged)), Err(expected.into()));
    // The same commitment, had it been listed in time, would have been as good as the owner's.
    assert_eq!(t.w.judge(t.block(listed_by_all(&t.w, &[&t.honest, &t.late]))), Ok(()));
}

#[test]
fn a_commitment_smuggled_into_the_union_is_refused() {
    let t = theft();
    let mut smuggled = listed_by_all(&t.w, &[&t.honest, &t.late]);
    let index = smuggled.union.iter().position(|c| *c == t.late.commitment).unwrap();
    smuggled.closings.iter_mut().for_each(|closing| closing.listed[0] &= !(1 << index));
    let expected = IsolationError::ClosingForm(ClosingSetError::Unlisted { index });
    assert_eq!(t.w.judge(t.block(smuggled)), Err(expected.into()));
}

#[test]
fn anothers_opening_is_refused() {
    let mut w = World::task();
    let (honest, mine) = (w.commit(OWNER, &artefact(1)), w.commit(OTHER, &artefact(2)));
    let closings = listed_by_all(&w, &[&honest, &mine]);
    // The id of a commitment is made of its owner's key, so that nobody else can open it.
    assert_eq!(w.judge(w.proposal(OTHER, closings.clone(), honest.opening.clone())), not_committed());
    assert_eq!(w.judge(w.proposal(OWNER, closings.clone(), honest.opening)), Ok(()));
    assert_eq!(w.judge(w.proposal(OTHER, closings, mine.opening)), Ok(()));
}

#[test]
fn another_salt_or_another_model_than_the_committed_is_refused() {
    let mut w = World::task();
    let (mine, spare) = (w.commit(OWNER, &artefact(1)), w.commit(OWNER, &artefact(2)));
    let anothers = w.commit(OTHER, &artefact(1));
    let closings = listed_by_all(&w, &[&mine, &spare, &anothers]);
    let judge = |opening: Opening| w.judge(w.proposal(OWNER, closings.clone(), opening));
    // The count and everything else is true of the model; only the salt is another's.
    assert_eq!(judge(Opening { salt: anothers.opening.salt, ..mine.opening.clone() }), not_committed());
    // Both halves are this owner's own, but of two commitments.
    assert_eq!(judge(Opening { salt: spare.opening.salt, ..mine.opening.clone() }), not_committed());
    assert_eq!(judge(mine.opening.clone()), Ok(()));
    assert_eq!(judge(spare.opening.clone()), Ok(()));
}
