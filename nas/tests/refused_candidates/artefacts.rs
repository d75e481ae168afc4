//! Bytes that are not the one artefact of a model.

use podl_consensus::rules::{Blame, BlockError, IsolationError, WorkRuleError};
use podl_consensus::workload::WorkError;

use crate::world::{IMAGES, OWNER, World, artefact, bad_artefact, layers, shard, spec, workload};

/// Bytes before the parameters: the header, and 11 for each layer's description.
const PARAMETERS_AT: usize = 22 + 2 * 11;

fn verdict(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), BlockError> {
    let mut w = World::task();
    let good = artefact(1);
    assert_eq!(w.judge_bytes(&good, good.clone()), Ok(()), "the good twin");
    let mut bytes = good.clone();
    change(&mut bytes);
    w.judge_bytes(&good, bytes)
}

#[test]
fn truncated_artefacts_are_refused() {
    let expected = artefact(1).len() as u64;
    let what = "the artefact";
    let short = |got| bad_artefact(WorkError::Truncated { what, got, expected });
    assert_eq!(verdict(|bytes| bytes.truncate(bytes.len() - 1)), short(expected - 1));
    assert_eq!(verdict(|bytes| bytes.truncate(PARAMETERS_AT)), short(PARAMETERS_AT as u64));
    let header = WorkError::Truncated { what: "the artefact's header", got: 5, expected: 22 };
    assert_eq!(verdict(|bytes| bytes.truncate(5)), bad_artefact(header));
    let layers = WorkError::Truncated { what: "the layer descriptions", got: 8, expected: 22 };
    assert_eq!(verdict(|bytes| bytes.truncate(30)), bad_artefact(layers));
}

#[test]
fn a_trailing_byte_is_refused() {
    let extra = |extra| bad_artefact(WorkError::TrailingBytes { what: "the artefact", extra });
    assert_eq!(verdict(|bytes| bytes.push(0)), extra(1));
    assert_eq!(verdict(|bytes| bytes.extend([0; 100])), extra(100));
}

#[test]
fn a_second_encoding_of_the_same_model_is_refused() {
    // Four bits after the last weight of the first layer belong to no weight.
    let weights = 4 * 3 * 3 * 3;
    let bits = weights * usize::try_from(layers()[0].weight.total_bits()).unwrap();
    assert_eq!(bits % 8, 4);
    let what = "bits after the last value of a tensor are not zero".to_owned();
    assert_eq!(
        verdict(|bytes| bytes[PARAMETERS_AT + bits / 8] |= 0x80),
        bad_artefact(WorkError::NotCanonical { what })
    );
}

#[test]
fn other_bytes_than_an_artefact_are_refused() {
    let what = "it does not begin with the magic bytes".to_owned();
    let no_magic = bad_artefact(WorkError::NotCanonical { what });
    assert_eq!(verdict(|bytes| bytes[0] ^= 1), no_magic);
    assert_eq!(verdict(|bytes| *bytes = shard(3)), no_magic, "a shard");
    let empty = IsolationError::ArtefactBytes { got: 0, limit: spec().caps.artefact_bytes };
    assert_eq!(verdict(Vec::clear), Err(empty.into()));
}

#[test]
fn an_artefact_of_another_version_is_its_makers_fault() {
    let error = verdict(|bytes| bytes[8] = 2).unwrap_err();
    let what = "it is of version 2, this engine reads 1".to_owned();
    assert_eq!(Err(error.clone()), bad_artefact(WorkError::NotCanonical { what }));
    assert_eq!(
        error.blame(),
        Blame::Producer,
        "the task is of a version that this node has, so nothing here is out of date"
    );
}

#[test]
fn the_right_root_with_another_length_is_refused() {
    let mut w = World::task();
    let round = w.commit(OWNER, &artefact(1));
    let got = u64::from(round.opening.artefact_bytes);
    for expected in [1, round.opening.artefact_bytes - 1, round.opening.artefact_bytes + 1] {
        let mut lie = round.clone();
        lie.opening.artefact_bytes = expected;
        let refused = WorkRuleError::ArtefactBytes { got, expected };
        assert_eq!(w.judge(w.candidate(&[lie])), Err(refused.into()));
    }
    assert_eq!(w.judge(w.candidate(&[round])), Ok(()));
}

#[test]
fn an_artefact_that_is_not_to_be_had_is_nobodys_proof() {
    let mut w = World::task();
    let round = w.commit(OWNER, &artefact(1));
    let root = round.opening.model_root;
    w.h.blobs.remove(&root);
    let error = w.judge(w.candidate(&[round])).unwrap_err();
    assert_eq!(error, BlockError::NotAvailable(root));
    assert_ne!(error.blame(), Blame::Producer);
}

#[test]
fn an_artefact_over_the_cap_is_refused_before_its_bytes_are_asked_for() {
    let good = artefact(1);
    let bytes = u32::try_from(good.len()).unwrap();
    let world = |cap| {
        let mut spec = spec();
        spec.caps.artefact_bytes = cap;
        World::with_task(spec, workload(), &[shard(1)], |_, _| ())
    };
    let mut exact = world(bytes);
    assert_eq!(exact.judge_bytes(&good, good.clone()), Ok(()), "at the cap");

    let claim = exact.truth(&good);
    let mut over = world(bytes - 1);
    let round = over.h.commit_claim(over.parent, OWNER, good, claim.0, claim.1);
    // `prepare_import` sees no blob at all.
    let error = over.prepare(over.candidate(std::slice::from_ref(&round))).map(drop);
    assert_eq!(error, Err(IsolationError::ArtefactBytes { got: bytes, limit: bytes - 1 }.into()));
    // Who names fewer bytes to get past that is found out by the length, before anything is decoded.
    let mut lie = round;
    lie.opening.artefact_bytes = bytes - 1;
    let refused = WorkRuleError::ArtefactBytes { got: bytes.into(), expected: bytes - 1 };
    assert_eq!(over.judge(over.candidate(&[lie])), Err(refused.into()));
}

#[test]
fn a_small_file_that_announces_a_huge_network_is_refused() {
    // Hundreds of megabytes of weights by its header, in two hundred bytes.
    let error = verdict(|bytes| {
        bytes.truncate(22);
        bytes[21] = 16;
        for _ in 0..16 {
            bytes.extend_from_slice(&[11, 11, 0, 2, 1, 1, 1, 1, 4, 7, 7]);
        }
    });
    match error {
        Err(BlockError::Work(WorkRuleError::Artefact(WorkError::TooLarge { what, got, limit }))) => {
            assert_eq!((what, limit), ("the network (artefact bytes)", spec().caps.artefact_bytes.into()));
            assert!(got > 400_000_000, "{got}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn shapes_over_the_caps_are_refused() {
    let caps = spec().caps;
    let over = |what, got: u64, limit: u64| bad_artefact(WorkError::TooLarge { what, got, limit });
    let kernel = verdict(|bytes| bytes[22] = caps.kernel + 1);
    assert_eq!(kernel, over("a kernel side", u64::from(caps.kernel) + 1, caps.kernel.into()));
    let filters = verdict(|bytes| bytes[25] = 3);
    assert_eq!(filters, over("the number of filters", 4 + 3 * 256, caps.filters.into()));
    let layers = verdict(|bytes| bytes[21] = caps.conv_layers + 1);
    assert_eq!(
        layers,
        over("the number of convolution layers", u64::from(caps.conv_layers) + 1, caps.conv_layers.into())
    );
}

#[test]
fn more_work_than_the_cap_is_refused() {
    let good = artefact(1);
    let got = crate::world::network(layers()).macs() * u64::from(IMAGES);
    let world = |score_macs| {
        let mut spec = spec();
        spec.caps.score_macs = score_macs;
        World::with_task(spec, workload(), &[shard(1)], |_, _| ())
    };
    let mut exact = world(got);
    let (correct, mac_bits) = exact.truth(&good);
    assert_eq!(exact.judge_bytes(&good, good.clone()), Ok(()), "at the cap");
    let mut over = world(got - 1);
    let round = over.h.commit_claim(over.parent, OWNER, good, correct, mac_bits);
    let refused = bad_artefact(WorkError::TooManyMacs { got, limit: got - 1 });
    assert_eq!(over.judge(over.candidate(&[round])), refused);
}
