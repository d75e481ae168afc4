//! Why a data set cannot be brought here, and what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a data set cannot be brought here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A folder of that name is not the set.
    #[error("{folder} is there but lacks {lacking}; move it away, or give another --dir")]
    InTheWay {
        /// Which.
        folder: PathBuf,
        /// What is not in it, or has another size.
        lacking: String,
    },
    /// Another process is at it.
    #[error("another download is at work in {folder}; wait for it to end")]
    Busy {
        /// Where.
        folder: PathBuf,
    },
    /// The server cannot be reached, or broke off.
    #[error("no data from {url}: {reason}; check the network and run the command again, it goes on where it stopped")]
    Network {
        /// From where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server refused.
    #[error("{url} answered with HTTP status {status}")]
    Status {
        /// Which address.
        url: String,
        /// The status.
        status: u16,
    },
    /// The server's answer contradicts the catalogue or itself.
    #[error("{url} does not offer the expected file: {what} {got}, expected {expected}")]
    WrongAnswer {
        /// Which address.
        url: String,
        /// What does not fit.
        what: &'static str,
        /// What it is.
        got: String,
        /// What it should be.
        expected: String,
    },
    /// Not the file that the catalogue means.
    #[error("{url} sent a wrong or damaged file: {wrong}; it is kept as {kept}, run the command again to try anew")]
    Checksum {
        /// From where.
        url: String,
        /// Which checksum or size, got and expected.
        wrong: String,
        /// Where the file is now.
        kept: PathBuf,
    },
    /// An archive does not hold what it should.
    #[error("the archive {path}: {reason}")]
    Archive {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is too little space to begin.
    #[error("the disk of {folder} has {free} bytes free, {need} are needed")]
    TooFull {
        /// Where.
        folder: PathBuf,
        /// Bytes still needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// The disk filled up.
    #[error("the disk is full at {path}; make room and run the command again, it goes on where it stopped")]
    Full {
        /// Where.
        path: PathBuf,
    },
    /// The disk cannot be read or written.
    #[error("cannot write {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FetchError {
    /// The error of a file operation.
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path: path.into() },
            _ => Self::Disk { path: path.into(), source },
        }
    }

    /// Whether trying again may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 416 | 429 | 500..),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_to_be_full() {
        let text = |kind: ErrorKind| FetchError::disk(Path::new("/x"), kind.into()).to_string();
        assert!(text(ErrorKind::StorageFull).starts_with("the disk is full at /x; make room"));
        assert!(text(ErrorKind::PermissionDenied).starts_with("cannot write /x: permission denied"));
    }
}
