//! Measurements of the pool: the real machines on virtual time over recorded trainings, many seeds, with intervals.

mod baselines;
mod cheats;
mod churn;
mod figure;
mod measure;
mod paper;
mod partition;
mod pay;
mod race;
mod robust;
mod scenario;
mod setup;
mod speedup;
mod statistics;
mod strategy;
#[cfg(test)]
mod tests;

pub use figure::{Bar, Curve, Figure, Findings, Shape};
pub use measure::{Goal, Measure};
pub use scenario::Scenario;
pub use statistics::{Estimate, bootstrap};
