//! Canonical bytes of a data set: test shards, training data and generated sets travel in this form.
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 8 | `podldata` |
//! | 2 | version, 1 |
//! | 3 | channels, height, width |
//! | 2 | classes, at most 256 |
//! | 4 | images |
//! | 1 each | labels, below the number of classes |
//! | channels x height x width each | images, channel by channel, row by row |

use podl_consensus::workload::{InputShape, WorkError};

use super::Dataset;

const MAGIC: &[u8; 8] = b"podldata";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 19;

/// Bytes of an encoded set of so many images.
pub fn encoded_dataset_bytes(shape: InputShape, images: u64) -> u64 {
    images.saturating_mul(shape.values() as u64 + 1).saturating_add(HEADER_BYTES as u64)
}

/// The bytes of a data set. Labels must be below 256, as every label of at most 256 classes is.
pub fn encode_dataset(data: &Dataset) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + data.labels.len() + data.images.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[data.shape.channels, data.shape.height, data.shape.width]);
    bytes.extend_from_slice(&data.classes.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(data.labels.iter().map(|&label| (label & 0xff) as u8));
    bytes.extend_from_slice(&data.images);
    bytes
}

/// Parses a data set of the declared form, strictly. Its length is checked before anything is allocated.
///
/// # Errors
/// [`WorkError`] for every byte string that is not the encoding of a set of this shape and number of classes.
pub fn decode_dataset(bytes: &[u8], shape: InputShape, classes: u16, limit_bytes: u64) -> Result<Dataset, WorkError> {
    let got = bytes.len() as u64;
    if got > limit_bytes {
        return Err(WorkError::TooLarge { what: "the data (bytes)", got, limit: limit_bytes });
    }
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(WorkError::Truncated { what: "the data's header", got, expected: HEADER_BYTES as u64 });
    };
    let images = check_header(header, shape, classes)?;
    let expected = encoded_dataset_bytes(shape, images.into());
    if got < expected {
        return Err(WorkError::Truncated { what: "the data", got, expected });
    }
    if got > expected {
        return Err(WorkError::TrailingBytes { what: "the data", extra: got - expected });
    }
    // The length was just checked to be that of `images` labels and images.
    let (labels, pixels) = body.split_at(images as usize);
    if let Some((index, label)) = labels.iter().enumerate().find(|&(_, &label)| u16::from(label) >= classes) {
        return Err(WorkError::ShardMalformed {
            what: format!("image {index} has label {label} of {classes} classes"),
        });
    }
    Ok(Dataset { shape, classes, images: pixels.to_vec(), labels: labels.iter().map(|&l| l.into()).collect() })
}

/// Checks the header and returns the number of images.
fn check_header(header: &[u8; HEADER_BYTES], shape: InputShape, classes: u16) -> Result<u32, WorkError> {
    let [magic @ .., v0, v1, channels, height, width, c0, c1, i0, i1, i2, i3] = header;
    let malformed = |what: String| Err(WorkError::ShardMalformed { what });
    if magic != MAGIC {
        return malformed("it does not begin with the magic bytes".into());
    }
    let version = u16::from_le_bytes([*v0, *v1]);
    if version != VERSION {
        // The publisher chose it; an unknown version of the task's own is another matter.
        return malformed(format!("it is of version {version}, this node reads {VERSION}"));
    }
    let got_shape = InputShape { channels: *channels, height: *height, width: *width };
    if got_shape != shape {
        return malformed(format!("images of {got_shape:?}, declared {shape:?}"));
    }
    let got_classes = u16::from_le_bytes([*c0, *c1]);
    if got_classes != classes {
        return malformed(format!("{got_classes} classes, declared {classes}"));
    }
    Ok(u32::from_le_bytes([*i0, *i1, *i2, *i3]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: InputShape = InputShape { channels: 1, height: 2, width: 2 };

    fn pair() -> Dataset {
        Dataset { shape: SHAPE, classes: 3, images: (1..=8).collect(), labels: vec![2, 0] }
    }

    fn decode(bytes: &[u8]) -> Result<Dataset, WorkError> {
        decode_dataset(bytes, SHAPE, 3, 1000)
    }

    #[test]
    fn the_bytes_are_pinned() {
        let expected = [b"podldata".as_slice(), &[1, 0, 1, 2, 2, 3, 0, 2, 0, 0, 0], &[2, 0], &[1, 2, 3, 4, 5, 6, 7, 8]];
        assert_eq!(encode_dataset(&pair()), expected.concat());
        assert_eq!(decode(&expected.concat()).unwrap(), pair());
        assert_eq!(encoded_dataset_bytes(SHAPE, 2), expected.concat().len() as u64);
        assert_eq!(encoded_dataset_bytes(SHAPE, u64::MAX), u64::MAX, "more than any cap");
    }

    #[test]
    fn every_kind_of_wrong_bytes_has_its_error() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = encode_dataset(&pair());
            change(&mut bytes);
            decode(&bytes).unwrap_err()
        };
        assert!(matches!(refused(&|b| b.truncate(18)), WorkError::Truncated { what: "the data's header", .. }));
        assert!(matches!(
            refused(&|b| b.truncate(28)),
            WorkError::Truncated { what: "the data", got: 28, expected: 29 }
        ));
        assert!(matches!(refused(&|b| b.push(0)), WorkError::TrailingBytes { extra: 1, .. }));
        assert!(matches!(refused(&|b| b[0] = 0), WorkError::ShardMalformed { .. }));
        assert_eq!(
            refused(&|b| b[8] = 2),
            WorkError::ShardMalformed { what: "it is of version 2, this node reads 1".into() }
        );
        assert!(matches!(refused(&|b| b[10] = 2), WorkError::ShardMalformed { .. }), "shape");
        assert!(matches!(refused(&|b| b[13] = 4), WorkError::ShardMalformed { .. }), "classes");
        assert!(matches!(refused(&|b| b[18] = 0xff), WorkError::Truncated { .. }), "a count of 4 thousand million");
        assert_eq!(
            refused(&|b| b[19] = 3),
            WorkError::ShardMalformed { what: "image 0 has label 3 of 3 classes".into() }
        );
        let bytes = encode_dataset(&pair());
        assert!(matches!(decode_dataset(&bytes, SHAPE, 3, 28), Err(WorkError::TooLarge { got: 29, limit: 28, .. })));
    }

    proptest! {
        #[test]
        fn decodes_only_encodings(mut bytes in proptest::collection::vec(any::<u8>(), 0..40), with_header in any::<bool>()) {
            if with_header {
                bytes.splice(0..0, encode_dataset(&pair())[..16].iter().copied());
            }
            if let Ok(data) = decode(&bytes) {
                prop_assert_eq!(encode_dataset(&data), bytes);
            }
        }
    }
}
