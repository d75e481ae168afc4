//! Too much of everything: messages, bytes, uploads, results; and leases that are only held.

use super::*;
use crate::protocol::REQUEST_BYTES;
use crate::types::Purpose;

fn blob(bytes: &[u8]) -> BlobRef {
    BlobRef { root: blob_root(bytes), bytes: bytes.len() as u64 }
}

#[test]
fn a_flood_is_refused_and_leaves_nothing_behind() {
    let pool = Pool::new(1);
    let (mut honest, honest_macs) = with_honest(&pool);
    let cheater = Client::join(&pool, 2, SPEED);
    let lease = honest.lease();
    let step = honest.train(&lease, 0, lease.work[0].images);
    pool.pass(honest.ms(&step));
    let mut refusals = Vec::new();
    for number in 0..100u8 {
        let mut junk = step.clone();
        junk.bytes = vec![number; 1000];
        junk.share.artefact = blob(&junk.bytes);
        refusals.push(cheater.submit(&junk));
        assert!(pool.manager.blob(&junk.share.artefact.root).is_none(), "junk {number} is kept");
    }
    assert!(refusals.contains(&Some(Refusal::NoLease)));
    assert_eq!(refusals.last(), Some(&Some(Refusal::RateLimited)));
    assert_eq!(honest.submit(&step), None, "others are heard meanwhile");
    pool.settle();
    assert_eq!(pool.window_macs(1), honest_macs + honest.macs(&step));
    assert_eq!(pool.window_macs(2), 0);
}

#[test]
fn uploads_that_are_too_long_or_out_of_order_are_refused() {
    let pool = Pool::new(2);
    pool.begin(1, 60_000);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let whole = vec![7; CHUNK_BYTES * 2 + 5];
    let artefact = blob(&whole);
    let (first, rest) = whole.split_at(CHUNK_BYTES);
    assert_eq!(cheater.chunk(artefact, 0, first), Some(Refusal::NoLease), "it has nothing to hand in");
    cheater.lease();
    assert_eq!(cheater.chunk(artefact, CHUNK_BYTES as u64, rest), Some(Refusal::Malformed), "a chunk too long");
    let second = &rest[..CHUNK_BYTES];
    assert_eq!(cheater.chunk(artefact, CHUNK_BYTES as u64, second), Some(Refusal::BadChunk), "the second first");
    assert_eq!(cheater.chunk(artefact, 0, first), None);
    assert_eq!(cheater.chunk(artefact, 0, &first[1..]), Some(Refusal::BadChunk), "a little at a time");
    assert_eq!(cheater.chunk(artefact, CHUNK_BYTES as u64, second), Some(Refusal::BadChunk), "it begins again");
    let huge = BlobRef { bytes: u64::from(pool.spec.caps.artefact_bytes) + 1, ..artefact };
    assert_eq!(cheater.chunk(huge, 0, first), Some(Refusal::BadChunk), "over the chain's cap");
    let state = BlobRef { bytes: crate::training::STATE_BYTES, ..artefact };
    assert_eq!(cheater.chunk(state, 0, first), None, "within the cap for artefacts");
    assert!(pool.manager.blob(&artefact.root).is_none());
    let reply = pool.manager.handle(client::id(2), &vec![0; REQUEST_BYTES + 1]);
    assert_eq!(refusal(protocol::decode_reply(&reply).unwrap()), Some(Refusal::Malformed));
}

#[test]
fn uploads_that_never_end_do_not_cost_an_honest_miner_its_audit() {
    let pool = Pool::new(3);
    let (mut honest, honest_macs) = with_honest(&pool);
    // As many as there are places for.
    let part = vec![1; CHUNK_BYTES];
    let endless = BlobRef { root: Hash32([5; 32]), bytes: 8 << 20 };
    let mut cheaters: Vec<Client<'_>> = (2..=9).map(|name| Client::join(&pool, name, SPEED)).collect();
    let lease = honest.lease();
    let first = honest.train(&lease, 0, lease.work[0].images / 2);
    let second = honest.go_on(&lease, 0, lease.work[0].images / 2, &first);
    for cheater in &mut cheaters {
        assert_eq!(cheater.chunk(endless, 0, &part), Some(Refusal::NoLease), "it has nothing to hand in");
        cheater.lease();
        assert_eq!(cheater.chunk(endless, 0, &part), None);
    }
    pool.pass(honest.ms(&first) + honest.ms(&second));
    assert_eq!((honest.submit(&first), honest.submit(&second)), (None, None), "its state has a place");
    pool.settle();
    assert_eq!(pool.audits().failed, 0);
    assert_eq!(pool.window_macs(1), honest_macs + honest.macs(&first) + honest.macs(&second));
}

#[test]
fn many_small_results_leave_room_for_those_of_others() {
    let pool = Pool::with(4, |params| params.evaluation_queue = 6);
    let (mut honest, honest_macs) = with_honest(&pool);
    let mut cheater = Client::join(&pool, 2, SPEED);
    let (lease, own) = (honest.lease(), cheater.lease());
    let step = honest.train(&lease, 0, lease.work[0].images);
    let mut small = vec![cheater.train(&own, 0, 32)];
    for _ in 0..7 {
        let next = cheater.go_on(&own, 0, 32, &small[small.len() - 1]);
        small.push(next);
    }
    pool.pass(honest.ms(&step));
    occupy_the_checker(&pool, 3);
    let refusals: Vec<_> = small.iter().map(|step| cheater.submit(step)).collect();
    assert_eq!(refusals[0], None);
    assert!(refusals.contains(&Some(Refusal::Busy)), "{refusals:?}");
    assert_eq!(honest.submit(&step), None);
    pool.settle();
    assert_eq!(pool.window_macs(1), honest_macs + honest.macs(&step));
}

/// Another name asks for a calibration that takes the thread that counts some time.
pub(super) fn occupy_the_checker(pool: &Pool, name: u8) {
    let client = Client::new(pool, name, SPEED);
    let mut job = client.hello().unwrap();
    while let Reply::CalibrateAgain(longer) = client.ask(&Request::Calibrated { seed: job.seed, digest: Hash32::ZERO })
    {
        job = longer;
    }
}

#[test]
fn a_lease_that_is_only_held_pays_nothing_and_keeps_nothing_from_others() {
    let pool = Pool::new(5);
    let (mut honest, honest_macs) = with_honest(&pool);
    let mut squatter = Client::join(&pool, 2, SPEED);
    // What others trained is shown to miners that have trained something themselves.
    let steps = squatter.work();
    pool.settle();
    // Exploration is over: both are after the best confirmed network.
    pool.pass(25_000);
    let best = |pool: &Pool| pool.manager.elites()[0].architecture.clone();
    let mut leases = Vec::new();
    for _ in 0..4 {
        let lease = squatter.lease();
        for _ in 0..lease.due_ms / 500 {
            pool.pass(500);
            squatter.ask(&Request::Progress { lease: lease.id, done_macs: lease.budget_macs / 2 });
        }
        leases.push(lease);
    }
    assert!(leases.iter().all(|lease| lease.purpose == Purpose::Exploit), "{leases:?}");
    let held = squatter.lease();
    assert_eq!(held.work[0].architecture, best(&pool));
    let lease = honest.lease();
    assert_eq!(lease.work[0].architecture, held.work[0].architecture, "the best is not the squatter's to keep");
    let step = honest.train(&lease, 0, lease.work[0].images);
    pool.pass(honest.ms(&step));
    assert_eq!(honest.submit(&step), None);
    pool.settle();
    let honest_macs = honest_macs + honest.macs(&step);
    assert_eq!((pool.window_macs(2), pool.window_macs(1)), (squatter.sum(&steps), honest_macs));
}
