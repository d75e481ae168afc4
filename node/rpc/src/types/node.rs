//! The node itself as RPC shows it.

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::types::Height;
use serde::{Deserialize, Serialize};

use super::CheckpointView;

/// What the node is and how it fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from.
    pub commit: String,
    /// Name of the chain.
    pub chain_name: String,
    /// Genesis hash of the chain.
    pub chain: Hash32,
    /// Its peer id.
    pub peer_id: String,
    /// Addresses that it listens on.
    pub listen: Vec<String>,
    /// The wallet account that it signs with, if it has one.
    pub account: Option<AccountId>,
    /// Whether that account holds a seat.
    pub is_seat: bool,
    /// Whether it mines by itself.
    pub is_mining: bool,
    /// Whether it manages a pool.
    pub is_pool_manager: bool,
    /// Its head.
    pub head: CheckpointView,
    /// Its last final block.
    pub finalised: CheckpointView,
    /// Whether it is behind the network and catching up.
    pub is_syncing: bool,
    /// Highest height that a peer told of.
    pub network_height: u64,
    /// Connected peers.
    pub peers: u32,
    /// Transactions that wait.
    pub mempool_transactions: u32,
    /// Since the start.
    pub uptime_ms: u64,
    /// Free bytes on the disk of the data folder.
    pub disk_free_bytes: u64,
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its peer id.
    pub peer_id: String,
    /// Where it is reached.
    pub address: String,
    /// Program and version that it names.
    pub agent: String,
    /// Whether we called it (else it called us).
    pub is_outbound: bool,
    /// Height that it told of; null for one that is no node, such as a pool's miner.
    pub height: Option<Height>,
    /// Points for misbehaviour; at 100 a peer is banned for a while.
    pub points: u32,
    /// Since it connected.
    pub connected_ms: u64,
}
