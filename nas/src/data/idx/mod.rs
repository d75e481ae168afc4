//! IDX files, as MNIST and its family have them: for each of the parts `train` and `t10k` a file of images and a file of
//! labels, plain or gzip-compressed.
//!
//! | part of the name | accepted |
//! |---|---|
//! | part | `train`, `t10k` |
//! | content | `-images`, `-labels` |
//! | dimensions | `-idx3-ubyte` (images, height, width: grey), `-idx4-ubyte` (images, height, width, channels), `-idx1-ubyte` (labels); `.` instead of `-` is accepted |
//! | compression | none, `.gz`; a plain file is taken before a compressed one |
//!
//! Images are bytes; labels may also be 16-bit or 32-bit integers, as some converters write them. There are as many
//! classes as the highest label says, whichever part it is in.

mod file;

use std::path::{Path, PathBuf};

use podl_consensus::workload::InputShape;

use super::{DataError, Dataset, MOST_CHANNELS, MOST_CLASSES, MOST_PART_BYTES, MOST_SIDE, Source};
use file::{Header, IdxFile};

const LAYOUT: &str = "an IDX folder has train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
                      t10k-labels-idx1-ubyte, each plain or with .gz";

/// Element type of bytes.
const TYPE_BYTE: u8 = 0x08;
/// Element type of big-endian 16-bit signed integers.
const TYPE_SHORT: u8 = 0x0b;
/// Element type of big-endian 32-bit signed integers.
const TYPE_INT: u8 = 0x0c;

/// Reads an IDX folder: `train` for training, `t10k` for testing.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Read`], [`DataError::Unfit`] for a file whose header says something that cannot
/// be (before anything is allocated for it), [`DataError::Damaged`] with the record where a file breaks off.
pub fn read_idx(folder: &Path) -> Result<Source, DataError> {
    let [train, test] = ["train", "t10k"].map(|part| read_part(folder, part));
    let (mut train, mut test) = (train?, test?);
    let unfit = |reason| DataError::Unfit { path: folder.into(), reason };
    if train.shape != test.shape {
        return Err(unfit(format!("training images of {:?} and test images of {:?}", train.shape, test.shape)));
    }
    let highest = train.labels.iter().chain(&test.labels).max().copied().unwrap_or(0);
    if highest == 0 {
        return Err(unfit("all labels are 0, there must be 2 classes at least".into()));
    }
    (train.classes, test.classes) = (highest + 1, highest + 1);
    Ok(Source::numbered(train, test))
}

/// Reads a part; its number of classes is still 0.
fn read_part(folder: &Path, part: &str) -> Result<Dataset, DataError> {
    let mut images = IdxFile::open(&find(folder, part, "images", &["idx3-ubyte", "idx4-ubyte"])?)?;
    let mut labels = IdxFile::open(&find(folder, part, "labels", &["idx1-ubyte"])?)?;
    let (image_header, label_header) = (images.header()?, labels.header()?);
    let shape = shape(&images, &image_header)?;
    let label_bytes = label_bytes(&labels, &label_header)?;
    let (count, label_count) = (image_header.records(), label_header.records());
    if count != label_count {
        let reason = format!("{label_count} labels, {} declares {count} images", images.path().display());
        return Err(labels.unfit(reason));
    }
    let (bytes, most) = ((shape.values() as u64 + 1) * u64::from(count), MOST_PART_BYTES);
    if count == 0 || bytes > most {
        return Err(images.unfit(format!("{count} images make {bytes} bytes with labels, expected 1 to {most}")));
    }
    let mut pixels = images.records(count, shape.values())?;
    if image_header.sizes.len() == 4 {
        make_planar(&mut pixels, shape);
    }
    let labels = numbers(&mut labels, count, label_bytes)?;
    Ok(Dataset { shape, classes: 0, images: pixels, labels })
}

/// The file of that part and content under one of its usual names.
fn find(folder: &Path, part: &str, content: &str, forms: &[&str]) -> Result<PathBuf, DataError> {
    for ending in ["", ".gz"] {
        for form in forms {
            for separator in ["-", "."] {
                let path = folder.join(format!("{part}-{content}{separator}{form}{ending}"));
                if path.is_file() {
                    return Ok(path);
                }
            }
        }
    }
    // A folder that is not there at all is another matter than one without these files.
    std::fs::read_dir(folder).map_err(|source| DataError::Read { path: folder.into(), source })?;
    let form = forms.first().copied().unwrap_or_default();
    Err(DataError::Missing { folder: folder.into(), what: format!("{part}-{content}-{form}"), layout: LAYOUT })
}

/// The shape that a header of images declares.
fn shape(file: &IdxFile, header: &Header) -> Result<InputShape, DataError> {
    let (height, width, channels) = match (header.element, header.sizes.as_slice()) {
        (TYPE_BYTE, &[_, height, width]) => (height, width, 1),
        (TYPE_BYTE, &[_, height, width, channels]) => (height, width, channels),
        _ => return Err(file.wrong_magic(header, "00 00 08 03 (grey images) or 00 00 08 04 (images with channels)")),
    };
    let within = |size: u32, most: u8| u8::try_from(size).ok().filter(|size| (1..=most).contains(size));
    match (within(channels, MOST_CHANNELS), within(height, MOST_SIDE), within(width, MOST_SIDE)) {
        (Some(channels), Some(height), Some(width)) => Ok(InputShape { channels, height, width }),
        _ => Err(file.unfit(format!(
            "images of {height}x{width} pixels and {channels} channels, at most {MOST_SIDE}x{MOST_SIDE} and \
             {MOST_CHANNELS}"
        ))),
    }
}

/// Bytes of one label.
fn label_bytes(file: &IdxFile, header: &Header) -> Result<usize, DataError> {
    match (header.element, header.sizes.len()) {
        (TYPE_BYTE, 1) => Ok(1),
        (TYPE_SHORT, 1) => Ok(2),
        (TYPE_INT, 1) => Ok(4),
        _ => Err(file.wrong_magic(header, "00 00 08 01 (labels)")),
    }
}

/// Reads labels: big-endian, signed where they are wider than a byte.
fn numbers(file: &mut IdxFile, count: u32, label_bytes: usize) -> Result<Vec<u16>, DataError> {
    let bytes = file.records(count, label_bytes)?;
    let number = |(record, bytes): (usize, &[u8])| {
        let label = match *bytes {
            [byte] => i32::from(byte),
            [high, low] => i16::from_be_bytes([high, low]).into(),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => -1,
        };
        let known = u16::try_from(label).ok().filter(|&label| label < MOST_CLASSES);
        known.ok_or_else(|| file.damaged(record, format!("label {label}, expected 0 to {}", MOST_CLASSES - 1)))
    };
    bytes.chunks(label_bytes).enumerate().map(number).collect()
}

/// From channels side by side in every pixel to one plane a channel.
fn make_planar(pixels: &mut [u8], shape: InputShape) {
    let channels = usize::from(shape.channels);
    let plane = shape.values() / channels;
    for image in pixels.chunks_exact_mut(shape.values()) {
        let interleaved = image.to_vec();
        for (index, &value) in interleaved.iter().enumerate() {
            image[index % channels * plane + index / channels] = value;
        }
    }
}

#[cfg(test)]
mod tests;
