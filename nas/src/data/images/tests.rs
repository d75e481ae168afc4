use std::path::PathBuf;

use image::{DynamicImage, GrayImage, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn save(&self, name: &str, image: impl Into<DynamicImage>) {
        image.into().save(self.path(name)).unwrap();
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    fn read(&self, form: &str) -> Result<Source, DataError> {
        read_image_folder(self.0.path(), ImageForm::split_off(form).1)
    }

    fn error(&self) -> String {
        self.read("").unwrap_err().to_string()
    }

    /// The error with that file in place.
    fn refused(&self, name: &str, bytes: &[u8]) -> String {
        self.write(name, bytes);
        let error = self.error();
        self.remove(name);
        error
    }
}

fn grey(value: u8) -> GrayImage {
    GrayImage::from_pixel(4, 4, Luma([value]))
}

/// A coloured picture with gradients and edges.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let edge = if (x / 5 + y / 3) % 2 == 0 { 200 } else { 20 };
        Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, edge])
    })
}

fn two_parts() -> Folder {
    let folder = Folder::new();
    for (part, count) in [("train", 6), ("test", 2)] {
        for (class, value) in [("b", 20), ("a", 10), ("c", 30)] {
            (0..count).for_each(|i| folder.save(&format!("{part}/{class}/{i}.png"), grey(value + i)));
        }
    }
    folder
}

#[test]
fn parts_and_classes_follow_the_folders() {
    let folder = two_parts();
    folder.write("train/.DS_Store", b"x");
    folder.write("train/a/.hidden.png", b"x");
    let source = folder.read("x@4x4").unwrap();
    assert_eq!(source.class_names, ["a", "b", "c"]);
    assert_eq!((source.train.len(), source.test.len(), source.train.classes), (18, 6, 3));
    assert_eq!(source.train.shape, InputShape { channels: 1, height: 4, width: 4 }, "all are grey");
    for part in [&source.train, &source.test] {
        for (index, &label) in part.labels.iter().enumerate() {
            assert_eq!(u16::from(part.image(index)[0] / 10), label + 1, "files keep their class");
        }
        let head: std::collections::BTreeSet<_> = part.labels[..part.len() / 2].iter().collect();
        assert!(head.len() > 1, "the first images are of several classes");
    }
    assert_eq!(folder.read("x@4x4").unwrap(), source);
}

#[test]
fn without_parts_a_fifth_is_for_testing() {
    let folder = Folder::new();
    (0..10).for_each(|i| folder.save(&format!("one/{i}.png"), grey(i)));
    (0..3).for_each(|i| folder.save(&format!("two/{i}.png"), grey(100 + i)));
    let source = folder.read("x@4x4").unwrap();
    assert_eq!((source.train.len(), source.test.len()), (10, 3));
    let values = |data: &Dataset| -> Vec<u8> { (0..data.len()).map(|index| data.image(index)[0]).collect() };
    let mut all = [values(&source.train), values(&source.test)].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 101, 102]);
    // Another class changes nothing for these.
    (0..4).for_each(|i| folder.save(&format!("a/{i}.png"), grey(200 + i)));
    let more = folder.read("x@4x4").unwrap();
    let mut kept: Vec<u8> = values(&more.test).into_iter().filter(|&value| value < 200).collect();
    let mut before = values(&source.test);
    kept.sort_unstable();
    before.sort_unstable();
    assert_eq!(kept, before);
    folder.save("three/1.png", grey(1));
    assert!(folder.error().contains("three: it holds 1 image"), "{}", folder.error());
}

#[test]
fn colour_follows_the_files_unless_it_is_said() {
    let folder = two_parts();
    assert_eq!(folder.read("").unwrap().train.shape, InputShape { channels: 1, height: 32, width: 32 });
    assert_eq!(folder.read("x@5x6x3").unwrap().train.shape, InputShape { channels: 3, height: 5, width: 6 });
    folder.save("test/a/colour.png", RgbImage::from_pixel(4, 4, Rgb([255, 0, 0])));
    let source = folder.read("x@4x4").unwrap();
    assert_eq!(source.train.shape.channels, 3, "one coloured file makes the set coloured");
    let image = source.train.image(0);
    assert!(image.iter().all(|&value| value == image[0]), "grey in all three planes");
    let red = (0..7).map(|index| source.test.image(index)).find(|image| image[0] == 255).unwrap();
    assert_eq!(red, [[255; 16], [0; 16], [0; 16]].concat());
    let grey = folder.read("x@4x4x1").unwrap();
    assert!((0..7).any(|index| grey.test.image(index) == [54; 16]), "the luminance of pure red");
}

#[test]
fn transparent_pixels_show_white() {
    let folder = two_parts();
    let half = RgbaImage::from_fn(2, 1, |x, _| Rgba([100, 0, 0, if x == 0 { 255 } else { 51 }]));
    folder.save("test/a/alpha.png", half);
    let source = folder.read("x@1x2").unwrap();
    let is_there = (0..7).any(|index| source.test.image(index) == [100, 224, 0, 204, 0, 204]);
    assert!(is_there, "{:?}", source.test.images);
    folder.remove("test/a/alpha.png");
    let half = image::ImageBuffer::from_fn(2, 1, |x, _| LumaA([100u8, if x == 0 { 255 } else { 0 }]));
    folder.save("test/a/alpha.png", half);
    let source = folder.read("x@1x2").unwrap();
    assert!((0..7).any(|index| source.test.image(index) == [100, 255]), "{:?}", source.test.images);
}

/// Pixels may change with the libraries' versions, but not unnoticed, and never from run to run or with the threads.
#[test]
fn resized_pixels_are_pinned() {
    let folder = Folder::new();
    for (index, (width, height)) in [(100, 60), (33, 31), (8, 9), (32, 32)].into_iter().enumerate() {
        folder.save(&format!("train/a/{index}.png"), picture(width, height));
        folder.save(&format!("train/b/{index}.jpg"), picture(width, height));
        folder.save(&format!("test/a/{index}.JPEG"), picture(width, height));
    }
    let source = folder.read("").unwrap();
    let root = |data: &Dataset| blake3::hash(&super::super::encode_dataset(data)).to_hex()[..16].to_owned();
    let expected = (root(&source.train), root(&source.test));
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| folder.read("").unwrap());
        assert_eq!((root(&again.train), root(&again.test)), expected);
    }
    assert_eq!((expected.0.as_str(), expected.1.as_str()), ("bd38e968a29a9af5", "d9340d02a6c84ba9"));
    let kept = (0..8).any(|index| {
        let planes = source.train.image(index);
        let plane = |channel: usize| (0..1024).map(move |pixel| planes[channel * 1024 + pixel]);
        picture(32, 32).pixels().map(|p| p.0).eq(plane(0).zip(plane(1)).zip(plane(2)).map(|((r, g), b)| [r, g, b]))
    });
    assert!(kept, "an image of the right size keeps its pixels");
}

#[test]
fn what_is_in_the_wrong_place_is_named() {
    for (name, reason) in [
        ("train/a/readme.txt", "train/a/readme.txt: it is no .png, .jpg or .jpeg file"),
        ("train/a/Thumbs.db", "it is no .png"),
        ("train/a/more/1.png", "train/a/more: it is no .png"),
        ("train/list.csv", "train/list.csv: it is not the folder of a class"),
        ("val/a/1.png", "val: it is neither train nor test"),
        ("test/z/1.png", "test/z: there is no class of that name in train"),
        ("test/a/1.gif", "1.gif: it is no .png"),
    ] {
        let folder = two_parts();
        folder.write(name, b"x");
        assert!(folder.error().contains(reason), "{}\nexpected {reason}", folder.error());
    }
}

#[test]
fn what_is_lacking_is_named() {
    let folder = two_parts();
    std::fs::create_dir(folder.path("train/empty")).unwrap();
    assert!(folder.error().contains("train/empty: it holds no images"), "{}", folder.error());
    folder.remove("train/empty");
    folder.remove("test");
    assert!(folder.error().contains("it has the folder train but no test"), "{}", folder.error());
    folder.remove("train");
    assert!(folder.error().contains("holds no classes; an image folder has"), "{}", folder.error());
    (0..2).for_each(|i| folder.save(&format!("a/{i}.png"), grey(i)));
    assert!(folder.error().contains("1 classes, expected 2 to 256"), "{}", folder.error());
    assert!(read_image_folder(Path::new("/nonexistent"), ImageForm::default()).is_err());
}

#[test]
fn damaged_and_hostile_images_are_named_with_their_reason() {
    let folder = two_parts();
    let png = std::fs::read(folder.path("train/a/0.png")).unwrap();
    folder.save("test/a/x.jpg", picture(40, 40));
    let jpeg = std::fs::read(folder.path("test/a/x.jpg")).unwrap();
    folder.remove("test/a/x.jpg");
    let mut crc = png.clone();
    crc[20] ^= 1;
    for (name, bytes, reason) in [
        ("train/a/9.png", &png[..png.len() / 2], "train/a/9.png: the image is damaged"),
        ("train/a/9.png", &crc[..], "the image is damaged"),
        ("train/a/9.jpg", &jpeg[..30], "train/a/9.jpg: the image is damaged"),
        ("train/a/9.png", b"", "it is no PNG or JPEG image"),
        ("train/a/9.png", b"GIF89a and more of it", "it is no PNG or JPEG image"),
        ("train/a/9.png", &bomb(16_384, 16_384), "bytes decoded, at most"),
        ("train/a/9.png", &bomb(100_000, 1), "train/a/9.png"),
    ] {
        let text = folder.refused(name, bytes);
        assert!(text.contains(reason), "{text}\nexpected {reason}");
    }
    // A name that lies about which of the two kinds it is does no harm.
    folder.write("train/a/9.png", &jpeg);
    assert_eq!(folder.read("").unwrap().train.len(), 19);
}

/// A PNG file of a few bytes that declares a huge coloured image.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes().into_iter().chain(height.to_be_bytes()).chain([8, 2, 0, 0, 0]));
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    let mut bytes = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d".to_vec();
    bytes.extend(header);
    bytes.extend(crc.sum().to_be_bytes());
    // The beginning of the pixels, without which the header is not complete.
    bytes.extend(b"\x00\x00\x00\x02IDAT\x78\x9c");
    bytes
}
