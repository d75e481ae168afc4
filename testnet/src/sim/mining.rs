//! Miners and the publisher.

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::chain::Claim;
use podl_consensus::interval::{Event, Message};
use podl_consensus::shard::seal_shard;
use podl_consensus::signed::Signed;
use podl_consensus::testkit::{Blobs, fake_artefact, fake_shard, number_hash, signing_key, small_workload, unchecked};
use podl_consensus::types::{
    BlockHash, Commitment, Opening, PublishTask, ShardKey, SignedTransaction, TaskId, Transaction, TransactionKind,
    commitment_id,
};
use podl_consensus::verified::Verified;
use podl_consensus::workload::Workload;

use super::deliver::Wire;
use super::ledger::SharedBlobs;
use super::node::Own;
use super::setup::Publisher;
use super::world::{Happening, World};

/// Images of a shard: enough that each round can beat the one before.
const SHARD_IMAGES: u32 = 10_000;
/// Parents remembered as mined on.
const MINED_KEPT: usize = 8;

/// The published task.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Its id.
    pub task: Option<TaskId>,
    /// The transaction that publishes it, which every producer includes while it can.
    pub publish: Option<Verified<SignedTransaction>>,
    keys: Vec<ShardKey>,
}

impl Work {
    /// A task of so many rounds by an account, with its sealed shards stored; nothing for no rounds.
    pub fn publish(spec: &ChainSpec, blobs: &SharedBlobs, publisher: u64, rounds: u32) -> Self {
        if rounds == 0 {
            return Self::default();
        }
        let mut blobs = blobs.borrow_mut();
        let keys: Vec<ShardKey> = (0..rounds).map(|round| ShardKey(number_hash(round.into()).0)).collect();
        let task = task(spec, &mut blobs, &keys);
        let key = signing_key(publisher);
        let sender = podl_consensus::signed::account_of(&key);
        let fee = podl_chain_spec::Amount(1_000_000);
        let message = Transaction { sender, nonce: 0, fee, kind: TransactionKind::Publish(Box::new(task)) };
        let id = message.task_id();
        Self { task: id, publish: Some(unchecked(Signed::new(message, &spec.genesis_hash(), &key))), keys }
    }

    fn key(&self, round: u32) -> Option<ShardKey> {
        self.keys.get(usize::try_from(round).ok()?.checked_sub(1)?).copied()
    }
}

fn task(spec: &ChainSpec, blobs: &mut Blobs, keys: &[ShardKey]) -> PublishTask {
    let workload = Workload { shard_images: SHARD_IMAGES, ..small_workload(spec) };
    let seal = |(round, key): (usize, &ShardKey)| {
        let plain = fake_shard(SHARD_IMAGES, number_hash(1_000_000 + round as u64).0);
        let (shard, sealed) = seal_shard(key, &plain);
        blobs.put(sealed);
        shard
    };
    let shards = keys.iter().enumerate().map(seal).collect();
    let data = blobs.put(b"training data".to_vec());
    let reward = spec.money.min_reward;
    PublishTask {
        name: "simulated".into(),
        workload,
        data,
        train_images: 1000,
        epochs: 1,
        shards,
        reward,
        bond: reward,
        min_gain: 1,
        baseline: None,
    }
}

impl World {
    /// A node begins to train: it commits some seconds before the closing. The publisher may leak its key.
    pub(super) fn training(&mut self, node: usize, parent: BlockHash) {
        let own = &mut self.nodes[node];
        if own.mined.contains(&parent) {
            return;
        }
        own.mined.push_back(parent);
        if own.mined.len() > MINED_KEPT {
            own.mined.pop_front();
        }
        let life = own.life;
        let length = self.spec.min_interval_ms();
        if self.mines(node, &parent) {
            let before = self.rng.range(1500, 4000);
            self.schedule(self.now + length - before, Happening::Mine { node, life, parent });
        }
        if node == self.setup.publisher_node() && self.leaks() {
            self.leak(node, parent, length);
        }
    }

    fn mines(&mut self, node: usize, parent: &BlockHash) -> bool {
        let tree = self.nodes[node].machine.as_ref().map(podl_consensus::interval::IntervalMachine::tree);
        let height = tree.and_then(|tree| tree.height(parent)).and_then(|height| usize::try_from(height).ok());
        match height.and_then(|height| self.setup.early_miners.get(height)) {
            Some(miner) => node == *miner,
            None => self.rng.chance(self.setup.mine_permille),
        }
    }

    fn leaks(&mut self) -> bool {
        match self.setup.publisher {
            Publisher::Early => true,
            Publisher::Mixed => self.rng.chance(200),
            _ => false,
        }
    }

    fn leak(&mut self, node: usize, parent: BlockHash, length: u64) {
        let interval = self.nodes[node].ledger.view().interval(&parent);
        let round = interval.filter(|interval| Some(interval.task) == self.work.task).map(|interval| interval.round);
        if let Some(key) = round.and_then(|round| self.work.key(round)) {
            let after = self.rng.below(length);
            self.schedule(self.now + after, Happening::Release { key, half: false });
        }
    }

    /// Makes an artefact, commits to it and tells everybody.
    pub(super) fn mine(&mut self, number: usize, parent: BlockHash) {
        let Some((least, images)) = self.nodes[number].ledger.goal(&parent) else { return };
        let room = images.saturating_sub(least);
        let commitments = if self.nodes[number].conduct.flood { 12 } else { 1 };
        for _ in 0..commitments {
            let correct = least + u32::try_from(self.rng.below(u64::from(room.min(40)) + 1)).unwrap_or(0);
            let tag = self.rng.next_u64();
            let artefact = fake_artefact(correct.min(images), 1000 + tag % 5, tag);
            let Some(own) = self.commit(number, parent, artefact, correct.min(images), 1000 + tag % 5) else { return };
            let commitment = own.commitment.clone();
            self.nodes[number].own.entry(parent).or_default().push(own);
            self.feed(number, Event::Commitment(commitment.clone()));
            self.send(number, &self.others(number), &Wire::Commitment(commitment));
        }
    }

    fn commit(
        &mut self,
        number: usize,
        parent: BlockHash,
        artefact: Vec<u8>,
        correct: u32,
        mac_bits: u64,
    ) -> Option<Own> {
        let node = &self.nodes[number];
        let interval = node.ledger.view().interval(&parent)?;
        let model = self.blobs.borrow_mut().put(artefact);
        let salt = number_hash(self.rng.next_u64()).0;
        let (task, round, owner) = (interval.task, interval.round, node.account);
        let id: Hash32 = commitment_id(&self.chain, &parent, &task, round, &owner, &model.root, &salt);
        let commitment = unchecked(Signed::new(Commitment { parent, task, round, owner, id }, &self.chain, &node.key));
        let artefact_bytes = u32::try_from(model.bytes).unwrap_or(u32::MAX);
        Some(Own { commitment, opening: Opening { model_root: model.root, artefact_bytes, salt, correct, mac_bits } })
    }

    /// The node may show what it committed to, once it has scored it.
    pub(super) fn open_candidates(&mut self, node: usize, parent: BlockHash, key: Option<ShardKey>) {
        if self.nodes[node].own.contains_key(&parent) {
            let (life, at) = (self.nodes[node].life, self.now + self.rng.range(30, 900));
            self.schedule(at, Happening::Show { node, life, parent, key });
        }
    }

    /// Shows the best model that a majority listed.
    pub(super) fn show(&mut self, number: usize, parent: BlockHash, key: Option<ShardKey>) {
        let node = &self.nodes[number];
        let (Some(machine), Some(mut own)) = (&node.machine, node.own.get(&parent).cloned()) else { return };
        own.sort_by_key(|own| (std::cmp::Reverse(own.opening.correct), own.opening.mac_bits));
        let listed = own.into_iter().find_map(|own| {
            let closings = machine.majority_closings(&parent, Some(&own.commitment.message.hash()))?;
            Some((closings, own.opening))
        });
        let Some((closings, opening)) = listed else { return };
        if let Some(block) = self.make_block(number, parent, 0, Claim::Scored { closings, opening, key }) {
            self.reveal(number, block);
        }
    }

    /// The publisher's node saw the closings of a majority.
    pub(super) fn collection_closed(&mut self, node: usize, task: TaskId, round: u32) {
        if node != self.setup.publisher_node() || Some(task) != self.work.task {
            return;
        }
        let Some(key) = self.work.key(round) else { return };
        let mode = match self.setup.publisher {
            Publisher::Mixed => {
                let modes = [Publisher::Honest, Publisher::Honest, Publisher::Late, Publisher::Split];
                modes[self.rng.index(modes.len())]
            }
            mode => mode,
        };
        let release_ms = self.spec.phases.release_ms;
        let (after, half) = match mode {
            Publisher::Withhold | Publisher::Mixed => return,
            Publisher::Honest | Publisher::Early => (50, false),
            Publisher::Late => (release_ms.saturating_sub(700) + self.rng.below(2000), false),
            Publisher::Split => (release_ms.saturating_sub(400) + self.rng.below(300), true),
        };
        self.schedule(self.now + after, Happening::Release { key, half });
    }

    /// The publisher's node sends a key, if it is up.
    pub(super) fn release(&mut self, key: ShardKey, half: bool) {
        let publisher = self.setup.publisher_node();
        if !self.nodes[publisher].is_up() {
            return;
        }
        let mut to = self.others(publisher);
        if half {
            let salt = self.rng.next_u64();
            to.retain(|node| (salt >> node) & 1 == 0);
        }
        self.feed(publisher, Event::Key(key));
        self.send_part(publisher, &to, &Wire::Gossip(Message::Key(key)));
    }
}
