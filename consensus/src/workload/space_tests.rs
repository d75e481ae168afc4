use podl_chain_spec::{Caps, ChainSpec};
use proptest::prelude::*;

use super::super::{Architecture, Bounds, ConvLayer, FixedPoint, InputShape, Network, PRESET_NAMES, Space, SpaceError};
use super::super::{Workload, WorkloadError};
use crate::testkit::golden_architecture;

fn caps() -> Caps {
    ChainSpec::load("dev").unwrap().caps
}

/// All settings of one layer, by plain enumeration.
fn every_layer(space: &Space) -> Vec<ConvLayer> {
    let mut layers = Vec::new();
    for &kh in &space.kernel_height {
        for &kw in &space.kernel_width {
            for &filters in &space.filters {
                for &sh in &space.stride_height {
                    for &sw in &space.stride_width {
                        for &pool in &space.pool {
                            let (act, weight) = (FixedPoint::new(1, 4), FixedPoint::new(1, 5));
                            layers.push(ConvLayer { kernel: [kh, kw], filters, stride: [sh, sw], pool, act, weight });
                        }
                    }
                }
            }
        }
    }
    layers
}

#[test]
fn presets_are_publishable_and_named() {
    for name in PRESET_NAMES {
        let space = Space::preset(name, 6).unwrap();
        space.validate(&caps()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(space.contains(&space.largest_architecture().unwrap()), "{name}");
    }
    assert_eq!(Space::preset("full", 6).unwrap(), Space::full(6));
    assert!(Space::preset("S10", 6).is_none());
}

#[test]
fn sizes_are_the_papers() {
    let full = Space::full(6);
    assert_eq!(full.listed_settings_per_layer(), 8_575_000);
    // 1 of 28 activation pairs and 1 of 35 weight pairs have no bits.
    assert_eq!(full.settings_per_layer(), 8_575_000 / (28 * 35) * (27 * 34));
    // Five layers are the most of the full space that 128 bits count.
    assert_eq!(Space::full(5).cardinality(), 8_032_500u128 * 8_032_500u128.pow(4));
    assert_eq!(Space::full(6).cardinality(), u128::MAX);
    // S9 by hand: 3*3 kernels, 2 filters, 3*3 strides, 1 pool, 2*2 and 2*2 bits.
    assert_eq!(Space::preset("S9", 2).unwrap().cardinality(), (9 * 2 * 9 * 16u128).pow(2));
    let s3 = Space::preset("S3", 6).unwrap();
    assert!(!s3.stride_height.contains(&0) && !s3.stride_width.contains(&0));
}

#[test]
fn wrong_spaces_are_refused_with_the_field() {
    let caps = caps();
    let refused = |change: fn(&mut Space)| {
        let mut space = Space::full(6);
        change(&mut space);
        space.validate(&caps).unwrap_err()
    };
    assert_eq!(refused(|s| s.filters.clear()), SpaceError::Empty { field: "filters" });
    let unsorted = SpaceError::Unsorted { field: "pool", first: 2, second: 1 };
    assert_eq!(refused(|s| s.pool.reverse()), unsorted);
    let repeated = SpaceError::Unsorted { field: "act_int", first: 3, second: 3 };
    assert_eq!(refused(|s| s.act_int.push(3)), repeated);
    assert!(matches!(refused(|s| s.stride_width.insert(0, 0)), SpaceError::Range { field: "stride_width", .. }));
    assert!(matches!(refused(|s| s.kernel_height.push(255)), SpaceError::Range { field: "kernel_height", .. }));
    assert!(matches!(refused(|s| s.weight_frac.push(14)), SpaceError::Range { got: 18, .. }));
    assert!(matches!(refused(|s| s.conv_layers = 0), SpaceError::Range { field: "conv_layers", .. }));
    assert!(matches!(refused(|s| s.dense.width = 0), SpaceError::Range { field: "dense.width", .. }));
    let no_bits = refused(|s| {
        s.act_int = vec![0];
        s.act_frac = vec![0];
    });
    assert!(matches!(no_bits, SpaceError::NoBits { .. }));
}

#[test]
fn pairs_without_bits_are_never_inside() {
    let space = Space::full(1);
    let mut architecture = space.largest_architecture().unwrap();
    assert!(space.contains(&architecture));
    architecture.layers[0].weight = FixedPoint::new(0, 0);
    assert!(space.check(&architecture).unwrap_err().contains("weights of 0 bits"));
    architecture.layers[0].weight = FixedPoint::new(0, 1);
    assert!(space.contains(&architecture));
    architecture.layers[0].act = FixedPoint::new(0, 0);
    assert!(!space.contains(&architecture));
    architecture.layers[0].act = FixedPoint::new(4, 0);
    assert!(space.check(&architecture).unwrap_err().contains("activation integer bits 4"));
    assert!(!Space::full(2).contains(&architecture));
}

#[test]
fn workload_checks_its_fields() {
    let spec = ChainSpec::load("dev").unwrap();
    let filler = Workload::filler(&spec);
    filler.validate(&spec.caps).unwrap();
    assert_eq!((filler.input_table[2][0], filler.input_table[2][255]), (-512, 508));
    let refused = |change: fn(&mut Workload)| {
        let mut workload = filler.clone();
        change(&mut workload);
        match workload.validate(&spec.caps).unwrap_err() {
            WorkloadError::Range { what, .. } => what,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(|w| w.bounds = Bounds { lut: 0, throughput: 1 }), "the LUT bound");
    assert_eq!(refused(|w| w.bounds.throughput = 0), "the throughput bound");
    assert_eq!(refused(|w| w.input.width = 65), "the input width");
    assert_eq!(refused(|w| w.classes = 1), "the number of classes");
    assert_eq!(refused(|w| w.input_table.truncate(2)), "the number of normalisation tables");
    assert_eq!(refused(|w| w.input_table[1].truncate(255)), "the length of a normalisation table");
    assert_eq!(refused(|w| w.shard_images = u32::MAX), "the number of images in a shard");
}

#[test]
fn golden_network_by_hand() {
    let network = Network::new(&golden_architecture(), InputShape::CIFAR, 10, Space::full(6).dense).unwrap();
    let convs = 1024 * 36 * 27 + (256 + 64 + 16 + 4 + 1) * 36 * 324;
    assert_eq!(network.macs(), convs + 36 * 256 + 256 * 10);
    let bits = 1024 * 36 * 27 * 7 * 6 + (256 + 64 + 16 + 4 + 1) * 36 * 324 * 5 * 6;
    assert_eq!(network.mac_bits(), bits + 36 * 256 * 5 * 8 + 2560 * 8 * 8);
    assert_eq!(network.parameters(), 36 * 28 + 5 * 36 * 325 + 37 * 256 + 257 * 10);
    assert_eq!((network.convs[0].rows.padded(), network.convs[5].out_height()), (34, 1));
}

/// A non-empty sorted list of some of `values`.
fn some_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    proptest::sample::subsequence(values, 1..=2.min(values.len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The claimed maximum is the maximum of an exhaustive search over two-layer networks.
    #[test]
    fn largest_is_the_maximum(
        kernels in (some_of(&[1u8, 2, 3, 5]), some_of(&[1u8, 2, 3, 5])),
        filters in some_of(&[1u16, 3, 8]),
        strides in (some_of(&[1u8, 2, 3, 5]), some_of(&[1u8, 2, 3, 5])),
        pool in some_of(&[1u8, 2, 3]),
        (height, width) in (1u8..9, 1u8..9),
    ) {
        let space = Space {
            kernel_height: kernels.0, kernel_width: kernels.1, filters,
            stride_height: strides.0, stride_width: strides.1, pool, ..Space::full(2)
        };
        let input = InputShape { channels: 2, height, width };
        let layers = every_layer(&space);
        let mut best = 0;
        for first in &layers {
            for second in &layers {
                let pair = Architecture { layers: vec![first.clone(), second.clone()] };
                best = best.max(Network::new(&pair, input, 3, space.dense).unwrap().training_macs());
            }
        }
        prop_assert_eq!(space.largest_training_macs(input, 3).unwrap(), best);
    }

    #[test]
    fn space_round_trips(conv_layers in 1u8..17, filters in some_of(&[1u16, 200, 512])) {
        let space = Space { filters, ..Space::full(conv_layers) };
        let bytes = postcard::to_stdvec(&space).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Space>(&bytes).unwrap(), space);
    }
}
