//! Which task an interval works on: difficulty / reward, lowest first (paper), aged, then task id.

use std::cmp::Ordering;

use podl_chain_spec::{Amount, ChainSpec};

use crate::state::{StateError, StateView, TaskStatus};
use crate::types::{Height, PublishTask, TaskId};
use crate::workload::NetworkError;

/// Difficulty of a task: multiply-accumulates of training the largest network of its space on all its training images
/// for all its epochs, and `byte_weight` for each byte of its data. At least 1, saturating.
///
/// # Errors
/// [`NetworkError`] for a workload that does not validate.
pub fn difficulty(spec: &ChainSpec, task: &PublishTask) -> Result<u64, NetworkError> {
    let macs = task.workload.space.largest_training_macs(task.workload.input, task.workload.classes)?;
    let training = macs.saturating_mul(task.train_images.into()).saturating_mul(task.epochs.into());
    let data = spec.tasks.byte_weight.saturating_mul(task.data.bytes);
    Ok(training.saturating_add(data).max(1))
}

/// Difficulty after `waited` intervals: halved every `aging_intervals`, never below 1.
pub fn aged(difficulty: u64, waited: u64, aging_intervals: u64) -> u64 {
    let halvings = waited.checked_div(aging_intervals).unwrap_or(0).min(63);
    (difficulty >> halvings).max(1)
}

/// Place of a task in the ranking; the least is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Difficulty after aging.
    pub aged: u64,
    /// What a round pays; never 0.
    pub reward: Amount,
    /// Decides between equals.
    pub task: TaskId,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        // a/r < b/s is a*s < b*r; products of two u64 fit a u128.
        let left = u128::from(self.aged) * u128::from(other.reward.0);
        let right = u128::from(other.aged) * u128::from(self.reward.0);
        left.cmp(&right).then_with(|| self.task.cmp(&other.task))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Rank of a task for the interval at `height`. It waits since it opened or since its latest round.
pub fn rank(spec: &ChainSpec, task: TaskId, status: &TaskStatus, height: Height) -> Rank {
    let waited = height.saturating_sub(status.opened.max(status.last_round));
    Rank { aged: aged(status.difficulty, waited, spec.tasks.aging_intervals), reward: status.reward, task }
}

/// The task of the interval at `height` on a state: the best-ranked one that is open or active; `None` for filler.
///
/// # Errors
/// [`StateError`].
pub fn best_task(
    spec: &ChainSpec,
    state: &StateView<'_>,
    height: Height,
) -> Result<Option<(TaskId, TaskStatus)>, StateError> {
    let mut best: Option<(Rank, TaskStatus)> = None;
    for task in state.live_tasks()? {
        let Some(status) = state.task_status(&task)?.filter(|status| status.phase.is_workable()) else { continue };
        let rank = rank(spec, task, &status, height);
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, status));
        }
    }
    Ok(best.map(|(rank, status)| (rank.task, status)))
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::Hash32;

    use super::*;

    fn rank(aged: u64, reward: u64, task: u8) -> Rank {
        Rank { aged, reward: Amount(reward), task: Hash32([task; 32]) }
    }

    #[test]
    fn cheapest_work_per_reward_comes_first() {
        let mut ranks = [rank(10, 2, 1), rank(10, 5, 2), rank(4, 2, 0), rank(u64::MAX, u64::MAX, 9)];
        ranks.sort();
        assert_eq!(ranks.map(|r| r.task.0[0]), [9, 0, 2, 1]);
        assert!(rank(u64::MAX, 1, 0) > rank(u64::MAX - 1, 1, 1), "no overflow, no rounding");
    }

    #[test]
    fn waiting_halves_and_saturates() {
        assert_eq!([0, 19, 20, 40, 60, 10_000].map(|w| aged(9, w, 20)), [9, 9, 4, 2, 1, 1]);
        assert_eq!(aged(u64::MAX, u64::MAX, 1), 1);
    }
}
