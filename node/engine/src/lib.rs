//! What a podl node decides, apart from everything that it decides with: no clock, thread, socket or disk in here.
//! Events in, effects out; time is an argument; the name of a peer is a type parameter.
//!
//! - [`wire`]: what nodes say to each other, in canonical bytes with limits.
//! - [`sync`]: which blocks to ask of whom.

#![forbid(unsafe_code)]

pub mod sync;
pub mod wire;
