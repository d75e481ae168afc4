pub(super) use podl_consensus::testkit::golden_architecture as golden;
use podl_consensus::workload::{Architecture, Bounds, ConvLayer, FixedPoint, InputShape, Space};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[test]
fn golden_design() {
    let bounds = Bounds { lut: 100_000, throughput: 10 };
    let cost = evaluate(CostModel::Naqs, &golden(), InputShape::CIFAR, bounds).unwrap().unwrap();
    assert_eq!(cost, Cost { lut: 99_576, cycles: 5_832 });
    assert_eq!(format!("{:.3}", cost.images_per_second()), "17146.776");
}

#[test]
fn bounds_bite() {
    let least = smallest_lut(CostModel::Corrected, &golden(), InputShape::CIFAR).unwrap();
    let at = |lut, throughput| {
        evaluate(CostModel::Corrected, &golden(), InputShape::CIFAR, Bounds { lut, throughput }).unwrap()
    };
    assert!(at(least, 0).is_some());
    assert_eq!(at(least - 1, 0), None);
    let fastest = at(100_000, 5_000).unwrap();
    assert!(fastest.lut <= 100_000 && fastest.is_faster_than(5_000));
    assert_eq!(at(100_000, 1_000_000), None);
}

#[test]
fn faster_than_the_bound_is_strict() {
    let cost = Cost { lut: 1, cycles: 10_000 };
    assert!(cost.is_faster_than(9_999));
    assert!(!cost.is_faster_than(10_000));
    assert!(!cost.is_faster_than(u64::MAX));
}

#[test]
fn impossible_networks_are_refused() {
    let bounds = Bounds { lut: 100_000, throughput: 10 };
    let refused = |change: fn(&mut Architecture)| {
        let mut architecture = golden();
        change(&mut architecture);
        evaluate(CostModel::Corrected, &architecture, InputShape::CIFAR, bounds).unwrap_err()
    };
    assert_eq!(refused(|a| a.layers.clear()), CostError::NoLayers);
    assert_eq!(refused(|a| a.layers[2].stride[1] = 0), CostError::Zero { layer: 2 });
    assert_eq!(refused(|a| a.layers[5].act = FixedPoint::new(0, 0)), CostError::Bits { layer: 5, got: 0, least: 1 });
    assert_eq!(
        refused(|a| a.layers[0].weight = FixedPoint::new(9, 9)),
        CostError::Bits { layer: 0, got: 18, least: 1 }
    );
}

fn any_layer() -> impl Strategy<Value = ConvLayer> {
    let full = Space::full(6);
    let format = |int, frac| {
        (select(int), select(frac))
            .prop_map(|(int, frac)| FixedPoint::new(int, frac))
            .prop_filter("no bits", |format| format.total_bits() > 0)
    };
    let sizes = (select(full.kernel_height), select(full.kernel_width), select(full.filters));
    let steps = (select(full.stride_height), select(full.stride_width), select(full.pool));
    let formats = (format(full.act_int, full.act_frac), format(full.weight_int, full.weight_frac));
    (sizes, steps, formats).prop_map(|((height, width, filters), (down, right, pool), (act, weight))| ConvLayer {
        kernel: [height, width],
        filters,
        stride: [down, right],
        pool,
        act,
        weight,
    })
}

/// A network of the full space, of one to eight layers.
pub(super) fn any_network() -> impl Strategy<Value = Architecture> {
    proptest::collection::vec(any_layer(), 1..9).prop_map(|layers| Architecture { layers })
}
