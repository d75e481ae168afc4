//! Whole networks on virtual time: real machines, guards and chains, simulated clocks, links and adversaries.
//!
//! A run is a pure function of its [`Setup`]: one thread, one queue of events ordered by time and number, one seeded
//! generator. The [`Report`] carries a hash over everything that happened, which equal setups reproduce.
//!
//! Checked after every step: no two honest nodes ever call different blocks of one height final, no honest seat signs
//! two messages that exclude each other. Checked at the end: finality resumed in time after the last disturbance.

mod conduct;
mod deliver;
mod effects;
mod ledger;
mod mining;
mod monitor;
mod node;
mod rng;
mod scenario;
mod setup;
mod world;

pub use monitor::{Report, Violation};
pub use rng::Rng;
pub use scenario::{Scenario, setup};
pub use setup::{Action, BlockRoute, Conduct, Links, Publisher, Reveal, Setup};
pub use world::run;
