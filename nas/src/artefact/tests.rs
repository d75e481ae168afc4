use podl_chain_spec::Caps;
use podl_consensus::workload::{Architecture, ConvLayer, WorkError};
use proptest::prelude::*;

use super::*;
use crate::testing::{caps, model, model_of};

/// A fixed small model: one layer, 2 x 2 input of one channel, 2 classes.
fn tiny() -> Model {
    let layer = ConvLayer {
        kernel: [1, 2],
        filters: 2,
        stride: [1, 1],
        pool: 2,
        act: FixedPoint::new(1, 4),
        weight: FixedPoint::new(0, 3),
    };
    let input = InputShape { channels: 1, height: 2, width: 2 };
    let dense = DenseConfig { width: 3, ..DenseConfig::default() };
    let network = Network::new(&Architecture { layers: vec![layer] }, input, 2, dense).unwrap();
    let parameters = |weights: &[i16], biases: &[i16]| Parameters { weights: weights.into(), biases: biases.into() };
    let layers = vec![
        parameters(&[1, -1, -4, 3], &[0, -2]),
        parameters(&[1, 2, 3, 4, 5, -128], &[7, 8, 9]),
        parameters(&[127, 0, -1, 1, 0, 0], &[-1, 1]),
    ];
    Model::new(network, layers).unwrap()
}

#[test]
fn the_bytes_are_pinned() {
    let header = "706f646c6d6f646c 0100 010202 0200 0300 0305 0206 01 0102 0200 0101 02 0104 0003";
    // Weights 1, -1, -4, 3 of 3 bits: 001 111 100 011, lowest first; biases 0, -2.
    let body = "3907 30 010203040580 070809 7f00ff010000 ff01";
    let expected: String = [header, body].concat().split_whitespace().collect();
    let bytes = tiny().encode();
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, expected);
    assert_eq!(bytes.len() as u64, encoded_bytes(tiny().network()).unwrap());
    assert_eq!(decode(&bytes, &caps()).unwrap(), tiny());
}

#[test]
fn parameters_must_fit() {
    let network = tiny().network().clone();
    let layers = tiny().layers().to_vec();
    let refused = |change: fn(&mut Vec<Parameters>)| {
        let mut layers = layers.clone();
        change(&mut layers);
        Model::new(network.clone(), layers).unwrap_err()
    };
    assert_eq!(refused(|l| l.truncate(2)), ModelError::Layers { got: 2, expected: 3 });
    assert_eq!(refused(|l| l[1].biases.push(0)), ModelError::Count { layer: 1, what: "biases", got: 4, expected: 3 });
    assert_eq!(refused(|l| l[0].weights[0] = 4), ModelError::Range { layer: 0, got: 4, low: -4, high: 3 });
    assert_eq!(refused(|l| l[0].biases[1] = -5), ModelError::Range { layer: 0, got: -5, low: -4, high: 3 });
}

#[test]
fn every_kind_of_wrong_bytes_has_its_error() {
    let good = tiny().encode();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        decode(&bytes, &caps()).unwrap_err()
    };
    assert!(matches!(refused(&|b| b.truncate(5)), WorkError::Truncated { what: "the artefact's header", .. }));
    assert!(matches!(refused(&|b| b.truncate(30)), WorkError::Truncated { what: "the layer descriptions", .. }));
    assert!(matches!(refused(&|b| b.truncate(b.len() - 1)), WorkError::Truncated { what: "the artefact", .. }));
    assert_eq!(refused(&|b| b.push(0)), WorkError::TrailingBytes { what: "the artefact", extra: 1 });
    assert!(matches!(refused(&|b| b[0] = b'q'), WorkError::NotCanonical { .. }));
    let version = "it is of version 2, this engine reads 1".into();
    assert_eq!(refused(&|b| b[8] = 2), WorkError::NotCanonical { what: version });
    assert!(matches!(refused(&|b| b[10] = 5), WorkError::TooLarge { what: "the number of input channels", .. }));
    assert!(matches!(refused(&|b| b[14] = 2), WorkError::TooLarge { what: "the number of classes", got: 514, .. }));
    assert!(matches!(refused(&|b| b[21] = 17), WorkError::TooLarge { what: "the number of convolution layers", .. }));
    assert!(matches!(refused(&|b| b[21] = 0), WorkError::NotCanonical { .. }));
    assert!(matches!(refused(&|b| b[22] = 12), WorkError::TooLarge { what: "a kernel side", .. }));
    assert!(matches!(refused(&|b| b[25] = 3), WorkError::TooLarge { what: "the number of filters", .. }));
    assert!(matches!(refused(&|b| b[28] = 3), WorkError::TooLarge { what: "a pool window", .. }));
    assert!(matches!(refused(&|b| b[32] = 15), WorkError::TooLarge { what: "the number of weight bits", .. }));
    assert!(matches!(refused(&|b| b[32] = 0), WorkError::NotCanonical { .. }), "0 bits");
    // The four bits after the four weights of 3 bits.
    assert!(matches!(refused(&|b| b[34] |= 0x80), WorkError::NotCanonical { .. }));
    let small = Caps { artefact_bytes: 20, ..caps() };
    assert!(matches!(decode(&good, &small).unwrap_err(), WorkError::TooLarge { what: "the artefact (bytes)", .. }));
}

#[test]
fn a_small_file_cannot_announce_a_huge_network() {
    let mut bytes = tiny().encode();
    // 11 x 11 kernels and 512 filters in 16 layers: hundreds of megabytes of weights, in 200 bytes.
    bytes.truncate(HEADER_BYTES);
    bytes[21] = 16;
    for _ in 0..16 {
        bytes.extend_from_slice(&[11, 11, 0, 2, 1, 1, 1, 1, 4, 7, 7]);
    }
    assert!(matches!(decode(&bytes, &caps()).unwrap_err(), WorkError::TooLarge { got: 400_000_000.., .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trips(model in model()) {
        let bytes = model.encode();
        prop_assert_eq!(bytes.len() as u64, encoded_bytes(model.network()).unwrap());
        prop_assert_eq!(decode(&bytes, &caps()).unwrap(), model);
    }

    /// A changed byte gives an error or another model, never the same one: the encoding is canonical.
    #[test]
    fn other_bytes_are_refused_or_another_model(model in model(), at in any::<proptest::sample::Index>(), flip in 1u8..) {
        let mut bytes = model.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = decode(&bytes, &caps()) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other, model);
        }
    }

    #[test]
    fn truncated_or_extended_bytes_are_refused(model in model(), cut in any::<proptest::sample::Index>(), more in 1usize..9) {
        let bytes = model.encode();
        prop_assert!(decode(&bytes[..cut.index(bytes.len())], &caps()).is_err());
        let longer = [bytes, vec![0; more]].concat();
        prop_assert_eq!(
            decode(&longer, &caps()),
            Err(WorkError::TrailingBytes { what: "the artefact", extra: more as u64 })
        );
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&noise, &caps()).is_err());
        let with_magic = [&MAGIC[..], &[1, 0], &noise].concat();
        if let Ok(model) = decode(&with_magic, &caps()) {
            prop_assert_eq!(model.encode(), with_magic);
        }
    }
}

#[test]
fn root_is_blake3_of_the_bytes() {
    assert_eq!(tiny().root(), *blake3::hash(&tiny().encode()).as_bytes());
    assert_ne!(tiny().root(), model_of(tiny().network().clone(), 1).root());
}
