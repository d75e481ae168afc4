//! Random networks for property tests.

use podl_chain_spec::{Caps, ChainSpec};
use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};
use proptest::prelude::*;

use crate::artefact::{Model, Parameters};

pub(crate) fn caps() -> Caps {
    ChainSpec::load("dev").unwrap().caps
}

fn format(most_int: u8, most_frac: u8) -> impl Strategy<Value = FixedPoint> {
    (0..=most_int, 0..=most_frac)
        .prop_map(|(int, frac)| FixedPoint::new(int, frac))
        .prop_filter("a format has bits", |f| f.total_bits() > 0)
}

fn layer() -> impl Strategy<Value = ConvLayer> {
    let kernel = [1u8..=7, 1u8..=7];
    let stride = [1u8..=4, 1u8..=4];
    (kernel, 1u16..20, stride, 1u8..=2, format(7, 7), format(7, 7)).prop_map(
        |(kernel, filters, stride, pool, act, weight)| ConvLayer { kernel, filters, stride, pool, act, weight },
    )
}

/// A network of up to four layers on small odd-shaped inputs.
pub(crate) fn network() -> impl Strategy<Value = Network> {
    let input =
        (1u8..=4, 1u8..=17, 1u8..=17).prop_map(|(channels, height, width)| InputShape { channels, height, width });
    let dense =
        (1u16..20, format(7, 7), format(7, 7)).prop_map(|(width, act, weight)| DenseConfig { width, act, weight });
    (proptest::collection::vec(layer(), 1..=4), input, 2u16..12, dense).prop_map(|(layers, input, classes, dense)| {
        Network::new(&Architecture { layers }, input, classes, dense).unwrap()
    })
}

/// Next number of a small deterministic generator (SplitMix64).
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A model of that network with parameters from `seed`: uniform, or (every fourth seed) only the extremes.
pub(crate) fn model_of(network: Network, seed: u64) -> Model {
    let mut state = seed;
    let mut tensor = |count: u64, format: FixedPoint| -> Vec<i16> {
        let (low, high) = format.signed_range();
        let span = (high - low + 1).cast_unsigned();
        let value = |raw: u64| {
            if seed.is_multiple_of(4) {
                if raw.is_multiple_of(2) { low } else { high }
            } else {
                low + (raw % span).cast_signed()
            }
        };
        (0..count).map(|_| i16::try_from(value(next(&mut state))).unwrap()).collect()
    };
    let mut layers: Vec<Parameters> = Vec::new();
    for conv in &network.convs {
        let outputs = u64::from(conv.out_channels());
        layers.push(Parameters {
            weights: tensor(outputs * conv.fan_in(), conv.layer.weight),
            biases: tensor(outputs, conv.layer.weight),
        });
    }
    for shape in [network.hidden, network.output] {
        layers.push(Parameters {
            weights: tensor(shape.macs(), network.dense.weight),
            biases: tensor(shape.outputs.into(), network.dense.weight),
        });
    }
    Model::new(network, layers).unwrap()
}

/// Random models of small random networks.
pub(crate) fn model() -> impl Strategy<Value = Model> {
    (network(), any::<u64>()).prop_map(|(network, seed)| model_of(network, seed))
}
