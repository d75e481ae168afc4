use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, Network};
use proptest::prelude::*;

use super::simd::Form;
use super::*;
use crate::artefact::Parameters;
use crate::testing::{model, model_of, next};

fn random_table(channels: u8, seed: u64, largest: i16) -> Vec<Vec<i16>> {
    let mut state = seed;
    let span = 2 * u64::from(largest.unsigned_abs()) + 1;
    let mut value = || i16::try_from(i64::try_from(next(&mut state) % span).unwrap() - i64::from(largest)).unwrap();
    (0..channels).map(|_| (0..256).map(|_| value()).collect()).collect()
}

fn random_images(model: &Model, count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..count * model.network().input.values()).map(|_| (next(&mut state) >> 56) as u8).collect()
}

fn expected(model: &Model, table: &[Vec<i16>], images: &[u8]) -> Vec<u16> {
    let images = images.chunks_exact(model.network().input.values());
    images.map(|image| reference::classify(model, table, image)).collect()
}

/// Every instruction set that this machine has gives the classes of the plain statement of the rules.
fn check(model: &Model, table: &[Vec<i16>], images: &[u8], threads: usize) -> Result<(), TestCaseError> {
    let expected = expected(model, table, images);
    for isa in Isa::available() {
        let engine = Engine::with_isa(model, table, isa).unwrap();
        prop_assert_eq!(&engine.classify(images, threads).unwrap(), &expected, "{:?}", isa);
    }
    prop_assert_eq!(Engine::new(model, table).unwrap().classify(images, threads).unwrap(), expected);
    Ok(())
}

fn format(most: u8) -> impl Strategy<Value = FixedPoint> {
    (1..=most).prop_flat_map(|bits| (0..=bits).prop_map(move |int| FixedPoint::new(int, bits - int)))
}

/// A layer anywhere in the search space and beyond it: filters that fill no vector, formats of all widths. Formats of
/// few bits are as likely as all others, because byte products are for them.
fn layer() -> impl Strategy<Value = ConvLayer> {
    let filters = prop::sample::select(vec![4, 5, 8, 12, 13, 24, 36, 64, 128]);
    let act = prop_oneof![format(8), format(14)];
    let weight = prop_oneof![format(8), format(14)];
    ([1u8..=9, 1u8..=9], filters, [1u8..=5, 1u8..=5], 1u8..=3, act, weight).prop_map(
        |(kernel, filters, stride, pool, act, weight)| ConvLayer { kernel, filters, stride, pool, act, weight },
    )
}

/// A model of up to three such layers; small inputs, because the reference is slow.
fn space_model() -> impl Strategy<Value = Model> {
    let input =
        (1u8..=4, 1u8..=9, 1u8..=9).prop_map(|(channels, height, width)| InputShape { channels, height, width });
    let dense = (1u16..40, format(8), format(8)).prop_map(|(width, act, weight)| DenseConfig { width, act, weight });
    (prop::collection::vec(layer(), 1..=3), input, 2u16..12, dense, any::<u64>()).prop_map(
        |(layers, input, classes, dense, seed)| {
            model_of(Network::new(&Architecture { layers }, input, classes, dense).unwrap(), seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Small layers and many images, for any thread count.
    #[test]
    fn equals_the_reference(
        model in model(), seed in any::<u64>(), count in 1usize..100, threads in 1usize..=4, is_huge in any::<bool>(),
    ) {
        let largest = if is_huge { i16::MAX } else { 700 };
        let table = random_table(model.network().input.channels, seed, largest);
        check(&model, &table, &random_images(&model, count, seed ^ 1), threads)?;
    }

    /// Layers of the search space's sizes.
    #[test]
    fn equals_the_reference_in_the_space(model in space_model(), seed in any::<u64>(), count in 1usize..4) {
        let table = random_table(model.network().input.channels, seed, 700);
        check(&model, &table, &random_images(&model, count, seed ^ 1), 1)?;
    }
}

fn conv(kernel: [u8; 2], filters: u16, stride: [u8; 2], pool: u8, act: [u8; 2], weight: [u8; 2]) -> ConvLayer {
    ConvLayer { kernel, filters, stride, pool, act: act.into(), weight: weight.into() }
}

/// Sums beyond 32 bits: widest formats, extreme weights, extreme inputs.
#[test]
fn sums_beyond_32_bits_are_exact() {
    let layers = vec![conv([11, 11], 5, [1, 1], 2, [0, 14], [14, 0]), conv([5, 5], 9, [2, 1], 1, [14, 0], [7, 7])];
    let input = InputShape { channels: 3, height: 24, width: 20 };
    let dense = DenseConfig { width: 33, act: FixedPoint::new(14, 0), weight: FixedPoint::new(0, 14) };
    let network = Network::new(&Architecture { layers }, input, 7, dense).unwrap();
    for seed in [0, 4, 5, 6] {
        let model = model_of(network.clone(), seed);
        let table = random_table(3, seed, i16::MAX);
        let engine = Engine::new(&model, &table).unwrap();
        let is_wide = |layer: &Layer| !layer.is_narrow && layer.segments.len() > 1;
        assert!(engine.layers.iter().any(is_wide), "the test must reach wide sums");
        check(&model, &table, &random_images(&model, 5, seed), 2).unwrap();
    }
}

/// A sum that fits 32 bits only without its rounding term must take the wide path.
#[test]
fn the_rounding_term_counts_in_the_bound() {
    let input = InputShape { channels: 1, height: 1, width: 1 };
    let network = |frac| {
        let layers = vec![conv([1, 1], 1, [1, 1], 1, [1, 0], [14 - frac, frac])];
        Network::new(&Architecture { layers }, input, 2, DenseConfig { width: 1, ..DenseConfig::default() }).unwrap()
    };
    let narrow = |frac: u8, weight: i16| {
        let dense = |outputs: usize| Parameters { weights: vec![1; outputs], biases: vec![0; outputs] };
        let first = Parameters { weights: vec![weight], biases: vec![0] };
        let model = Model::new(network(frac), vec![first, dense(1), dense(2)]).unwrap();
        Engine::new(&model, &[vec![i16::MAX; 256]]).unwrap().layers[0].is_narrow
    };
    // 32,767 x 8,191 is 268 million; a shift of 22 adds 4 million, which still fits 2,147 million.
    assert!(narrow(14, 8191));
    assert!(layer_bound(i64::from(i32::MAX) - (1 << 22)));
    assert!(!layer_bound(i64::from(i32::MAX) - (1 << 22) + 1));
}

/// Whether a layer of one weight 1, input bound `largest` and a shift of 22 is evaluated in 32 bits.
fn layer_bound(largest: i64) -> bool {
    let input = InputShape { channels: 1, height: 1, width: 1 };
    let layers = vec![conv([1, 1], 1, [1, 1], 1, [1, 0], [0, 14])];
    let dense = DenseConfig { width: 1, act: FixedPoint::new(1, 0), weight: FixedPoint::new(2, 0) };
    let network = Network::new(&Architecture { layers }, input, 2, dense).unwrap();
    let parameters = |count: usize| Parameters { weights: vec![1; count], biases: vec![0; count] };
    let model = Model::new(network, vec![parameters(1), parameters(1), parameters(2)]).unwrap();
    layer::prepare(&model, largest, Isa::detect())[0].is_narrow
}

/// The usual networks are evaluated in bytes, but for the first layer, whose inputs have a sign.
#[test]
fn usual_layers_are_bytes() {
    let model = model_of(tests_network(), 3);
    for isa in Isa::available() {
        let engine = Engine::with_isa(&model, &random_table(3, 1, 500), isa).unwrap();
        let forms: Vec<Form> = engine.layers.iter().map(|layer| layer.form).collect();
        assert_eq!(forms[..7], [&[Form::Halves][..], &[Form::Bytes; 6]].concat(), "{isa:?}");
    }
}

#[test]
fn ties_go_to_the_lowest_class() {
    let input = InputShape { channels: 1, height: 2, width: 2 };
    let layers = vec![conv([1, 1], 2, [1, 1], 1, [1, 4], [1, 5])];
    let network = Network::new(&Architecture { layers }, input, 5, DenseConfig::default()).unwrap();
    let zero = |weights: u64, outputs: usize| Parameters {
        weights: vec![0; usize::try_from(weights).unwrap()],
        biases: vec![0; outputs],
    };
    let mut layers = vec![zero(2, 2), zero(network.hidden.macs(), 256), zero(network.output.macs(), 5)];
    let table = vec![vec![0; 256]];
    let classify = |layers: &[Parameters]| {
        let model = Model::new(network.clone(), layers.to_vec()).unwrap();
        assert_eq!(
            reference::classify(&model, &table, &[0; 4]),
            Engine::new(&model, &table).unwrap().classify(&[0; 4], 1).unwrap()[0]
        );
        reference::classify(&model, &table, &[0; 4])
    };
    assert_eq!(classify(&layers), 0);
    layers[2].biases = vec![-1, 3, 2, 3, -4];
    assert_eq!(classify(&layers), 1);
}

#[test]
fn wrong_inputs_are_refused() {
    let model = model_of(tests_network(), 3);
    let table = random_table(3, 1, 500);
    assert!(matches!(Engine::new(&model, &table[..2]), Err(EngineError::InputTable { channels: 3, .. })));
    let engine = Engine::new(&model, &table).unwrap();
    assert_eq!(engine.classify(&[0; 17], 1), Err(EngineError::PartialImage { got: 17, expected: 3072 }));
    let shape = InputShape { channels: 1, height: 2, width: 2 };
    assert!(matches!(engine.count_correct(&Dataset::new(shape, 10), 1), Err(EngineError::Shape { .. })));
    assert_eq!(engine.count_correct(&Dataset::new(InputShape::CIFAR, 10), 3), Ok(0));
}

fn tests_network() -> Network {
    let layers = vec![conv([3, 3], 36, [1, 1], 2, [1, 4], [1, 5]); 6];
    Network::new(&Architecture { layers }, InputShape::CIFAR, 10, DenseConfig::default()).unwrap()
}

#[test]
fn counts_what_is_correct() {
    let model = model_of(tests_network(), 3);
    let table = random_table(3, 1, 500);
    let data = crate::data::generate(&[1; 32], 70);
    let classes = expected(&model, &table, &data.images);
    let correct = classes.iter().zip(&data.labels).filter(|(a, b)| a == b).count();
    let engine = Engine::new(&model, &table).unwrap();
    for threads in 0..=4 {
        assert_eq!(engine.count_correct(&data, threads).unwrap() as usize, correct);
    }
}
