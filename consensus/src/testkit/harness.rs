//! A whole chain in memory with everybody's keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Amount, ChainSpec};

use super::work::{Blobs, FakeVerifier, fake_artefact, fake_shard, small_workload};
use super::{number_hash, signing_key};
use crate::chain::{BlockParts, Chain, Imported};
use crate::finality::voters_on;
use crate::interval_context::IntervalContext;
use crate::rules::BlockError;
use crate::shard::seal_shard;
use crate::signed::Signed;
use crate::state::{Account, MemoryStore, Meta, genesis_checkpoint, genesis_delta};
use crate::types::{
    Block, BlockHash, Certificate, Closing, ClosingList, ClosingSet, Commitment, ListedClosing, Opening, PublishTask,
    ShardKey, SignedTransaction, SignedVote, TaskId, Transaction, TransactionKind, Vote, commitment_id,
};
use crate::verified::Verified;
use crate::workload::{WorkVerifier, Workload};

/// A commitment and what opens it.
#[derive(Clone, Debug)]
pub struct Round {
    /// Who commits.
    pub owner: u64,
    /// As it travels.
    pub commitment: Signed<Commitment>,
    /// What opens it.
    pub opening: Opening,
}

/// A chain in memory whose store is folded at once, and the keys of all its accounts by their numbers. Work is judged by
/// `V`: the testkit's stand-in, or a real verifier with real artefacts and shards.
#[derive(Debug)]
pub struct Harness<V = FakeVerifier> {
    /// The chain.
    pub chain: Chain<MemoryStore>,
    /// Artefacts and sealed shards.
    pub blobs: Blobs,
    /// Keys of the shards of published tasks, in the order of their rounds.
    pub shard_keys: BTreeMap<TaskId, Vec<ShardKey>>,
    verifier: V,
    keys: BTreeMap<AccountId, SigningKey>,
    next_salt: u64,
}

impl Harness {
    /// A chain that holds its genesis only; the accounts 0 to 63 are known.
    ///
    /// # Panics
    /// When the specification makes no genesis.
    pub fn new(spec: ChainSpec) -> Self {
        Self::with_verifier(spec, FakeVerifier)
    }

    /// A certificate of these votes.
    ///
    /// # Panics
    /// When there are none.
    pub fn certificate(votes: Vec<Verified<SignedVote>>) -> Certificate<Verified<SignedVote>> {
        let first = &votes.first().expect("votes").message;
        Certificate { height: first.height, block: first.block, votes }
    }

    /// A commitment of an account to an artefact that scores `correct`, and its opening; the artefact is stored.
    pub fn commit(&mut self, parent: BlockHash, owner: u64, correct: u32) -> Round {
        self.next_salt += 1;
        let tag = self.next_salt;
        self.commit_artefact(parent, owner, fake_artefact(correct, 1000, tag), correct)
    }

    /// A candidate in which `owner`'s model has `correct` images right.
    ///
    /// # Panics
    /// When the parent is unknown.
    pub fn scored(&mut self, parent: BlockHash, owner: u64, correct: u32, parts: BlockParts) -> Block {
        let round = self.commit(parent, owner, correct);
        self.scored_rounds(parent, std::slice::from_ref(&round), 0, parts)
    }

    /// Imports a candidate of `owner` that carries all votes and these transactions.
    ///
    /// # Panics
    /// When it is not valid.
    pub fn advance(
        &mut self,
        parent: BlockHash,
        owner: u64,
        correct: u32,
        transactions: Vec<Verified<SignedTransaction>>,
    ) -> BlockHash {
        let parts = BlockParts { transactions, ..self.parts(parent) };
        let block = self.scored(parent, owner, correct, parts);
        self.import(block).expect("valid").hash
    }

    /// A task of so many rounds by its publisher, and the keys of its shards, whose sealed blobs are stored.
    pub fn task(&mut self, rounds: u32) -> (PublishTask, Vec<ShardKey>) {
        let workload = small_workload(self.chain.spec());
        let tags = (1..=u64::from(rounds)).map(|round| number_hash(self.next_salt + round + (1 << 32)).0);
        let plain: Vec<Vec<u8>> = tags.map(|tag| fake_shard(workload.shard_images, tag)).collect();
        self.task_of(workload, &plain)
    }

    /// Publishes a task in a child of `parent` and opens it in the grandchild, which it returns.
    ///
    /// # Panics
    /// When a block is not valid.
    pub fn open_task(&mut self, parent: BlockHash, publisher: u64, rounds: u32) -> (TaskId, BlockHash) {
        let (task, keys) = self.task(rounds);
        self.open(parent, publisher, task, keys)
    }
}

impl<V: WorkVerifier> Harness<V> {
    /// The same chain with this verifier.
    ///
    /// # Panics
    /// When the specification makes no genesis.
    pub fn with_verifier(spec: ChainSpec, verifier: V) -> Self {
        let mut store = MemoryStore::default();
        store.apply(&genesis_delta(&spec).expect("a genesis"));
        let first = genesis_checkpoint(&spec);
        let chain = Chain::open(Arc::new(spec), store, first, []).expect("a chain");
        let keys = (0..64).map(signing_key).map(|key| (crate::signed::account_of(&key), key)).collect();
        Self { chain, blobs: Blobs::default(), shard_keys: BTreeMap::new(), verifier, keys, next_salt: 0 }
    }

    /// The genesis block.
    pub fn genesis(&self) -> BlockHash {
        self.chain.chain_hash()
    }

    /// The interval on a block.
    ///
    /// # Panics
    /// When the block is unknown.
    pub fn interval(&self, parent: BlockHash) -> IntervalContext {
        self.chain.interval_context(&parent).expect("readable").expect("known")
    }

    /// State of the consensus after a block.
    ///
    /// # Panics
    /// When the block is unknown.
    pub fn meta(&self, block: BlockHash) -> Arc<Meta> {
        self.chain.meta(&block).expect("known").clone()
    }

    /// An account after a block.
    ///
    /// # Panics
    /// When the block is unknown.
    pub fn account(&self, block: BlockHash, number: u64) -> Account {
        self.chain.state(&block).expect("known").account(&super::account(number)).expect("readable")
    }

    /// The key of an account.
    ///
    /// # Panics
    /// When it is none of the harness's.
    pub fn key_of(&self, account: &AccountId) -> &SigningKey {
        self.keys.get(account).expect("an account of the harness")
    }

    /// A signed vote of an account for a block.
    pub fn vote(&self, voter: &AccountId, block: BlockHash, ready: &[TaskId]) -> Verified<SignedVote> {
        let meta = self.meta(block);
        let vote =
            Vote { height: meta.height, block, justified: meta.justified.height, ready: ready.to_vec(), seat: *voter };
        Verified::trusted(Signed::new(vote, &self.chain.chain_hash(), self.key_of(voter)))
    }

    /// Votes for a block of everybody who may vote on it, flagging these tasks ready; none for genesis.
    pub fn votes(&self, block: BlockHash, ready: &[TaskId]) -> Vec<Verified<SignedVote>> {
        let meta = self.meta(block);
        let Some(sets) = voters_on(&meta, meta.height) else { return Vec::new() };
        let mut voters: Vec<AccountId> = sets.current.iter().map(|seat| seat.account).collect();
        voters.extend(sets.previous.iter().copied());
        voters.sort_unstable();
        voters.dedup();
        voters.iter().map(|voter| self.vote(voter, block, ready)).collect()
    }

    /// A commitment to these bytes with this claim, and the MAC-bits that the testkit's artefacts have.
    pub fn commit_artefact(&mut self, parent: BlockHash, owner: u64, artefact: Vec<u8>, correct: u32) -> Round {
        self.commit_claim(parent, owner, artefact, correct, 1000)
    }

    /// A commitment to these bytes, which are stored, with this claim.
    pub fn commit_claim(
        &mut self,
        parent: BlockHash,
        owner: u64,
        artefact: Vec<u8>,
        correct: u32,
        mac_bits: u64,
    ) -> Round {
        self.next_salt += 1;
        let salt = number_hash(self.next_salt).0;
        let (interval, chain) = (self.interval(parent), self.chain.chain_hash());
        let model = self.blobs.put(artefact);
        let account = super::account(owner);
        let id = commitment_id(&chain, &parent, &interval.task, interval.round, &account, &model.root, &salt);
        let message = Commitment { parent, task: interval.task, round: interval.round, owner: account, id };
        let commitment = Signed::new(message, &chain, self.key_of(&account));
        let artefact_bytes = u32::try_from(model.bytes).unwrap_or(u32::MAX);
        let opening = Opening { model_root: model.root, artefact_bytes, salt, correct, mac_bits };
        Round { owner, commitment, opening }
    }

    /// Closings of these seats, each listing these commitments.
    pub fn closings<'a>(
        &self,
        parent: BlockHash,
        seats: impl IntoIterator<Item = &'a AccountId>,
        rounds: &[Round],
    ) -> ClosingSet {
        let signed: Vec<_> = seats.into_iter().map(|seat| self.closing(parent, seat, rounds)).collect();
        ClosingSet::new(signed.iter().map(|closing| &**closing))
    }

    /// A seat's closing that lists these commitments.
    pub fn closing(&self, parent: BlockHash, seat: &AccountId, rounds: &[Round]) -> Verified<ListedClosing> {
        let list = ClosingList::new(rounds.iter().map(|round| round.commitment.clone()));
        let closing = Closing { parent, seat: *seat, list_root: list.root() };
        let closing = Signed::new(closing, &self.chain.chain_hash(), self.key_of(seat));
        Verified::trusted(ListedClosing { closing, list })
    }

    /// Everything that a calm producer has: all votes, no transactions.
    pub fn parts(&self, parent: BlockHash) -> BlockParts {
        BlockParts { votes: self.votes(parent, &[]), ..BlockParts::default() }
    }

    /// The key of the interval's shard, if it has one.
    pub fn shard_key(&self, interval: &IntervalContext) -> Option<ShardKey> {
        let index = usize::try_from(interval.round).ok()?.checked_sub(1)?;
        self.shard_keys.get(&interval.task)?.get(index).copied()
    }

    /// A candidate that opens one of these commitments, which every seat lists.
    ///
    /// # Panics
    /// When the parent is unknown.
    pub fn scored_rounds(&self, parent: BlockHash, rounds: &[Round], winner: usize, parts: BlockParts) -> Block {
        let interval = self.interval(parent);
        let closings = self.closings(parent, &interval.seats, rounds);
        let (producer, opening) = (super::account(rounds[winner].owner), rounds[winner].opening.clone());
        let built = self.chain.build_scored(parent, producer, parts, closings, opening, self.shard_key(&interval));
        built.expect("a block").sign(self.key_of(&producer))
    }

    /// An idle block of a view.
    ///
    /// # Panics
    /// When the parent is unknown.
    pub fn idle(&self, parent: BlockHash, view: u32, key: Option<ShardKey>, parts: BlockParts) -> Block {
        let producer = self.interval(parent).fallback_producer(view).expect("seats");
        let built = self.chain.build_idle(parent, producer, view, parts, key);
        built.expect("a block").sign(self.key_of(&producer))
    }

    /// A void block of a view, with these commitments listed by everybody.
    ///
    /// # Panics
    /// When the parent is unknown.
    pub fn void(&self, parent: BlockHash, view: u32, rounds: &[Round], parts: BlockParts) -> Block {
        let interval = self.interval(parent);
        let producer = interval.fallback_producer(view).expect("seats");
        let closings = self.closings(parent, &interval.seats, rounds);
        let built = self.chain.build_void(parent, producer, view, parts, closings);
        built.expect("a block").sign(self.key_of(&producer))
    }

    /// Imports a block with all its checks and folds what becomes final.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn import(&mut self, block: Block) -> Result<Imported, BlockError> {
        let imported = self.chain.import(block, &self.blobs, &self.verifier)?;
        self.fold();
        Ok(imported)
    }

    /// Folds what is final into the store, as a node's storage does with every block.
    pub fn fold(&mut self) {
        self.chain.fold_with(|store, deltas| deltas.iter().for_each(|delta| store.apply(delta)));
    }

    /// A signed transaction that pays its least fee.
    pub fn transaction(&self, sender: u64, nonce: u64, kind: TransactionKind) -> Verified<SignedTransaction> {
        let spec = self.chain.spec();
        let key = signing_key(sender);
        let sign = |fee| {
            let transaction = Transaction { sender: super::account(sender), nonce, fee, kind: kind.clone() };
            Signed::new(transaction, &self.chain.chain_hash(), &key)
        };
        // A larger fee takes more bytes; the widest one bounds them.
        let bytes = crate::codec::encode(&sign(Amount(u64::MAX))).len();
        Verified::trusted(sign(crate::rules::transaction::least_fee(spec, bytes)))
    }

    /// A task of these plaintext shards, one a round, and their keys; the sealed shards are stored.
    pub fn task_of(&mut self, workload: Workload, plain: &[Vec<u8>]) -> (PublishTask, Vec<ShardKey>) {
        let (mut shards, mut keys) = (Vec::new(), Vec::new());
        for plain in plain {
            self.next_salt += 1;
            let key = ShardKey(number_hash(self.next_salt).0);
            let (shard, sealed) = seal_shard(&key, plain);
            self.blobs.put(sealed);
            shards.push(shard);
            keys.push(key);
        }
        let data = self.blobs.put(number_hash(self.next_salt + (1 << 33)).0.to_vec());
        let reward = self.chain.spec().money.min_reward;
        let task = PublishTask {
            name: format!("task {}", self.next_salt),
            workload,
            data,
            train_images: 1000,
            epochs: 1,
            shards,
            reward,
            bond: reward,
            min_gain: 1,
            baseline: None,
        };
        (task, keys)
    }

    /// The transaction that publishes a task, and the task's id.
    ///
    /// # Panics
    /// Never: publish transactions have a task id.
    pub fn publish(
        &mut self,
        sender: u64,
        nonce: u64,
        task: PublishTask,
        keys: Vec<ShardKey>,
    ) -> (Verified<SignedTransaction>, TaskId) {
        let transaction = self.transaction(sender, nonce, TransactionKind::Publish(Box::new(task)));
        let id = transaction.message.task_id().expect("a publish transaction");
        self.shard_keys.insert(id, keys);
        (transaction, id)
    }

    /// Publishes this task in a child of `parent` and opens it in the grandchild, which it returns.
    ///
    /// # Panics
    /// When a block is not valid.
    pub fn open(
        &mut self,
        parent: BlockHash,
        publisher: u64,
        task: PublishTask,
        keys: Vec<ShardKey>,
    ) -> (TaskId, BlockHash) {
        let nonce = self.account(parent, publisher).nonce;
        let (transaction, id) = self.publish(publisher, nonce, task, keys);
        let parts = BlockParts { transactions: vec![transaction], ..self.parts(parent) };
        let block = self.idle(parent, 0, None, parts);
        let published = self.import(block).expect("valid").hash;
        let parts = BlockParts { votes: self.votes(published, &[id]), ..BlockParts::default() };
        let block = self.idle(published, 0, None, parts);
        (id, self.import(block).expect("valid").hash)
    }

    /// What judges the work.
    pub fn verifier(&self) -> &V {
        &self.verifier
    }
}
