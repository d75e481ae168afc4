//! The workload: search space, FPGA cost, integer models, training and search.
//!
//! Everything outside `train`, `search` and `export` is integers only and consensus-critical; [`Verifier`] is what full
//! nodes judge models with. Plain types (space, architecture, network shapes) live in `podl_consensus::workload`.

// `forbid` would also forbid the one module of training kernels that may allow itself vector instructions.
#![deny(unsafe_code)]

pub mod artefact;
pub mod cost;
pub mod data;
pub mod engine;
pub mod export;
#[cfg(test)]
pub(crate) mod testing;
mod verifier;

#[cfg(feature = "train")]
pub mod search;
#[cfg(feature = "train")]
pub mod tabular;
#[cfg(feature = "train")]
pub mod train;

pub use verifier::Verifier;
