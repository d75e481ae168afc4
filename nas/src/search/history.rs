//! What a search found, read from its journal without going on with it.

use std::path::Path;

use podl_consensus::workload::Architecture;

use super::journal::{Entry, Header, JournalError, read};

/// One network of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEpisode {
    /// Number, from 0.
    pub episode: u64,
    /// The network.
    pub architecture: Architecture,
    /// Reward in millionths, after the most epochs that it was trained for.
    pub reward: u32,
    /// Those epochs.
    pub epochs: u32,
}

/// All networks of a search in the order of their episodes. The search may be running, or have been killed: a last line
/// without its end is left out.
///
/// # Errors
/// [`JournalError`] when there is no journal, or a line of it is damaged.
pub fn history(path: &Path) -> Result<Vec<HistoryEpisode>, JournalError> {
    let (Header { rungs, .. }, entries) = read(path)?;
    let mut episodes: Vec<HistoryEpisode> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        // The header is line 1.
        let bad = |reason: &str| JournalError::Line { path: path.into(), line: index + 2, reason: reason.into() };
        match entry {
            Entry::Episode { architecture, reward, episode, .. } => {
                if episode != episodes.len() as u64 {
                    return Err(bad("this episode does not follow from the ones before"));
                }
                let epochs = rungs.epochs()[0];
                episodes.push(HistoryEpisode { episode, architecture, reward, epochs });
            }
            Entry::Rung { episode, rung, reward, .. } => {
                let known = usize::try_from(episode).ok().and_then(|at| episodes.get_mut(at));
                let (Some(known), Some(&epochs)) = (known, rungs.epochs().get(rung)) else {
                    return Err(bad("an episode or a rung that this search does not have"));
                };
                (known.reward, known.epochs) = (reward, epochs);
            }
            Entry::Shared { .. } => (),
        }
    }
    Ok(episodes)
}
