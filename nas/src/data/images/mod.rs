//! Folders of PNG and JPEG files: `DIR/train/CLASS/*` and `DIR/test/CLASS/*`, or `DIR/CLASS/*` alone.
//!
//! What is done with them, so that the same folder makes the same data set everywhere:
//! - Classes are the names of the folders in byte order; a class that only training images have is allowed.
//! - Names that begin with a dot are ignored. Everything else must be where it belongs: a file that is no PNG or JPEG, an
//!   empty class or a damaged image ends the reading with its path and reason; nothing is left out silently.
//! - Without `train` and `test`, a fifth of each class (rounded, one at least) is for testing, drawn by a fixed seed and the
//!   name of the class, so that other classes do not change the draw.
//! - The images of each part are shuffled by a fixed seed: the first N of them are of all classes.
//! - Every image is turned as its EXIF orientation says, laid on white where it is transparent, made grey or RGB, and
//!   stretched to the form's size with a triangle filter (linear, widened by the factor when it shrinks); an image that has
//!   that size already keeps its pixels.
//! - A set is grey (one channel) if each file's own colour type is grey, else RGB (three), unless the form says which.
//!
//! Decoding JPEG and resizing are not specified to the bit, and the resizing is floating point (additions and
//! multiplications only, so it repeats on every machine; a test pins it). Another version of these libraries may make other
//! pixels. That is no matter of consensus: a task's data are fixed by their root once they are published.

mod decode;
mod form;
mod list;

use std::path::Path;

use podl_consensus::workload::InputShape;
use rayon::prelude::*;

use super::{DataError, Dataset, MOST_PART_BYTES, Random, Source};
pub use form::ImageForm;
use list::{Entry, Listing};

/// Images that are decoded before the first error is looked for; bounds what a bad folder costs.
const CHUNK_IMAGES: usize = 512;
/// Seed of the orders and of the split.
const SEED: [u8; 32] = *b"podl v1 image folders           ";

/// Reads a folder of images in that form.
///
/// # Errors
/// [`DataError::Read`], [`DataError::Missing`], [`DataError::Unfit`] with the path of the file or folder that cannot be
/// used.
pub fn read_image_folder(folder: &Path, form: ImageForm) -> Result<Source, DataError> {
    let Listing { class_names, mut train, mut test } = list::list(folder)?;
    let shape = InputShape { channels: channels(form, [&train, &test])?, height: form.height, width: form.width };
    for (index, part) in [(0, &mut train), (1, &mut test)] {
        let bytes = part.len() as u64 * (shape.values() as u64 + 1);
        if bytes > MOST_PART_BYTES {
            let reason = format!("{} images make {bytes} bytes, at most {MOST_PART_BYTES}", part.len());
            return Err(DataError::Unfit { path: folder.into(), reason });
        }
        Random::new("podl v1 image folder order", &SEED, index).shuffle(part);
    }
    let classes = u16::try_from(class_names.len()).unwrap_or(u16::MAX);
    let [train, test] = [&train, &test].map(|part| read(part, shape, classes));
    Ok(Source { train: train?, test: test?, class_names })
}

/// The form's number of channels, or that of the files.
fn channels(form: ImageForm, parts: [&Vec<Entry>; 2]) -> Result<u8, DataError> {
    if let Some(channels) = form.channels {
        return Ok(channels);
    }
    for entry in parts.into_iter().flatten() {
        if !decode::is_grey(&entry.path)? {
            return Ok(3);
        }
    }
    Ok(1)
}

/// Decodes the files of a part, in order.
fn read(entries: &[Entry], shape: InputShape, classes: u16) -> Result<Dataset, DataError> {
    let mut data = Dataset::new(shape, classes);
    for chunk in entries.chunks(CHUNK_IMAGES) {
        let decoded: Vec<Result<Vec<u8>, DataError>> =
            chunk.par_iter().map(|entry| decode::decode(&entry.path, shape)).collect();
        for (entry, pixels) in chunk.iter().zip(decoded) {
            data.images.extend_from_slice(&pixels?);
            data.labels.push(entry.label);
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests;
