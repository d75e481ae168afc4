//! The state transition of a block, in the order of docs/protocol.md, section 4: votes and certificate (justify,
//! finalise, seat changes, ready flags, vote pay), round outcome, commitment fees, transactions.
//!
//! A block reaches execution when the rules of isolation, header and state hold. Amounts are checked again here: an
//! error means that the block breaks a rule of a transaction, or that this node's state is damaged; never a panic.
//!
//! # Choices that the specification leaves open
//! - The money of locked rewards becomes free at heights that are multiples of `unbond_intervals / 32`, rounded up, so
//!   that an account holds at most 34 locks, whatever it wins.
//! - Vote pay and transaction fees are free at once; rewards of rounds and freed bonds are locked.
//! - A seat that wins again only changes its place. The previous set is replaced when the set of accounts changes.
//! - Transaction fees reach the producer after the last transaction, so that nobody spends what is not earned yet.
//! - Expiry of tasks that never opened comes after the ready flags: a flag in the last block still opens.

mod event;
mod outcome;
mod seats;
mod transactions;
mod votes;

#[cfg(test)]
mod tests;

use podl_chain_spec::{AccountId, Amount, ChainSpec};

use crate::interval_context::IntervalContext;
use crate::rules::{BlockError, ContextError, TransactionError};
use crate::state::{Draft, Meta, StateDelta, StateError, StateView};
use crate::types::{Body, Height, SignedTransaction};

pub use event::Event;
pub use outcome::burn_share;
pub use transactions::cost;

/// What a block's execution depends on besides its parent's state.
#[derive(Clone, Copy)]
pub struct BlockInput<'a> {
    /// Parameters of the chain.
    pub spec: &'a ChainSpec,
    /// The interval that the block ends.
    pub interval: &'a IntervalContext,
    /// Time in the header.
    pub time_ms: u64,
    /// Producer in the header.
    pub producer: AccountId,
    /// Body.
    pub body: &'a Body,
}

/// Why a block cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// Reading or writing the state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A transaction breaks a rule.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Place in the body.
        index: usize,
        /// Which rule.
        error: TransactionError,
    },
}

impl From<ExecuteError> for BlockError {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::State(error) => Self::State(error),
            ExecuteError::Transaction { index, error } => Self::Context(ContextError::Transaction { index, error }),
        }
    }
}

/// A block's effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// What it changes, with the state root.
    pub delta: StateDelta,
    /// Consensus part of the state after it.
    pub meta: Meta,
    /// What happened, for logs and indexes.
    pub events: Vec<Event>,
}

/// A block in execution, after its outcome and before or amid its transactions.
pub struct Execution<'a> {
    spec: &'a ChainSpec,
    producer: AccountId,
    draft: Draft<'a>,
    events: Vec<Event>,
    fees: Amount,
}

/// Height from which on money that is locked in the block at `height` is free.
pub fn unlock_height(spec: &ChainSpec, height: Height) -> Height {
    let step = spec.seats.unbond_intervals.div_ceil(32).max(1);
    let due = height.saturating_add(spec.seats.unbond_intervals);
    due.checked_next_multiple_of(step).unwrap_or(Height::MAX)
}

impl<'a> Execution<'a> {
    /// Executes everything before the transactions.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn begin(state: &'a StateView<'a>, input: &BlockInput<'a>) -> Result<Self, StateError> {
        let draft = Draft::new(state, input.time_ms)?;
        let mut execution =
            Self { spec: input.spec, producer: input.producer, draft, events: Vec::new(), fees: Amount::ZERO };
        execution.votes(input)?;
        execution.outcome(input)?;
        Ok(execution)
    }

    /// Executes one transaction. One that fails changes nothing, so that producers can try those of their mempool.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn transaction(&mut self, transaction: &SignedTransaction) -> Result<(), TransactionError> {
        let fees = self.fees.checked_add(transaction.message.fee).ok_or(TransactionError::Overflow)?;
        transactions::apply(self.spec, &mut self.draft, &mut self.events, transaction)?;
        self.fees = fees;
        Ok(())
    }

    /// Pays the fees out and closes the state.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Supply`] when money appeared or vanished.
    pub fn finish(mut self) -> Result<Executed, StateError> {
        self.draft.credit(&self.producer, self.fees)?;
        let (delta, meta) = self.draft.finish()?;
        Ok(Executed { delta, meta, events: self.events })
    }
}

/// Executes a whole block on its parent's state.
///
/// # Errors
/// [`ExecuteError`].
pub fn execute(state: &StateView<'_>, input: &BlockInput<'_>) -> Result<Executed, ExecuteError> {
    let mut execution = Execution::begin(state, input)?;
    for (index, transaction) in input.body.transactions.iter().enumerate() {
        execution.transaction(transaction).map_err(|error| ExecuteError::Transaction { index, error })?;
    }
    Ok(execution.finish()?)
}
