//! Measurements of the pool: the real machines on virtual time over recorded trainings, many seeds, with intervals.

mod baselines;
mod churn;
mod measure;
mod setup;
mod speedup;
mod statistics;
mod strategy;

pub use baselines::{Team, race};
pub use churn::churn;
pub use measure::{Goal, Measure, for_each_seed};
pub use setup::*;
pub use speedup::{baselines, speedup};
pub use statistics::{Estimate, bootstrap, mean, median, variance};
pub use strategy::strategy;
