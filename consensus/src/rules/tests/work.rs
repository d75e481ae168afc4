//! Vectors of the rules about artefact, shard and score.

use super::{Fixture, fixture};
use crate::rules::{BlockError, WorkRuleError};
use crate::shard::{ShardError, seal_shard};
use crate::testkit::{FakeVerifier, fake_artefact, fake_shard, number_hash};
use crate::types::{PublishTask, ShardKey};
use crate::workload::WorkError;

fn work(error: BlockError) -> WorkRuleError {
    match error {
        BlockError::Work(error) => error,
        error => panic!("not a rule of the work: {error}"),
    }
}

impl Fixture {
    /// The verdict on a candidate with this artefact and this claim.
    fn claim(&mut self, artefact: Vec<u8>, correct: u32) -> Result<(), WorkRuleError> {
        let parent = self.parent;
        let round = self.h.commit_artefact(parent, 4, artefact, correct);
        let block = self.scored_with(&[round], 0);
        self.h.import(block).map(drop).map_err(work)
    }

    /// Publishes and opens a task that was changed in some way, on a fresh chain.
    fn with_task(change: impl FnOnce(&mut Fixture, &mut PublishTask)) -> Self {
        let mut f = fixture();
        let genesis = f.h.genesis();
        let (mut task, keys) = f.h.task(2);
        change(&mut f, &mut task);
        let (publish, id) = f.h.publish(7, 0, task, keys);
        let parts = crate::chain::BlockParts { transactions: vec![publish], ..Default::default() };
        let block = f.h.idle(genesis, 0, None, parts);
        let published = f.h.import(block).unwrap().hash;
        let votes = f.h.votes(published, &[id]);
        let block = f.h.idle(published, 0, None, crate::chain::BlockParts { votes, ..Default::default() });
        f.parent = f.h.import(block).unwrap().hash;
        f.task = id;
        assert_eq!(f.h.interval(f.parent).task, id);
        f
    }
}

#[test]
fn a_true_claim_on_a_canonical_artefact_holds() {
    let mut f = fixture();
    f.claim(fake_artefact(20, 1000, 0), 20).unwrap();
    // Scores are capped by the images of the shard.
    f.claim(fake_artefact(90, 1000, 0), 50).unwrap();
}

#[test]
fn false_counts_and_false_tie_breakers_are_refused() {
    let mut f = fixture();
    let error = f.claim(fake_artefact(20, 1000, 0), 21);
    assert_eq!(error, Err(WorkRuleError::Count { got: 21, expected: 20 }));
    let error = f.claim(fake_artefact(20, 1000, 0), 19);
    assert_eq!(error, Err(WorkRuleError::Count { got: 19, expected: 20 }));
    let error = f.claim(fake_artefact(20, 999, 0), 20);
    assert_eq!(error, Err(WorkRuleError::MacBits { got: 1000, expected: 999 }));
}

#[test]
fn artefacts_of_another_length_or_not_admissible_are_refused() {
    let mut f = fixture();
    let mut round = f.h.commit(f.parent, 4, 20);
    round.opening.artefact_bytes += 1;
    let block = f.scored_with(&[round], 0);
    assert_eq!(work(f.judge(block)), WorkRuleError::ArtefactBytes { got: 24, expected: 25 });
    let mut truncated = fake_artefact(20, 1000, 0);
    truncated.pop();
    assert!(matches!(f.claim(truncated, 20), Err(WorkRuleError::Artefact(WorkError::Truncated { .. }))));
    let mut outside = fake_artefact(20, 1000, 0);
    outside[0] = 0;
    assert!(matches!(f.claim(outside, 20), Err(WorkRuleError::Artefact(WorkError::OutsideSpace { .. }))));
}

#[test]
fn a_key_that_opens_something_else_counts_as_not_released() {
    // The publisher declares a plaintext that it did not seal.
    let mut f = Fixture::with_task(|_, task| task.shards[0].plain_root = number_hash(99));
    let block = f.scored();
    assert!(matches!(work(f.judge(block)), WorkRuleError::Sealed(ShardError::PlainRoot { .. })));
    let idle = f.idle(true);
    assert!(matches!(work(f.judge(idle)), WorkRuleError::Sealed(ShardError::PlainRoot { .. })));
    // Void is what is left.
    let void = f.void();
    f.h.import(void).unwrap();
}

#[test]
fn a_shard_of_another_form_counts_as_not_released() {
    let reseal = |f: &mut Fixture, task: &mut PublishTask, plain: Vec<u8>| {
        let key = ShardKey(number_hash(777).0);
        let (shard, sealed) = seal_shard(&key, &plain);
        f.h.blobs.put(sealed);
        task.shards[0] = shard;
    };
    for plain in [b"garbage".to_vec(), fake_shard(49, [1; 32])] {
        let mut f = Fixture::with_task(|f, task| reseal(f, task, plain));
        f.h.shard_keys.get_mut(&f.task).unwrap()[0] = ShardKey(number_hash(777).0);
        let block = f.scored();
        assert!(matches!(work(f.judge(block)), WorkRuleError::Shard(_)));
        let idle = f.idle(true);
        assert!(matches!(work(f.judge(idle)), WorkRuleError::Shard(_)));
        let interval = f.h.interval(f.parent);
        let job = f.h.chain.shard_job(&interval, f.h.shard_key(&interval)).unwrap();
        assert!(matches!(job.shard(&f.h.blobs, &FakeVerifier), Err(BlockError::Work(_))));
    }
}

#[test]
fn a_good_key_leads_miners_to_the_shard() {
    let f = fixture();
    let interval = f.h.interval(f.parent);
    let job = f.h.chain.shard_job(&interval, f.h.shard_key(&interval)).unwrap();
    let shard = job.shard(&f.h.blobs, &FakeVerifier).unwrap();
    assert!(shard.starts_with(b"SHRD"));
    assert!(f.h.chain.shard_job(&interval, None).is_none(), "a task has a key");
    let filler = f.h.interval(f.h.genesis());
    let job = f.h.chain.shard_job(&filler, None).unwrap();
    assert_eq!(*job.shard(&f.h.blobs, &FakeVerifier).unwrap(), fake_shard(100, filler.filler_seed().unwrap()));
}

#[test]
fn the_first_round_must_beat_the_publishers_baseline() {
    let mut f = Fixture::with_task(|f, task| {
        task.baseline = Some(f.h.blobs.put(fake_artefact(10, 1, 1)));
        task.min_gain = 3;
    });
    let error = f.claim(fake_artefact(12, 1000, 0), 12);
    assert_eq!(error, Err(WorkRuleError::MinGain { got: 12, baseline: 10, need: 13 }));
    f.claim(fake_artefact(13, 1000, 0), 13).unwrap();
    // What a miner finds out before it shows its model.
    let interval = f.h.interval(f.parent);
    let job = f.h.chain.shard_job(&interval, f.h.shard_key(&interval)).unwrap();
    let beats = |correct| job.check_gain(correct, &f.h.blobs, &FakeVerifier);
    assert_eq!(beats(13).unwrap(), Some(10));
    let short = BlockError::Work(WorkRuleError::MinGain { got: 12, baseline: 10, need: 13 });
    assert_eq!(beats(12).unwrap_err().to_string(), short.to_string());
}

#[test]
fn a_baseline_that_cannot_be_scored_stops_nobody() {
    let mut f = Fixture::with_task(|f, task| task.baseline = Some(f.h.blobs.put(b"no model".to_vec())));
    let zero = f.claim(fake_artefact(0, 1000, 0), 0);
    assert_eq!(zero, Err(WorkRuleError::MinGain { got: 0, baseline: 0, need: 1 }));
    f.claim(fake_artefact(1, 1000, 0), 1).unwrap();
}

#[test]
fn a_gain_of_nothing_still_keeps_copies_out() {
    let mut f = Fixture::with_task(|_, task| task.min_gain = 0);
    f.claim(fake_artefact(20, 1000, 0), 20).unwrap();
    let won = f.scored();
    f.parent = f.h.import(won).unwrap().hash;
    let copy = f.claim(fake_artefact(20, 1000, 0), 20);
    assert_eq!(copy, Err(WorkRuleError::MinGain { got: 20, baseline: 20, need: 21 }));
}

#[test]
fn the_cache_never_changes_a_verdict() {
    // Two tasks share a plaintext root, but the second's sealed blob is not what it seals.
    let mut f = fixture();
    let block = f.scored();
    f.h.import(block).unwrap();
    let good = f.h.interval(f.parent).published.unwrap().shard;
    let mut lie = f.h.interval(f.parent);
    let other = f.h.blobs.put(b"something else".to_vec());
    lie.published.as_mut().unwrap().shard.sealed = other;
    let key = f.h.shard_key(&lie);
    let job = f.h.chain.shard_job(&lie, key).unwrap();
    assert!(job.shard(&f.h.blobs, &FakeVerifier).is_err());
    lie.published.as_mut().unwrap().shard = good;
    f.h.chain.shard_job(&lie, key).unwrap().shard(&f.h.blobs, &FakeVerifier).unwrap();
}
