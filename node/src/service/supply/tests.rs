use podl_consensus::chain::BlockParts;
use podl_consensus::testkit::{Harness, small_spec};
use podl_consensus::types::BlockHash;

use super::*;

/// A harness whose blocks are also written into a real database, as the node writes them.
struct Written {
    h: Harness,
    db: Arc<Database>,
    head: BlockHash,
    _folder: tempfile::TempDir,
}

impl Written {
    fn new() -> Self {
        let (spec, folder) = (small_spec(4, 8), tempfile::tempdir().unwrap());
        let db = Arc::new(Database::open(folder.path(), &spec).unwrap().database);
        let h = Harness::new(spec);
        Self { head: h.genesis(), h, db, _folder: folder }
    }

    fn write(&mut self, block: podl_consensus::types::Block) {
        let imported = self.h.import(block).unwrap();
        let mut batch = self.db.batch();
        batch.insert_block(&imported.hash, &imported.block, &imported.delta).unwrap();
        for f in &imported.newly_final {
            batch.finalise(&f.hash, &f.block, &f.delta).unwrap();
        }
        self.db.commit(batch).unwrap();
        self.head = imported.hash;
    }

    fn scored(&mut self, owner: u64, correct: u32) {
        let parts = self.h.parts(self.head);
        let block = self.h.scored(self.head, owner, correct, parts);
        self.write(block);
    }

    /// Publishes a task and opens it.
    fn publish(&mut self) {
        let (task, keys) = self.h.task(3);
        let nonce = self.h.account(self.head, 7).nonce;
        let (transaction, id) = self.h.publish(7, nonce, task, keys);
        let parts = BlockParts { transactions: vec![transaction], ..self.h.parts(self.head) };
        let block = self.h.idle(self.head, 0, None, parts);
        self.write(block);
        let parts = BlockParts { votes: self.h.votes(self.head, &[id]), ..BlockParts::default() };
        let block = self.h.idle(self.head, 0, None, parts);
        self.write(block);
    }

    fn audits(&self) -> SupplyAudits {
        SupplyAudits::new(self.db.clone(), self.h.chain.spec())
    }
}

#[tokio::test]
async fn the_money_of_every_final_state_adds_up() {
    let mut w = Written::new();
    let audits = w.audits();
    let first = audits.latest().await.unwrap();
    assert_eq!((first.height, first.block), (0, w.h.genesis()));
    assert!(first.adds_up && first.supply == first.genesis && first.total == first.supply, "{first:?}");

    w.publish();
    for owner in 4..8 {
        w.scored(owner, 20 + u32::try_from(owner).unwrap());
        let at = w.db.finalised().unwrap();
        let view = audits.latest().await.unwrap();
        assert_eq!((view.height, view.block), (at.height, at.block), "the kept answer follows the chain");
        assert!(view.adds_up, "{view:?}");
        let meta = w.h.chain.meta(&w.h.chain.stored().block).unwrap();
        assert_eq!((view.supply, view.minted, view.burned), (meta.supply, meta.minted, meta.burned));
    }
    let last = audits.latest().await.unwrap();
    assert!(last.height >= 4 && last.tasks == 1 && last.escrow > Amount::ZERO && last.task_bonds > Amount::ZERO);
    assert!(last.locked > Amount::ZERO && last.seat_bonds > Amount::ZERO && last.burned > Amount::ZERO);
    // Nothing became final since: the answer is the one that was kept.
    assert_eq!(audits.latest().await.unwrap(), last);
}

#[tokio::test]
async fn a_recount_belongs_to_one_block_whatever_becomes_final_meanwhile() {
    let mut w = Written::new();
    w.publish();
    w.scored(4, 20);
    w.scored(5, 30);
    let db = w.db.clone();
    let before = db.final_state().unwrap();
    let mut meta_before = None;
    w.scored(6, 40);
    w.scored(7, 50);
    assert!(w.db.finalised().unwrap().height > before.at().height, "blocks became final");
    before
        .visit(|key, value| {
            if StateKey::parse(key) == Some(StateKey::Meta) {
                meta_before = Some(codec::decode::<Meta>(value, usize::MAX).unwrap());
            }
            Ok::<(), StorageError>(())
        })
        .unwrap();
    assert_eq!(meta_before.unwrap().height, before.at().height);
}

#[tokio::test]
async fn money_that_appears_on_the_disk_shows() {
    let mut w = Written::new();
    w.publish();
    w.scored(4, 20);
    w.scored(5, 30);
    // A block whose delta gives account 1 money that nobody made: no rule would let it in, but a disk holds anything.
    let parts = w.h.parts(w.head);
    let block = w.h.idle(w.head, 0, None, parts);
    let imported = w.h.import(block).unwrap();
    let mut batch = w.db.batch();
    batch.insert_block(&imported.hash, &imported.block, &imported.delta).unwrap();
    let (last, others) = imported.newly_final.split_last().unwrap();
    for f in others {
        batch.finalise(&f.hash, &f.block, &f.delta).unwrap();
    }
    let mut delta = last.delta.as_ref().clone();
    let rich = podl_consensus::state::Account { balance: Amount(1 << 40), ..Default::default() };
    let key = StateKey::Account(podl_consensus::testkit::account(1)).to_bytes();
    delta.values.insert(key, Some(codec::encode(&rich)));
    batch.finalise(&last.hash, &last.block, &delta).unwrap();
    w.db.commit(batch).unwrap();
    let view = w.audits().latest().await.unwrap();
    assert!(!view.adds_up && view.total > view.supply, "{view:?}");
}
