//! Validity rules, in stages: what needs no context ([`isolation`]), the header against its parent ([`header`]), the
//! body against the parent's state ([`context_rules`]), execution, and at last the work ([`work`]), which is slow.
//!
//! Every rule is one function with one error and has one good and one bad test vector. No clock: that a block is too
//! far ahead of a node's own time is for the node, which sets it aside and never rejects it. Neither is rank a rule.

pub mod closing;
pub mod commitments;
pub mod context_rules;
mod error;
mod execution;
pub mod header;
pub mod isolation;
pub mod transaction;
pub mod vote;
pub mod work;

#[cfg(test)]
mod tests;

pub use error::{Blame, BlockError, ContextError, HeaderError, IsolationError, WorkRuleError};
pub use execution::TransactionError;
pub use work::{BlobSource, ShardCache, WorkDone, WorkJob};
