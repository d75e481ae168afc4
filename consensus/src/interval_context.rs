//! What an interval is about: a pure function of the state of its parent.

use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};

use crate::hash::{Domain, hash_value};
use crate::ranking::best_task;
use crate::state::{Checkpoint, StateError, StateView};
use crate::types::{BlobRef, BlockHash, Height, ShardRef, TaskId};
use crate::workload::Workload;

/// The published task of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRound {
    /// Who holds the key.
    pub publisher: AccountId,
    /// Training and search-validation images.
    pub data: BlobRef,
    /// How many of them come first and are for training.
    pub train_images: u32,
    /// This round's sealed test shard.
    pub shard: ShardRef,
    /// The model to beat: the last winner's, or the publisher's baseline before anybody won.
    pub baseline: Option<BlobRef>,
    /// By how many images, at least 1: a copy of the published winner must not win.
    pub min_gain: u32,
}

/// Everything that miners, seats and rules need to know about the interval on a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntervalContext {
    /// Genesis hash.
    pub chain: Hash32,
    /// The block that the interval builds on.
    pub parent: Checkpoint,
    /// Its time; a child's is at least the shortest interval later.
    pub parent_time_ms: u64,
    /// Justified height in its state, which votes on it carry.
    pub parent_justified: Height,
    /// Height of the block that will end the interval.
    pub height: Height,
    /// The task, or the filler task of the parent.
    pub task: TaskId,
    /// The task's round from 1; 0 for filler.
    pub round: u32,
    /// The published task's round; `None` for filler.
    pub published: Option<TaskRound>,
    /// What is searched and how it is judged.
    pub workload: Arc<Workload>,
    /// What a round pays; for filler the subsidy.
    pub reward: Amount,
    /// What every commitment that a majority of the included closings lists costs its owner.
    pub commitment_fee: Amount,
    /// S: the seats of the parent's state, oldest first.
    pub seats: Vec<AccountId>,
}

/// Identity of the filler task on a parent.
pub fn filler_task(chain: &Hash32, parent: &BlockHash) -> TaskId {
    hash_value(Domain::FillerTask, &(chain, parent))
}

/// Seed of the filler data on a parent.
pub fn filler_seed(chain: &Hash32, parent: &BlockHash) -> [u8; 32] {
    hash_value(Domain::FillerSeed, &(chain, parent)).0
}

impl IntervalContext {
    /// The interval on the block `parent`, whose state `state` is.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read or names a task that it does not hold.
    pub fn derive(
        spec: &ChainSpec,
        chain: Hash32,
        parent: BlockHash,
        state: &StateView<'_>,
    ) -> Result<Self, StateError> {
        let meta = state.meta()?;
        let height = state.height() + 1;
        let mut context = Self {
            chain,
            parent: Checkpoint { height: state.height(), block: parent },
            parent_time_ms: meta.time_ms,
            parent_justified: meta.justified.height,
            height,
            task: filler_task(&chain, &parent),
            round: 0,
            published: None,
            workload: Arc::new(Workload::filler(spec)),
            reward: spec.money.filler_subsidy,
            commitment_fee: Amount::ZERO,
            seats: meta.seats.current.iter().map(|seat| seat.account).collect(),
        };
        if let Some((id, status)) = best_task(spec, state, height)? {
            let missing =
                |what: &str| StateError::Corrupt { key: id.to_string(), reason: format!("{what} is missing") };
            let task = state.task_spec(&id)?.ok_or_else(|| missing("the task"))?;
            let round = status.next_round;
            let index = usize::try_from(round).ok().and_then(|round| round.checked_sub(1));
            let shard = index.and_then(|index| task.task.shards.get(index)).ok_or_else(|| missing("the shard"))?;
            context.published = Some(TaskRound {
                publisher: task.publisher,
                data: task.task.data,
                train_images: task.task.train_images,
                shard: *shard,
                baseline: status.last_winner.map(|winner| winner.model).or(task.task.baseline),
                min_gain: task.task.min_gain.max(1),
            });
            (context.task, context.round, context.reward) = (id, round, status.reward);
            context.workload = Arc::new(task.task.workload);
        }
        context.commitment_fee = commitment_fee(spec, context.reward);
        Ok(context)
    }

    /// Whether nobody's task is worked on.
    pub fn is_filler(&self) -> bool {
        self.published.is_none()
    }

    /// Hash of the key that the publisher will release.
    pub fn key_hash(&self) -> Option<Hash32> {
        self.published.as_ref().map(|round| round.shard.key_hash)
    }

    /// Seed of the data set, for filler intervals.
    pub fn filler_seed(&self) -> Option<[u8; 32]> {
        self.is_filler().then(|| filler_seed(&self.chain, &self.parent.block))
    }

    /// Who may propose a void or idle block in a view. `None` only without seats, which the rules never leave.
    pub fn fallback_producer(&self, view: u32) -> Option<AccountId> {
        let count = u64::try_from(self.seats.len()).ok().filter(|count| *count > 0)?;
        // Reduced before the sum, which therefore fits.
        let place = (self.height % count + u64::from(view) % count) % count;
        self.seats.get(usize::try_from(place).ok()?).copied()
    }
}

/// Fee of a commitment to a round with this reward.
pub fn commitment_fee(spec: &ChainSpec, reward: Amount) -> Amount {
    let share = reward.0.checked_div(spec.limits.list_cap.into()).unwrap_or(0);
    spec.money.commitment_fee_min.max(Amount(share))
}
