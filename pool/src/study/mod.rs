//! Measurements of the pool: the real machines on virtual time over recorded trainings, many seeds, with intervals.

mod baselines;
mod cheats;
mod churn;
mod measure;
mod paper;
mod pay;
mod robust;
mod scenario;
mod setup;
mod speedup;
mod statistics;
mod strategy;
#[cfg(test)]
mod tests;

pub use measure::{Goal, Measure};
pub use scenario::Scenario;
pub use statistics::{Estimate, bootstrap};
