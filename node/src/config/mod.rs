//! Configuration of a node: defaults < file < environment < flags. All sources go through one table ([`keys`]), so
//! every key can be given in every way, and every message names the key and where its value came from.

mod keys;
mod sources;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use libp2p::Multiaddr;
use podl_nas::search::StrategyKind;
use podl_pool::ledger::PayScheme;
use podl_pool::partition::Scheme;

pub use keys::{KEYS, Key};
pub use sources::{CONFIG_FILE, ENVIRONMENT_PREFIX, environment, load, template};

use crate::logging::LogFormat;

/// Everything that can be set about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `dev`, `testnet` or the path of a specification.
    pub chain: String,
    /// Chain, keys, blobs and token lie here.
    pub data_dir: PathBuf,
    /// Addresses to listen on for peers and pool miners.
    pub listen: Vec<Multiaddr>,
    /// Peers to find the network through, besides those of the chain's specification.
    pub bootnodes: Vec<Multiaddr>,
    /// Addresses under which others reach this node, when they differ from those it listens on.
    pub external: Vec<Multiaddr>,
    /// Whether to find out if others can reach this node, and to open direct paths through relays.
    pub nat: bool,
    /// Relays to be reachable through, each with its peer id.
    pub relays: Vec<Multiaddr>,
    /// Whether to carry connections of nodes that cannot be reached directly.
    pub serve_relay: bool,
    /// Whether to look for peers on the local network; the specification decides if not set.
    pub mdns: Option<bool>,
    /// Address of JSON-RPC; none if it is off.
    pub rpc: Option<SocketAddr>,
    /// Address of a second server with `/metrics`, `/health` and `/ready` only.
    pub metrics: Option<SocketAddr>,
    /// The account that signs: `dev:NAME`, a file, or a name in the wallet folder.
    pub wallet: Option<String>,
    /// File that holds the wallet's passphrase.
    pub password_file: Option<PathBuf>,
    /// Whether to mine without a pool.
    pub mine: bool,
    /// Training threads of that; 0 takes one less than there are cores.
    pub mine_threads: u16,
    /// Whether to manage a pool that miners can join.
    pub pool_manager: bool,
    /// What the pool manager keeps, in hundredths of a percent.
    pub pool_fee_basis_points: u16,
    /// How the pool manager shares the rest.
    pub pool_pay: PayKind,
    /// Intervals in the pay window.
    pub pool_window: u16,
    /// The finder's bonus, in hundredths of a percent.
    pub pool_finder_basis_points: u16,
    /// How the pool searches.
    pub pool_strategy: StrategyKind,
    /// How the pool cuts a task's space.
    pub pool_partition: Scheme,
    /// Whether the pool tries known networks first.
    pub pool_starting_points: bool,
    /// Threads that score models.
    pub score_threads: u16,
    /// Most connected peers.
    pub max_peers: u32,
    /// Most bytes of data sets and artefacts on disk.
    pub blob_quota_bytes: u64,
    /// With less free disk the node warns; with a tenth of it the node stops cleanly.
    pub min_free_bytes: u64,
    /// Whether to keep artefacts and shards for ever.
    pub archive: bool,
    /// What to log.
    pub log: String,
    /// How to log.
    pub log_format: LogFormat,
}

/// How a pool is paid, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayKind {
    /// By work in a window of intervals.
    Pplns,
    /// By the best models.
    Performance,
}

impl NodeConfig {
    /// How the pool manager shares what its fee leaves.
    pub fn pay_scheme(&self) -> PayScheme {
        let (window, finder_basis_points) = (self.pool_window, self.pool_finder_basis_points);
        match self.pool_pay {
            PayKind::Pplns => PayScheme::Pplns { window, finder_basis_points },
            PayKind::Performance => PayScheme::Performance,
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value does not fit its key.
    #[error("configuration: {key} = {got:?} from {source_of_value}: {reason}")]
    Value {
        /// Which key.
        key: &'static str,
        /// The value as it was given.
        got: String,
        /// Where it came from.
        source_of_value: Source,
        /// What is expected.
        reason: String,
    },
    /// There is no such key.
    #[error(
        "configuration: unknown key {key:?} in {source_of_value}{hint}; `podl node init` writes a file with all keys"
    )]
    UnknownKey {
        /// What was given.
        key: String,
        /// Where.
        source_of_value: Source,
        /// A key that is spelt similarly.
        hint: String,
    },
    /// A file cannot be read.
    #[error("configuration: cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("configuration: {path} is not TOML: {reason}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong, on one line.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
