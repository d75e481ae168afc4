//! Chains, networks and shards of these tests.

use podl_chain_spec::{AccountId, ChainSpec};
use podl_consensus::chain::Prepared;
use podl_consensus::rules::{BlockError, WorkRuleError};
use podl_consensus::testkit::{Harness, Round, account, signing_key, small_spec};
use podl_consensus::types::{Block, BlockHash, ClosingSet, Opening, PublishTask};
use podl_consensus::workload::{
    Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network, Space, WorkError, WorkVerifier, Workload,
};
use podl_nas::Verifier;
use podl_nas::artefact::{Model, Parameters};
use podl_nas::data::{Random, encode_dataset, generate};

/// Images of every shard, filler's too.
pub const IMAGES: u32 = 60;
/// Who commits in most tests; holds no seat.
pub const OWNER: u64 = 4;
/// Somebody else who commits.
pub const OTHER: u64 = 5;
const PUBLISHER: u64 = 7;

/// Four seats, eight accounts, filler of two layers.
pub fn spec() -> ChainSpec {
    let mut spec = small_spec(4, 8);
    spec.filler.conv_layers = 2;
    spec.filler.shard_images = IMAGES;
    spec
}

/// What the tests' tasks are about: the full space with two layers.
pub fn workload() -> Workload {
    Workload { shard_images: IMAGES, space: Space::full(2), ..Workload::filler(&spec()) }
}

/// A network of the space. The weights of its first layer end within a byte.
pub fn layers() -> Vec<ConvLayer> {
    let layer = |filters, stride| ConvLayer {
        kernel: [3, 3],
        filters,
        stride: [stride, stride],
        pool: 2,
        act: FixedPoint::new(1, 4),
        weight: FixedPoint::new(1, 4),
    };
    vec![layer(4, 1), layer(8, 2)]
}

pub fn network(layers: Vec<ConvLayer>) -> Network {
    Network::new(&Architecture { layers }, InputShape::CIFAR, 10, DenseConfig::default()).unwrap()
}

/// A model of that network with random parameters, a quarter of the formats' ranges wide.
pub fn model(network: Network, seed: u64) -> Model {
    let mut random = Random::new("refused candidates", &[1; 32], seed);
    let mut layer = |outputs: u32, weights: u64, format: FixedPoint| {
        let most = i32::try_from((format.signed_range().1 / 4).max(1)).unwrap();
        let mut tensor = |count: u64| (0..count).map(|_| i16::try_from(random.between(-most, most)).unwrap()).collect();
        Parameters { weights: tensor(weights), biases: tensor(outputs.into()) }
    };
    let convs = network.convs.iter();
    let mut layers: Vec<Parameters> = convs
        .map(|conv| layer(conv.out_channels(), u64::from(conv.out_channels()) * conv.fan_in(), conv.layer.weight))
        .collect();
    let dense = network.dense.weight;
    layers.extend([network.hidden, network.output].map(|shape| layer(shape.outputs, shape.macs(), dense)));
    Model::new(network, layers).unwrap()
}

/// The artefact of [`layers`] with parameters from `seed`.
pub fn artefact(seed: u64) -> Vec<u8> {
    model(network(layers()), seed).encode()
}

/// Canonical bytes of generated images.
pub fn shard(seed: u8) -> Vec<u8> {
    encode_dataset(&generate(&[seed; 32], IMAGES))
}

/// A chain and the block on which candidates are judged.
pub struct World {
    pub h: Harness<Verifier>,
    pub parent: BlockHash,
}

impl World {
    /// An open task of two rounds.
    pub fn task() -> Self {
        Self::with_task(spec(), workload(), &[shard(1), shard(2)], |_, _| ())
    }

    /// An open task with these shards, changed in some way before it is published.
    pub fn with_task(
        spec: ChainSpec,
        workload: Workload,
        shards: &[Vec<u8>],
        change: impl FnOnce(&mut Harness<Verifier>, &mut PublishTask),
    ) -> Self {
        let mut h = Harness::with_verifier(spec, Verifier::new(1));
        let (mut task, keys) = h.task_of(workload, shards);
        change(&mut h, &mut task);
        let (id, parent) = h.open(h.genesis(), PUBLISHER, task, keys);
        assert_eq!(h.interval(parent).task, id);
        Self { h, parent }
    }

    /// An interval without a task.
    pub fn filler() -> Self {
        let h = Harness::with_verifier(spec(), Verifier::new(1));
        let parent = h.genesis();
        Self { h, parent }
    }

    /// What the interval's shard says of an artefact: correct images and MAC-bits.
    pub fn truth(&self, artefact: &[u8]) -> (u32, u64) {
        let (interval, verifier) = (self.h.interval(self.parent), self.h.verifier());
        let job = self.h.chain.shard_job(&interval, self.h.shard_key(&interval)).unwrap();
        let shard = job.shard(&self.h.blobs, verifier).unwrap();
        let (workload, caps) = (&interval.workload, &self.h.chain.spec().caps);
        let correct = verifier.score(workload, caps, artefact, &shard).unwrap();
        (correct, verifier.model_facts(workload, caps, artefact).unwrap().mac_bits)
    }

    /// A commitment to an artefact with what is true of it.
    pub fn commit(&mut self, owner: u64, artefact: &[u8]) -> Round {
        let (correct, mac_bits) = self.truth(artefact);
        self.h.commit_claim(self.parent, owner, artefact.to_vec(), correct, mac_bits)
    }

    /// A candidate that opens the first of these commitments, all of which every seat lists.
    pub fn candidate(&self, rounds: &[Round]) -> Block {
        self.h.scored_rounds(self.parent, rounds, 0, self.h.parts(self.parent))
    }

    /// A candidate of `owner` with any closings and any opening.
    pub fn proposal(&self, owner: u64, closings: ClosingSet, opening: Opening) -> Block {
        let (interval, parts) = (self.h.interval(self.parent), self.h.parts(self.parent));
        let key = self.h.shard_key(&interval);
        let built = self.h.chain.build_scored(self.parent, account(owner), parts, closings, opening, key);
        built.unwrap().sign(&signing_key(owner))
    }

    /// Closings of seats with a list each.
    pub fn closings(&self, lists: &[(AccountId, Vec<&Round>)]) -> ClosingSet {
        let close = |(seat, rounds): &(AccountId, Vec<&Round>)| {
            let rounds: Vec<Round> = rounds.iter().map(|round| (*round).clone()).collect();
            self.h.closing(self.parent, seat, &rounds)
        };
        let closings: Vec<_> = lists.iter().map(close).collect();
        ClosingSet::new(closings.iter().map(|closing| &**closing))
    }

    /// Every rule but the work.
    pub fn prepare(&self, block: Block) -> Result<Prepared, BlockError> {
        self.h.chain.prepare_import(self.h.chain.verify(block)?)
    }

    /// Every rule, without taking the block in.
    pub fn judge(&self, block: Block) -> Result<(), BlockError> {
        self.prepare(block)?.check_work(&self.h.blobs, self.h.verifier()).map(drop)
    }

    /// The verdict on bytes for which everything is claimed that is true of `good`.
    pub fn judge_bytes(&mut self, good: &[u8], bytes: Vec<u8>) -> Result<(), BlockError> {
        let (correct, mac_bits) = self.truth(good);
        let round = self.h.commit_claim(self.parent, OWNER, bytes, correct, mac_bits);
        self.judge(self.candidate(&[round]))
    }

    /// Takes a candidate in; the next ones are judged on it.
    pub fn take(&mut self, block: Block) {
        self.parent = self.h.import(block).unwrap().hash;
    }
}

/// The refusal of an artefact.
pub fn bad_artefact(error: WorkError) -> Result<(), BlockError> {
    Err(WorkRuleError::Artefact(error).into())
}
