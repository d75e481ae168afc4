//! What a node's journal would hold, in memory.

use crate::drivers::records::{self, RestoreError};
use crate::manager::{Event, Manager};

/// A snapshot and the events since, as the bytes that a node would have in its files.
#[derive(Debug, Default)]
pub(super) struct SimJournal {
    snapshot: Vec<u8>,
    events: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
    /// Number of the last event.
    number: u64,
}

impl SimJournal {
    /// A journal that begins with this manager.
    pub fn new(manager: &Manager) -> postcard::Result<Self> {
        let mut journal = Self::default();
        journal.snapshot(manager)?;
        Ok(journal)
    }

    /// Appends an event before it is handled.
    pub fn append(&mut self, now_ms: u64, event: &Event) -> postcard::Result<()> {
        self.number += 1;
        self.events.extend(records::record(self.number, now_ms, event)?);
        self.ends.push(self.events.len());
        Ok(())
    }

    /// Writes a snapshot and begins the events anew.
    pub fn snapshot(&mut self, manager: &Manager) -> postcard::Result<()> {
        self.snapshot = records::snapshot(self.number, manager)?;
        self.events.clear();
        self.ends.clear();
        Ok(())
    }

    /// Loses the last events, as a machine does whose power fails before they are on its disk.
    pub fn lose(&mut self, events: usize) {
        self.ends.truncate(self.ends.len().saturating_sub(events));
        self.events.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// The manager that a node would go on with.
    pub fn restore(&self) -> Result<Manager, RestoreError> {
        let restored = records::restore(&self.snapshot, &self.events)?;
        // Nothing was torn here, so that a record that is not read back is a fault of the format.
        if restored.kept == self.events.len() {
            Ok(restored.manager)
        } else {
            Err(postcard::Error::DeserializeBadEncoding.into())
        }
    }
}
