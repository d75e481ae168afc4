//! What others may ask the core. All of it is quick: reads of maps, or of single rows.

use std::collections::BTreeMap;

use libp2p::PeerId;
use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::interval::{ChainView, Phase};
use podl_consensus::state::{Account, Meta, StateKey, TaskSpec, TaskStatus};
use podl_consensus::types::{Block, BlockHash, Height, Outcome, SignedTransaction, TaskId};
use podl_rpc::types::{
    AccountView, BlockId, BlockView, CandidateView, HexBytes, IntervalPhase, IntervalStatus, ModelEntry,
    StateProofView, StateSubject, TxState, TxStatus,
};
use tokio::sync::oneshot;

use super::gossip::AddError;
use super::{Core, CoreError};
use podl_engine::wire::Gossip;

/// Why something could not be read.
pub type ReadError = CoreError;

/// A task as it was published and as it stands.
pub type TaskRecord = (TaskId, TaskSpec, TaskStatus);

/// Somebody who waits for a height.
pub(super) struct Waiter {
    height: Height,
    deadline_ms: u64,
    answer: oneshot::Sender<Option<BlockView>>,
}

/// Callers that may wait for blocks at one time.
const WAITERS: usize = 256;
/// Blocks that a search for models looks back at most.
const MODELS_BACK: Height = 10_000;

impl Core {
    /// Consensus part of the head's state.
    pub fn head_meta(&self) -> Option<Meta> {
        self.view.chain.meta(&self.head().block).map(|meta| meta.as_ref().clone())
    }

    /// Whether the block is final, for one on the head's chain.
    fn is_final(&self, height: Height) -> bool {
        height <= self.finalised().height
    }

    fn shard_images(&self, task: &TaskId, round: u32) -> u32 {
        if round == 0 {
            return self.spec.filler.shard_images;
        }
        let state = self.view.chain.state(&self.head().block);
        let spec = state.and_then(|state| state.task_spec(task).ok().flatten());
        spec.map_or(0, |spec| spec.task.workload.shard_images)
    }

    /// A block as others see it.
    pub fn block_view(&self, block: &Block) -> BlockView {
        let header = &block.header.message;
        let on_chain = self.hash_at(header.height).ok().flatten() == Some(block.hash());
        let is_final = on_chain && self.is_final(header.height);
        BlockView::new(block, self.shard_images(&header.task, header.round), header.round == 0, is_final)
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, ReadError> {
        if height <= self.view.chain.stored().height {
            return Ok(self.db.final_hash(height)?);
        }
        Ok(self.view.chain.ancestor(&self.head().block, height))
    }

    /// A block by height on the head's chain, or by hash.
    ///
    /// # Errors
    /// [`ReadError`] (so for all methods here that can fail).
    pub fn find_block(&self, id: BlockId) -> Result<Option<Block>, ReadError> {
        match id {
            BlockId::Height(height) => self.block_at(height),
            BlockId::Hash(hash) => self.any_block(&hash),
        }
    }

    /// Answers `answer` as soon as the head is at `height`, or with nothing at the deadline.
    pub fn wait_for(&mut self, height: Height, timeout_ms: u64, answer: oneshot::Sender<Option<BlockView>>) {
        let deadline_ms = self.clock.now_ms().saturating_add(timeout_ms);
        if self.waiters.len() < WAITERS {
            self.waiters.push(Waiter { height, deadline_ms, answer });
        }
        self.wake_waiters();
    }

    pub(super) fn wake_waiters(&mut self) {
        let head = self.head().height;
        let (due, waiting) = std::mem::take(&mut self.waiters).into_iter().partition(|w| w.height <= head);
        self.waiters = waiting;
        let due: Vec<Waiter> = due;
        for waiter in due {
            let block = self.block_at(waiter.height).ok().flatten();
            // The caller may have gone.
            let _ = waiter.answer.send(block.map(|block| self.block_view(&block)));
        }
    }

    pub(super) fn expire_waiters(&mut self, now: u64) {
        // A dropped sender answers with nothing.
        self.waiters.retain(|waiter| waiter.deadline_ms > now && !waiter.answer.is_closed());
    }

    /// An account after the head.
    pub fn account(&self, id: &AccountId) -> Result<AccountView, ReadError> {
        let head = self.head();
        let account = match self.view.chain.state(&head.block) {
            Some(state) => state.account(id)?,
            None => Account::default(),
        };
        let next_nonce = self.mempool.next_nonce(id, account.nonce);
        Ok(AccountView::new(*id, &account, head.height, next_nonce))
    }

    /// A value of the head's state with its proof.
    pub fn prove(&self, subject: StateSubject) -> Result<Option<StateProofView>, ReadError> {
        let head = self.head();
        let Some(state) = self.view.chain.state(&head.block) else { return Ok(None) };
        let (value, proof) = state.prove(subject.into())?;
        let root = self.any_block(&head.block)?.map(|block| block.header.message.state_root);
        Ok(Some(StateProofView {
            height: head.height,
            block: head.block,
            state_root: root.unwrap_or_default(),
            value: value.map(HexBytes),
            proof: HexBytes(proof.to_bytes()),
        }))
    }

    /// Takes a transaction and passes it on.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn submit(&mut self, transaction: SignedTransaction) -> Result<Hash32, AddError> {
        let id = self.add_transaction(transaction.clone())?;
        self.waiting.note_local(id);
        self.publish(&Gossip::Transaction(transaction));
        Ok(id)
    }

    /// Where a transaction stands.
    pub fn transaction(&self, id: &Hash32) -> Result<TxStatus, ReadError> {
        let at = |state, height, block| TxStatus { id: *id, state, height: Some(height), block: Some(block) };
        if let Some(place) = self.db.transaction(id)? {
            return Ok(at(TxState::Final, place.height, place.block));
        }
        let mut hash = self.head().block;
        while let Some(entry) = self.view.chain.block(&hash) {
            if entry.block.body.transactions.iter().any(|t| t.message.id() == *id) {
                return Ok(at(TxState::Included, entry.block.height(), hash));
            }
            hash = entry.block.parent();
        }
        let state = if self.mempool.get(id).is_some() { TxState::Waiting } else { TxState::Unknown };
        Ok(TxStatus { id: *id, state, height: None, block: None })
    }

    /// Blocks above the stored state on the head's chain, newest first.
    pub fn recent_blocks(&self) -> Vec<(BlockHash, Block)> {
        let mut blocks = Vec::new();
        let mut hash = self.head().block;
        while let Some(entry) = self.view.chain.block(&hash) {
            blocks.push((hash, entry.block.as_ref().clone().into_inner()));
            hash = entry.block.parent();
        }
        blocks
    }

    /// Live tasks after the head.
    pub fn live_tasks(&self) -> Result<Vec<TaskRecord>, ReadError> {
        let Some(state) = self.view.chain.state(&self.head().block) else { return Ok(Vec::new()) };
        let ids = state.live_tasks()?;
        ids.into_iter().filter_map(|id| self.task(&id).transpose()).collect()
    }

    /// A task, live or ended.
    pub fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, ReadError> {
        let Some(state) = self.view.chain.state(&self.head().block) else { return Ok(None) };
        let (spec, status) = (state.task_spec(id)?, state.task_status(id)?);
        Ok(spec.zip(status).map(|(spec, status)| (*id, spec, status)))
    }

    /// All tasks that ever were in the final state, and the live ones after the head; newest first, at most `limit`.
    pub fn all_tasks(&self, limit: usize) -> Result<Vec<TaskRecord>, ReadError> {
        let tag = &StateKey::TaskStatus(Hash32::ZERO).to_bytes()[..1];
        let rows = self.db.state_values(tag)?;
        let ids = rows.iter().filter_map(|(key, _)| match StateKey::parse(key) {
            Some(StateKey::TaskStatus(id)) => Some(id),
            _ => None,
        });
        let live = self.live_tasks()?;
        let ids: std::collections::BTreeSet<TaskId> = ids.chain(live.iter().map(|(id, ..)| *id)).collect();
        let mut tasks = Vec::new();
        for id in ids {
            tasks.extend(self.task(&id)?);
        }
        tasks.sort_by_key(|(id, _, status)| (std::cmp::Reverse(status.published), *id));
        tasks.truncate(limit);
        Ok(tasks)
    }

    /// Addresses that the network listens on.
    pub fn listen_addresses(&self) -> &[String] {
        &self.listen
    }

    /// Models that won blocks of the head's chain, newest first.
    pub fn models(&self, task: Option<TaskId>, limit: usize) -> Result<Vec<ModelEntry>, ReadError> {
        let head = self.head().height;
        let mut found = Vec::new();
        for height in (head.saturating_sub(MODELS_BACK)..=head).rev() {
            if found.len() >= limit {
                break;
            }
            let Some(block) = self.block_at(height)? else { continue };
            let header = &block.header.message;
            let Outcome::Scored { opening, .. } = &block.body.outcome else { continue };
            if task.is_some_and(|task| task != header.task) {
                continue;
            }
            let name = self.task(&header.task)?.map_or_else(|| "filler".to_owned(), |(_, spec, _)| spec.task.name);
            found.push(ModelEntry {
                model_root: opening.model_root,
                artefact_bytes: opening.artefact_bytes,
                owner: header.producer,
                task: header.task,
                task_name: name,
                round: header.round,
                height,
                block: block.hash(),
                correct: opening.correct,
                images: self.shard_images(&header.task, header.round),
                is_final: self.is_final(height),
            });
        }
        Ok(found)
    }

    /// The interval under way.
    pub fn interval_status(&self) -> Result<Option<IntervalStatus>, ReadError> {
        let base = self.machine.base();
        let Some(interval) = self.view.interval(&base.block) else { return Ok(None) };
        let elapsed_ms = self.clock.now_ms().saturating_sub(self.phase_since_ms);
        let phase = self.interval_phase(elapsed_ms);
        let name = self.task(&interval.task)?.map_or_else(|| "filler".to_owned(), |(_, spec, _)| spec.task.name);
        let left = |total: u64| Some(total.saturating_sub(elapsed_ms));
        let phases = &self.spec.phases;
        Ok(Some(IntervalStatus {
            height: interval.height,
            parent: base.block,
            task: interval.task,
            task_name: name,
            round: interval.round,
            shard_images: interval.workload.shard_images,
            phase,
            elapsed_ms,
            remaining_ms: match phase {
                IntervalPhase::Init => left(phases.init_ms),
                IntervalPhase::Train => left(self.spec.min_interval_ms()),
                IntervalPhase::Close => left(phases.close_ms),
                IntervalPhase::Release => left(phases.release_ms),
                IntervalPhase::Reveal => left(phases.reveal_ms),
                IntervalPhase::Validate => left(phases.validate_ms),
                _ => None,
            },
            previous_reveal_ms: self.previous_reveal_ms,
            commitments: u32::try_from(self.machine.commitments(&base.block).len()).unwrap_or(u32::MAX),
            closings: u32::try_from(self.machine.closings(&base.block)).unwrap_or(u32::MAX),
            has_key: self.machine.key_for(&base.block).is_some(),
            candidates: self.candidates(&base.block),
            votes: self
                .machine
                .tree()
                .children(&base.block)
                .map(|c| self.machine.votes_for(&c.checkpoint().block).len())
                .max()
                .map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            seats: u32::try_from(interval.seats.len()).unwrap_or(u32::MAX),
        }))
    }

    fn interval_phase(&self, elapsed_ms: u64) -> IntervalPhase {
        match self.machine.phase() {
            None => IntervalPhase::Waiting,
            Some((_, Phase::Train)) if elapsed_ms < self.spec.phases.init_ms => IntervalPhase::Init,
            Some((_, Phase::Train)) => IntervalPhase::Train,
            Some((_, Phase::Close)) => IntervalPhase::Close,
            Some((_, Phase::Release)) => IntervalPhase::Release,
            Some((_, Phase::Reveal)) => IntervalPhase::Reveal,
            Some((_, Phase::Validate)) => IntervalPhase::Validate,
            Some((_, Phase::Fallback)) => IntervalPhase::Fallback,
            Some((_, Phase::Voted)) => IntervalPhase::Voted,
        }
    }

    /// Valid candidates on a parent, best first.
    fn candidates(&self, parent: &BlockHash) -> Vec<CandidateView> {
        let view = |block: &Block| match &block.body.outcome {
            Outcome::Scored { opening, .. } => Some(CandidateView {
                block: block.hash(),
                owner: block.header.message.producer,
                model_root: opening.model_root,
                claimed: opening.correct,
                is_verified: true,
            }),
            _ => None,
        };
        let children = self.machine.tree().children(parent);
        let blocks = children.filter_map(|child| self.view.chain.block(&child.checkpoint().block));
        let mut found: Vec<CandidateView> = blocks.filter_map(|entry| view(&entry.block)).collect();
        found.sort_by_key(|candidate| std::cmp::Reverse(candidate.claimed));
        found
    }

    /// Transactions that wait.
    pub fn waiting_transactions(&self) -> usize {
        self.mempool.len()
    }

    /// Whether peers are ahead.
    pub fn is_syncing(&self) -> bool {
        self.sync.is_behind()
    }

    /// Highest height that a peer told of.
    pub fn network_height(&self) -> Height {
        self.sync.best_peer_height().unwrap_or(0).max(self.head().height)
    }

    /// Heights that connected nodes told of.
    pub fn peer_heights(&self) -> BTreeMap<PeerId, Height> {
        self.sync.peer_heights().map(|(peer, height)| (*peer, height)).collect()
    }

    /// Parameters of the chain.
    pub fn spec(&self) -> &podl_chain_spec::ChainSpec {
        &self.spec
    }

    /// The database, for reads of rows.
    pub fn database(&self) -> &podl_storage::Database {
        &self.db
    }

    /// Keys of a task that this node just published.
    pub fn add_task_keys(&mut self, task: TaskId, keys: Vec<podl_consensus::types::ShardKey>) {
        self.publisher.add(task, keys);
    }
}
