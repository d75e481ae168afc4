use podl_consensus::workload::{Architecture, DenseConfig, InputShape};
use proptest::prelude::*;

use super::super::tests::{any_network, golden};
use super::*;

fn pipeline(architecture: &Architecture) -> Pipeline {
    let network = Network::new(architecture, InputShape::CIFAR, 10, DenseConfig::default()).unwrap();
    Pipeline::new(&network, Memory::default()).unwrap()
}

/// 4 x 4, two signed bits everywhere.
const SMALL: MatrixVector = MatrixVector {
    inputs: 4,
    outputs: 4,
    vectors: 1,
    weight_bits: 2,
    input_bits: 2,
    is_input_signed: true,
    output_bits: Some(2),
};

#[test]
fn the_golden_unit() {
    // 300 + 1.1 (mult 4 + tree 4 + acc 6) = 315.4, and c2 = 2 for 16 weights of 2 bits in LUTs.
    assert_eq!(SMALL.accumulator_bits(), 6);
    assert_eq!(SMALL.lut(Folding::LEAST, Memory::Embedded), 317);
    assert_eq!(SMALL.lut(Folding::LEAST, Memory::Auto), 315);
    // Thresholds and comparators: 3 x 6 each, so 1.1 x 36 more.
    assert_eq!(SMALL.lut(Folding::LEAST, Memory::Distributed), 357);
    assert_eq!(MatrixVector { output_bits: None, ..SMALL }.lut(Folding::LEAST, Memory::Distributed), 317);
    assert_eq!(SMALL.cycles(Folding::LEAST), 16);
    assert_eq!(SMALL.cycles(Folding { pe: 2, simd: 4 }), 2);
    assert_eq!((SMALL.bram18(Folding::LEAST, Memory::Auto), SMALL.bram18(Folding::LEAST, Memory::Embedded)), (1, 0));
}

#[test]
fn embedded_weights_leave_luts_at_a_depth_of_128() {
    let matrix = |inputs| MatrixVector { inputs, outputs: 1, ..SMALL };
    let weights = |inputs| {
        let of = |memory| matrix(inputs).lut(Folding::LEAST, memory);
        of(Memory::Embedded) - of(Memory::Auto)
    };
    assert_eq!((weights(128), weights(129)), (4, 0));
    assert_eq!(matrix(129).bram18(Folding::LEAST, Memory::Embedded), 1);
}

#[test]
fn block_memories_by_their_shapes() {
    let cases = [
        (1, 16_384, 1),
        (1, 16_385, 2),
        (2, 8_193, 2),
        (4, 4_096, 1),
        (5, 2_049, 2),
        (9, 2_048, 1),
        (10, 1_024, 1),
        (18, 1_025, 2),
        (19, 513, 2),
        (36, 512, 1),
        (37, 512, 2),
        (40, 1_100, 6),
    ];
    for (width, depth, blocks) in cases {
        assert_eq!(bram18(width, depth), blocks, "{width} bits, {depth} words");
    }
}

#[test]
fn windows_pools_and_fifos_by_hand() {
    // 3 x 3 over 34 padded columns, 3 channels one by one: (2 x 34 + 2 + 1) x 3 + 32 x max(32 x 9 x 3, 34 x 3).
    let window =
        SlidingWindow { channels: 3, bits: 7, kernel: [3, 3], stride_width: 1, row_width: 34, output: [32, 32] };
    assert_eq!(window.cycles(1), 213 + 32 * 864);
    assert_eq!(window.cycles(3), 71 + 32 * 288);
    assert_eq!((window.lut(1, Memory::Auto), window.lut(1, Memory::Distributed)), (300, 300 + 7 * 6));
    // Reading is slower than writing for a 1 x 1 kernel that skips columns.
    let strided = SlidingWindow { kernel: [1, 1], stride_width: 4, row_width: 32, output: [8, 8], ..window };
    assert_eq!(strided.cycles(3), 1 + 8 * 128);
    assert_eq!((max_pool_cycles(32, 32, 2), max_pool_cycles(3, 3, 2)), (1_280, 11));
    assert_eq!((fifo_lut(1, 2), fifo_lut(2, 7), fifo_lut(33, 7)), (1, 6, 20));
}

/// Whole networks against a separate program in floating point.
#[test]
fn the_golden_network_at_several_rates() {
    let pipeline = pipeline(&golden());
    let figures = [(10, 5_512, 2_985_984, 38), (1_000, 9_549, 93_312, 37), (5_000, 28_500, 18_432, 75)];
    for (throughput, lut, cycles, bram18) in figures {
        let design = pipeline.within(Bounds { lut: 100_000, throughput }).unwrap();
        assert_eq!((design.lut, design.cycles, design.bram18), (lut, cycles, bram18), "{throughput} images/s");
    }
    let chosen: Vec<(u64, u64)> =
        pipeline.fold(target_cycles(1_000)).units.iter().map(|unit| (unit.pe, unit.simd)).collect();
    let convs = [(1, 1), (4, 3), (1, 36), (1, 1), (6, 6), (1, 36), (1, 1), (2, 6), (1, 36)];
    assert_eq!(chosen[..9], convs);
}

#[test]
fn a_layer_that_caps_the_rate_folds_all_for_it() {
    let pipeline = pipeline(&golden());
    // The second layer takes 6 of 324 inputs at once (6 weights of 6 bits are 36 bits) and all 36 outputs.
    let capped = pipeline.fastest();
    assert_eq!((capped.cycles, capped.slowest().unwrap().layer), (13_824, 1));
    assert_eq!(capped, pipeline.fold(13_825));
    assert!(capped.lut < pipeline.fold_each(1).lut);
    assert!(pipeline.within(Bounds { lut: u64::MAX, throughput: 7_233 }).is_some());
    assert!(pipeline.within(Bounds { lut: u64::MAX, throughput: 7_234 }).is_none());
}

#[test]
fn dense_layers_count() {
    let design = pipeline(&golden()).smallest();
    let dense: Vec<(usize, u64)> = design.units[18..].iter().map(|unit| (unit.layer, unit.cycles)).collect();
    assert_eq!(dense, [(6, 36 * 256), (7, 2_560)]);
}

#[test]
fn impossible_formats_are_refused() {
    let mut architecture = golden();
    architecture.layers[3].weight = FixedPoint::new(8, 8);
    let network = Network::new(&architecture, InputShape::CIFAR, 10, DenseConfig::default()).unwrap();
    let error = Pipeline::new(&network, Memory::Auto).unwrap_err();
    assert_eq!(error, CostError::Bits { layer: 3, got: 16, least: 1 });
}

fn any_matrix() -> impl Strategy<Value = MatrixVector> {
    (1u64..3_000, 1u64..600, 1u64..1_100, 1u64..15, 1u64..15, any::<bool>()).prop_map(
        |(inputs, outputs, vectors, weight_bits, input_bits, is_input_signed)| MatrixVector {
            inputs,
            outputs,
            vectors,
            weight_bits,
            input_bits,
            is_input_signed,
            output_bits: Some(8),
        },
    )
}

proptest! {
    /// A folding divides its unit, keeps the weight stream narrow and is the least that is fast enough.
    #[test]
    fn foldings_divide(matrix in any_matrix(), target in 0u64..2_000_000_000) {
        let folding = matrix.fold(target);
        prop_assert_eq!((matrix.inputs % folding.simd, matrix.outputs % folding.pe), (0, 0));
        prop_assert!(folding.simd * matrix.weight_bits <= 36);
        let is_fastest = folding.pe == matrix.outputs;
        prop_assert!(matrix.cycles(folding) < target || is_fastest);
        prop_assert_eq!(matrix.cycles(folding) * folding.pe * folding.simd, matrix.cycles(Folding::LEAST));
        if folding.pe > 1 {
            let (pe, lesser) = (folding.pe, (1..folding.pe).rev().find(|pe| matrix.outputs % pe == 0).unwrap());
            prop_assert!(matrix.cycles(Folding { pe: lesser, ..folding }) >= target, "{} and {}", pe, lesser);
        }
    }

    /// The bit length is the logarithm that the formula takes, where floating point can tell.
    #[test]
    fn accumulators_follow_the_formula(matrix in any_matrix()) {
        let signed = f64::from(u8::from(matrix.is_input_signed));
        let bits = matrix.weight_bits + matrix.input_bits;
        prop_assume!(bits > 2);
        let alpha = libm::log2(matrix.inputs as f64) + bits as f64 - 1.0 - signed;
        let expected = libm::ceil(alpha + libm::log2(1.0 + libm::exp2(-alpha)) + 1.0).min(32.0);
        prop_assert_eq!(matrix.accumulator_bits(), expected as u64);
    }

    /// Looser bounds never make a network infeasible, and a slower target never costs more LUTs.
    #[test]
    fn more_bound_never_makes_infeasible(
        architecture in any_network(),
        lut in 0u64..200_000,
        throughput in 0u64..20_000,
        more_lut in 0u64..100_000,
        slower in 0u64..20_000,
    ) {
        let pipeline = pipeline(&architecture);
        let looser = Bounds { lut: lut + more_lut, throughput: throughput.saturating_sub(slower) };
        if let Some(design) = pipeline.within(Bounds { lut, throughput }) {
            prop_assert!(design.lut <= lut && design.cost().is_faster_than(throughput));
            let loose = pipeline.within(looser);
            prop_assert!(loose.is_some_and(|loose| loose.lut <= design.lut));
        }
    }

    /// The fastest design within a LUT bound fits, and asking for one cycle less finds none.
    #[test]
    fn the_fastest_within_a_bound(architecture in any_network(), lut in 0u64..100_000) {
        let pipeline = pipeline(&architecture);
        match pipeline.fastest_within(lut) {
            None => prop_assert!(pipeline.smallest().lut > lut),
            Some(best) => {
                prop_assert!(best.lut <= lut);
                let faster = pipeline.fold(best.cycles);
                prop_assert!(faster.lut > lut || faster.cycles >= best.cycles);
            }
        }
    }
}
