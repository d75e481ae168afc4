//! Which blobs stay and which go, over a real store and database.

use std::collections::BTreeSet;

use podl_chain_spec::ChainSpec;
use podl_consensus::chain::BlockParts;
use podl_consensus::testkit::small_spec;
use podl_consensus::types::{BlobRoot, Block, BlockHash, Outcome, PublishTask};
use podl_storage::Aux;

use super::super::prune::drop_blobs;
use super::{Bed, QUOTA_BYTES};

/// Long after any grace.
const LATER_MS: u64 = 1 << 40;

fn spec() -> ChainSpec {
    let mut spec = small_spec(4, 24);
    spec.limits.retain_blocks = 3;
    spec
}

fn model_of(block: &Block) -> BlobRoot {
    match &block.body.outcome {
        Outcome::Scored { opening, .. } => opening.model_root,
        _ => panic!("a scored block"),
    }
}

/// Goes on with filler blocks; returns the last one and the models.
fn mine(bed: &mut Bed, mut parent: BlockHash, count: usize) -> (BlockHash, Vec<BlobRoot>) {
    let mut models = Vec::new();
    for _ in 0..count {
        let parts = bed.h.parts(parent);
        let block = bed.h.scored(parent, 10, 40, parts);
        models.push(model_of(&block));
        parent = bed.advance(block);
    }
    (parent, models)
}

/// Sweeps once before and once after the grace, and tells what is left.
fn sweep(bed: &mut Bed) -> BTreeSet<BlobRoot> {
    bed.core().expire_rows().unwrap();
    bed.core().sweep(1).unwrap();
    let needless = bed.core().sweep(LATER_MS).unwrap();
    drop_blobs(&bed.store(), &needless);
    held(bed)
}

fn held(bed: &mut Bed) -> BTreeSet<BlobRoot> {
    bed.store().list().into_iter().map(|(root, _)| root).collect()
}

#[test]
fn artefacts_go_when_their_blocks_are_old_and_strays_after_a_grace() {
    let mut bed = Bed::new(spec(), None);
    let genesis = bed.h.genesis();
    let (_, models) = mine(&mut bed, genesis, 10);
    let stray = bed.store().insert(b"of a candidate that lost").unwrap();
    let finalised = bed.core().finalised().height;
    assert_eq!(finalised, 8);

    bed.core().expire_rows().unwrap();
    assert_eq!(bed.core().sweep(1).unwrap(), [], "nothing goes at once");
    assert_eq!(bed.core().sweep(2).unwrap(), []);
    let left = sweep(&mut bed);
    // Blocks 5 to 8 are final and retained, 9 and 10 may still be judged.
    assert_eq!(left, models[4..].iter().copied().collect());
    assert!(!left.contains(&stray));
    assert_eq!(bed.core().db.aux_rows(Aux::Blobs).unwrap().len(), 1 + 4, "four rows, and that they are written");
}

#[test]
fn a_restart_forgets_the_grace_and_nothing_else() {
    let mut bed = Bed::new(spec(), None);
    let genesis = bed.h.genesis();
    let (_, models) = mine(&mut bed, genesis, 10);
    bed.core().expire_rows().unwrap();
    bed.core().sweep(1).unwrap();
    bed.restart();
    assert_eq!(bed.core().sweep(LATER_MS).unwrap(), [], "seen needless for the first time");
    let needless = bed.core().sweep(2 * LATER_MS).unwrap();
    assert_eq!(needless.into_iter().collect::<BTreeSet<_>>(), models[..4].iter().copied().collect());
}

/// Wins every round of a task, each by a better model; returns the head and the models.
fn win_rounds(bed: &mut Bed, mut parent: BlockHash, rounds: u32) -> (BlockHash, Vec<BlobRoot>) {
    let mut models = Vec::new();
    for round in 0..rounds {
        let parts = bed.h.parts(parent);
        let block = bed.h.scored(parent, 11, 20 + 3 * round, parts);
        models.push(model_of(&block));
        parent = bed.advance(block);
    }
    (parent, models)
}

/// Publishes and opens a task of account 9; the node holds its blobs.
fn open_task(bed: &mut Bed, rounds: u32) -> (PublishTask, BlockHash) {
    let genesis = bed.h.genesis();
    let (task, keys) = bed.h.task(rounds);
    let (transaction, id) = bed.h.publish(9, 0, task.clone(), keys);
    std::iter::once(task.data.root).chain(task.shards.iter().map(|s| s.sealed.root)).for_each(|root| bed.hold(&root));
    let parts = BlockParts { transactions: vec![transaction], ..bed.h.parts(genesis) };
    let block = bed.h.idle(genesis, 0, None, parts);
    let published = bed.advance(block);
    let parts = BlockParts { votes: bed.h.votes(published, &[id]), ..BlockParts::default() };
    let block = bed.h.idle(published, 0, None, parts);
    let opened = bed.advance(block);
    (task, opened)
}

#[test]
fn a_live_task_keeps_its_data_its_unspent_shards_and_the_model_to_beat() {
    let mut bed = Bed::new(spec(), None);
    let (task, opened) = open_task(&mut bed, 12);
    // Nine of twelve rounds: blocks 3 to 11; block 9 is final, so that 6 is the oldest retained.
    let (_, models) = win_rounds(&mut bed, opened, 9);
    assert_eq!(bed.core().finalised().height, 9);
    let left = sweep(&mut bed);
    let shards: Vec<BlobRoot> = task.shards.iter().map(|shard| shard.sealed.root).collect();
    assert!(left.contains(&task.data.root));
    // Round n was spent by block n + 2.
    assert!(shards[..3].iter().all(|root| !left.contains(root)), "of blocks 3 to 5");
    assert!(shards[3..].iter().all(|root| left.contains(root)));
    // The model of block 5 is what block 6 had to beat.
    assert!(models[..2].iter().all(|root| !left.contains(root)));
    assert!(models[2..].iter().all(|root| left.contains(root)));
}

#[test]
fn an_ended_task_is_kept_as_long_as_a_block_and_its_publisher_keeps_the_models() {
    for (account, keeps) in [(None, false), (Some(9), true)] {
        let mut bed = Bed::new(spec(), account);
        let (task, opened) = open_task(&mut bed, 2);
        let (done, models) = win_rounds(&mut bed, opened, 2);
        // Block 4 ended it. It is final with block 6, and retained until 7 is.
        let (at, _) = mine(&mut bed, done, 5);
        assert_eq!(bed.core().finalised().height, 7);
        let left = sweep(&mut bed);
        assert!(left.contains(&task.data.root) && left.contains(&models[1]));
        assert!(left.contains(&task.shards[1].sealed.root) && !left.contains(&task.shards[0].sealed.root));
        assert!(left.contains(&models[0]), "block 4 had to beat it");
        mine(&mut bed, at, 1);
        let left = sweep(&mut bed);
        assert!(!left.contains(&task.data.root) && !left.contains(&task.shards[1].sealed.root));
        assert_eq!(models.iter().all(|root| left.contains(root)), keeps);
    }
}

#[test]
fn data_of_a_publication_that_waits_and_blobs_in_use_stay() {
    struct Pool(BlobRoot);
    impl crate::service::MiningPort for Pool {
        fn on_event(&mut self, _: crate::service::MiningEvent) {}
        fn blobs_in_use(&self) -> Vec<BlobRoot> {
            vec![self.0]
        }
    }
    let mut bed = Bed::new(spec(), Some(9));
    let (task, keys) = bed.h.task(1);
    let (transaction, _) = bed.h.publish(9, 0, task.clone(), keys);
    bed.hold(&task.data.root);
    let share = bed.store().insert(b"a pool miner's artefact").unwrap();
    bed.core().set_mining(Box::new(Pool(share))).unwrap();
    bed.core().submit(transaction.into_inner()).unwrap();
    assert_eq!(sweep(&mut bed), BTreeSet::from([task.data.root, share]));
}

#[test]
fn a_database_without_rows_keeps_what_is_there_as_long_as_the_last_final_block() {
    let mut bed = Bed::new(spec(), None);
    let genesis = bed.h.genesis();
    let (at, models) = mine(&mut bed, genesis, 6);
    let db = bed.core().db.clone();
    let mut batch = db.batch();
    for (key, _) in db.aux_rows(Aux::Blobs).unwrap() {
        batch.delete_aux(Aux::Blobs, &key).unwrap();
    }
    db.commit(batch).unwrap();
    drop(db);
    bed.restart();
    assert_eq!(sweep(&mut bed).len(), models.len(), "who knows which block needs it");
    mine(&mut bed, at, 4);
    let left = sweep(&mut bed);
    assert!(models[..4].iter().all(|root| !left.contains(root)));
    assert!(models[4..].iter().all(|root| left.contains(root)));
}

#[test]
fn a_nearly_full_store_waits_less() {
    let mut bed = Bed::new(spec(), None);
    let soon_ms = 10 * 60_000;
    let stray = bed.store().insert(b"a little").unwrap();
    bed.core().sweep(1).unwrap();
    assert_eq!(bed.core().sweep(soon_ms).unwrap(), []);
    let large = bed.store().insert(&vec![0; QUOTA_BYTES as usize * 95 / 100]).unwrap();
    let mut dropped = bed.core().sweep(soon_ms + 1).unwrap();
    assert_eq!(dropped, [stray]);
    dropped.extend(bed.core().sweep(2 * soon_ms).unwrap());
    assert_eq!(BTreeSet::from_iter(dropped), BTreeSet::from([stray, large]));
}

#[test]
fn a_large_store_is_gone_through_a_page_at_a_time() {
    let mut bed = Bed::new(spec(), None);
    for n in 0..600u32 {
        bed.store().insert(&n.to_le_bytes()).unwrap();
    }
    let mut now_ms = 0;
    for turn in 0..60 {
        now_ms += LATER_MS;
        let needless = bed.core().sweep(now_ms).unwrap();
        assert!(needless.len() <= 32, "bounded work in one go");
        assert!(turn > 1 || needless.is_empty(), "each is seen needless before it goes");
        drop_blobs(&bed.store(), &needless);
    }
    assert!(held(&mut bed).is_empty());
}

#[test]
fn housekeeping_drops_what_is_needless_and_an_archive_nothing() {
    for archive in [false, true] {
        let mut bed = Bed::new(spec(), None);
        bed.core().pruning = super::super::prune::Pruning::new(archive);
        let stray = bed.store().insert(b"of a candidate that lost").unwrap();
        bed.core().tend_blobs(1).unwrap();
        bed.core().tend_blobs(LATER_MS).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while !archive && bed.store().contains(&stray) && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(bed.store().contains(&stray), archive);
    }
}
