//! From a file to the pixels of a data set.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use podl_consensus::workload::InputShape;

use super::super::DataError;

/// Greatest side of an image file, in pixels. A file may declare any size; nothing is allocated for a greater one.
const MOST_SOURCE_SIDE: u32 = 16_384;
/// Most bytes that a decoded image may take, and most that its decoder may allocate.
const MOST_DECODED_BYTES: u64 = 256 << 20;

fn unfit(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Unfit { path: path.into(), reason: reason.into() }
}

/// Opens a file and reads its header. The content says which format it is, not the name.
fn open(path: &Path) -> Result<impl ImageDecoder, DataError> {
    let read_error = |source| DataError::Read { path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(read_error)?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(unfit(path, "it is no PNG or JPEG image, whatever its name says"));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SOURCE_SIDE);
    limits.max_image_height = Some(MOST_SOURCE_SIDE);
    limits.max_alloc = Some(MOST_DECODED_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| damaged(path, &error))?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    if width.max(height) > MOST_SOURCE_SIDE || bytes > MOST_DECODED_BYTES {
        let most = format!("at most {MOST_SOURCE_SIDE} a side and {MOST_DECODED_BYTES} bytes");
        return Err(unfit(path, format!("{width}x{height} pixels, {bytes} bytes decoded, {most}")));
    }
    Ok(decoder)
}

fn damaged(path: &Path, error: &ImageError) -> DataError {
    unfit(path, format!("the image is damaged or of an unknown kind: {error}"))
}

/// Whether the file's own colour type is grey.
pub(super) fn is_grey(path: &Path) -> Result<bool, DataError> {
    Ok(!open(path)?.color_type().has_color())
}

/// The pixels of a file in that shape (1 or 3 channels), channel by channel.
pub(super) fn decode(path: &Path, shape: InputShape) -> Result<Vec<u8>, DataError> {
    let mut decoder = open(path)?;
    let orientation = decoder.orientation().map_err(|error| damaged(path, &error))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(path, &error))?;
    image.apply_orientation(orientation);
    if image.color().has_alpha() {
        image = on_white(&image);
    }
    let (width, height) = (u32::from(shape.width), u32::from(shape.height));
    // An image that has this size already is copied, not sampled.
    Ok(if shape.channels == 1 {
        imageops::resize(&image.into_luma8(), width, height, FilterType::Triangle).into_raw()
    } else {
        planes(&imageops::resize(&image.into_rgb8(), width, height, FilterType::Triangle))
    })
}

/// An image with transparency, laid on white: value = alpha * value + (1 - alpha) * 255, rounded.
fn on_white(image: &DynamicImage) -> DynamicImage {
    let image = image.to_rgba8();
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        // At most 255: a mean of bytes.
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    DynamicImage::ImageRgb8(RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        Rgb([red, green, blue].map(|value| blend(value, alpha)))
    }))
}

/// From three values side by side to three planes.
fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| image.pixels().map(move |pixel| pixel.0[channel])).collect()
}
