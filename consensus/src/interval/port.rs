//! What the machine asks of the chain.

use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount};

use crate::chain::Chain;
use crate::interval_context::IntervalContext;
use crate::state::StateStore;
use crate::types::BlockHash;

/// The machine's port to states that only the chain holds.
pub trait ChainView {
    /// The interval on a valid block that is not below the last final one; `None` if it is unknown or cannot be read.
    fn interval(&self, parent: &BlockHash) -> Option<Arc<IntervalContext>>;

    /// Whether an account can spend an amount in the block that follows `parent`.
    fn can_spend(&self, parent: &BlockHash, account: &AccountId, amount: Amount) -> bool;
}

impl<S: StateStore> ChainView for Chain<S> {
    fn interval(&self, parent: &BlockHash) -> Option<Arc<IntervalContext>> {
        // A state that cannot be read has been reported by the import that needed it.
        self.shared_interval(parent).ok().flatten()
    }

    fn can_spend(&self, parent: &BlockHash, account: &AccountId, amount: Amount) -> bool {
        let Some(state) = self.state(parent) else { return false };
        let account = state.account(account).ok();
        account.is_some_and(|account| account.spendable(state.height() + 1) >= amount)
    }
}
