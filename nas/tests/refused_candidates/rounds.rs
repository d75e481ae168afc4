//! What a later round asks of a model: to beat the winner, or the publisher's baseline, on the fresh shard.

use std::sync::Arc;

use podl_consensus::rules::{Blame, BlockError, WorkRuleError};
use podl_consensus::workload::WorkError;
use podl_nas::data::generate;
use podl_nas::train::{ThreadPool, TrainConfig, TrainJob, train_child};

use crate::world::{OTHER, OWNER, World, artefact, layers, network, shard, spec, workload};

/// A model that saw a few thousand images: well above chance, and the same bytes on every machine.
fn trained() -> Vec<u8> {
    let (network, workload) = (network(layers()), workload());
    let config = TrainConfig { epochs: 4, ..TrainConfig::default() };
    let data = generate(&[9; 32], 3_000);
    let job =
        TrainJob { network: &network, input_table: &workload.input_table, data: &data, config: &config, seed: [7; 32] };
    let pool = Arc::new(ThreadPool::new(2).unwrap());
    train_child(&job, &pool, &Arc::default(), &mut |_| ()).unwrap().model.encode()
}

fn too_little(got: u32, baseline: u32, gain: u32) -> Result<(), BlockError> {
    Err(WorkRuleError::MinGain { got, baseline, need: u64::from(baseline + gain) }.into())
}

#[test]
fn the_winner_of_the_last_round_cannot_win_again() {
    let mut w = World::task();
    let winner = artefact(1);
    let round = w.commit(OWNER, &winner);
    let won = w.candidate(&[round]);
    w.take(won);
    assert_eq!(w.h.interval(w.parent).round, 2);

    let (baseline, _) = w.truth(&winner);
    for owner in [OWNER, OTHER] {
        // By its owner or as a copy under another's name: it scores what it scores.
        let again = w.commit(owner, &winner);
        assert_eq!(w.judge(w.candidate(&[again])), too_little(baseline, baseline, 1));
    }
    let better = trained();
    let (correct, _) = w.truth(&better);
    assert!(correct > baseline, "{correct} of the trained model, {baseline} of the winner");
    let round = w.commit(OTHER, &better);
    let block = w.candidate(&[round]);
    w.take(block);
}

#[test]
fn a_gain_that_was_asked_for_must_be_reached() {
    let (baseline, better) = (artefact(1), trained());
    let world = |gain| {
        World::with_task(spec(), workload(), &[shard(1)], |h, task| {
            task.baseline = Some(h.blobs.put(baseline.clone()));
            task.min_gain = gain;
        })
    };
    let (low, high) = (world(1).truth(&baseline).0, world(1).truth(&better).0);
    assert!(high > low + 1, "{high} of the trained model, {low} of the baseline");
    let judge = |gain| {
        let mut w = world(gain);
        let round = w.commit(OWNER, &better);
        w.judge(w.candidate(&[round]))
    };
    assert_eq!(judge(high - low), Ok(()));
    assert_eq!(judge(high - low + 1), too_little(high, low, high - low + 1));
}

#[test]
fn a_baseline_that_cannot_be_scored_stops_nobody() {
    let spoil: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes.truncate(bytes.len() - 1), |bytes| bytes[0] = 0, |bytes| bytes[8] = 2];
    for spoil in spoil {
        let mut bytes = artefact(2);
        spoil(&mut bytes);
        let mut w = World::with_task(spec(), workload(), &[shard(1)], |h, task| {
            task.baseline = Some(h.blobs.put(bytes));
        });
        let round = w.commit(OWNER, &artefact(1));
        assert!(round.opening.correct > 0);
        assert_eq!(w.judge(w.candidate(&[round])), Ok(()));
    }
}

#[test]
fn a_shard_that_is_no_data_set_is_the_publishers_fault() {
    // A version byte that no data set has: the key counts as not released, which every node must see alike.
    let mut other = shard(1);
    other[8] = 2;
    let mut w = World::with_task(spec(), workload(), &[other], |_, _| ());
    let round = w.h.commit_claim(w.parent, OWNER, artefact(1), 1, 1);
    let error = w.judge(w.candidate(&[round])).unwrap_err();
    let what = "it is of version 2, this node reads 1".to_owned();
    assert_eq!(error, WorkRuleError::Shard(WorkError::ShardMalformed { what }).into());
    assert_eq!(error.blame(), Blame::Producer);
}
