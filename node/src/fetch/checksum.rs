//! Whether a file is the one that is meant.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::FetchError;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// Checksums of a file, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// MD5, as makers of data sets publish it.
    pub md5: String,
    /// SHA-256, which nobody can forge.
    pub sha256: String,
}

/// Compares size and checksums; says in words what is wrong.
pub(super) fn check(path: &Path, bytes: u64, expected: &Checksums) -> Result<Result<(), String>, FetchError> {
    let (got_bytes, got) = of_file(path)?;
    Ok(if got_bytes != bytes {
        Err(format!("{got_bytes} bytes, expected {bytes}"))
    } else if got.md5 != expected.md5 {
        Err(format!("its MD5 is {}, expected {}", got.md5, expected.md5))
    } else if got.sha256 != expected.sha256 {
        Err(format!("its SHA-256 is {}, expected {}", got.sha256, expected.sha256))
    } else {
        Ok(())
    })
}

fn of_file(path: &Path) -> Result<(u64, Checksums), FetchError> {
    let disk = |error| FetchError::disk(path, error);
    let mut file = File::open(path).map_err(disk)?;
    let (mut md5, mut sha256, mut bytes) = (Md5::new(), Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk).map_err(disk)?;
        if read == 0 {
            let (md5, sha256) = (hex::encode(md5.finalize()), hex::encode(sha256.finalize()));
            return Ok((bytes, Checksums { md5, sha256 }));
        }
        md5.update(&chunk[..read]);
        sha256.update(&chunk[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_both_sums_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        // The test vectors of RFC 1321 and FIPS 180-2.
        let right = Checksums {
            md5: "900150983cd24fb0d6963f7d28e17f72".into(),
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
        };
        let check = |bytes, sums: &Checksums| check(file.path(), bytes, sums).unwrap();
        assert_eq!(check(3, &right), Ok(()));
        assert_eq!(check(4, &right), Err("3 bytes, expected 4".into()));
        let zeros = Checksums { md5: "0".repeat(32), ..right.clone() };
        assert!(check(3, &zeros).unwrap_err().starts_with("its MD5 is 9001"));
        let zeros = Checksums { sha256: "0".repeat(64), ..right };
        assert!(check(3, &zeros).unwrap_err().starts_with("its SHA-256 is ba78"));
    }
}
