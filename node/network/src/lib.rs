//! libp2p network of a podl node: connections, gossip, requests, and verified transfer of blobs.
//!
//! The network knows nothing of blocks and votes. Its owner gives it topics with limits, judges every gossiped message
//! before it is passed on, and answers requests; all of that as bytes. Peers of another chain are refused: on TCP the
//! handshake fails, on QUIC the identity tells.
//!
//! Everything a stranger can make a node do is bounded: connections in all, of one peer and of one address; messages and
//! requests a second; bytes of each message, and of all that wait. Whoever breaks a rule collects points, and is banned
//! for a while at a hundred.

#![forbid(unsafe_code)]

mod blob;
mod budget;
mod command;
mod config;
mod driver;
mod error;
mod event;
mod gate;
mod gossip;
mod handle;
mod network;
mod peers;
mod protocol;
mod rate;
mod swarm;

pub use blob::store::BlobStore;
pub use config::{BlobConfig, Limits, NatConfig, NetworkConfig, TopicConfig, chain_tag, keypair_from_seed};
pub use error::{BlobError, DialError, FetchError, NetworkError, RequestError};
pub use event::{GossipMessage, InboundRequest, NetworkEvent, ReplyHandle, Verdict};
pub use gossip::GossipId;
pub use handle::{NetworkHandle, PeerInfo};
pub use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};
pub use network::{Network, NetworkPorts};
pub use peers::Misbehaviour;
pub use protocol::{Protocol, ProtocolLimits};
