//! The manager's journal: a snapshot and the events since, so that a killed manager loses nothing verified.
//!
//! [`records`] says what both hold.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::records::{self, Restored};
use crate::manager::{Event, Manager};

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
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let events_path = folder.join("events");
        let (manager, number, kept) = match read(folder)? {
            Some(Restored { manager, number, kept }) => (Some(manager), number, kept as u64),
            None => (None, 0, 0),
        };
        let events = OpenOptions::new()
            .create(true)
            .truncate(false)
            .append(true)
            .open(&events_path)
            .map_err(io(&events_path))?;
        let written = events.metadata().map_err(io(&events_path))?.len();
        if written > kept {
            tracing::warn!(bytes = written - kept, "the end of the pool's journal is torn or damaged and is dropped");
        }
        // A torn last record must not hide those that are written after it.
        events.set_len(kept).map_err(io(&events_path))?;
        Ok((Self { folder: folder.to_owned(), events, number, bytes: kept }, manager))
    }

    /// The manager as the snapshot and the events since give it, those left out that it panics at.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn restore(&self) -> Result<Option<Manager>, JournalError> {
        Ok(read(&self.folder)?.map(|restored| restored.manager))
    }

    /// Appends an event before it is handled.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn append(&mut self, now_ms: u64, event: &Event) -> Result<(), JournalError> {
        self.number += 1;
        let record = records::record(self.number, now_ms, event).map_err(std::io::Error::other);
        let written = record.and_then(|record| {
            self.bytes += record.len() as u64;
            self.events.write_all(&record)
        });
        written.map_err(|error| JournalError::Io { path: self.folder.join("events"), error })
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
            let snapshot = records::snapshot(self.number, manager).map_err(std::io::Error::other)?;
            let mut file = File::create(&fresh)?;
            file.write_all(&snapshot)?;
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

/// What the files of a folder give; none without a snapshot.
fn read(folder: &Path) -> Result<Option<Restored>, JournalError> {
    let (snapshot_path, events_path) = (folder.join("snapshot"), folder.join("events"));
    let file = match File::open(&snapshot_path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(&snapshot_path)(error)),
    };
    let mut snapshot = Vec::new();
    file.take(SNAPSHOT_BYTES).read_to_end(&mut snapshot).map_err(io(&snapshot_path))?;
    let events = match std::fs::read(&events_path) {
        Ok(events) => events,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(io(&events_path)(error)),
    };
    let restored = records::restore(&snapshot, &events);
    restored.map(Some).map_err(|e| JournalError::Snapshot { path: snapshot_path, reason: e.to_string() })
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |error| JournalError::Io { path: path.clone(), error }
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
        // What another version wrote is not read as if it meant the same.
        let snapshot = folder.path().join("snapshot");
        let bytes = std::fs::read(&snapshot).unwrap();
        std::fs::write(&snapshot, [&[bytes[0] ^ 1], &bytes[1..]].concat()).unwrap();
        let refused = Journal::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("another version") && refused.contains("move it away"), "{refused}");
        std::fs::write(&snapshot, bytes).unwrap();
        // What is appended after a torn record is found.
        journal.append(950, &Event::Tick).unwrap();
        let mut expected = before;
        expected.handle(950, Event::Tick);
        assert_eq!(Journal::open(folder.path()).unwrap().1.unwrap(), expected);
    }
}
