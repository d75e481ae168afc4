//! The mining pool: partition, leases, shares and pay as pure state machines.

#![forbid(unsafe_code)]

pub mod calibration;
pub mod partition;
pub mod protocol;
pub mod rng;
pub mod types;
