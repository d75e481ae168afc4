//! Models that are not of the task's search space.

use podl_consensus::rules::{BlockError, WorkRuleError};
use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network, WorkError};

use crate::world::{OWNER, World, artefact, layers, model};

/// What the refusal of such a model says.
fn outside(network: Network) -> String {
    let mut w = World::task();
    let good = artefact(1);
    assert_eq!(w.judge_bytes(&good, good.clone()), Ok(()), "the good twin");
    // The claim is true of this model too, where it can be scored at all; space comes before any score.
    let mac_bits = network.mac_bits();
    let bytes = model(network, 1).encode();
    let round = w.h.commit_claim(w.parent, OWNER, bytes, 0, mac_bits);
    match w.judge(w.candidate(&[round])) {
        Err(BlockError::Work(WorkRuleError::Artefact(WorkError::OutsideSpace { what }))) => what,
        other => panic!("{other:?}"),
    }
}

fn with_layers(change: impl FnOnce(&mut Vec<ConvLayer>)) -> String {
    let mut layers = layers();
    change(&mut layers);
    outside(crate::world::network(layers))
}

#[test]
fn settings_outside_the_lists_are_refused() {
    let filters = with_layers(|layers| layers[1].filters = 13);
    assert_eq!(filters, "layer 1: number of filters 13 is not one of [4, 8, 12, 24, 36, 64, 128]");
    let kernel = with_layers(|layers| layers[0].kernel = [2, 3]);
    assert_eq!(kernel, "layer 0: kernel height 2 is not one of [1, 3, 5, 7, 9]");
    let weight = with_layers(|layers| layers[0].weight = FixedPoint::new(5, 0));
    assert_eq!(weight, "layer 0: weight integer bits 5 is not one of [0, 1, 2, 3, 4]");
}

#[test]
fn another_number_of_layers_is_refused() {
    assert_eq!(with_layers(|layers| layers.truncate(1)), "1 convolution layers, the space has 2");
    assert_eq!(with_layers(|layers| layers.push(layers[1].clone())), "3 convolution layers, the space has 2");
}

#[test]
fn what_the_task_fixes_is_not_the_miners_to_choose() {
    let network = |input, classes, dense| Network::new(&Architecture { layers: layers() }, input, classes, dense);
    let (input, dense) = (InputShape::CIFAR, DenseConfig::default());
    let classes = outside(network(input, 11, dense).unwrap());
    assert_eq!(classes, "11 classes, the task has 10");
    let width = outside(network(input, 10, DenseConfig { width: 255, ..dense }).unwrap());
    assert!(width.starts_with("dense layers"), "{width}");
    let small = outside(network(InputShape { height: 31, ..input }, 10, dense).unwrap());
    assert!(small.starts_with("input"), "{small}");
}
