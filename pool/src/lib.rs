//! The mining pool: partition, leases, shares and pay as pure state machines.

#![forbid(unsafe_code)]

pub mod calibration;
pub mod classes;
pub mod drivers;
pub mod lease;
pub mod ledger;
pub mod manager;
pub mod miner;
pub mod partition;
pub mod protocol;
pub mod rng;
pub mod sim;
#[cfg(feature = "miner")]
pub mod study;
pub mod training;
pub mod types;
