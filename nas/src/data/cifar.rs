//! The binary layout of CIFAR-10: records of one label byte and 3 x 32 x 32 pixel bytes.

use std::path::{Path, PathBuf};

use podl_consensus::workload::InputShape;

use super::{DataError, Dataset, MOST_PART_BYTES, Source};

/// Name of the file with the test images.
pub const CIFAR_TEST_FILE: &str = "test_batch.bin";

/// Classes in the order of their labels, as batches.meta.txt of the archive has them.
const CLASS_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const CLASSES: u16 = CLASS_NAMES.len() as u16;
const LAYOUT: &str = "a CIFAR-10 folder has data_batch_1.bin (and more of them) and test_batch.bin";
const RECORD_BYTES: usize = 1 + InputShape::CIFAR.values();

/// Reads a CIFAR-10 folder: every `data_batch_*.bin` there is, in order of their names, for training, and
/// `test_batch.bin` for testing.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Read`], [`DataError::Unfit`] for more than a part may hold (before anything is
/// read), or [`DataError::Damaged`] with file, record and reason.
pub fn read_cifar10(folder: &Path) -> Result<Source, DataError> {
    let files = batch_files(folder)?;
    if files.is_empty() {
        return Err(DataError::Missing { folder: folder.into(), what: "data_batch_*.bin".into(), layout: LAYOUT });
    }
    let test_file = folder.join(CIFAR_TEST_FILE);
    if !test_file.is_file() {
        return Err(DataError::Missing { folder: folder.into(), what: CIFAR_TEST_FILE.into(), layout: LAYOUT });
    }
    check_size(folder, &files)?;
    check_size(folder, std::slice::from_ref(&test_file))?;
    let mut train = Dataset::new(InputShape::CIFAR, CLASSES);
    for file in &files {
        append_file(file, &mut train)?;
    }
    let mut test = Dataset::new(InputShape::CIFAR, CLASSES);
    append_file(&test_file, &mut test)?;
    Ok(Source { class_names: CLASS_NAMES.map(String::from).into(), train, test })
}

fn batch_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read_error = |source| DataError::Read { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("data_batch_") && name.ends_with(".bin") {
            files.push(path);
        }
    }
    // The order in which a folder is listed differs between machines.
    files.sort();
    Ok(files)
}

/// Refuses files that are longer together than a part of a data set.
fn check_size(folder: &Path, files: &[PathBuf]) -> Result<(), DataError> {
    let mut bytes = 0u64;
    for path in files {
        let file = std::fs::metadata(path).map_err(|source| DataError::Read { path: path.clone(), source })?;
        bytes = bytes.saturating_add(file.len());
    }
    if bytes > MOST_PART_BYTES {
        let reason = format!("a part of {bytes} bytes, at most {MOST_PART_BYTES}");
        return Err(DataError::Unfit { path: folder.into(), reason });
    }
    Ok(())
}

fn append_file(path: &Path, data: &mut Dataset) -> Result<(), DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    let damaged = |record, reason| DataError::Damaged { path: path.into(), record, reason };
    if bytes.is_empty() {
        return Err(damaged(0, "the file is empty".into()));
    }
    for (record, bytes) in bytes.chunks(RECORD_BYTES).enumerate() {
        let (label, pixels) = (bytes[0], &bytes[1..]);
        if bytes.len() != RECORD_BYTES {
            return Err(damaged(record, format!("{} bytes, expected {RECORD_BYTES}", bytes.len())));
        }
        if u16::from(label) >= CLASSES {
            return Err(damaged(record, format!("label {label}, expected 0 to 9")));
        }
        data.labels.push(label.into());
        data.images.extend_from_slice(pixels);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: u8, pixel: u8) -> Vec<u8> {
        let mut bytes = vec![pixel; RECORD_BYTES];
        bytes[0] = label;
        bytes
    }

    #[test]
    fn reads_all_batches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("data_batch_2.bin", record(2, 20));
        write("data_batch_1.bin", [record(1, 10), record(9, 11)].concat());
        write("readme.html", vec![1]);
        let missing = read_cifar10(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("test_batch.bin"), "{missing}");
        write("test_batch.bin", record(0, 30));
        let source = read_cifar10(folder.path()).unwrap();
        assert_eq!(source.train.labels, [1, 9, 2]);
        assert_eq!((source.train.image(2)[0], source.test.image(0)[3071], source.test.len()), (20, 30, 1));
    }

    #[test]
    fn files_that_are_too_long_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        // Holes: they take no room on the disk.
        let write =
            |name: &str, bytes| std::fs::File::create(folder.path().join(name)).unwrap().set_len(bytes).unwrap();
        write("data_batch_1.bin", MOST_PART_BYTES / 2);
        write("data_batch_2.bin", MOST_PART_BYTES / 2 + 1);
        write("test_batch.bin", 1);
        let refused = read_cifar10(folder.path()).unwrap_err();
        assert!(matches!(&refused, DataError::Unfit { reason, .. } if reason.contains("at most")), "{refused}");
    }

    #[test]
    fn damaged_files_are_named_with_record_and_reason() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read_cifar10(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("data_batch_*.bin"), "{missing}");
        let refused = |bytes: Vec<u8>| {
            std::fs::write(folder.path().join("data_batch_1.bin"), bytes).unwrap();
            std::fs::write(folder.path().join("test_batch.bin"), record(0, 0)).unwrap();
            read_cifar10(folder.path()).unwrap_err().to_string()
        };
        let cut = refused([record(1, 1), record(2, 2)[..100].to_vec()].concat());
        assert!(cut.contains("data_batch_1.bin is damaged at record 1: 100 bytes, expected 3073"), "{cut}");
        let label = refused([record(1, 1), record(3, 3), record(10, 2)].concat());
        assert!(label.contains("record 2: label 10, expected 0 to 9"), "{label}");
        assert!(refused(Vec::new()).contains("empty"));
        assert!(read_cifar10(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
