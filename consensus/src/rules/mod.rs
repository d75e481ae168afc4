//! Validity rules.

pub mod commitments;
mod context;
pub mod transaction;

pub use context::{IntervalContext, TaskRound, commitment_fee, filler_seed, filler_task};
