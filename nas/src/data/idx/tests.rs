use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

/// Bytes of an IDX file.
fn idx(element: u8, sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, element, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with 3 training and 2 test images of 2x3 pixels.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("train-images-idx3-ubyte", &idx(8, &[3, 2, 3], &(0..18).collect::<Vec<u8>>()));
        folder.write("train-labels-idx1-ubyte", &idx(8, &[3], &[2, 0, 1]));
        folder.write("t10k-images-idx3-ubyte", &idx(8, &[2, 2, 3], &(100..112).collect::<Vec<u8>>()));
        folder.write("t10k-labels-idx1-ubyte", &idx(8, &[2], &[4, 1]));
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }

    fn read(&self) -> Result<Source, DataError> {
        read_idx(self.0.path())
    }

    /// The error when that file has these bytes.
    fn refused(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        let before = std::fs::read(&path);
        self.write(name, bytes);
        let error = self.read().unwrap_err().to_string();
        match before {
            Ok(bytes) => self.write(name, &bytes),
            Err(_) => self.remove(name),
        }
        self.read().unwrap();
        error
    }
}

#[test]
fn plain_and_compressed_files_read_alike() {
    let folder = Folder::new();
    let plain = folder.read().unwrap();
    assert_eq!(plain.train.shape, InputShape { channels: 1, height: 2, width: 3 });
    assert_eq!((plain.train.classes, plain.test.classes), (5, 5), "the highest label is in the test part");
    assert_eq!(plain.class_names, ["0", "1", "2", "3", "4"]);
    assert_eq!((plain.train.image(1), &plain.train.labels[..]), (&[6, 7, 8, 9, 10, 11][..], &[2, 0, 1][..]));
    assert_eq!((plain.test.image(1)[0], &plain.test.labels[..]), (106, &[4, 1][..]));
    for name in ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        let bytes = std::fs::read(folder.0.path().join(name)).unwrap();
        folder.remove(name);
        folder.write(&format!("{}.gz", name.replace("-idx", ".idx")), &gzip(&bytes));
    }
    assert_eq!(folder.read().unwrap(), plain);
    // Two members behind one another are one file, as gzip has it.
    let bytes = idx(8, &[3], &[2, 0, 1]);
    folder.remove("train-labels-idx1-ubyte");
    folder.write("train-labels-idx1-ubyte.gz", &[gzip(&bytes[..5]), gzip(&bytes[5..])].concat());
    assert_eq!(folder.read().unwrap(), plain);
}

#[test]
fn channels_behind_each_pixel_become_planes() {
    let folder = Folder::new();
    for (part, images) in [("train", 3), ("t10k", 2)] {
        folder.remove(&format!("{part}-images-idx3-ubyte"));
        let elements: Vec<u8> = (0..images).flat_map(|_| [1, 2, 3, 11, 12, 13]).collect();
        folder.write(&format!("{part}-images-idx4-ubyte"), &idx(8, &[images, 1, 2, 3], &elements));
    }
    let source = folder.read().unwrap();
    assert_eq!(source.train.shape, InputShape { channels: 3, height: 1, width: 2 });
    assert_eq!(source.test.image(1), [1, 11, 2, 12, 3, 13]);
}

#[test]
fn wide_labels_are_read_and_bounded() {
    let folder = Folder::new();
    folder.write("train-labels-idx1-ubyte", &idx(0x0b, &[3], &[0, 2, 0, 0, 0, 255]));
    folder.write("t10k-labels-idx1-ubyte", &idx(0x0c, &[2], &[0, 0, 0, 4, 0, 0, 0, 1]));
    let source = folder.read().unwrap();
    assert_eq!((source.train.labels, source.test.labels, source.train.classes), (vec![2, 0, 255], vec![4, 1], 256));
    let text = folder.refused("train-labels-idx1-ubyte", &idx(0x0b, &[3], &[0, 2, 1, 0, 0, 1]));
    assert!(text.contains("damaged at record 1: label 256, expected 0 to 255"), "{text}");
    let text = folder.refused("train-labels-idx1-ubyte", &idx(0x0b, &[3], &[0, 2, 0, 0, 255, 255]));
    assert!(text.contains("record 2: label -1"), "{text}");
}

#[test]
fn every_kind_of_wrong_file_is_named_with_its_reason() {
    let folder = Folder::new();
    let images = |sizes: &[u32], bytes| folder.refused("train-images-idx3-ubyte", &idx(8, sizes, &vec![0; bytes]));
    let labels = |bytes: &[u8]| folder.refused("train-labels-idx1-ubyte", bytes);
    for (text, reason) in [
        (images(&[3, 2, 3], 17), "train-images-idx3-ubyte is damaged at record 2: the file ends after 5 of 6 bytes"),
        (images(&[3, 2, 3], 12), "record 2: the file ends after 0 of 6 bytes; 3 records are declared"),
        (images(&[3, 2, 3], 19), "record 3: more bytes follow, 3 records are declared"),
        (images(&[3, 65, 3], 585), "65x3 pixels and 1 channels, at most 64x64 and 4"),
        (images(&[3, 2, 0], 0), "2x0 pixels"),
        (images(&[3, 2, 3, 5], 90), "2x3 pixels and 5 channels"),
        (images(&[4, 2, 3], 24), "3 labels, "),
        (images(&[3, 6], 18), "begins with 00 00 08 02, expected 00 00 08 03"),
        (images(&[0, 2, 3], 0), "0 images"),
        (images(&[2, 3, 2], 12), "train-labels-idx1-ubyte: 3 labels, "),
        (labels(&idx(8, &[3, 1], &[2, 0, 1])), "begins with 00 00 08 02, expected 00 00 08 01"),
        (labels(&idx(0x0d, &[3], &[0; 12])), "begins with 00 00 0d 01, expected"),
        (labels(&idx(8, &[3], &[2, 0])), "record 2: the file ends"),
        (labels(&[0, 0, 8]), "it ends within its header (magic number)"),
        (labels(&[0, 0, 8, 1, 0, 0]), "it ends within its header (sizes)"),
        (labels(b"PK\x03\x04 a zip"), "begins with 50 4b 03 04, it is no IDX file"),
        (labels(&gzip(&[0; 9])), "give it the ending .gz"),
        (folder.refused("t10k-images-idx3-ubyte", &idx(8, &[2, 3, 2], &[0; 12])), "and test images of"),
    ] {
        assert!(text.contains(reason), "{text}\nexpected {reason}");
    }
    folder.remove("t10k-labels-idx1-ubyte");
    let text = folder.read().unwrap_err().to_string();
    assert!(text.contains("holds no t10k-labels-idx1-ubyte; an IDX folder has"), "{text}");
    assert!(read_idx(Path::new("/nonexistent")).unwrap_err().to_string().contains("cannot read /nonexistent"));
}

#[test]
fn one_class_is_none() {
    let folder = Folder::new();
    folder.write("train-labels-idx1-ubyte", &idx(8, &[3], &[0; 3]));
    folder.write("t10k-labels-idx1-ubyte", &idx(8, &[2], &[0; 2]));
    assert!(folder.read().unwrap_err().to_string().contains("all labels are 0"));
}

#[test]
fn declared_counts_take_no_memory() {
    let folder = Folder::new();
    // 4 thousand million images would be 17 TB; 200,000 of 64x64 fit the limit and are simply not there.
    folder.write("train-labels-idx1-ubyte", &idx(8, &[u32::MAX], &[]));
    folder.write("train-images-idx3-ubyte", &idx(8, &[u32::MAX, 64, 64], &[]));
    let text = folder.read().unwrap_err().to_string();
    assert!(
        text.contains("4294967295 images make 17596481007615 bytes with labels, expected 1 to 1073741824"),
        "{text}"
    );
    folder.write("train-labels-idx1-ubyte", &idx(8, &[200_000], &[]));
    folder.write("train-images-idx3-ubyte", &idx(8, &[200_000, 64, 64], &[]));
    assert!(folder.read().unwrap_err().to_string().contains("record 0: the file ends after 0 of 4096 bytes"));
}

#[test]
fn compressed_bombs_and_broken_streams_stop() {
    let folder = Folder::new();
    let name = "train-images-idx3-ubyte.gz";
    folder.remove("train-images-idx3-ubyte");
    let good = gzip(&idx(8, &[3, 2, 3], &[7; 18]));
    folder.write(name, &good);
    folder.read().unwrap();
    // 64 MiB of zeros in 64 KiB: one byte behind the declared records ends the reading.
    let bomb = gzip(&idx(8, &[3, 2, 3], &vec![0; 64 << 20]));
    assert!(bomb.len() < 100_000);
    assert!(folder.refused(name, &bomb).contains("record 3: more bytes follow"));
    let text = folder.refused(name, &good[..good.len() - 9]);
    assert!(text.contains("the compressed data are broken"), "{text}");
    let mut wrong_sum = good.clone();
    let place = good.len() - 6;
    wrong_sum[place] ^= 1;
    let text = folder.refused(name, &wrong_sum);
    assert!(text.contains("record 3: the compressed data are broken"), "{text}");
    let text = folder.refused(name, &[&good[..], b"junk"].concat());
    assert!(text.contains("the compressed data are broken"), "{text}");
    let text = folder.refused(name, b"not compressed, whatever the name says");
    assert!(text.contains("the compressed data are broken"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..60), header in any::<bool>(), gz in any::<bool>()) {
        let folder = Folder::new();
        let bytes = if header { idx(8, &[3, 2, 3], &bytes) } else { bytes };
        folder.remove("train-images-idx3-ubyte");
        folder.write(if gz { "train-images-idx3-ubyte.gz" } else { "train-images-idx3-ubyte" }, &bytes);
        if let Ok(source) = folder.read() {
            prop_assert_eq!((source.train.len(), source.train.images.len()), (3, 18));
        }
    }
}
