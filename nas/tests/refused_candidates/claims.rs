//! Scores and tie-breakers that are not the model's.

use podl_consensus::rules::WorkRuleError;

use crate::world::{OWNER, World, artefact};

/// The verdicts on claims that are off by so much, on a task's shard or on filler.
fn check_claims(mut w: World) {
    let bytes = artefact(1);
    let (correct, mac_bits) = w.truth(&bytes);
    assert!(correct > 0, "the tests need a count that can be understated");
    let mut judge = |correct, mac_bits| {
        let round = w.h.commit_claim(w.parent, OWNER, bytes.clone(), correct, mac_bits);
        w.judge(w.candidate(&[round]))
    };
    for got in [correct - 1, correct + 1, 0, u32::MAX] {
        assert_eq!(judge(got, mac_bits), Err(WorkRuleError::Count { got, expected: correct }.into()));
    }
    for got in [mac_bits - 1, mac_bits + 1, 0] {
        assert_eq!(judge(correct, got), Err(WorkRuleError::MacBits { got, expected: mac_bits }.into()));
    }
    assert_eq!(judge(correct, mac_bits), Ok(()));
}

#[test]
fn false_claims_on_a_tasks_shard_are_refused() {
    check_claims(World::task());
}

#[test]
fn false_claims_on_filler_are_refused() {
    check_claims(World::filler());
}

#[test]
fn true_claims_make_blocks() {
    for mut w in [World::task(), World::filler()] {
        let (height, round) = (w.h.meta(w.parent).height, w.commit(OWNER, &artefact(1)));
        let block = w.candidate(&[round]);
        w.take(block);
        assert_eq!(w.h.meta(w.parent).height, height + 1);
    }
}
