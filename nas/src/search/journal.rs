//! The journal of a search: one JSON object a line, synced line by line.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::{AnyStrategy, Rungs};

/// Version of the journal's form and of the strategies that it replays.
pub(super) const VERSION: u16 = 3;

/// First line: which search this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the journal's form.
    pub journal: u16,
    /// The strategy before its first proposal, its seed and box included.
    pub start: AnyStrategy,
    /// Epochs of each rung.
    pub rungs: Rungs,
    /// Networks that do no better are never promoted.
    pub chance: u32,
}

/// A line after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A network that the strategy proposed and its reward on the first rung.
    Episode {
        /// Number, from 0.
        episode: u64,
        /// The network.
        architecture: Architecture,
        /// Its reward in millionths.
        reward: u32,
        /// What else the caller wants kept (seconds, accuracy, model root).
        note: serde_json::Value,
    },
    /// A network of an earlier episode was trained further.
    Rung {
        /// Its episode.
        episode: u64,
        /// The rung it reached, at least 1.
        rung: usize,
        /// Its reward there, in millionths.
        reward: u32,
        /// What else the caller wants kept.
        note: serde_json::Value,
    },
    /// A network found elsewhere.
    Shared {
        /// The network.
        architecture: Architecture,
        /// Its reward in millionths.
        reward: u32,
        /// Whether a proposed network was under evaluation when it came; the strategy then hears of it afterwards.
        meanwhile: bool,
    },
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("cannot {action} the search journal {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another search has the file open.
    #[error("another search is running on the journal {path}; wait for it, or choose another folder")]
    Running {
        /// The file.
        path: PathBuf,
    },
    /// A whole line that is not of the expected form.
    #[error("search journal {path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The file belongs to another search.
    #[error("{path} is the journal of another search (other seed, space or strategy); choose another folder")]
    OtherSearch {
        /// The file.
        path: PathBuf,
    },
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens or makes the journal of a search and returns what it holds. A last line without its end was cut off by a
    /// crash: nobody has heard of that result, so the line is dropped.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, Vec<Entry>), JournalError> {
        let io = |action| move |source| JournalError::Io { action, path: path.into(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io("open"))?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(JournalError::Running { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let whole = whole_lines(&bytes);
        file.set_len(whole as u64).map_err(io("cut"))?;
        file.seek(SeekFrom::End(0)).map_err(io("read"))?;
        let mut journal = Self { file, path: path.into() };
        if whole == 0 {
            journal.append(header)?;
            // The file's name must survive a power cut as well.
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|f| f.sync_all()).map_err(io("sync"))?;
            return Ok((journal, Vec::new()));
        }
        let (theirs, entries) = parse_all(path, &bytes[..whole])?;
        if theirs != *header {
            return Err(JournalError::OtherSearch { path: path.into() });
        }
        Ok((journal, entries))
    }

    pub(super) fn bad_line(&self, line: usize, reason: String) -> JournalError {
        JournalError::Line { path: self.path.clone(), line, reason }
    }

    /// Writes one line and waits until it is on disk.
    pub(super) fn append<T: Serialize>(&mut self, value: &T) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { action: "write", path: self.path.clone(), source };
        let mut line = serde_json::to_vec(value).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(io)
    }
}

/// Reads a journal that another process may be writing.
pub(super) fn read(path: &Path) -> Result<(Header, Vec<Entry>), JournalError> {
    let io = |source| JournalError::Io { action: "read", path: path.into(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    parse_all(path, &bytes[..whole_lines(&bytes)])
}

/// Bytes up to the end of the last whole line.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1)
}

fn parse_all(path: &Path, bytes: &[u8]) -> Result<(Header, Vec<Entry>), JournalError> {
    let mut lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()).enumerate();
    let (_, header) = lines.next().unwrap_or((0, b""));
    let header = parse(path, 0, header)?;
    Ok((header, lines.map(|(index, line)| parse(path, index, line)).collect::<Result<_, _>>()?))
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path, index: usize, line: &[u8]) -> Result<T, JournalError> {
    let bad =
        |error: serde_json::Error| JournalError::Line { path: path.into(), line: index + 1, reason: error.to_string() };
    serde_json::from_slice(line).map_err(bad)
}
