//! Verified, resumable downloads of public data sets.
//!
//! Everything of a set goes to `DIR/NAME.partial` first and becomes `DIR/NAME` in one step at the end, so that a folder of
//! that name is always whole. What was downloaded stays there when a download is interrupted; the next run goes on behind
//! its last byte. A file's size and checksums are checked before anything is done with it; one that is wrong is kept
//! aside for whoever wants to look, with the ending `.bad`.
//!
//! # Correctness
//! Only files of the catalogue's names are written, never more bytes than it says: neither a server nor an archive
//! chooses a path or a size.

pub mod catalogue;
mod checksum;
mod error;
mod http;
mod unpack;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use catalogue::{Collection, Member, Remote};
pub use checksum::Checksums;
pub use error::FetchError;
pub use http::Http;

/// Ending of the folder where a set is put together.
const STAGING: &str = "partial";
/// Ending of a file that is not whole yet.
const PART: &str = "part";
/// Ending of a file whose checksum was wrong.
const BAD: &str = "bad";

/// A data set that is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where.
    pub folder: PathBuf,
    /// Bytes that were missing and came over the network; 0 when everything was there.
    pub downloaded_bytes: u64,
}

/// What is called with the name of a file, its bytes so far and its bytes in all.
pub type OnProgress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// Brings a set to `dir/NAME`, unless it is there.
///
/// # Errors
/// [`FetchError`]; whatever was downloaded by then is used by the next call.
pub fn fetch(set: &Collection, dir: &Path, http: &Http, progress: OnProgress<'_>) -> Result<Fetched, FetchError> {
    let folder = dir.join(set.name);
    if folder.exists() {
        return match set.lacking(&folder) {
            None => Ok(Fetched { folder, downloaded_bytes: 0 }),
            Some(lacking) => Err(FetchError::InTheWay { folder, lacking }),
        };
    }
    let staging = dir.join(format!("{}.{STAGING}", set.name));
    fs::create_dir_all(&staging).map_err(|e| FetchError::disk(&staging, e))?;
    let lock_path = staging.join("lock");
    let lock = File::create(&lock_path).map_err(|e| FetchError::disk(&lock_path, e))?;
    lock.try_lock().map_err(|_| FetchError::Busy { folder: staging.clone() })?;
    check_space(set, &staging)?;
    let mut downloaded_bytes = 0;
    for remote in &set.files {
        if remote.products().all(|(name, bytes)| has_size(&staging.join(name), bytes)) {
            continue;
        }
        downloaded_bytes += download(remote, &staging, http, progress)?;
        if !remote.members.is_empty() {
            let archive = staging.join(remote.name);
            unpack::unpack(&archive, &remote.members, &staging)?;
            fs::remove_file(&archive).map_err(|e| FetchError::disk(&archive, e))?;
        }
    }
    fs::remove_file(&lock_path).map_err(|e| FetchError::disk(&lock_path, e))?;
    fs::rename(&staging, &folder).map_err(|e| FetchError::disk(&folder, e))?;
    Ok(Fetched { folder, downloaded_bytes })
}

/// Whether a file is there and has that size.
fn has_size(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == bytes)
}

/// Bytes of a file; 0 if there is none.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

/// Better to say now than after an hour that the disk is too small.
fn check_space(set: &Collection, staging: &Path) -> Result<(), FetchError> {
    let missing = |(name, bytes): (&str, u64)| if has_size(&staging.join(name), bytes) { 0 } else { bytes };
    let part = |remote: &Remote| size(&staging.join(format!("{}.{PART}", remote.name)));
    let archive = |remote: &Remote| if remote.members.is_empty() { 0 } else { remote.bytes };
    let need = |remote: &Remote| {
        let products: u64 = remote.products().map(missing).sum();
        if products == 0 { 0 } else { (products + archive(remote)).saturating_sub(part(remote)) }
    };
    let need = set.files.iter().map(need).sum();
    match podl_storage::free_disk_bytes(staging) {
        Ok(free) if free < need => Err(FetchError::TooFull { folder: staging.into(), need, free }),
        _ => Ok(()),
    }
}

/// Downloads a file, in as many attempts as bring new bytes, and checks it. Returns the bytes that came.
fn download(remote: &Remote, staging: &Path, http: &Http, progress: OnProgress<'_>) -> Result<u64, FetchError> {
    let path = staging.join(remote.name);
    let part = staging.join(format!("{}.{PART}", remote.name));
    let (before, mut fruitless) = (size(&part), 0);
    while size(&part) < remote.bytes {
        let have = size(&part);
        match http.transfer(remote, &part, have, progress) {
            Err(error) if error.may_pass() => {
                fruitless = if size(&part) > have { 0 } else { fruitless + 1 };
                if fruitless >= http.attempts {
                    return Err(error);
                }
                std::thread::sleep(http.pause);
            }
            outcome => outcome?,
        }
    }
    if let Err(wrong) = checksum::check(&part, remote.bytes, &remote.checksums)? {
        let kept = staging.join(format!("{}.{BAD}", remote.name));
        fs::rename(&part, &kept).map_err(|e| FetchError::disk(&kept, e))?;
        return Err(FetchError::Checksum { url: remote.url.clone(), wrong, kept });
    }
    fs::rename(&part, &path).map_err(|e| FetchError::disk(&path, e))?;
    Ok(remote.bytes.saturating_sub(before))
}

#[cfg(test)]
mod tests;
