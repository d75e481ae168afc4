//! The node's signing account: wallet and guard. Nothing is signed that is not on disk before.

use std::sync::Arc;

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::guard::{Guard, GuardError, GuardRecord};
use podl_consensus::signed::Signed;
use podl_consensus::types::{Closing, ClosingList, Header, SignedHeader, SignedVote, Vote};
use podl_storage::{Aux, Database, StorageError};

use crate::wallet::Wallet;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It would contradict what was signed before.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The record could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Wallet and guard of the node's account.
#[derive(Debug)]
pub struct Signer {
    wallet: Wallet,
    guard: Guard,
    chain: Hash32,
    db: Arc<Database>,
}

fn persist(db: &Database, account: &AccountId, record: &GuardRecord) -> Result<(), StorageError> {
    let mut batch = db.batch();
    batch.put_aux(Aux::Guard, account.as_bytes(), &record.to_bytes())?;
    db.commit(batch)
}

impl Signer {
    /// The account with the guard as it was left.
    ///
    /// # Errors
    /// [`SignError`] when the record cannot be read: then this key must not sign.
    pub fn open(wallet: Wallet, chain: Hash32, db: Arc<Database>) -> Result<Self, SignError> {
        let account = wallet.account();
        let guard = match db.aux(Aux::Guard, account.as_bytes())? {
            Some(bytes) => Guard::restore(account, &bytes)?,
            None => Guard::new(account),
        };
        Ok(Self { wallet, guard, chain, db })
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.wallet.account()
    }

    /// The wallet, for what needs no guard: transactions and commitments.
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The guard, for the machine's start.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Signs a vote.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn vote(&mut self, vote: Vote) -> Result<SignedVote, SignError> {
        let permit = self.guard.authorise_vote(vote)?;
        let account = self.account();
        Ok(permit.sign(&self.chain, self.wallet.key(), |record| persist(&self.db, &account, record))?)
    }

    /// Signs a closing; returns the list that was signed, which is an earlier one if there was one.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn closing(
        &mut self,
        parent: podl_consensus::state::Checkpoint,
        list: ClosingList,
    ) -> Result<(Signed<Closing>, ClosingList), SignError> {
        let permit = self.guard.authorise_closing(parent.block, parent.height, list.clone())?;
        let account = self.account();
        let signed = permit.sign(&self.chain, self.wallet.key(), |record| persist(&self.db, &account, record))?;
        let list = self.guard.closing(&parent.block).map_or(list, |(_, kept)| kept.clone());
        Ok((signed, list))
    }

    /// Signs a block's header.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn header(&mut self, header: Header) -> Result<SignedHeader, SignError> {
        let permit = self.guard.authorise_block(header)?;
        let account = self.account();
        Ok(permit.sign(&self.chain, self.wallet.key(), |record| persist(&self.db, &account, record))?)
    }

    /// Forgets what lies below the last final block.
    pub fn prune(&mut self, final_height: u64) {
        self.guard.prune(final_height);
    }
}
