//! The state of the search in one interval, and what is remembered of a task between its rounds.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use podl_chain_spec::Hash32;
use podl_consensus::codec;
use podl_consensus::types::{BlobRef, BlockHash, ModelRoot};
use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::outlook::Outlook;
use super::proposals::Proposals;
use super::units::Unit;
use crate::types::{Elite, EvaluationPlan, Interval, MinerId, Past};

/// Most confirmed models kept of a task.
const MOST_ELITES: usize = 16;
/// Most tasks remembered.
const MOST_TASKS: usize = 4;
/// Most candidates, and most artefacts, remembered for novelty.
const MOST_TRAINED: usize = 1 << 16;
/// Most states remembered of one artefact.
const MOST_ENDS: usize = 64;

/// Name of an architecture in the list of those already trained.
pub fn architecture_name(architecture: &Architecture) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool architecture");
    hasher.update(&codec::encode(architecture));
    Hash32(*hasher.finalize().as_bytes())
}

/// An artefact that was handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Submitted {
    /// Who had it first. It stays that miner's, whoever hands it in later.
    by: MinerId,
    /// The states that trainings to it ended in.
    ends: BTreeSet<Hash32>,
}

/// What a pool knows of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMemory {
    /// The task, or one name for all filler intervals of a workload, which share architectures but no data.
    pub key: Hash32,
    /// Confirmed models, best first. Filler models stay with the counts of their own interval until re-checked.
    pub elites: Vec<Elite>,
    /// Architectures that were leased to be trained from scratch.
    pub trained: BTreeSet<Hash32>,
    /// What is worth trying next; made with the first lease.
    pub proposals: Option<Box<Proposals>>,
    /// Networks that are to be trained further.
    pub units: Vec<Unit>,
    /// Artefacts that were submitted, and their names, the oldest first.
    submitted: BTreeMap<ModelRoot, Submitted>,
    submitted_order: VecDeque<ModelRoot>,
    /// How the training of each was left last.
    pasts: BTreeMap<ModelRoot, Past>,
}

impl TaskMemory {
    /// An empty memory.
    pub fn new(key: Hash32) -> Self {
        Self {
            key,
            elites: Vec::new(),
            trained: BTreeSet::new(),
            proposals: None,
            units: Vec::new(),
            submitted: BTreeMap::new(),
            submitted_order: VecDeque::new(),
            pasts: BTreeMap::new(),
        }
    }

    /// Takes in a confirmed model. True when it is a new best. Of one network the best model is kept; the best of each
    /// miner as long as there is room, since that miner can go on from its own weights. Half of the places are for the
    /// best as they are, the others for what would count most if it were trained as long as the best: or what a pool
    /// trained for long would leave no room for what it has just found.
    pub fn insert(&mut self, mut elite: Elite, outlook: Outlook, rank_images: u32) -> bool {
        let (root, count) = (elite.artefact.root, elite.count);
        let was_best = self.elites.first().is_some_and(|e| (e.artefact.root, e.count) == (root, count));
        if let Some(known) = self.elites.iter().find(|e| e.artefact.root == root) {
            // Training that changed nothing is no new hope, and a model stays that of its first miner.
            let stalls = elite.stalls.max(known.stalls);
            let is_others = known.miner != elite.miner;
            let (count, public_correct) = (elite.count, elite.public_correct);
            elite = if is_others { Elite { count, public_correct, ..known.clone() } } else { elite };
            elite.stalls = stalls;
        }
        self.elites.retain(|e| e.artefact.root != root);
        if self.elites.iter().any(|e| e.architecture == elite.architecture && e.rank() < elite.rank()) {
            return false;
        }
        self.elites.retain(|e| e.architecture != elite.architecture);
        self.elites.push(elite);
        self.elites.sort_by_key(Elite::rank);
        if self.elites.len() > MOST_ELITES {
            self.drop_one(outlook, rank_images);
        }
        !was_best && self.elites.first().is_some_and(|e| e.artefact.root == root)
    }

    /// Drops the least promising of the lower half, one that is not its miner's best if there is one.
    fn drop_one(&mut self, outlook: Outlook, rank_images: u32) {
        let images = self.elites.first().map_or(0, |best| best.images);
        let mut seen = BTreeSet::new();
        let places = self.elites.iter().enumerate().map(|(place, elite)| {
            let is_spare = !seen.insert(elite.miner);
            (!is_spare, outlook.at(elite, rank_images, images), Reverse(place))
        });
        if let Some((.., Reverse(place))) = places.skip(MOST_ELITES / 2).min() {
            self.elites.remove(place);
        }
    }

    /// Forgets what was trained: on new data, training an architecture again is new work.
    pub fn forget_trained(&mut self) {
        self.trained.clear();
        self.proposals = None;
        self.units.clear();
        self.submitted.clear();
        self.submitted_order.clear();
        self.pasts.clear();
    }

    /// A miner's best model.
    pub fn best_of(&self, miner: &MinerId) -> Option<&Elite> {
        self.elites.iter().find(|e| e.miner == *miner)
    }

    /// Notes a submitted artefact and the state that its training ended in; false when it is not new. The oldest is
    /// forgotten when there are too many, so that a long task never ends for want of room.
    ///
    /// Training that goes on can honestly end at the integers that it began at. Where `ends_count` (the training can be
    /// replayed), another end then makes it new.
    pub fn note_submitted(&mut self, by: MinerId, root: ModelRoot, end: Hash32, ends_count: bool) -> bool {
        match self.submitted.entry(root) {
            Entry::Vacant(entry) => {
                entry.insert(Submitted { by, ends: BTreeSet::from([end]) });
                self.submitted_order.push_back(root);
            }
            Entry::Occupied(mut entry) => {
                let ends = &mut entry.get_mut().ends;
                return ends_count && ends.len() < MOST_ENDS && ends.insert(end);
            }
        }
        if self.submitted_order.len() > MOST_TRAINED
            && let Some(oldest) = self.submitted_order.pop_front()
        {
            self.submitted.remove(&oldest);
            self.pasts.remove(&oldest);
        }
        true
    }

    /// Whether an artefact is this miner's: it had it first, or nobody is known to have had it.
    pub fn is_of(&self, miner: &MinerId, root: ModelRoot) -> bool {
        self.submitted.get(&root).is_none_or(|submitted| submitted.by == *miner)
    }

    /// Whether a training to this artefact was left at this state.
    pub fn is_end_of(&self, root: ModelRoot, state: Hash32) -> bool {
        let submitted = self.submitted.get(&root).is_some_and(|known| known.ends.contains(&state));
        submitted || self.past_of(root).is_some_and(|past| past.end == state)
    }

    /// Notes how the training of a new artefact was left.
    pub fn note_past(&mut self, root: ModelRoot, past: Past) {
        self.pasts.insert(root, past);
    }

    /// How the training of a confirmed or submitted artefact was left.
    pub fn past_of(&self, root: ModelRoot) -> Option<Past> {
        let elite = self.elites.iter().find(|e| e.artefact.root == root).map(|e| e.past);
        elite.or_else(|| self.pasts.get(&root).copied())
    }

    /// Notes that an architecture is trained from scratch.
    pub fn note_trained(&mut self, architecture: &Architecture) {
        if self.trained.len() < MOST_TRAINED {
            self.trained.insert(architecture_name(architecture));
        }
    }
}

/// A commitment of this interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The model.
    pub artefact: BlobRef,
    /// Its confirmed count when it was committed.
    pub count: u32,
}

/// One interval's search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// The interval's work.
    pub interval: Interval,
    /// What judges results.
    pub plan: EvaluationPlan,
    /// When the phase began for the manager.
    pub started_ms: u64,
    /// End of the phase.
    pub deadline_ms: u64,
    /// Whether the phase goes on.
    pub open: bool,
    /// Until when strong miners explore.
    pub explore_until_ms: u64,
    /// Commitments made.
    pub committed: Vec<Committed>,
    /// Attempts used, those of failed commitments not counted.
    pub attempts: u8,
}

impl Search {
    /// The interval's name.
    pub fn parent(&self) -> BlockHash {
        self.interval.parent
    }

    /// The memory this interval works with.
    pub fn memory_key(interval: &Interval) -> Hash32 {
        if !interval.is_filler() {
            return interval.task;
        }
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool filler memory");
        hasher.update(&codec::encode(&interval.workload));
        Hash32(*hasher.finalize().as_bytes())
    }
}

/// Memories of the last tasks, the last used at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memories(Vec<TaskMemory>);

impl Memories {
    /// Makes a task's memory the current one, new if it is not known.
    pub fn recall(&mut self, key: Hash32) -> &mut TaskMemory {
        let memory = match self.0.iter().position(|m| m.key == key) {
            Some(index) => self.0.remove(index),
            None => TaskMemory::new(key),
        };
        if self.0.len() >= MOST_TASKS {
            self.0.remove(0);
        }
        let last = self.0.len();
        self.0.push(memory);
        &mut self.0[last]
    }

    /// The current memory.
    pub fn current(&self) -> Option<&TaskMemory> {
        self.0.last()
    }

    /// The current memory.
    pub fn current_mut(&mut self) -> Option<&mut TaskMemory> {
        self.0.last_mut()
    }

    /// Drops a model that this miner did not train as it should have, and what is to be trained on from it. Of a model
    /// that another had before, only the miner's own units go: else a false result could delete any model. Returns
    /// how many units were dropped.
    pub fn drop_model(&mut self, miner: &MinerId, root: ModelRoot) -> usize {
        let mut dropped = 0;
        for memory in &mut self.0 {
            let is_own = memory.is_of(miner, root);
            memory.elites.retain(|e| !is_own || e.artefact.root != root);
            let before = memory.units.len();
            let stays = |unit: &Unit| unit.models().all(|model| model != root) || !(is_own || unit.owner == *miner);
            memory.units.retain(stays);
            dropped += before - memory.units.len();
        }
        dropped
    }

    /// Whether a model is among the confirmed ones.
    pub fn has_elite(&self, root: ModelRoot) -> bool {
        self.roots().any(|known| known == root)
    }

    /// Roots of all models worth keeping.
    pub fn roots(&self) -> impl Iterator<Item = ModelRoot> {
        let units = self.0.iter().flat_map(|m| m.units.iter().flat_map(Unit::models));
        self.0.iter().flat_map(|m| m.elites.iter().map(|e| e.artefact.root)).chain(units)
    }
}
