//! What was checked, as a type.
//!
//! A [`Verified`] value passed one form check and one signature check, both here: pools, intervals, builders and the chain
//! take nothing else, so that nothing is checked twice and nothing comes in unchecked, whichever way it came. What depends
//! on state (whether the signer holds a seat, can pay, names the right task) is not part of it.

use std::ops::Deref;
use std::sync::Arc;

use podl_chain_spec::{ChainSpec, Hash32};
use serde::Serialize;

use crate::rules::closing::{self, ClosingError};
use crate::rules::transaction::{self, TransactionFormError};
use crate::rules::vote::{self, VoteError};
use crate::rules::{IsolationError, isolation};
use crate::signed::{BadSignature, Signed};
use crate::types::{Block, Commitment, ListedClosing, SeatClosing, SignedTransaction, SignedVote};

/// A value whose form and signatures stand. It encodes as the value does, and nothing decodes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Verified<T>(T);

/// A value whose form stands, and whose signatures, which cost the most, were not looked at: for a look at whether it is
/// wanted in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed<T>(T);

/// What can be verified by itself.
pub trait Verify: Sized {
    /// Why it is refused. Whoever made or relayed it is to blame.
    type Error;

    /// Everything that needs neither state nor signature; cheap, and first.
    ///
    /// # Errors
    /// The rule that it breaks.
    fn check_form(&self, spec: &ChainSpec, chain: &Hash32) -> Result<(), Self::Error>;

    /// Every signature in it: some 30 microseconds each.
    ///
    /// # Errors
    /// The first that does not stand.
    fn check_signatures(&self, chain: &Hash32) -> Result<(), Self::Error>;
}

impl<T: Verify> Formed<T> {
    /// Checks the form.
    ///
    /// # Errors
    /// The rule that the value breaks.
    pub fn check(spec: &ChainSpec, chain: &Hash32, value: T) -> Result<Self, T::Error> {
        value.check_form(spec, chain)?;
        Ok(Self(value))
    }

    /// Checks the signatures.
    ///
    /// # Errors
    /// The first that does not stand.
    pub fn verify(self, chain: &Hash32) -> Result<Verified<T>, T::Error> {
        self.0.check_signatures(chain)?;
        Ok(Verified(self.0))
    }
}

impl<T> Deref for Formed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Verify> Verified<T> {
    /// Checks form, then signatures.
    ///
    /// # Errors
    /// The rule that the value breaks.
    pub fn check(spec: &ChainSpec, chain: &Hash32, value: T) -> Result<Self, T::Error> {
        Formed::check(spec, chain, value)?.verify(chain)
    }
}

impl<T> Verified<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Without a check: see the callers, all of which are in this crate.
    pub(crate) fn trusted(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Verify for SignedVote {
    type Error = VoteError;

    fn check_form(&self, _: &ChainSpec, _: &Hash32) -> Result<(), VoteError> {
        vote::check_form(&self.message)
    }

    fn check_signatures(&self, chain: &Hash32) -> Result<(), VoteError> {
        Ok(self.verify(chain)?)
    }
}

impl Verify for Signed<Commitment> {
    type Error = BadSignature;

    fn check_form(&self, _: &ChainSpec, _: &Hash32) -> Result<(), BadSignature> {
        Ok(())
    }

    fn check_signatures(&self, chain: &Hash32) -> Result<(), BadSignature> {
        self.verify(chain)
    }
}

impl Verify for ListedClosing {
    type Error = ClosingError;

    fn check_form(&self, spec: &ChainSpec, _: &Hash32) -> Result<(), ClosingError> {
        closing::check_form(&spec.limits, self)
    }

    fn check_signatures(&self, chain: &Hash32) -> Result<(), ClosingError> {
        self.closing.verify(chain)?;
        Ok(self.list.0.iter().try_for_each(|commitment| commitment.verify(chain))?)
    }
}

impl Verify for SignedTransaction {
    type Error = TransactionFormError;

    fn check_form(&self, spec: &ChainSpec, _: &Hash32) -> Result<(), TransactionFormError> {
        Ok(transaction::check_form(spec, self)?)
    }

    fn check_signatures(&self, chain: &Hash32) -> Result<(), TransactionFormError> {
        Ok(self.verify(chain)?)
    }
}

impl Verify for Block {
    type Error = IsolationError;

    fn check_form(&self, spec: &ChainSpec, chain: &Hash32) -> Result<(), IsolationError> {
        isolation::check_form(spec, chain, self)
    }

    fn check_signatures(&self, chain: &Hash32) -> Result<(), IsolationError> {
        isolation::check_signatures(chain, self)
    }
}

/// A block whose form and signatures stand, shared.
pub type VerifiedBlock = Arc<Verified<Block>>;

impl Verified<Block> {
    /// The votes that it carries, those of its certificate among them: its own check covered them.
    pub fn votes(&self) -> impl Iterator<Item = Verified<SignedVote>> {
        let certified = self.body.certificate.iter().flat_map(|certificate| &certificate.votes);
        self.body.votes.iter().chain(certified).cloned().map(Verified::trusted)
    }

    /// The transactions that it carries: its own check covered them.
    pub fn transactions(&self) -> impl Iterator<Item = Verified<SignedTransaction>> {
        self.body.transactions.iter().cloned().map(Verified::trusted)
    }

    /// Those of the closings that it carries that `wanted` wants, with their lists: its own check covered them.
    pub fn closings(&self, wanted: impl Fn(&SeatClosing) -> bool) -> Vec<Verified<ListedClosing>> {
        let Some(set) = isolation::closing_set(self) else { return Vec::new() };
        let wanted = set.closings.iter().filter(|closing| wanted(closing));
        wanted.map(|closing| Verified::trusted(set.expand(self.parent(), closing))).collect()
    }
}
