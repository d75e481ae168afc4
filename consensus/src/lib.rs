//! Consensus rules of podl: types, codec, state, fork choice, finality. Pure: no clock, no IO, no async.

#![forbid(unsafe_code)]

pub mod chain;
pub mod codec;
pub mod execute;
pub mod finality;
pub mod fork_choice;
pub mod guard;
pub mod hash;
pub mod interval;
pub mod interval_context;
pub mod ranking;
pub mod rules;
pub mod shard;
pub mod signed;
pub mod state;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod tree;
pub mod types;
pub mod verified;
pub mod workload;
