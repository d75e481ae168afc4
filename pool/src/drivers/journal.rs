//! The manager's journal: a snapshot and the events since, so that a killed manager loses nothing verified.
//!
//! Records are `[length u32][first 8 bytes of BLAKE3][postcard of (number, time, event)]`. Reading stops at the first record
//! that is cut short or does not match its hash: a write that a crash interrupted. A snapshot names the last event in it, so
//! that a crash between writing one and emptying the events repeats none.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::manager::{Event, Manager};

/// Most bytes of a record; events are small, intervals some kilobytes.
const RECORD_BYTES: usize = 1 << 20;
/// Most bytes of a snapshot.
const SNAPSHOT_BYTES: u64 = 1 << 30;
/// Bytes of events after which a snapshot is due, whatever the interval: refused requests are events as well, and a flood
/// of them must not fill the disk.
const EVENTS_BYTES: u64 = 32 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("the pool's journal {}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The snapshot is not one of this version.
    #[error("the pool's journal {}: the snapshot cannot be read ({reason}); move it away to start afresh", path.display())]
    Snapshot {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A journal in a folder.
pub struct Journal {
    folder: PathBuf,
    events: File,
    /// Number of the last event.
    number: u64,
    /// Bytes of the events since the snapshot.
    bytes: u64,
}

impl Journal {
    /// Opens the journal and restores the manager from it; none when there is nothing to restore. A restored manager
    /// wants [`Manager::resume`].
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(folder: &Path) -> Result<(Self, Option<Manager>), JournalError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| JournalError::Io { path: path.clone(), error }
        };
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let (snapshot_path, events_path) = (folder.join("snapshot"), folder.join("events"));
        let mut restored = match File::open(&snapshot_path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(SNAPSHOT_BYTES).read_to_end(&mut bytes).map_err(io(&snapshot_path))?;
                let restored: (u64, Manager) = postcard::from_bytes(&bytes)
                    .map_err(|e| JournalError::Snapshot { path: snapshot_path.clone(), reason: e.to_string() })?;
                Some(restored)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(&snapshot_path)(error)),
        };
        let mut kept = 0;
        if let Some((number, manager)) = &mut restored {
            let bytes = match std::fs::read(&events_path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(io(&events_path)(error)),
            };
            let mut rest = bytes.as_slice();
            while let Some((at, now_ms, event)) = next_record(&mut rest) {
                if at > *number {
                    // What it wanted done then was done then, or is asked for again by `resume`.
                    manager.handle(now_ms, event);
                    *number = at;
                }
                kept = bytes.len() - rest.len();
            }
        }
        let events = OpenOptions::new()
            .create(true)
            .truncate(false)
            .append(true)
            .open(&events_path)
            .map_err(io(&events_path))?;
        // A torn last record must not hide those that are written after it.
        events.set_len(kept as u64).map_err(io(&events_path))?;
        let (number, manager) = restored.map_or((0, None), |(number, manager)| (number, Some(manager)));
        Ok((Self { folder: folder.to_owned(), events, number, bytes: kept as u64 }, manager))
    }

    /// Appends an event before it is handled.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn append(&mut self, now_ms: u64, event: &Event) -> Result<(), JournalError> {
        self.number += 1;
        let body = postcard::to_stdvec(&(self.number, now_ms, event)).unwrap_or_default();
        let mut record = Vec::with_capacity(body.len() + 12);
        record.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        record.extend_from_slice(&blake3::hash(&body).as_bytes()[..8]);
        record.extend_from_slice(&body);
        self.bytes += record.len() as u64;
        let path = self.folder.join("events");
        self.events.write_all(&record).map_err(|error| JournalError::Io { path, error })
    }

    /// Whether there are so many events that a snapshot is due.
    pub fn is_long(&self) -> bool {
        self.bytes >= EVENTS_BYTES
    }

    /// Writes a snapshot and begins the events anew. The snapshot replaces the old one in one step.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn snapshot(&mut self, manager: &Manager) -> Result<(), JournalError> {
        let (path, fresh) = (self.folder.join("snapshot"), self.folder.join("snapshot.new"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&postcard::to_stdvec(&(self.number, manager)).unwrap_or_default())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            self.events.set_len(0)?;
            self.events.sync_all()
        };
        write().map_err(|error| JournalError::Io { path: path.clone(), error })?;
        self.bytes = 0;
        Ok(())
    }
}

fn next_record(rest: &mut &[u8]) -> Option<(u64, u64, Event)> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (hash, tail) = tail.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|&n| n <= RECORD_BYTES)?;
    let body = tail.get(..length)?;
    if blake3::hash(body).as_bytes()[..8] != *hash {
        return None;
    }
    let record = postcard::from_bytes(body).ok()?;
    *rest = &tail[length..];
    Some(record)
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::{AccountId, Amount, Hash32};

    use super::*;
    use crate::ledger::WonBlock;
    use crate::manager::Ask;
    use crate::types::MinerId;

    fn manager() -> Manager {
        let text = include_str!("../../../chain-spec/specs/dev.toml");
        let spec: podl_chain_spec::ChainSpec = podl_chain_spec::ChainSpec::parse(text).unwrap();
        Manager::new(crate::manager::PoolParams::for_chain(&spec, AccountId([1; 32])), [3; 32])
    }

    #[test]
    fn a_journal_restores_the_state_up_to_a_torn_record() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, none) = Journal::open(folder.path()).unwrap();
        assert!(none.is_none());
        let mut live = manager();
        journal.snapshot(&live).unwrap();
        for i in 0..5u8 {
            let ask = Ask::Hello { version: 1, account: AccountId([i; 32]) };
            let event = Event::Asked { miner: MinerId(Hash32([i; 32])), ask };
            journal.append(u64::from(i) * 100, &event).unwrap();
            live.handle(u64::from(i) * 100, event);
        }
        assert!(!journal.is_long());
        journal.bytes += EVENTS_BYTES;
        assert!(journal.is_long());
        journal.snapshot(&live).unwrap();
        assert!(!journal.is_long(), "begun anew");
        let before = live.clone();
        let won = WonBlock { block: Hash32([9; 32]), height: 1, reward: Amount(5), model: None };
        let event = Event::BlockWon(won);
        journal.append(900, &event).unwrap();
        live.handle(900, event);
        drop(journal);
        let (_, restored) = Journal::open(folder.path()).unwrap();
        assert_eq!(restored.unwrap(), live);
        let events = folder.path().join("events");
        let bytes = std::fs::read(&events).unwrap();
        std::fs::write(&events, &bytes[..bytes.len() - 1]).unwrap();
        let (mut journal, restored) = Journal::open(folder.path()).unwrap();
        assert_eq!(restored.unwrap(), before);
        // What is appended after a torn record is found.
        journal.append(950, &Event::Tick).unwrap();
        let mut expected = before;
        expected.handle(950, Event::Tick);
        assert_eq!(Journal::open(folder.path()).unwrap().1.unwrap(), expected);
    }
}
