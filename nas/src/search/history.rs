//! What a search has found so far, read from its journal without touching it.

use std::path::Path;

use podl_consensus::workload::Architecture;
use serde::Deserialize;

use super::journal::{Entry, JournalError, VERSION};

/// One network that a search trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEpisode {
    /// Number, from 0.
    pub episode: u64,
    /// The network.
    pub architecture: Architecture,
    /// Its reward in millionths.
    pub reward: u32,
    /// Epochs that it was trained for; 0 where the journal does not say.
    pub epochs: u32,
}

/// Of the first line, what every version has.
#[derive(Deserialize)]
struct Version {
    journal: u16,
}

/// The episodes of a journal in order. The search may be running or killed: a last line without its end is left out,
/// and nothing is written.
///
/// # Errors
/// [`JournalError::Io`] when the file cannot be read, [`JournalError::Line`] for a whole line that is damaged or of
/// another version.
pub fn history(path: &Path) -> Result<Vec<HistoryEpisode>, JournalError> {
    let bytes = std::fs::read(path).map_err(|source| JournalError::Io { action: "read", path: path.into(), source })?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let bad = |index: usize, reason: String| JournalError::Line { path: path.into(), line: index + 1, reason };
    let mut lines = bytes[..whole].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    if let Some((index, line)) = lines.next() {
        let found: Version = serde_json::from_slice(line).map_err(|error| bad(index, error.to_string()))?;
        if found.journal != VERSION {
            return Err(bad(index, format!("a journal of version {}, expected {VERSION}", found.journal)));
        }
    }
    let mut episodes = Vec::new();
    for (index, line) in lines {
        match serde_json::from_slice(line).map_err(|error| bad(index, error.to_string()))? {
            Entry::Episode { episode, architecture, reward, .. } => {
                episodes.push(HistoryEpisode { episode, architecture, reward, epochs: 0 });
            }
            Entry::Shared { .. } => {}
        }
    }
    Ok(episodes)
}
