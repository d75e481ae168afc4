//! Transactions of this node's own account: signed with the next nonce and submitted in one step, so that two of them
//! never share a nonce.

use podl_chain_spec::{Amount, Hash32};
use podl_consensus::rules::transaction::least_fee_of;
use podl_consensus::types::{SignedTransaction, Transaction, TransactionKind};

use super::gossip::AddError;
use super::{Core, CoreError};

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is nobody to sign.
    #[error("this node runs without a wallet; start it with --wallet")]
    NoWallet,
    /// The mempool does not take it.
    #[error(transparent)]
    Add(#[from] AddError),
    /// The node's own failure.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl Core {
    /// Signs a transaction of the node's account with its next nonce; the least fee unless one is given.
    pub(super) fn sign_own(&self, kind: TransactionKind, fee: Option<Amount>) -> Result<SignedTransaction, SendError> {
        let signer = self.signer.as_ref().ok_or(SendError::NoWallet)?;
        let sender = signer.account();
        let nonce = self.account(&sender)?.next_nonce;
        let mut message = Transaction { sender, nonce, fee: fee.unwrap_or_default(), kind };
        if fee.is_none() {
            message.fee = least_fee_of(&self.spec, &message);
        }
        Ok(signer.wallet().sign(message, &self.chain_hash))
    }

    /// Signs a transaction of the node's account, takes it into the mempool and passes it on.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &mut self,
        kind: TransactionKind,
        fee: Option<Amount>,
    ) -> Result<(SignedTransaction, Hash32), SendError> {
        let signed = self.sign_own(kind, fee)?;
        let id = self.submit(signed.clone())?;
        Ok((signed, id))
    }
}
