//! A pool on virtual time: the real manager and miner machines, with simulated training and network.
//!
//! The same seed gives the same trace. Nothing here is a model of the machines; only what they ask the outside for
//! (training, evaluation, messages) is. What networks reach is a [`Landscape`]'s to say: made up, or fitted to recorded
//! trainings ([`Recorded`]).

mod agenda;
mod journal;
mod landscape;
mod lives;
#[cfg(feature = "miner")]
mod recorded;
mod run;
mod spec;
#[cfg(test)]
mod tests;

pub use landscape::{CHANCE_PPM, Landscape, MadeUp, SimModel};
pub use lives::{Churn, Stay, lives};
#[cfg(feature = "miner")]
pub use recorded::Recorded;
pub use run::Simulation;
pub use spec::{Cheat, Kills, MinerSpec, SimReport, SimSpec, Target, Wins, account};
