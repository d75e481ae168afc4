//! Simulator on virtual time, process networks and fault scenarios.

#![forbid(unsafe_code)]

#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "sim")]
pub mod sim;
