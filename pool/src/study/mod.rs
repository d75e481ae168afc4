//! Measurements of the pool: the real machines on virtual time over recorded trainings, many seeds, with intervals.

mod setup;
mod statistics;

pub use setup::*;
pub use statistics::{Estimate, bootstrap, mean, median, variance};
