//! The table of keys: name, default as it stands in a file, explanation, and how a value is read.

use std::net::SocketAddr;
use std::path::PathBuf;

use podl_nas::search::StrategyKind;
use podl_pool::ledger::{MOST_FINDER_BASIS_POINTS, MOST_WINDOW};
use podl_pool::partition::Scheme;

use super::{NodeConfig, PayKind};
use crate::logging::LogFormat;

/// A value as a source gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// One text.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Given {
    /// For messages.
    pub(super) fn text(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(list) => list.join(","),
        }
    }
}

type Set = fn(&mut NodeConfig, &Given) -> Result<(), String>;

/// A key of the configuration.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name in files; upper-cased and with a prefix that of its environment variable.
    pub name: &'static str,
    /// Its default as a file would write it; empty if it is not set.
    pub default: &'static str,
    /// What it is, on one or more lines.
    pub help: &'static str,
    pub(super) set: Set,
}

fn one(given: &Given) -> Result<&str, String> {
    match given {
        Given::One(text) => Ok(text),
        Given::Many(_) => Err("expected one value, not a list".into()),
    }
}

fn many(given: &Given) -> Vec<&str> {
    match given {
        Given::One(text) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect(),
        Given::Many(list) => list.iter().map(String::as_str).collect(),
    }
}

fn parse<T: std::str::FromStr>(given: &Given, expected: &str) -> Result<T, String> {
    one(given)?.parse().map_err(|_| format!("expected {expected}"))
}

fn flag(given: &Given) -> Result<bool, String> {
    match one(given)? {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

fn address(given: &Given) -> Result<Option<SocketAddr>, String> {
    match one(given)? {
        "off" | "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "expected IP:PORT such as 127.0.0.1:9744, or off".into()),
    }
}

fn multiaddrs(given: &Given) -> Result<Vec<libp2p::Multiaddr>, String> {
    let read = |text: &str| {
        text.parse().map_err(|e| format!("{text:?} is not a multiaddress such as /ip4/0.0.0.0/tcp/9743: {e}"))
    };
    many(given).into_iter().map(read).collect()
}

fn some_text(given: &Given) -> Result<Option<String>, String> {
    Ok(Some(one(given)?.to_owned()).filter(|text| !text.is_empty()))
}

fn at_least<T: PartialOrd + std::fmt::Display>(value: T, least: T) -> Result<T, String> {
    if value < least { Err(format!("must be at least {least}")) } else { Ok(value) }
}

fn at_most<T: PartialOrd + std::fmt::Display>(value: T, most: T) -> Result<T, String> {
    if value > most { Err(format!("must be at most {most}")) } else { Ok(value) }
}

/// Assigns a field.
macro_rules! set {
    ($field:ident, $read:expr) => {
        |config, given| {
            config.$field = $read(given)?;
            Ok(())
        }
    };
}

/// All keys, in the order of the file that `podl node init` writes.
pub const KEYS: &[Key] = &[
    Key {
        name: "chain",
        default: "\"dev\"",
        help: "Which chain: dev, testnet, or the path of a specification.",
        set: set!(chain, |g| one(g).map(str::to_owned)),
    },
    Key {
        name: "data_dir",
        default: "",
        help: "Where chain, keys, blobs and the RPC token lie. Unless set, podl/CHAIN below the user's data folder.",
        set: set!(data_dir, |g| one(g).map(PathBuf::from)),
    },
    Key {
        name: "listen",
        default: "[\"/ip4/0.0.0.0/tcp/9743\", \"/ip4/0.0.0.0/udp/9743/quic-v1\"]",
        help: "Addresses to listen on for peers and pool miners.",
        set: set!(listen, multiaddrs),
    },
    Key {
        name: "bootnodes",
        default: "[]",
        help: "Peers to find the network through (…/p2p/PEER-ID), besides those of the chain's specification.",
        set: set!(bootnodes, multiaddrs),
    },
    Key {
        name: "external",
        default: "[]",
        help: "Addresses under which others reach this node behind a forwarded port.",
        set: set!(external, multiaddrs),
    },
    Key {
        name: "nat",
        default: "false",
        help: "Behind a home router: find out whether others can reach this node, and open direct paths through relays.",
        set: set!(nat, flag),
    },
    Key {
        name: "relays",
        default: "[]",
        help: "Relays to be reachable through (…/p2p/PEER-ID), with nat on.",
        set: set!(relays, multiaddrs),
    },
    Key {
        name: "serve_relay",
        default: "false",
        help: "Carry connections of nodes that cannot be reached directly, within limits.",
        set: set!(serve_relay, flag),
    },
    Key {
        name: "mdns",
        default: "",
        help: "Whether to look for peers on the local network. Unless set, the chain's specification decides.",
        set: set!(mdns, |g| flag(g).map(Some)),
    },
    Key {
        name: "rpc",
        default: "\"127.0.0.1:9744\"",
        help: "Address of JSON-RPC, /health, /ready and /metrics, or \"off\". Beyond this machine only public methods\n\
               are served, but without encryption: put a proxy in front.",
        set: set!(rpc, address),
    },
    Key {
        name: "metrics",
        default: "\"off\"",
        help: "Address of a second server with /metrics, /health and /ready only, or \"off\".",
        set: set!(metrics, address),
    },
    Key {
        name: "wallet",
        default: "",
        help: "The account that signs as seat, miner and publisher: a file, a name in the wallet folder, or dev:NAME\n\
               on development chains. Without one the node follows the chain only.",
        set: set!(wallet, some_text),
    },
    Key {
        name: "password_file",
        default: "",
        help: "File that holds the wallet's passphrase; else PODL_PASSWORD, else the node asks.",
        set: set!(password_file, |g| some_text(g).map(|t| t.map(PathBuf::from))),
    },
    Key {
        name: "mine",
        default: "false",
        help: "Mine with this node's own threads, alone or beside the miners of its pool.",
        set: set!(mine, flag),
    },
    Key {
        name: "mine_threads",
        default: "0",
        help: "Training threads of that; 0 takes one less than there are cores.",
        set: set!(mine_threads, |g| parse(g, "a number of threads")),
    },
    Key {
        name: "pool_manager",
        default: "false",
        help: "Manage a pool that miners can join with `podl miner join`.",
        set: set!(pool_manager, flag),
    },
    Key {
        name: "pool_fee_basis_points",
        default: "100",
        help: "What the pool manager keeps, in hundredths of a percent.",
        set: set!(pool_fee_basis_points, |g| {
            let fee: u16 = parse(g, "a number from 0 to 10000")?;
            at_most(fee, 10_000)
        }),
    },
    Key {
        name: "pool_pay",
        default: "\"pplns\"",
        help: "How a pool manager shares what the fee leaves: pplns, by verified work in the last intervals, or\n\
               performance, by each miner's best model, which one miner under several names can exploit.",
        set: set!(pool_pay, |g| match one(g)? {
            "pplns" => Ok(PayKind::Pplns),
            "performance" => Ok(PayKind::Performance),
            _ => Err::<PayKind, String>("expected pplns or performance".into()),
        }),
    },
    Key {
        name: "pool_window",
        default: "4",
        help: "Intervals whose work a won block pays under pplns, from 1 to 64.",
        set: set!(pool_window, |g| at_most(at_least(parse(g, "a number of intervals")?, 1)?, MOST_WINDOW)),
    },
    Key {
        name: "pool_finder_basis_points",
        default: "0",
        help: "Bonus of the miner whose model won a block under pplns, in hundredths of a percent, at most 1000; it favours slow miners.",
        set: set!(pool_finder_basis_points, |g| {
            at_most(parse(g, "a number from 0 to 1000")?, MOST_FINDER_BASIS_POINTS)
        }),
    },
    Key {
        name: "pool_strategy",
        default: "\"predictor\"",
        help: "How the pool searches, as `podl nas search --strategy`: predictor finds good networks with the fewest trainings;\n\
               hill-climb, evolution and random cost the manager less time, which counts with hundreds of miners; reinforce\n\
               is the paper's controller. A change holds for searches that begin after it.",
        set: set!(pool_strategy, |g| one(g)?.parse::<StrategyKind>()),
    },
    Key {
        name: "pool_partition",
        default: "\"whole\"",
        help: "How the pool cuts a task's space: whole, not at all, one search that every result feeds; disjoint, boxes that\n\
               cover it exactly once and are given up as evidence comes; algorithm1 or paper-table, the paper's. A change\n\
               holds for searches that begin after it.",
        set: set!(pool_partition, |g| one(g)?.parse::<Scheme>()),
    },
    Key {
        name: "pool_starting_points",
        default: "true",
        help: "Whether the pool tries networks that are known to learn fast before it searches.",
        set: set!(pool_starting_points, flag),
    },
    Key {
        name: "score_threads",
        default: "2",
        help: "Threads that score the models of candidates and blocks.",
        set: set!(score_threads, |g| at_least(parse(g, "a number of threads")?, 1)),
    },
    Key {
        name: "max_peers",
        default: "50",
        help: "Most connected peers.",
        set: set!(max_peers, |g| at_least(parse(g, "a number of peers")?, 1)),
    },
    Key {
        name: "blob_quota_bytes",
        default: "21474836480",
        help: "Most bytes of data sets and artefacts on disk.",
        set: set!(blob_quota_bytes, |g| at_least(parse(g, "a number of bytes")?, 1 << 20)),
    },
    Key {
        name: "min_free_bytes",
        default: "1073741824",
        help: "With less free disk the node warns; with a tenth of it the node stops cleanly.",
        set: set!(min_free_bytes, |g| parse(g, "a number of bytes")),
    },
    Key {
        name: "archive",
        default: "false",
        help: "Keep artefacts and shards for ever, so that others can check old scores. Otherwise those older than the\n\
               chain's limits.retain_blocks are dropped. Mind blob_quota_bytes.",
        set: set!(archive, flag),
    },
    Key {
        name: "log",
        default: "\"info\"",
        help: "What to log: error, warn, info, debug, trace, or by part such as \"info,podl_network=debug\".",
        set: set!(log, |g| {
            let text = one(g)?;
            crate::logging::check_filter(text).map(|()| text.to_owned())
        }),
    },
    Key {
        name: "log_format",
        default: "\"text\"",
        help: "text or json.",
        set: set!(log_format, |g| parse::<LogFormat>(g, "text or json")),
    },
];

impl Key {
    /// The key of that name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }
}
