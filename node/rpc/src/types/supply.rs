//! Where all the money is, as RPC shows it.

use podl_chain_spec::Amount;
use podl_consensus::state::SupplyAudit;
use podl_consensus::types::{BlockHash, Height};
use serde::{Deserialize, Serialize};

/// A recount of all money in the last final state, beside what that state records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplyView {
    /// Height of the last final block, whose state was counted.
    pub height: Height,
    /// That block.
    pub block: BlockHash,
    /// All money there is, as the state records it.
    pub supply: Amount,
    /// All money of the genesis state, as the specification says.
    pub genesis: Amount,
    /// All money ever made after genesis, as the state records it.
    pub minted: Amount,
    /// All money ever burned, as the state records it.
    pub burned: Amount,
    /// Accounts counted.
    pub accounts: u64,
    /// What they can spend in the next block.
    pub spendable: Amount,
    /// What they have locked beyond it.
    pub locked: Amount,
    /// Bonds of today's seats.
    pub seat_bonds: Amount,
    /// Live tasks counted.
    pub tasks: u64,
    /// Rewards of their unspent rounds.
    pub escrow: Amount,
    /// Their bonds.
    pub task_bonds: Amount,
    /// Everything counted.
    pub total: Amount,
    /// Whether `total` is `supply`, and that is `genesis` + `minted` - `burned`.
    pub adds_up: bool,
}

impl SupplyView {
    /// The audit of the state of `block`.
    pub fn new(block: BlockHash, audit: &SupplyAudit, genesis: Amount) -> Self {
        // More than an amount holds cannot exist; `adds_up` is decided on the full sums.
        let amount = |sum: u128| Amount(u64::try_from(sum).unwrap_or(u64::MAX));
        Self {
            height: audit.height,
            block,
            supply: audit.supply,
            genesis,
            minted: audit.minted,
            burned: audit.burned,
            accounts: audit.accounts,
            spendable: amount(audit.spendable),
            locked: amount(audit.locked),
            seat_bonds: amount(audit.seat_bonds),
            tasks: audit.tasks,
            escrow: amount(audit.escrow),
            task_bonds: amount(audit.task_bonds),
            total: amount(audit.total()),
            adds_up: audit.adds_up(genesis),
        }
    }
}
