//! Tasks in the state: the part that never changes and the part that does.

use podl_chain_spec::{AccountId, Amount};
use serde::{Deserialize, Serialize};

use crate::types::{BlobRef, Height, PublishTask};

/// A task as it was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Who published it.
    pub publisher: AccountId,
    /// What was published.
    pub task: PublishTask,
}

/// Where a task stands in its life (docs/protocol.md, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskPhase {
    /// Published; not yet flagged ready by a majority of the seats.
    Pending,
    /// Can be ranked; no round spent yet.
    Open,
    /// At least one round spent, at least one left.
    Active,
    /// All rounds spent.
    Done,
    /// A key was withheld; the bond was burned.
    Void,
    /// Withdrawn by its publisher, or never opened in time.
    Cancelled,
}

impl TaskPhase {
    /// Whether an interval can work on it.
    pub const fn is_workable(self) -> bool {
        matches!(self, Self::Open | Self::Active)
    }

    /// Whether it still holds money and a place in the index.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Open | Self::Active)
    }
}

/// The winner of a task's latest won round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winner {
    /// The artefact; the next rounds must beat it.
    pub model: BlobRef,
    /// Who made it.
    pub owner: AccountId,
    /// The round that it won.
    pub round: u32,
    /// Images of that round's shard that it classified correctly.
    pub correct: u32,
}

/// What changes about a task, with copies of the few static numbers that ranking and money need, so that blocks read
/// the large static part only of the task they work on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Who published it.
    pub publisher: AccountId,
    /// Where it stands.
    pub phase: TaskPhase,
    /// Rounds in all.
    pub rounds: u32,
    /// The round that the next interval works on, from 1; `rounds + 1` when all are spent.
    pub next_round: u32,
    /// What a round pays.
    pub reward: Amount,
    /// Rewards of unspent rounds.
    pub escrow: Amount,
    /// The bond, while it is held.
    pub bond: Amount,
    /// Multiply-accumulates that training it takes, and its data's weight; at least 1.
    pub difficulty: u64,
    /// Height of the block that published it.
    pub published: Height,
    /// Height of the block that opened it; 0 before.
    pub opened: Height,
    /// Height of the block that spent its latest round; 0 before.
    pub last_round: Height,
    /// Seats that flagged it ready, sorted; empty once it is open.
    pub ready: Vec<AccountId>,
    /// Winner of the latest won round.
    pub last_winner: Option<Winner>,
}

impl TaskStatus {
    /// Money it holds: escrow and bond. `None` on overflow.
    pub fn held(&self) -> Option<Amount> {
        self.escrow.checked_add(self.bond)
    }
}
