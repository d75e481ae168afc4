//! The blobs of published tasks: fetched as soon as a task is on the chain, flagged ready when all are here.

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::Hash32;
use podl_consensus::interval::Event;
use podl_consensus::state::TaskPhase;
use podl_consensus::types::{BlobRef, PublishTask, READY_CAP, TaskId};

use super::prune::needed_by_task;
use super::{Core, CoreError};
use crate::service::input::Input;

/// A task whose blobs could not be had is tried again after this long.
const RETRY_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    Running,
    Failed { at_ms: u64 },
    Done,
}

/// What is known of the blobs of the live tasks.
#[derive(Default)]
pub(super) struct TaskBlobs {
    fetches: BTreeMap<TaskId, Fetch>,
    /// Hashes of the keys of all rounds to come of the live tasks.
    keys: BTreeSet<Hash32>,
    told: Vec<TaskId>,
}

impl TaskBlobs {
    /// Whether a key with this hash opens a shard of a live task.
    pub(super) fn is_key_of_live(&self, key_hash: &Hash32) -> bool {
        self.keys.contains(key_hash)
    }
}

/// All blobs of a task.
pub(super) fn blobs_of(task: &PublishTask) -> Vec<BlobRef> {
    let shards = task.shards.iter().map(|shard| shard.sealed);
    std::iter::once(task.data).chain(shards).chain(task.baseline).collect()
}

impl Core {
    /// Looks at the live tasks after the head: fetches what is missing, tells the machine which are ready.
    pub(super) fn follow_tasks(&mut self) -> Result<(), CoreError> {
        let Some(state) = self.view.chain.state(&self.head().block) else { return Ok(()) };
        let live = state.live_tasks()?;
        let mut pending = Vec::new();
        let mut wanted = Vec::new();
        let mut keys = BTreeSet::new();
        for id in &live {
            let (Some(status), Some(spec)) = (state.task_status(id)?, state.task_spec(id)?) else { continue };
            if status.phase == TaskPhase::Pending {
                pending.push(*id);
            }
            let spent = usize::try_from(status.next_round).unwrap_or(usize::MAX).saturating_sub(1);
            keys.extend(spec.task.shards.iter().skip(spent).map(|shard| shard.key_hash));
            // Shards of spent rounds are fetched with the blocks that spent them, if at all: old ones are nowhere.
            wanted.push((*id, needed_by_task(&spec.task, &status)));
        }
        self.tasks.keys = keys;
        self.tasks.fetches.retain(|id, _| live.contains(id));
        for (id, blobs) in wanted {
            self.fetch_task(id, blobs);
        }
        self.tell_ready(pending)
    }

    fn fetch_task(&mut self, id: TaskId, blobs: Vec<BlobRef>) {
        let now = self.clock.now_ms();
        match self.tasks.fetches.get(&id) {
            Some(Fetch::Running | Fetch::Done) => return,
            Some(Fetch::Failed { at_ms }) if now < at_ms + RETRY_MS => return,
            _ => {}
        }
        let store = self.network.blobs();
        let missing: Vec<BlobRef> = blobs.into_iter().filter(|blob| !store.contains(&blob.root)).collect();
        if missing.is_empty() {
            self.tasks.fetches.insert(id, Fetch::Done);
            return;
        }
        tracing::info!(task = %id.short(), blobs = missing.len(), "fetching the data of a task");
        self.tasks.fetches.insert(id, Fetch::Running);
        self.fetch_all(missing, None, move |all| Input::TaskBlobs { task: id, all });
    }

    pub(super) fn on_task_blobs(&mut self, task: TaskId, all: bool) -> Result<(), CoreError> {
        let at_ms = self.clock.now_ms();
        if let Some(fetch) = self.tasks.fetches.get_mut(&task) {
            *fetch = if all { Fetch::Done } else { Fetch::Failed { at_ms } };
            tracing::info!(task = %task.short(), complete = all, "data of a task");
        }
        self.follow_tasks()
    }

    fn tell_ready(&mut self, pending: Vec<TaskId>) -> Result<(), CoreError> {
        let done = |id: &TaskId| self.tasks.fetches.get(id) == Some(&Fetch::Done);
        let mut ready: Vec<TaskId> = pending.into_iter().filter(done).take(READY_CAP).collect();
        ready.sort_unstable();
        if ready == self.tasks.told {
            return Ok(());
        }
        self.tasks.told.clone_from(&ready);
        self.events.push_back(Event::ReadyTasks(ready));
        Ok(())
    }
}
