//! Consensus rules of podl: types, codec, state, fork choice, finality. Pure: no clock, no IO, no async.

#![forbid(unsafe_code)]

pub mod codec;
pub mod finality;
pub mod hash;
pub mod shard;
pub mod signed;
pub mod state;
pub mod types;
pub mod workload;
