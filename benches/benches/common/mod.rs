//! Blocks of full size and work of the published kind, made by the testkit.
#![allow(dead_code, reason = "every bench uses its own part")]

use podl_chain_spec::Amount;
use podl_consensus::chain::BlockParts;
use podl_consensus::testkit::{Harness, Round, account, golden_architecture, small_spec};
use podl_consensus::types::{Block, BlockHash, Payment, SignedTransaction, TransactionKind};
use podl_consensus::verified::Verified;
use podl_consensus::workload::{Bounds, DenseConfig, FixedPoint, InputShape, Network, Space, WorkVerifier, Workload};
use podl_nas::Verifier;
use podl_nas::artefact::{Model, Parameters};
use podl_nas::data::{Random, encode_dataset, generate};

/// Owners of commitments, none of them a seat.
pub const OWNERS: std::ops::Range<u64> = 40..60;
/// Commitments of each, the most that are allowed.
pub const COMMITMENTS_EACH: usize = 3;
/// The first account that only sends.
pub const FIRST_SENDER: u64 = 64;
/// The first account that does not exist before somebody pays it.
const FIRST_STRANGER: u64 = 1_000_000;

/// A chain of so many seats with `senders` funded accounts beside those that commit, and the block to build on: the
/// first one, so that its children carry votes.
pub fn chain(seats: u64, senders: u64) -> (Harness, BlockHash) {
    let mut h = Harness::new(small_spec(seats, FIRST_SENDER + senders));
    let first = h.idle(h.genesis(), 0, None, BlockParts::default());
    let parent = h.import(first).expect("valid").hash;
    (h, parent)
}

/// 60 commitments of 20 owners.
pub fn commitments(h: &mut Harness, parent: BlockHash) -> Vec<Round> {
    let owners = OWNERS.flat_map(|owner| [owner; COMMITMENTS_EACH]);
    owners.map(|owner| h.commit(parent, owner, 30)).collect()
}

/// A transfer to an account of that number.
pub fn transfer(h: &Harness, sender: u64, nonce: u64, to: u64) -> Verified<SignedTransaction> {
    let payment = Payment { to: account(to), amount: Amount(1_000) };
    h.transaction(sender, nonce, TransactionKind::Transfer(payment))
}

/// A scored block on `parent` with all votes, 60 commitments that every seat lists, and a transfer of each of the
/// chain's `transfers` senders to an account that is new.
pub fn full_block(h: &mut Harness, parent: BlockHash, transfers: u64) -> Block {
    let rounds = commitments(h, parent);
    let sent = (0..transfers).map(|n| transfer(h, FIRST_SENDER + n, 0, FIRST_STRANGER + n));
    let parts = BlockParts { transactions: sent.collect(), ..h.parts(parent) };
    let block = h.scored_rounds(parent, &rounds, 0, parts);
    assert_eq!(block.body.transactions.len() as u64, transfers, "all fit");
    block
}

/// The published network of 6 layers of 36 filters, as it is trained on 32 x 32 images.
pub fn golden() -> Network {
    Network::new(&golden_architecture(), InputShape::CIFAR, 10, DenseConfig::default()).expect("a network")
}

/// Its artefact.
pub fn golden_artefact() -> Vec<u8> {
    random_model(golden()).encode()
}

/// A model of that network with parameters a quarter of the formats' ranges wide.
pub fn random_model(network: Network) -> Model {
    let mut random = Random::new("benches", &[1; 32], 0);
    let mut layer = |outputs: u32, weights: u64, format: FixedPoint| {
        let most = i32::try_from((format.signed_range().1 / 4).max(1)).expect("few bits");
        let mut value = || i16::try_from(random.between(-most, most)).expect("few bits");
        let mut tensor = |count: u64| (0..count).map(|_| value()).collect();
        Parameters { weights: tensor(weights), biases: tensor(outputs.into()) }
    };
    let convs = network.convs.iter();
    let mut layers: Vec<Parameters> = convs
        .map(|conv| layer(conv.out_channels(), u64::from(conv.out_channels()) * conv.fan_in(), conv.layer.weight))
        .collect();
    let dense = network.dense.weight;
    layers.extend([network.hidden, network.output].map(|shape| layer(shape.outputs, shape.macs(), dense)));
    Model::new(network, layers).expect("a model")
}

/// Canonical bytes of a shard of generated images.
pub fn shard(images: u32) -> Vec<u8> {
    encode_dataset(&generate(&[3; 32], images))
}

/// A chain with the real verifier and a task whose round is won by the golden network, and a candidate that does so.
pub fn golden_candidate(images: u32, threads: usize) -> (Harness<Verifier>, Block) {
    let spec = small_spec(4, 64);
    let workload = Workload {
        shard_images: images,
        space: Space::full(6),
        bounds: Bounds { lut: 100_000, throughput: 1_000 },
        ..Workload::filler(&spec)
    };
    let mut h = Harness::with_verifier(spec, Verifier::new(threads));
    let (artefact, shard) = (golden_artefact(), shard(images));
    let caps = h.chain.spec().caps.clone();
    let correct = h.verifier().score(&workload, &caps, &artefact, &shard).expect("a score");
    let (task, keys) = h.task_of(workload, &[shard]);
    let (_, parent) = h.open(h.genesis(), 7, task, keys);
    let round = h.commit_claim(parent, OWNERS.start, artefact, correct, golden().mac_bits());
    let block = h.scored_rounds(parent, &[round], 0, h.parts(parent));
    (h, block)
}

/// Processor, cores and load of this machine, in a line.
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1).map(str::to_owned));
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(1).collect();
    format!("{}, {threads} threads, load {}", model.unwrap_or_else(|| "unknown processor".into()), load.concat())
}
