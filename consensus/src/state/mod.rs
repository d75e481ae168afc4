//! The state that blocks change, and the authenticated tree over it.
//!
//! The disk holds the state of the last final block ([`StateStore`]); each block above it carries what it changes
//! ([`StateDelta`]), so that a reorg moves a pointer and nothing is ever undone. [`StateView`] reads the state of any
//! such block, [`Draft`] makes the next one and checks that no money appears or vanishes unaccounted.

mod account;
mod audit;
mod draft;
mod genesis;
mod key;
mod meta;
mod store;
mod task;
mod tree;
mod view;

#[cfg(test)]
mod tests;

pub use account::{Account, MoneyError};
pub use audit::SupplyAudit;
pub use draft::{Draft, check_supply};
pub use genesis::{genesis_checkpoint, genesis_delta};
pub use key::StateKey;
pub use meta::{Checkpoint, Meta, Seat, SeatSets, majority, quorum};
pub use store::{MemoryStore, StateStore, StoreError};
pub use task::{TaskPhase, TaskSpec, TaskStatus, Winner};
pub use tree::{ProofError, StateProof, verify_proof};
pub use view::{StateDelta, StateError, StateView};
