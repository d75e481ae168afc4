//! The podl node as a library: command line, configuration, wallet, wiring. The program `podl` is a thin shell over
//! [`cli::main`].

#![forbid(unsafe_code)]

pub mod chain_file;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod logging;
pub mod numbers;
pub mod paths;
pub mod plot;
pub mod pool_miner;
pub mod publish;
pub mod replay;
pub mod sealed;
pub mod service;
pub mod shard_keys;
pub mod shares;
pub mod wallet;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit that it was built from, `unknown` outside a git checkout.
pub const COMMIT: &str = env!("PODL_COMMIT");
