//! What happened in a block, for logs, indexes and RPC. Not part of the state.

use podl_chain_spec::{AccountId, Amount, Hash32};
use serde::{Deserialize, Serialize};

use crate::state::{Checkpoint, TaskPhase};
use crate::types::TaskId;

/// One thing that a block caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A block is justified.
    Justified {
        /// Which.
        block: Checkpoint,
    },
    /// A block and its ancestors are final.
    Finalised {
        /// The highest.
        block: Checkpoint,
    },
    /// A winner got a seat.
    SeatTaken {
        /// Who.
        account: AccountId,
    },
    /// A seat won again and is the youngest now.
    SeatRenewed {
        /// Who.
        account: AccountId,
    },
    /// The oldest seat left.
    SeatLeft {
        /// Who.
        account: AccountId,
    },
    /// A winner could not pay the bond of a seat.
    SeatUnfunded {
        /// Who.
        account: AccountId,
    },
    /// A task was published.
    TaskPublished {
        /// Which.
        task: TaskId,
    },
    /// A majority of the seats holds a task's blobs.
    TaskOpened {
        /// Which.
        task: TaskId,
    },
    /// A round was spent.
    RoundSpent {
        /// The task.
        task: TaskId,
        /// Its round.
        round: u32,
        /// Who won it, if anybody.
        winner: Option<AccountId>,
    },
    /// A task came to its end.
    TaskClosed {
        /// Which.
        task: TaskId,
        /// How.
        phase: TaskPhase,
        /// What went back to the publisher.
        returned: Amount,
    },
    /// A winner earned a reward, locked.
    Rewarded {
        /// Who.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Commitment fees were burned.
    CommitmentFees {
        /// How much in all.
        burned: Amount,
    },
    /// A transaction took effect.
    Transaction {
        /// Its id.
        id: Hash32,
    },
}
