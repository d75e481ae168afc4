//! The mining pool: partition, leases, shares and pay as pure state machines.

#![forbid(unsafe_code)]

pub mod partition;
pub mod rng;
