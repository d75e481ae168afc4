//! A miner of somebody else's pool: a network identity of its own, no chain, no funds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId};
use podl_chain_spec::{AccountId, ChainSpec, SpecError};
use podl_network::{
    BlobError, BlobStore, DialError, Keypair, Network, NetworkConfig, NetworkError, NetworkEvent, NetworkHandle,
    NetworkPorts,
};
use podl_pool::drivers::{
    BenchError, MinerConfig, MinerHandle, Throttled, TrainBench, TrainSettings, Workbench, start_miner,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::service::data_dir::{DataDir, DataDirError};
use crate::service::pool::{NICENESS, NetworkTransport};
use crate::service::pool_limits;

/// Chains that a pool is looked for on unless one is named.
const CHAINS: [&str; 2] = ["testnet", "dev"];
/// Most bytes of data sets and artefacts that a miner keeps.
const BLOB_QUOTA_BYTES: u64 = 4 << 30;
/// A pool that cannot be reached is tried again after this; after twice as long each time, up to the longest.
const RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Why a miner cannot work.
#[derive(Debug, thiserror::Error)]
pub enum MinerError {
    /// The user's: not the address of a pool.
    #[error("{got:?} is no pool URL: {reason}; `podl pool status` on the manager's node shows it")]
    Url {
        /// What was given.
        got: String,
        /// What is wrong.
        reason: String,
    },
    /// The specification.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The miner's folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The miner's own side of the network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The pool's side.
    #[error("cannot reach the pool at {address}: {source}")]
    Dial {
        /// Where.
        address: Multiaddr,
        /// Why.
        source: DialError,
    },
    /// Somebody else answered.
    #[error("{address} is answered by {got}, not by the pool's manager; ask the pool for its new URL")]
    OtherPeer {
        /// Where.
        address: Multiaddr,
        /// Who.
        got: PeerId,
    },
    /// None of the known chains is the pool's.
    #[error("the pool at {address} is on none of the chains {chains}; name its chain with --chain")]
    OtherChain {
        /// Where.
        address: Multiaddr,
        /// What was tried.
        chains: String,
    },
    /// Training.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Where a pool is: a multiaddress that ends in the manager's peer id, which no redirect can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUrl {
    /// The whole address.
    pub address: Multiaddr,
    /// The manager.
    pub manager: PeerId,
}

impl std::str::FromStr for PoolUrl {
    type Err = MinerError;

    fn from_str(text: &str) -> Result<Self, MinerError> {
        let refuse = |reason: String| MinerError::Url { got: text.into(), reason };
        let address: Multiaddr = text
            .parse()
            .map_err(|e| refuse(format!("a multiaddress such as /ip4/1.2.3.4/tcp/9743/p2p/12D3… is expected ({e})")))?;
        match address.iter().last() {
            Some(Part::P2p(manager)) => Ok(Self { address, manager }),
            _ => Err(refuse("it does not end in /p2p/ and the manager's peer id".into())),
        }
    }
}

/// A connection to a pool.
pub struct PoolLink {
    /// Parameters of the pool's chain.
    pub spec: ChainSpec,
    /// The miner's identity for the pool.
    pub peer_id: PeerId,
    url: PoolUrl,
    network: NetworkHandle,
    /// Must be read, or the network holds its news back.
    events: mpsc::Receiver<NetworkEvent>,
    data_dir: DataDir,
}

impl PoolLink {
    /// Connects, on the named chain or on whichever of the known ones the pool is. `patient` waits for a pool that cannot
    /// be reached; wrong chains and wrong keys are told at once in any case.
    ///
    /// # Errors
    /// [`MinerError`].
    pub async fn open(url: PoolUrl, chain: Option<&str>, folder: &Path, patient: bool) -> Result<Self, MinerError> {
        let data_dir = DataDir::open(folder)?;
        let blobs = Arc::new(BlobStore::open(&data_dir.join("blobs"), BLOB_QUOTA_BYTES)?);
        let key = data_dir.node_key()?;
        let mut wait = RETRY;
        loop {
            let error = match Self::connect(&url, chain, &key, &blobs).await {
                Ok((spec, network, events)) => {
                    let peer_id = network.peer_id();
                    return Ok(Self { spec, peer_id, url, network, events, data_dir });
                }
                Err(error) => error,
            };
            if !patient || !matches!(error, MinerError::Dial { source: DialError::Unreachable(_), .. }) {
                return Err(error);
            }
            tracing::warn!(%error, retry_s = wait.as_secs(), "trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    /// One attempt.
    async fn connect(
        url: &PoolUrl,
        chain: Option<&str>,
        key: &Keypair,
        blobs: &Arc<BlobStore>,
    ) -> Result<(ChainSpec, NetworkHandle, mpsc::Receiver<NetworkEvent>), MinerError> {
        let spec = find_chain(url, chain, blobs).await?;
        let (network, events) = start_network(&spec, key.clone(), blobs.clone(), url).await?;
        let dialled = network.dial(url.address.clone()).await;
        match check_peer(dialled, url, &spec.name) {
            Ok(()) => Ok((spec, network, events)),
            Err(error) => {
                network.shutdown().await;
                Err(error)
            }
        }
    }

    /// How the pool is talked to; its calls block.
    pub fn transport(&self) -> NetworkTransport {
        NetworkTransport {
            runtime: Handle::current(),
            network: self.network.clone(),
            manager: self.url.manager,
            address: self.url.address.clone(),
        }
    }

    /// Starts mining for `account`, with at most `budget` training multiply-accumulates a second if one is given.
    ///
    /// # Errors
    /// [`MinerError`] when threads cannot be started.
    pub fn mine(&self, account: AccountId, threads: usize, budget: Option<u64>) -> Result<MinerHandle, MinerError> {
        let settings = TrainSettings { niceness: NICENESS };
        let bench = TrainBench::new(threads, self.spec.caps.clone(), settings)?;
        let bench: Box<dyn Workbench> = match budget {
            Some(macs_s) => Box::new(Throttled::new(bench, macs_s)),
            None => Box::new(bench),
        };
        let config = MinerConfig {
            account,
            agent: format!("podl/{}", crate::VERSION),
            niceness: NICENESS,
            states: Some(self.data_dir.join("states")),
        };
        Ok(start_miner(config, Arc::new(self.transport()), bench)?)
    }

    /// Waits for what the network says and logs what a miner should know; returns when the network has stopped.
    pub async fn watch(&mut self) {
        while let Some(event) = self.events.recv().await {
            match event {
                NetworkEvent::PeerConnected { peer, .. } if peer == self.url.manager => {
                    tracing::info!("connected to the pool")
                }
                NetworkEvent::PeerDisconnected { peer } if peer == self.url.manager => {
                    tracing::warn!("the connection to the pool is lost; trying again");
                }
                NetworkEvent::Banned { peer, why, .. } => tracing::warn!(%peer, why, "peer banned"),
                // A miner answers nothing: dropping a request refuses it.
                _ => {}
            }
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.network.shutdown().await;
    }
}

/// The chain that a pool is on: the named one, or whichever of the known ones the manager answers on.
async fn find_chain(url: &PoolUrl, chain: Option<&str>, blobs: &Arc<BlobStore>) -> Result<ChainSpec, MinerError> {
    if let Some(name) = chain {
        return Ok(ChainSpec::load(name)?);
    }
    let mut unreachable = None;
    for name in CHAINS {
        let spec = ChainSpec::load(name)?;
        // Under an identity that is thrown away: who comes over QUIC from another chain is not let in again for a while.
        let (network, _events) = start_network(&spec, Keypair::generate_ed25519(), blobs.clone(), url).await?;
        let dialled = network.dial(url.address.clone()).await;
        network.shutdown().await;
        match check_peer(dialled, url, name) {
            Ok(()) => return Ok(spec),
            Err(MinerError::OtherChain { .. }) => {}
            Err(error @ MinerError::Dial { .. }) => unreachable = Some(error),
            Err(error) => return Err(error),
        }
    }
    let other = || MinerError::OtherChain { address: url.address.clone(), chains: CHAINS.join(", ") };
    Err(unreachable.unwrap_or_else(other))
}

/// Whether it is the manager that was reached, on the chain that was meant.
fn check_peer(dialled: Result<PeerId, DialError>, url: &PoolUrl, chain: &str) -> Result<(), MinerError> {
    let address = url.address.clone();
    match dialled {
        Ok(peer) if peer == url.manager => Ok(()),
        Ok(got) => Err(MinerError::OtherPeer { address, got }),
        Err(DialError::WrongChain { .. }) => Err(MinerError::OtherChain { address, chains: chain.into() }),
        Err(source) => Err(MinerError::Dial { address, source }),
    }
}

async fn start_network(
    spec: &ChainSpec,
    key: Keypair,
    blobs: Arc<BlobStore>,
    url: &PoolUrl,
) -> Result<(NetworkHandle, mpsc::Receiver<NetworkEvent>), MinerError> {
    let mut config = NetworkConfig::new(spec.genesis_hash(), key);
    config.agent = concat!("podl-miner/", env!("CARGO_PKG_VERSION")).into();
    // The manager is kept connected like a bootnode; nobody else is looked for.
    config.bootnodes = vec![url.address.clone()];
    config.limits.peer_target = 1;
    config.serves = Vec::new();
    config.pool = pool_limits();
    Ok(Network::start(config, NetworkPorts { blobs }).await?)
}

/// Folder of a miner's identity unless another is named.
pub fn default_folder() -> PathBuf {
    crate::paths::user_data_folder().join("miner")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_url_ends_in_the_managers_identity() {
        let peer = podl_network::keypair_from_seed([3; 32]).unwrap().public().to_peer_id();
        let url: PoolUrl = format!("/ip4/10.0.0.1/tcp/9743/p2p/{peer}").parse().unwrap();
        assert_eq!(url.manager, peer);
        for bad in ["10.0.0.1:9743", "/ip4/10.0.0.1/tcp/9743", ""] {
            let error = bad.parse::<PoolUrl>().unwrap_err().to_string();
            assert!(error.contains("is no pool URL") && !error.contains('\n'), "{error}");
        }
    }
}
