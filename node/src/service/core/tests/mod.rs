//! The core with a real database, blob store, worker and network that knows nobody. Blocks come from the testkit's chain,
//! whose models say themselves how good they are.

mod doors;
mod payouts;
mod proved;
mod pruning;
mod siblings;
mod waiting;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use podl_chain_spec::{Caps, ChainSpec};
use podl_consensus::chain::{BlockParts, Chain};
use podl_consensus::rules::BlobSource;
use podl_consensus::testkit::{FakeVerifier, Harness, signing_key};
use podl_consensus::types::{BlobRoot, Block, BlockHash, Outcome, SignedTransaction};
use podl_consensus::verified::Verified;
use podl_consensus::workload::{ModelFacts, WorkError, WorkVerifier, Workload};
use podl_network::{BlobStore, Network, NetworkConfig, NetworkEvent, NetworkPorts, TopicConfig, keypair_from_seed};
use podl_storage::Database;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Core, Parts};
use crate::service::clock::Clock;
use crate::service::input::{CoreHandle, Input, QUEUE};
use crate::service::publisher::Publisher;
use crate::service::signer::Signer;
use crate::service::worker::Worker;
use crate::wallet::Wallet;
use podl_engine::wire::Topic;

/// Bytes that the store may hold.
pub(super) const QUOTA_BYTES: u64 = 1 << 20;

/// The claimed count on which [`Fragile`] panics.
pub(super) const PANICS: u32 = u32::MAX;

/// The testkit's verifier with a fault that somebody's bytes can find.
struct Fragile;

impl WorkVerifier for Fragile {
    fn model_facts(&self, workload: &Workload, caps: &Caps, artefact: &[u8]) -> Result<ModelFacts, WorkError> {
        FakeVerifier.model_facts(workload, caps, artefact)
    }

    fn parse_shard(&self, workload: &Workload, caps: &Caps, shard: &[u8]) -> Result<u32, WorkError> {
        FakeVerifier.parse_shard(workload, caps, shard)
    }

    fn score(&self, workload: &Workload, caps: &Caps, artefact: &[u8], shard: &[u8]) -> Result<u32, WorkError> {
        assert_ne!(artefact.get(4..8), Some(PANICS.to_le_bytes().as_slice()), "a fault");
        FakeVerifier.score(workload, caps, artefact, shard)
    }

    fn filler_shard(&self, workload: &Workload, caps: &Caps, seed: [u8; 32]) -> Result<Vec<u8>, WorkError> {
        FakeVerifier.filler_shard(workload, caps, seed)
    }
}

/// A core whose inputs are taken when a test says so.
pub(super) struct Bed {
    pub h: Harness,
    pub peer: PeerId,
    running: Option<Running>,
    runtime: Runtime,
    folder: TempDir,
    spec: Arc<ChainSpec>,
    account: Option<u64>,
}

struct Running {
    core: Core,
    inputs: Receiver<Input>,
    _events: tokio::sync::mpsc::Receiver<NetworkEvent>,
}

impl Bed {
    /// A node on a fresh chain, with the testkit's account of this number.
    pub fn new(spec: ChainSpec, account: Option<u64>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (h, spec) = (Harness::new(spec.clone()), Arc::new(spec));
        let mut bed = Self { h, peer: PeerId::random(), running: None, runtime, folder, spec, account };
        bed.start();
        bed
    }

    fn start(&mut self) {
        let spec = self.spec.clone();
        let db = Arc::new(Database::open(&self.folder.path().join("chain"), &spec).unwrap().database);
        let found = db.recover().unwrap();
        let blocks = found.pending.into_iter().map(|stored| (stored.block, stored.delta));
        let chain = Chain::open(spec.clone(), db.clone(), found.finalised, blocks).unwrap();
        let blobs = Arc::new(BlobStore::open(&self.folder.path().join("blobs"), QUOTA_BYTES).unwrap());
        let mut config = NetworkConfig::new(spec.genesis_hash(), keypair_from_seed([7; 32]).unwrap());
        let topic = |topic: Topic| TopicConfig { name: topic.name().into(), limit_bytes: topic.limit_bytes(&spec) };
        config.topics = Topic::ALL.into_iter().map(topic).collect();
        let ports = NetworkPorts { blobs: blobs.clone() };
        let (network, events) = self.runtime.block_on(Network::start(config, ports)).unwrap();
        let (queue, inputs) = sync_channel(QUEUE);
        let handle = CoreHandle { queue };
        let worker = Worker::start(spec.clone(), blobs, Box::new(Fragile), handle.clone()).unwrap();
        let wallet = self.account.map(|number| Wallet::new(signing_key(number)));
        let signer = wallet.map(|wallet| Signer::open(wallet, spec.genesis_hash(), db.clone()).unwrap());
        let (runtime, clock) = (self.runtime.handle().clone(), Clock::default());
        let parts = Parts {
            spec,
            db,
            chain,
            signer,
            network,
            runtime,
            handle,
            mining: None,
            min_free_bytes: 0,
            archive: false,
            clock,
        };
        let core = Core::new(parts, worker, Publisher::default()).unwrap();
        self.running = Some(Running { core, inputs, _events: events });
    }

    /// Ends without a word, as when killed, and starts again.
    pub fn restart(&mut self) {
        let Running { core, .. } = self.running.take().unwrap();
        self.runtime.block_on(core.network.shutdown());
        drop(core);
        self.start();
    }

    pub fn core(&mut self) -> &mut Core {
        &mut self.running.as_mut().unwrap().core
    }

    pub fn store(&mut self) -> Arc<BlobStore> {
        self.core().network.blobs().clone()
    }

    /// Takes what comes in until `done`, or for a while.
    fn pump(&mut self, done: impl Fn(&Core) -> bool) -> bool {
        let Running { core, inputs, .. } = self.running.as_mut().unwrap();
        let until = Instant::now() + Duration::from_millis(500);
        while !done(core) && Instant::now() < until {
            if let Ok(input) = inputs.recv_timeout(Duration::from_millis(5)) {
                core.take(input).unwrap();
            }
        }
        done(core)
    }

    /// Puts a blob of the testkit's into the node's store.
    pub fn hold(&mut self, root: &BlobRoot) {
        let bytes = self.h.blobs.blob(root).expect("a blob of the testkit");
        self.store().insert(&bytes).unwrap();
    }

    /// Delivers blocks as sync does; whether the last one is in the chain then.
    pub fn deliver(&mut self, blocks: &[Block]) -> bool {
        for block in blocks {
            if let Outcome::Scored { opening, .. } = &block.body.outcome {
                self.hold(&opening.model_root);
            }
        }
        let (peer, last) = (self.peer, blocks.last().unwrap().hash());
        let blocks = blocks.iter().map(|block| (peer, block.clone())).collect();
        self.core().deliver(blocks, true).unwrap();
        self.pump(|core| core.imports.is_idle());
        self.core().view.chain.contains(&last)
    }

    /// Makes a block valid in the testkit's chain and brings it to the node.
    pub fn advance(&mut self, block: Block) -> BlockHash {
        let hash = self.h.import(block.clone()).expect("valid").hash;
        assert!(self.deliver(&[block]), "the node takes it");
        hash
    }

    /// A filler block of a miner, with all votes and these transactions.
    pub fn mine(&mut self, parent: BlockHash, owner: u64, transactions: Vec<Verified<SignedTransaction>>) -> BlockHash {
        let parts = BlockParts { transactions, ..self.h.parts(parent) };
        let block = self.h.scored(parent, owner, 40, parts);
        self.advance(block)
    }
}
