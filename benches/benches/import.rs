//! How long a block takes to take in, stage by stage: a full one without its work, and the work of the published network
//! on shards of 500 and 1,000 images.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use podl_consensus::execute::{BlockInput, execute};
use podl_consensus::rules::{WorkJob, context_rules, header, isolation};
use podl_consensus::workload::WorkVerifier;
use podl_nas::Verifier;

use common::{chain, full_block, golden_artefact, golden_candidate};

const SEATS: u64 = 21;
const TRANSFERS: u64 = 2000;

/// Everything but the work, of a block with 2,000 transfers, votes of 21 seats and 60 commitments.
fn full(c: &mut Criterion) {
    let (mut h, parent) = chain(SEATS, TRANSFERS);
    let block = full_block(&mut h, parent, TRANSFERS);
    let (spec, hash) = (h.chain.spec().clone(), h.chain.chain_hash());
    let (state, interval) = (h.chain.state(&parent).expect("known"), h.interval(parent));
    let message = &block.header.message;
    let input = BlockInput {
        spec: &spec,
        interval: &interval,
        time_ms: message.time_ms,
        producer: message.producer,
        body: &block.body,
    };
    let mut group = c.benchmark_group("full block");
    group.bench_function("1 isolation: form", |b| b.iter(|| isolation::check_form(&spec, &hash, black_box(&block))));
    group.bench_function("2 isolation: signatures", |b| {
        b.iter(|| isolation::check_signatures(&hash, black_box(&block)));
    });
    group.bench_function("3 header and context", |b| {
        b.iter(|| {
            header::check(&spec, &interval, message).expect("valid");
            context_rules::check(&interval, &state, |height| h.chain.ancestor(&parent, height), black_box(&block))
        });
    });
    group.bench_function("4 execution and state root", |b| b.iter(|| execute(&state, black_box(&input))));
    group.bench_function("all four", |b| {
        b.iter_batched(
            || block.clone(),
            |block| h.chain.prepare_import(h.chain.verify(block).expect("form")).expect("valid"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// The work of a candidate as a node does it once: open the shard, check the artefact, score it.
fn work(c: &mut Criterion) {
    let mut group = c.benchmark_group("work");
    group.sample_size(20);
    for images in [500, 1000] {
        for threads in [1, 2] {
            let (h, block) = golden_candidate(images, threads);
            let interval = h.interval(block.parent());
            let caps = &h.chain.spec().caps;
            group.bench_function(format!("{images} images, {threads} threads"), |b| {
                b.iter(|| {
                    // A fresh cache: the second candidate of an interval need not open the shard.
                    let job = WorkJob::new(caps, &interval, &block.body.outcome, Arc::default()).expect("work");
                    job.run(&h.blobs, h.verifier()).expect("valid")
                });
            });
        }
    }
    group.finish();
}

/// What of it is not the inference pass.
fn work_parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("work, parts");
    let (h, block) = golden_candidate(1000, 1);
    let interval = h.interval(block.parent());
    let (workload, caps, verifier) = (interval.workload.clone(), h.chain.spec().caps.clone(), Verifier::new(1));
    let key = h.shard_key(&interval);
    group.bench_function("open and parse a shard of 1,000 images", |b| {
        b.iter(|| {
            let job = WorkJob::shard_of(&caps, &interval, key, Arc::default()).expect("a shard");
            job.shard(&h.blobs, &verifier).expect("opens")
        });
    });
    let artefact = golden_artefact();
    group.bench_function("artefact: decode, space, FPGA cost", |b| {
        b.iter(|| verifier.model_facts(&workload, &caps, black_box(&artefact)).expect("admissible"));
    });
    group.bench_function("generate 400 filler images", |b| {
        let spec = podl_chain_spec::ChainSpec::load("dev").expect("the dev chain");
        let filler = podl_consensus::workload::Workload::filler(&spec);
        b.iter(|| verifier.filler_shard(&filler, &caps, black_box([1; 32])).expect("images"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    targets = full, work, work_parts
}
criterion_main!(benches);
