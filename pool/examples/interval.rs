//! One pool in one process, without a chain: real training over several rounds of one task, to measure what a phase of
//! a given length reaches.
//!
//! `cargo run --release -p podl-pool --example interval -- cifar10:DIR|builtin MINERS SECONDS ROUNDS [MILLIONTHS BATCH]`, where MILLIONTHS are
//! of the first learning rate.

use std::error::Error;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::types::BlobRef;
use podl_consensus::workload::{Bounds, InputShape, Space, WorkVerifier, Workload, WorkloadVersions};
use podl_nas::Verifier;
use podl_nas::data::{Dataset, Source, SplitPlan, encode_dataset, generate, input_table, read_cifar10, split};
use podl_pool::drivers::{
    LocalTransport, ManagerConfig, ManagerDriver, MemoryStore, MinerConfig, PoolAction, TrainBench, TrainSettings,
    start_miner, system_clock,
};
use podl_pool::ledger::WonBlock;
use podl_pool::manager::PoolParams;
use podl_pool::types::{DataSource, Interval, MinerId};

fn source(name: &str) -> Result<Source, Box<dyn Error>> {
    match name.strip_prefix("cifar10:") {
        Some(folder) => Ok(read_cifar10(folder.as_ref())?),
        None => Ok(Source::numbered(generate(&[1; 32], 10_000), generate(&[2; 32], 2500))),
    }
}

fn workload(table: Vec<Vec<i16>>) -> Workload {
    Workload {
        space: Space::full(6),
        bounds: Bounds { lut: 100_000, throughput: 1000 },
        input: InputShape::CIFAR,
        classes: 10,
        input_table: table,
        shard_images: 500,
        versions: WorkloadVersions { engine: 1, cost_model: 1, generator: 1 },
    }
}

fn joined(train: &Dataset, validation: &Dataset) -> Dataset {
    let mut all = train.clone();
    all.images.extend_from_slice(&validation.images);
    all.labels.extend_from_slice(&validation.labels);
    all
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let source = source(args.first().map_or("builtin", |a| a.as_str()))?;
    let (miners, seconds, rounds) = (number(1, 3), number(2, 48), number(3, 3));
    let shards = usize::try_from(rounds)?.min(5);
    let cut = split(&source, &SplitPlan { validation_images: 1000, shards, shard_images: 500, seed: [3; 32] })?;
    let data = Arc::new(encode_dataset(&joined(&cut.train, &cut.validation)));
    let blob = BlobRef { root: blob_root(&data), bytes: data.len() as u64 };
    let mut spec = ChainSpec::load("testnet")?;
    spec.phases.train_ms = seconds * 1000;
    let mut params = PoolParams::for_chain(&spec, AccountId([9; 32]));
    let rule = &mut params.training;
    rule.first_rate_millionths = u32::try_from(number(4, rule.first_rate_millionths.into()))?;
    rule.batch = u32::try_from(number(5, rule.batch.into()))?;
    let (sender, actions) = channel();
    let sender = Mutex::new(sender);
    let manager = Arc::new(ManagerDriver::start(ManagerConfig {
        params,
        seed: [4; 32],
        caps: spec.caps.clone(),
        threads: 1,
        store_bytes: 256 << 20,
        store: Box::new(MemoryStore::default()),
        states: Box::new(MemoryStore::default()),
        journal: None,
        clock: system_clock(),
        sink: Arc::new(move |action| {
            let _ = sender.lock().map(|s| s.send(action));
        }),
    })?);
    let mut handles = Vec::new();
    for i in 0..miners {
        let id = MinerId(Hash32([u8::try_from(i)? + 1; 32]));
        let config = MinerConfig { account: AccountId(id.0.0), agent: "example".into(), niceness: 10, states: None };
        let bench = TrainBench::new(1, spec.caps.clone(), TrainSettings::default())?;
        handles.push(start_miner(config, Arc::new(LocalTransport::new(manager.clone(), id)), Box::new(bench))?);
    }
    let mut baseline = None;
    for round in 0..rounds {
        let parent = Hash32([u8::try_from(round)? + 1; 32]);
        let interval = Interval {
            parent,
            height: round + 1,
            task: Hash32([7; 32]),
            round: u32::try_from(round)?,
            workload: workload(input_table(&cut.train)),
            data: DataSource::Published { data: blob, train_images: u32::try_from(cut.train.len())? },
            score_macs: spec.caps.score_macs,
            baseline,
        };
        let mut committed: Vec<(Hash32, Arc<Vec<u8>>)> = Vec::new();
        let start = std::time::Instant::now();
        manager.begin_interval(interval, Some(data.clone()), seconds * 1000);
        while start.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(100));
            manager.tick();
            for action in actions.try_iter() {
                let at = start.elapsed().as_secs_f32();
                match action {
                    PoolAction::Commit { artefact, attempt, bytes, .. } => {
                        println!("{at:5.1} s  commitment {attempt} to {}", artefact.root.short());
                        committed.push((artefact.root, bytes));
                    }
                    PoolAction::Improved { miner, root, count, images } => {
                        let miner = miner.0.0[0];
                        println!("{at:5.1} s  miner {miner}: {} {count}/{images}", root.short());
                    }
                    other => println!("{at:5.1} s  {other:?}"),
                }
            }
        }
        manager.end_interval(parent);
        let shard = &cut.shards[usize::try_from(round)? % cut.shards.len()];
        let workload = workload(input_table(&cut.train));
        let verifier = Verifier::new(2);
        let encoded = encode_dataset(shard);
        let score = |bytes: &[u8]| verifier.score(&workload, &spec.caps, bytes, &encoded).unwrap_or(0);
        if let Some((correct, root)) = committed.iter().map(|(root, bytes)| (score(bytes), *root)).max() {
            println!("== round {round}: {correct} of {} on the shard", shard.len());
            baseline = Some(root);
            let won = WonBlock { block: parent, height: round + 1, reward: Amount(1_000_000), model: Some(root) };
            manager.block_won(won);
            manager.block_final(parent);
        }
        for elite in manager.elites().iter().take(4) {
            let layers: Vec<String> = elite
                .architecture
                .layers
                .iter()
                .map(|l| {
                    format!("{}x{}:{}/{}{}p{}", l.kernel[0], l.kernel[1], l.filters, l.stride[0], l.stride[1], l.pool)
                })
                .collect();
            println!(
                "   {} of miner {} after {} images: {}",
                elite.count,
                elite.miner.0.0[0],
                elite.images,
                layers.join(" ")
            );
        }
        println!("   {:?}", manager.overview().audits);
        for miner in manager.overview().miners {
            println!("   miner {} {:?}", miner.id.0.0[0], miner.standing);
        }
    }
    for handle in handles {
        handle.stop_within(Duration::from_secs(10))?;
    }
    Ok(())
}
