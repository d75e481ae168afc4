//! What the machine asks of the chain.

use std::sync::Arc;

use podl_chain_spec::AccountId;

use crate::chain::Chain;
use crate::rules::IntervalContext;
use crate::state::StateStore;
use crate::types::BlockHash;

/// The machine's port to states that only the chain holds.
pub trait ChainView {
    /// The interval on a valid block that is not below the last final one; `None` if it is unknown or cannot be read.
    fn interval(&self, parent: &BlockHash) -> Option<Arc<IntervalContext>>;

    /// Whether an account can pay the fees of so many commitments in the interval on `parent`.
    fn can_commit(&self, parent: &BlockHash, owner: &AccountId, commitments: u8) -> bool;
}

impl<S: StateStore> ChainView for Chain<S> {
    fn interval(&self, parent: &BlockHash) -> Option<Arc<IntervalContext>> {
        // A state that cannot be read has been reported by the import that needed it.
        self.interval_context(parent).ok().flatten().map(Arc::new)
    }

    fn can_commit(&self, parent: &BlockHash, owner: &AccountId, commitments: u8) -> bool {
        let Some(interval) = self.interval(parent) else { return false };
        let Some(account) = self.state(parent).and_then(|state| state.account(owner).ok()) else { return false };
        let fees = interval.commitment_fee.checked_mul(commitments.into());
        fees.is_some_and(|fees| account.spendable(interval.height) >= fees)
    }
}
