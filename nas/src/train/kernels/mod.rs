//! Training kernels on plain slices: no candle, no threads.
//!
//! Every kernel takes an [`simd::Isa`] and gives the same bits for each of them.
// Bodies for `dispatch!` take the lanes as a type; those that leave vectors to the compiler do not name it.
#![allow(clippy::extra_unused_type_parameters)]
// Indexed loops over slices of one length are what the compiler makes vectors of.
#![allow(clippy::needless_range_loop)]

pub mod conv;
#[cfg(test)]
mod conv_tests;
pub mod dense;
pub mod gemm;
pub mod geometry;
pub mod peak;
pub mod pool;
pub mod quant;
#[cfg(test)]
mod reference;
pub mod simd;
