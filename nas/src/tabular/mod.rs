//! Search without training: recorded evaluations and a model fitted to them stand in for it.
//!
//! [`Record`]s are read from logs of earlier searches, a [`Surrogate`] learns accuracies from them, and [`study`] runs
//! the very strategies and driver of [`crate::search`] against it, thousands of times faster than training. How far
//! the surrogate can be trusted on networks it has not seen is what [`cross_validate`] says.

mod quality;
mod record;
mod study;
mod surrogate;
#[cfg(test)]
mod tests;

pub use quality::{Folds, Quality, cross_validate, rank_correlation};
pub use record::{Record, TableError, read_records, recorded_space};
pub use study::{BUDGETS, Curve, Setup, StudyError, study};
pub use surrogate::{Surrogate, SurrogateError};
