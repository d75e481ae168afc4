//! Which blobs this node keeps, and dropping the others (docs/protocol.md, section 9).
//!
//! A blob stays while something that is not final yet needs it ([`needed_now`]), or while a row says so: every final block
//! writes, in the batch that makes it final, a row with its height for each blob that checking it takes, and for what is
//! left of a task that ends in it. Rows older than `limits.retain_blocks` go; winning models of tasks that this node's
//! account published stay for ever. What neither needs goes after a grace.
//!
//! # Correctness
//! A row is written no later than its block is final, and before that [`needed_now`] names the blob: there is no instant
//! at which a needed blob looks needless. The grace is for what is needed by nothing yet: fetches that race with the news
//! of a block, artefacts of a miner or a pool, data of a task that is about to be published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::chain::FinalBlock;
use podl_consensus::codec;
use podl_consensus::interval::ChainView;
use podl_consensus::interval_context::IntervalContext;
use podl_consensus::rules::{ShardCache, WorkJob};
use podl_consensus::state::{Checkpoint, StateKey, StateView, TaskStatus};
use podl_consensus::types::{
    BlobRef, BlobRoot, Block, BlockHash, Height, Outcome, PublishTask, TaskId, TransactionKind,
};
use podl_network::BlobStore;
use podl_storage::{Aux, Batch, Database, StorageError};

use super::tasks::blobs_of;
use super::{Core, CoreError, View};
use crate::service::signer::Signer;

/// How often a part of the store is looked at, in milliseconds.
const SWEEP_EVERY_MS: u64 = 10_000;
/// Blobs and rows looked at in one go. A store of 40,000 blobs is gone through in a quarter of an hour.
const PAGE: usize = 512;
/// Blobs dropped in one go: files of gigabytes take a disk a moment.
const DROPPED_AT_ONCE: usize = 32;
/// Whole intervals that a blob which nothing needs is kept.
const GRACE_INTERVALS: u64 = 20;
/// The least of that: what a user or a pool stores now may be committed or published only later.
const GRACE_LEAST_MS: u64 = 20 * 60_000;
/// The grace when the quota is nearly full: as long as what is fetched for an interval may be waited for.
const TIGHT_INTERVALS: u64 = 3;
/// Above this many hundredths of the quota it is nearly full.
const TIGHT_PERCENT: u64 = 90;
/// Height of rows that never expire.
const FOR_EVER: Height = Height::MAX;
/// The row that says that rows are written since; shorter than a root, so that it is none.
const BEGUN: &[u8] = b"begun";

/// Where the walk over store and rows stands. After a restart it begins anew, which costs no more than the grace.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Keep everything.
    archive: bool,
    /// What the blocks above the last final one need: each is looked at once, however long finality pauses.
    above: BTreeMap<BlockHash, Vec<BlobRoot>>,
    /// Since when nothing needs a blob.
    needless: BTreeMap<BlobRoot, u64>,
    /// Last blob looked at.
    blob: Option<BlobRoot>,
    /// Last row looked at.
    row: Vec<u8>,
    next_sweep_ms: u64,
}

impl Pruning {
    /// Whether this node keeps everything, and so checks every score itself.
    pub(super) fn keeps_all(&self) -> bool {
        self.archive
    }

    pub(super) fn new(archive: bool) -> Self {
        Self { archive, ..Self::default() }
    }
}

/// Blobs that a live task still needs: data, the shards of rounds to come, and the model to beat.
pub(super) fn needed_by_task(task: &PublishTask, status: &TaskStatus) -> Vec<BlobRef> {
    let winner = status.last_winner.map(|winner| winner.model);
    left_of_task(task, status).into_iter().chain(winner).collect()
}

/// What no block accounts for: the data, the publisher's own model, the shards of rounds that were not spent.
fn left_of_task(task: &PublishTask, status: &TaskStatus) -> Vec<BlobRef> {
    let spent = usize::try_from(status.next_round.saturating_sub(1)).unwrap_or(usize::MAX);
    let shards = task.shards.iter().skip(spent).map(|shard| shard.sealed);
    std::iter::once(task.data).chain(shards).chain(task.baseline).collect()
}

/// Blobs that checking a block takes: artefact, shard and the model to beat.
fn needed_by_block(spec: &ChainSpec, interval: &IntervalContext, block: &Block) -> Vec<BlobRef> {
    let job = WorkJob::new(&spec.caps, interval, &block.body.outcome, Arc::new(ShardCache::default()));
    job.as_ref().map(WorkJob::blobs).unwrap_or_default()
}

/// Tasks that end in a block, with how they stand after it.
fn ended_tasks(block: &FinalBlock) -> Vec<(TaskId, TaskStatus)> {
    let status = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| match StateKey::parse(key) {
        Some(StateKey::TaskStatus(id)) => {
            let status: TaskStatus = codec::decode(value.as_ref()?, usize::MAX).ok()?;
            (!status.phase.is_live()).then_some((id, status))
        }
        _ => None,
    };
    block.delta.values.iter().filter_map(status).collect()
}

/// Until which height the blobs of final blocks are counted from: the later one wins.
fn note(rows: &mut BTreeMap<BlobRoot, Height>, blobs: impl IntoIterator<Item = BlobRef>, height: Height) {
    for blob in blobs {
        let row = rows.entry(blob.root).or_default();
        *row = height.max(*row);
    }
}

fn height_of(row: &[u8]) -> Option<Height> {
    row.try_into().ok().map(Height::from_be_bytes)
}

/// Writes rows beside those that are there; a later height stays.
fn put_rows(db: &Database, batch: &mut Batch<'_>, rows: &BTreeMap<BlobRoot, Height>) -> Result<(), StorageError> {
    for (root, height) in rows {
        let known = db.aux(Aux::Blobs, root.as_bytes())?.and_then(|row| height_of(&row));
        if known.is_none_or(|known| known < *height) {
            batch.put_aux(Aux::Blobs, root.as_bytes(), &height.to_be_bytes())?;
        }
    }
    Ok(())
}

/// Begins the rows of a database that has none: whatever is in the store counts as needed by the last final block, since
/// nobody noted which earlier block needs it.
pub(super) fn begin(db: &Database, store: &BlobStore, finalised: Checkpoint) -> Result<(), StorageError> {
    if db.aux(Aux::Blobs, BEGUN)?.is_some() {
        return Ok(());
    }
    let mut batch = db.batch();
    for (root, _) in store.list() {
        batch.put_aux(Aux::Blobs, root.as_bytes(), &finalised.height.to_be_bytes())?;
    }
    batch.put_aux(Aux::Blobs, BEGUN, &[])?;
    db.commit(batch)
}

/// Adds what the live tasks of a state need.
fn add_live_tasks(needed: &mut BTreeSet<BlobRoot>, state: &StateView<'_>) -> Result<(), CoreError> {
    for id in state.live_tasks()? {
        let (Some(status), Some(spec)) = (state.task_status(&id)?, state.task_spec(&id)?) else { continue };
        needed.extend(needed_by_task(&spec.task, &status).iter().map(|blob| blob.root));
    }
    Ok(())
}

/// Blobs that the chain needs apart from the rows: those of the tasks that live in the last final state or after the
/// head, and of the blocks above the last final one, which `above` holds by block and is brought up to date.
fn needed_now(
    view: &View,
    spec: &ChainSpec,
    head: Checkpoint,
    above: &mut BTreeMap<BlockHash, Vec<BlobRoot>>,
) -> Result<BTreeSet<BlobRoot>, CoreError> {
    let mut needed = BTreeSet::new();
    for block in BTreeSet::from([view.chain.stored().block, head.block]) {
        if let Some(state) = view.chain.state(&block) {
            add_live_tasks(&mut needed, &state)?;
        }
    }
    above.retain(|hash, _| view.chain.block(hash).is_some());
    for (hash, entry) in view.chain.blocks().filter(|(hash, _)| !above.contains_key(*hash)).collect::<Vec<_>>() {
        let Some(interval) = view.interval(&entry.block.parent()) else { continue };
        above.insert(*hash, needed_by_block(spec, &interval, &entry.block).iter().map(|blob| blob.root).collect());
    }
    needed.extend(above.values().flatten());
    Ok(needed)
}

impl Core {
    /// Notes what newly final blocks need, into the batch that makes them final. Call before they are folded.
    pub(super) fn note_needed(&self, batch: &mut Batch<'_>, blocks: &[FinalBlock]) -> Result<(), CoreError> {
        let own = self.signer.as_ref().map(Signer::account);
        let mut rows = BTreeMap::new();
        for block in blocks {
            if let Some(interval) = self.view.interval(&block.block.parent()) {
                note(&mut rows, needed_by_block(&self.spec, &interval, &block.block), block.height);
                let is_own = interval.published.as_ref().is_some_and(|round| Some(round.publisher) == own);
                if let Outcome::Scored { opening, .. } = &block.block.body.outcome
                    && is_own
                {
                    rows.insert(opening.model_root, FOR_EVER);
                }
            }
            for (id, status) in ended_tasks(block) {
                let state = self.view.chain.state(&block.hash);
                let spec = state.map(|state| state.task_spec(&id)).transpose()?.flatten();
                note(&mut rows, spec.iter().flat_map(|spec| left_of_task(&spec.task, &status)), block.height);
            }
        }
        Ok(put_rows(&self.db, batch, &rows)?)
    }

    /// Drops what nobody needs any more, a little at a time.
    pub(super) fn tend_blobs(&mut self, now_ms: u64) -> Result<(), CoreError> {
        if self.pruning.archive || now_ms < self.pruning.next_sweep_ms {
            return Ok(());
        }
        self.pruning.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
        self.expire_rows()?;
        let needless = self.sweep(now_ms)?;
        if !needless.is_empty() {
            tracing::info!(blobs = needless.len(), "blobs that nothing needs any more are dropped");
            let store = self.network.blobs().clone();
            self.runtime.spawn_blocking(move || drop_blobs(&store, &needless));
        }
        Ok(())
    }

    /// Removes rows that are older than what is retained. The rows of all blocks are looked at in turn.
    pub(super) fn expire_rows(&mut self) -> Result<(), CoreError> {
        let oldest = self.finalised().height.saturating_sub(self.spec.limits.retain_blocks);
        let page = self.db.aux_page(Aux::Blobs, &self.pruning.row, PAGE)?;
        // At the end the walk begins anew.
        self.pruning.row = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| key.clone()).unwrap_or_default();
        let mut batch = self.db.batch();
        let mut expired = false;
        for (key, row) in page {
            if height_of(&row).is_some_and(|height| height < oldest) {
                batch.delete_aux(Aux::Blobs, &key)?;
                expired = true;
            }
        }
        if expired {
            self.db.commit(batch)?;
        }
        Ok(())
    }

    /// Looks at a part of the store; returns what has been needless for longer than the grace.
    pub(super) fn sweep(&mut self, now_ms: u64) -> Result<Vec<BlobRoot>, CoreError> {
        let store = self.network.blobs().clone();
        let mut here: Vec<BlobRoot> =
            store.list().into_iter().chain(store.list_partial()).map(|(root, _)| root).collect();
        here.sort_unstable();
        let is_tight = store.held_bytes().saturating_mul(100) / store.quota_bytes().max(1) >= TIGHT_PERCENT;
        let grace_ms = self.grace_ms(is_tight);
        let needed = self.needed_by_anything()?;
        let from = self.pruning.blob.map_or(0, |last| here.partition_point(|root| *root <= last));
        let page = here.get(from..).unwrap_or_default();
        let page = &page[..page.len().min(PAGE)];
        self.pruning.blob = page.last().copied().filter(|_| page.len() == PAGE);
        let mut dropped = Vec::new();
        for root in page {
            if needed.contains(root) || self.db.aux(Aux::Blobs, root.as_bytes())?.is_some() {
                self.pruning.needless.remove(root);
                continue;
            }
            let since = *self.pruning.needless.entry(*root).or_insert(now_ms);
            if since + grace_ms <= now_ms && dropped.len() < DROPPED_AT_ONCE {
                self.pruning.needless.remove(root);
                dropped.push(*root);
            }
        }
        // Of what left the store by another way.
        self.pruning.needless.retain(|root, _| here.binary_search(root).is_ok());
        Ok(dropped)
    }

    fn grace_ms(&self, is_tight: bool) -> u64 {
        let p = &self.spec.phases;
        let interval_ms = [p.init_ms, p.train_ms, p.close_ms, p.release_ms, p.reveal_ms, p.validate_ms, p.view_ms];
        let interval_ms: u64 = interval_ms.iter().fold(0, |sum, ms| sum.saturating_add(*ms));
        if is_tight {
            return interval_ms.saturating_mul(TIGHT_INTERVALS);
        }
        interval_ms.saturating_mul(GRACE_INTERVALS).max(GRACE_LEAST_MS)
    }

    /// What the chain needs apart from the rows, and what this node itself still wants.
    fn needed_by_anything(&mut self) -> Result<BTreeSet<BlobRoot>, CoreError> {
        let head = self.head();
        let mut needed = needed_now(&self.view, &self.spec, head, &mut self.pruning.above)?;
        needed.extend(self.imports.blobs());
        needed.extend(self.own.values().flat_map(|own| &own.models).map(|model| model.model_root));
        needed.extend(self.mining.iter().flat_map(|mining| mining.blobs_in_use()));
        // Data of a task whose publication waits.
        let waiting = self.own_waiting().into_iter().filter_map(|(_, transaction)| match &transaction.message.kind {
            TransactionKind::Publish(task) => Some(blobs_of(task)),
            _ => None,
        });
        needed.extend(waiting.flatten().map(|blob| blob.root));
        Ok(needed)
    }
}

pub(super) fn drop_blobs(store: &BlobStore, roots: &[Hash32]) {
    for root in roots {
        if let Err(error) = store.delete(root) {
            tracing::warn!(root = %root.short(), %error, "a blob could not be dropped");
        }
    }
}
