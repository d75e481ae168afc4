//! A running node: storage, chain, machines and network wired together.
//!
//! One thread, the [`core`], owns everything that decides (docs/adr/0004). The network and the RPC server run on tokio and
//! talk to it through one bounded queue; scoring runs on a worker thread; training elsewhere still.

pub mod api;
pub mod clock;
pub mod core;
pub mod data_dir;
mod input;
mod metrics;
mod mining;
mod node;
pub mod pool;
mod publisher;
mod signer;
mod supply;
mod watch;
mod worker;

pub use input::{CoreHandle, Stopped};
pub use mining::{Committed, MiningEvent, MiningPort};
pub use node::{Node, StartError, pool_limits};
