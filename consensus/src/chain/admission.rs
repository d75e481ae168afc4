//! Whether a transaction may wait in a mempool.

use podl_chain_spec::{AccountId, Amount};

use super::Chain;
use crate::execute::cost;
use crate::rules::transaction::{FormError, check_form};
use crate::signed::BadSignature;
use crate::state::{StateError, StateStore};
use crate::types::{BlockHash, SignedTransaction};

/// When a transaction that may wait can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// In the next block.
    Next,
    /// After so many other transactions of its sender.
    After(u64),
}

/// Why a transaction may not wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// It can be in no block.
    #[error(transparent)]
    Form(#[from] FormError),
    /// Not its sender's.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// Executed already, or replaced.
    #[error("the nonce is {got}, {sender:?} is at {next} already")]
    Stale {
        /// Whose.
        sender: AccountId,
        /// In the transaction.
        got: u64,
        /// In the state.
        next: u64,
    },
    /// The sender cannot pay it.
    #[error("{sender:?} has {got} to spend, {need} needed (smallest units)", got = .got.0, need = .need.0)]
    Funds {
        /// Whose.
        sender: AccountId,
        /// Spendable in the next block.
        got: Amount,
        /// Payments, escrow and fee.
        need: Amount,
    },
    /// The state of the head is not here.
    #[error("the state of block {0} is not here")]
    UnknownHead(BlockHash),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl<S: StateStore> Chain<S> {
    /// Checks form, signature, nonce and funds of a transaction against the state of `head`. What depends on other
    /// transactions (a task that it cancels, money that it will have received) shows only when a block is made.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn admit(&self, head: &BlockHash, transaction: &SignedTransaction) -> Result<Admission, AdmissionError> {
        check_form(&self.spec, transaction)?;
        transaction.verify(&self.chain)?;
        self.readmit(head, transaction)
    }

    /// The part of [`Chain::admit`] that a new head can change.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn readmit(&self, head: &BlockHash, transaction: &SignedTransaction) -> Result<Admission, AdmissionError> {
        let state = self.state(head).ok_or(AdmissionError::UnknownHead(*head))?;
        let message = &transaction.message;
        let sender = message.sender;
        let account = state.account(&sender)?;
        let (got, next) = (message.nonce, account.nonce);
        let gap = got.checked_sub(next).ok_or(AdmissionError::Stale { sender, got, next })?;
        let got = account.spendable(state.height().saturating_add(1));
        // A cost that overflows is more than anybody has.
        let need = cost(message).unwrap_or(Amount(u64::MAX));
        if got < need {
            return Err(AdmissionError::Funds { sender, got, need });
        }
        Ok(if gap == 0 { Admission::Next } else { Admission::After(gap) })
    }
}
