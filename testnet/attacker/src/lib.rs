//! A peer without mercy: attacks on networks of real `podl` processes, over the real network.
//!
//! An attacker speaks the wire formats of podl-engine through connections of podl-network, with peer keys of its own and,
//! where an attack is a seat's, with the key of one seat. It uses nothing that a stranger could not have: the chain's
//! specification, the nodes' addresses and their public RPC. It is never part of a node.

#![forbid(unsafe_code)]

mod acts;
mod attack;
mod attacker;
mod conduct;
mod forge;
mod keys;
mod run;
mod stranger;

pub use attack::Attack;
pub use run::run;
