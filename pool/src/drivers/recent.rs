//! States that a miner may be asked to show.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use podl_chain_spec::Hash32;

use super::{ArtefactStore, DirStore, MemoryStore};

/// States that are kept: twice as many as a manager lets wait for replays, of all its miners.
const MOST_STATES: usize = 8;

/// The states that a miner's last trainings went on from. In a folder they outlive the miner's process: one that was killed
/// and is back shows what it was asked for, and loses nothing of what it had earned.
pub(super) struct RecentStates {
    /// The oldest first.
    order: VecDeque<Hash32>,
    kept: Box<dyn ArtefactStore>,
}

impl RecentStates {
    /// Opens a folder, or keeps states in memory alone: where none is named, or where it cannot be used, which is logged.
    pub fn open(folder: Option<&Path>) -> Self {
        let opened = folder.map(|folder| {
            DirStore::open(folder).inspect_err(|error| {
                tracing::warn!(%error, folder = %folder.display(), "states of training do not outlive this process");
            })
        });
        match opened {
            Some(Ok(store)) => Self { order: store.oldest_first().into(), kept: Box::new(store) },
            Some(Err(_)) | None => Self { order: VecDeque::new(), kept: Box::<MemoryStore>::default() },
        }
    }

    /// Keeps a state, and forgets the oldest when there are too many.
    pub fn keep(&mut self, root: Hash32, state: Arc<Vec<u8>>) {
        self.order.retain(|kept| *kept != root);
        self.order.push_back(root);
        while self.order.len() > MOST_STATES {
            self.order.pop_front();
        }
        if let Err(error) = self.kept.put(root, state) {
            tracing::warn!(%error, "a state of training does not outlive this process");
        }
        self.kept.retain(&self.order.iter().copied().collect());
    }

    /// A state.
    pub fn get(&self, root: &Hash32) -> Option<Arc<Vec<u8>>> {
        self.kept.get(root)
    }
}

#[cfg(test)]
mod tests {
    use podl_consensus::hash::blob_root;

    use super::*;

    fn keep(states: &mut RecentStates, number: u8) -> Hash32 {
        let root = blob_root(&[number]);
        states.keep(root, Arc::new(vec![number]));
        root
    }

    #[test]
    fn the_last_states_outlive_the_process_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut states = RecentStates::open(Some(folder.path()));
        let first = keep(&mut states, 0);
        let second = keep(&mut states, 1);
        assert_eq!(keep(&mut states, 0), first, "gone on from once more: it is the latest again");
        let later: Vec<Hash32> = (2..9).map(|number| keep(&mut states, number)).collect();
        let kept = |states: &RecentStates| {
            assert!(states.get(&second).is_none(), "the oldest makes room");
            assert!([first].iter().chain(&later).all(|root| states.get(root).is_some()));
        };
        kept(&states);
        kept(&RecentStates::open(Some(folder.path())));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), MOST_STATES);
    }

    #[test]
    fn a_folder_that_cannot_be_used_costs_a_miner_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut states = RecentStates::open(Some(file.path()));
        let root = keep(&mut states, 1);
        assert!(states.get(&root).is_some());
    }
}
