use podl_chain_spec::ChainSpec;
use podl_consensus::workload::{
    Architecture, Bounds, ConvLayer, DenseConfig, FixedPoint, InputShape, Network, WorkloadVersions,
};

use super::*;
use crate::testing::{caps, model_of};

fn workload() -> Workload {
    let mut workload = Workload::filler(&ChainSpec::load("dev").unwrap());
    workload.space.conv_layers = 2;
    workload.bounds = Bounds { lut: 100_000, throughput: 1_000 };
    workload.shard_images = 30;
    workload
}

fn layers() -> Vec<ConvLayer> {
    let layer = |filters, stride| ConvLayer {
        kernel: [3, 3],
        filters,
        stride: [stride, stride],
        pool: 2,
        act: FixedPoint::new(1, 4),
        weight: FixedPoint::new(1, 5),
    };
    vec![layer(8, 1), layer(12, 2)]
}

fn model_with(layers: Vec<ConvLayer>, input: InputShape, classes: u16, dense: DenseConfig) -> Model {
    model_of(Network::new(&Architecture { layers }, input, classes, dense).unwrap(), 5)
}

fn model() -> Model {
    model_with(layers(), InputShape::CIFAR, 10, DenseConfig::default())
}

fn shard(images: u32) -> Vec<u8> {
    data::encode_dataset(&data::generate(&[1; 32], images))
}

/// What the verifier says about a model made of these layers, for a changed workload.
fn facts(change: impl FnOnce(&mut Workload, &mut Vec<ConvLayer>)) -> Result<ModelFacts, WorkError> {
    let (mut workload, mut layers) = (workload(), layers());
    change(&mut workload, &mut layers);
    let artefact = model_with(layers, InputShape::CIFAR, 10, DenseConfig::default()).encode();
    Verifier::new(1).model_facts(&workload, &caps(), &artefact)
}

#[test]
fn a_good_model_has_facts_and_a_score() {
    let (workload, caps, model) = (workload(), caps(), model());
    let artefact = model.encode();
    let facts = Verifier::new(1).model_facts(&workload, &caps, &artefact).unwrap();
    assert_eq!(facts.architecture, model.network().architecture());
    assert_eq!((facts.macs, facts.mac_bits), (model.network().macs(), model.network().mac_bits()));
    assert!(facts.lut <= 100_000 && facts.cycles < 100_000);
    let shard = shard(30);
    assert_eq!(Verifier::new(1).parse_shard(&workload, &caps, &shard), Ok(30));
    let score = Verifier::new(1).score(&workload, &caps, &artefact, &shard).unwrap();
    for threads in 2..=4 {
        assert_eq!(Verifier::new(threads).score(&workload, &caps, &artefact, &shard), Ok(score));
    }
    let images = data::generate(&[1; 32], 30);
    let plain = (0..30).filter(|&i| {
        crate::engine::reference::classify(&model, &workload.input_table, images.image(i)) == images.labels[i]
    });
    assert_eq!(score as usize, plain.count());
}

#[test]
fn other_networks_than_the_tasks_are_refused() {
    let outside = |result: Result<ModelFacts, WorkError>| match result {
        Err(WorkError::OutsideSpace { what }) => what,
        other => panic!("{other:?}"),
    };
    let what = outside(facts(|_, layers| layers[1].filters = 13));
    assert_eq!(what, "layer 1: number of filters 13 is not one of [4, 8, 12, 24, 36, 64, 128]");
    assert!(outside(facts(|_, layers| layers.truncate(1))).contains("1 convolution layers, the space has 2"));
    assert!(outside(facts(|workload, _| workload.space.pool = vec![1])).contains("pool window 2"));
    assert!(outside(facts(|workload, _| workload.classes = 9)).contains("10 classes, the task has 9"));
    assert!(outside(facts(|workload, _| workload.space.dense.width = 128)).contains("dense layers"));
    assert!(outside(facts(|workload, _| workload.input.height = 31)).contains("input"));
}

/// Values take sixteen times the bytes that they have in an artefact: what the task does not admit is refused by its header.
#[test]
fn nothing_is_unpacked_for_a_network_that_the_task_does_not_admit() {
    let (workload, mut layers) = (workload(), layers());
    layers[1].filters = 13;
    let mut bytes = model_with(layers, InputShape::CIFAR, 10, DenseConfig::default()).encode();
    // Two bits after the biases of the second layer, 13 of 6 bits, belong to no value.
    let weights = [8 * 3 * 9, 13 * 8 * 9].map(|count| count * 6 / 8);
    let last = 22 + 2 * 11 + weights[0] + 6 + weights[1] + 9;
    bytes[last] |= 0x80;
    let facts = |caps: &Caps| Verifier::new(1).model_facts(&workload, caps, &bytes).unwrap_err();
    assert!(matches!(crate::artefact::decode(&bytes, &caps()), Err(WorkError::NotCanonical { .. })));
    assert!(matches!(facts(&caps()), WorkError::OutsideSpace { .. }));
}

#[test]
fn networks_over_the_bounds_are_refused() {
    let over = facts(|workload, _| workload.bounds = Bounds { lut: 10, throughput: 1 }).unwrap_err();
    assert!(matches!(over, WorkError::OverLut { bound: 10, got: 11.. }), "{over}");
    let slow = facts(|workload, _| workload.bounds.throughput = 1_000_000).unwrap_err();
    assert!(matches!(slow, WorkError::UnderThroughput { bound: 1_000_000, got: 1.. }), "{slow}");
    let (workload, artefact) = (workload(), model().encode());
    let macs = model().network().macs() * 30;
    let tight = |score_macs| Verifier::new(1).model_facts(&workload, &Caps { score_macs, ..caps() }, &artefact);
    assert!(tight(macs).is_ok());
    assert_eq!(tight(macs - 1), Err(WorkError::TooManyMacs { got: macs, limit: macs - 1 }));
}

#[test]
fn wrong_bytes_are_refused_everywhere() {
    let (verifier, workload, caps) = (Verifier::new(1), workload(), caps());
    let (artefact, shard) = (model().encode(), shard(30));
    let facts = |bytes: &[u8]| verifier.model_facts(&workload, &caps, bytes).unwrap_err();
    assert!(matches!(facts(&artefact[..artefact.len() - 1]), WorkError::Truncated { .. }));
    assert!(matches!(facts(&[&artefact[..], &[0]].concat()), WorkError::TrailingBytes { extra: 1, .. }));
    assert!(matches!(facts(&[]), WorkError::Truncated { .. }));
    assert!(matches!(facts(&vec![0; 17 << 20]), WorkError::TooLarge { .. }));
    assert!(matches!(facts(&shard), WorkError::NotCanonical { .. }), "a shard is no artefact");

    let parse = |bytes: &[u8]| verifier.parse_shard(&workload, &caps, bytes).unwrap_err();
    assert!(matches!(parse(&shard[..shard.len() - 1]), WorkError::Truncated { .. }));
    assert!(matches!(parse(&[&shard[..], &[0]].concat()), WorkError::TrailingBytes { extra: 1, .. }));
    assert!(matches!(parse(&artefact), WorkError::ShardMalformed { .. }), "an artefact is no shard");
    for images in [0, 29, 31] {
        assert_eq!(parse(&self::shard(images)), WorkError::ShardSize { got: images, expected: 30 });
    }
    let score = |artefact: &[u8], shard: &[u8]| verifier.score(&workload, &caps, artefact, shard).unwrap_err();
    assert_eq!(score(&artefact, &shard[..99]), parse(&shard[..99]));
    assert_eq!(score(&artefact[..99], &shard), facts(&artefact[..99]));
}

#[test]
fn other_versions_are_not_judged() {
    let versions = workload().versions;
    let unknown = |versions: WorkloadVersions| facts(|workload, _| workload.versions = versions).unwrap_err();
    let engine = unknown(WorkloadVersions { engine: 2, ..versions });
    assert_eq!(engine, WorkError::UnknownVersion { what: "engine", got: 2, expected: 1 });
    let cost_model = unknown(WorkloadVersions { cost_model: 9, ..versions });
    assert_eq!(cost_model, WorkError::UnknownVersion { what: "cost model", got: 9, expected: 1 });
    let mut workload = workload();
    workload.versions.generator = 0;
    let generator = Verifier::new(1).filler_shard(&workload, &caps(), [0; 32]).unwrap_err();
    assert_eq!(generator, WorkError::UnknownVersion { what: "generator", got: 0, expected: 1 });
}

#[test]
fn filler_shards_follow_the_seed() {
    let (verifier, mut workload, caps) = (Verifier::new(1), workload(), caps());
    let first = verifier.filler_shard(&workload, &caps, [1; 32]).unwrap();
    assert_eq!(first, shard(30));
    assert_eq!(verifier.parse_shard(&workload, &caps, &first), Ok(30));
    assert_ne!(first, verifier.filler_shard(&workload, &caps, [2; 32]).unwrap());
    workload.shard_images = u32::MAX;
    assert!(matches!(verifier.filler_shard(&workload, &caps, [1; 32]), Err(WorkError::TooLarge { .. })));
    workload.classes = 9;
    assert!(matches!(verifier.filler_shard(&workload, &caps, [1; 32]), Err(WorkError::BadWorkload { .. })));
}
