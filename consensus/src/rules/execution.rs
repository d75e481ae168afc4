//! Rules of transactions that only execution can check, since each depends on what those before it left.

use podl_chain_spec::{AccountId, Amount};

use crate::state::{MoneyError, StateError, TaskPhase};
use crate::types::TaskId;
use crate::workload::NetworkError;

/// Why a transaction cannot be executed on a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Not the next of its sender.
    #[error("the nonce is {got}, the next one of {sender:?} is {expected}")]
    Nonce {
        /// Whose.
        sender: AccountId,
        /// In the transaction.
        got: u64,
        /// In the state.
        expected: u64,
    },
    /// The sender cannot pay it.
    #[error("{sender:?} has {got} to spend, {need} needed (smallest units)", got = .got.0, need = .need.0)]
    Funds {
        /// Whose.
        sender: AccountId,
        /// Spendable.
        got: Amount,
        /// Payments, escrow and fee.
        need: Amount,
    },
    /// Amounts do not add up.
    #[error("the amounts overflow")]
    Overflow,
    /// There are as many tasks as the chain carries at one time.
    #[error("{got} tasks are pending, open or active already, at most {limit} can be")]
    LiveTasks {
        /// Live.
        got: usize,
        /// `tasks.live_tasks`.
        limit: u32,
    },
    /// No such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// Somebody else's task.
    #[error("task {task} was published by another account")]
    NotPublisher {
        /// Which.
        task: TaskId,
    },
    /// The task came to its end already.
    #[error("task {task} is {phase:?} already")]
    Closed {
        /// Which.
        task: TaskId,
        /// How it ended.
        phase: TaskPhase,
    },
    /// In the format, but not in force.
    #[error("{0} is not active in this version of the protocol")]
    NotActive(&'static str),
    /// A space that has no networks; the form rules refuse such tasks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Reading or writing the state failed.
    #[error(transparent)]
    State(StateError),
}

impl From<StateError> for TransactionError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Money(MoneyError::Overflow) => Self::Overflow,
            error => Self::State(error),
        }
    }
}

impl From<MoneyError> for TransactionError {
    fn from(error: MoneyError) -> Self {
        StateError::from(error).into()
    }
}
