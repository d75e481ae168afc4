//! From a block's bytes to a block in the chain: rules, blobs, work, one synced batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p::PeerId;
use podl_chain_spec::Hash32;
use podl_consensus::chain::{Checked, Imported, Prepared};
use podl_consensus::codec;
use podl_consensus::interval::{ChainView, Event};
use podl_consensus::rules::{Blame, BlockError};
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{BlobRef, BlobRoot, Block, BlockHash, Height, ShardKey, SignedVote};
use podl_consensus::verified::{Formed, VerifiedBlock};
use podl_engine::sync::RangeEnd;
use podl_network::Misbehaviour;

use super::proved::Score;
use super::{Core, CoreError};
use crate::service::clock::unix_ms;
use crate::service::input::Input;
use crate::service::worker::Job;

/// Blocks that are set aside because they are ahead of this node's clock.
const AHEAD_KEPT: usize = 64;
/// Bytes of them: eight full ones.
const AHEAD_BYTES: usize = 16 << 20;
/// Deliveries of sync that wait for the one under way.
const DELIVERIES: usize = 32;

/// Blocks that came together, each the parent of the next.
struct Delivery {
    peer: PeerId,
    /// Whether sync asked for them as a range, and waits for what becomes of it.
    is_range: bool,
    blocks: VecDeque<Block>,
    imported: u32,
    /// Highest of them that was here already.
    known: Option<Height>,
}

/// How the import of a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportEnd {
    /// It is in the chain.
    Imported,
    /// It is not valid, or its bytes are not what its producer signed.
    Refused(Blame),
    /// What it builds on is not here.
    Unconnected,
    /// It cannot be judged now.
    Unavailable,
}

/// Blocks on their way in.
#[derive(Default)]
pub(super) struct Imports {
    /// Waiting for blobs, by hash.
    fetching: BTreeMap<BlockHash, (VerifiedBlock, Box<Prepared>)>,
    /// At the worker, by hash, with the blobs that it reads.
    working: BTreeMap<BlockHash, Vec<BlobRoot>>,
    /// Delivered by sync, to be imported one after the other.
    deliveries: VecDeque<Delivery>,
    /// Ahead of this node's clock, with their bytes.
    ahead: Vec<(VerifiedBlock, usize)>,
    /// Keys whose shards are being fetched.
    keys: BTreeMap<Hash32, ShardKey>,
}

impl Imports {
    fn delivered(&self) -> Option<&VecDeque<Block>> {
        self.deliveries.front().map(|delivery| &delivery.blocks)
    }

    /// Votes in the block that follows this one in the delivery under way; none when there is no such block.
    pub(super) fn successor_votes(&self, hash: &BlockHash) -> &[SignedVote] {
        let next = self.delivered().and_then(|blocks| blocks.get(1));
        next.filter(|next| next.parent() == *hash).map_or(&[], |next| &next.body.votes)
    }

    /// Votes for a block in the blocks that came with it: those of its child, and certificates.
    pub(super) fn votes_of_range(&self, hash: &BlockHash) -> Vec<&SignedVote> {
        let votes = self.delivered().into_iter().flatten().flat_map(|block| {
            let certificate = block.body.certificate.iter().filter(|c| c.block == *hash).flat_map(|c| &c.votes);
            let own = if block.parent() == *hash { block.body.votes.as_slice() } else { &[] };
            own.iter().chain(certificate)
        });
        votes.filter(|vote| vote.message.block == *hash).collect()
    }

    /// Whether a block is the last of a range of which others were imported.
    pub(super) fn ends_range(&self, hash: &BlockHash) -> bool {
        let delivery = self.deliveries.front();
        delivery.is_some_and(|d| d.is_range && d.imported > 0 && d.blocks.len() == 1 && d.blocks[0].hash() == *hash)
    }

    /// Notes that a block's work is being judged, with the blobs that it reads.
    pub(super) fn begin_work(&mut self, hash: BlockHash, blobs: Vec<BlobRoot>) {
        self.working.insert(hash, blobs);
    }

    pub(super) fn end_work(&mut self, hash: &BlockHash) {
        self.working.remove(hash);
    }

    /// Blobs that are being fetched or read for blocks on their way in.
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobRoot> {
        let jobs = self.fetching.values().filter_map(|(_, prepared)| prepared.job());
        let fetched = jobs.flat_map(podl_consensus::rules::WorkJob::blobs).map(|blob| blob.root);
        fetched.chain(self.working.values().flatten().copied())
    }

    fn is_under_way(&self, hash: &BlockHash) -> bool {
        self.fetching.contains_key(hash) || self.working.contains_key(hash)
    }

    /// Keeps a block until the clock has come to it. For want of room those go whose time is furthest off: whoever sends
    /// blocks of the far future holds no place against blocks that are a moment early.
    fn set_aside(&mut self, block: VerifiedBlock) {
        let bytes = codec::encode(&**block).len();
        if bytes > AHEAD_BYTES || self.ahead.iter().any(|(kept, _)| kept.hash() == block.hash()) {
            return;
        }
        self.ahead.push((block, bytes));
        self.ahead.sort_by_key(|(block, _)| (block.header.message.time_ms, block.hash()));
        while self.ahead.len() > AHEAD_KEPT || self.ahead.iter().map(|(_, bytes)| bytes).sum::<usize>() > AHEAD_BYTES {
            self.ahead.pop();
        }
    }

    /// Takes out what the clock has come to, and forgets what can no longer be followed.
    fn no_longer_ahead(&mut self, limit_ms: u64, final_height: Height) -> Vec<VerifiedBlock> {
        self.ahead.retain(|(block, _)| block.height() > final_height);
        let due = self.ahead.partition_point(|(block, _)| block.header.message.time_ms <= limit_ms);
        self.ahead.drain(..due).map(|(block, _)| block).collect()
    }
}

#[cfg(test)]
impl Imports {
    pub(super) fn is_idle(&self) -> bool {
        self.deliveries.is_empty()
    }

    pub(super) fn ahead_count(&self) -> usize {
        self.ahead.len()
    }

    pub(super) fn is_ahead(&self, hash: &BlockHash) -> bool {
        self.ahead.iter().any(|(block, _)| block.hash() == *hash)
    }
}

impl Core {
    /// Begins to check a block whose form and signatures stand. `peer` is to blame for it, where it is known.
    pub(super) fn start_import(&mut self, block: VerifiedBlock, peer: Option<PeerId>) -> Result<(), CoreError> {
        let hash = block.hash();
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        // A block ahead of the clock is set aside, never rejected: it may be our clock that is wrong.
        if block.header.message.time_ms > unix_ms().saturating_add(self.spec.phases.ahead_ms) {
            self.imports.set_aside(block);
            return self.finish_import(&hash, ImportEnd::Unavailable);
        }
        match self.view.chain.prepare_import(block.clone()) {
            Ok(prepared) => match self.score_of(&block) {
                Score::Checked => self.gather_blobs(block, prepared, peer),
                Score::Proved => self.take_proved(&block, prepared),
                Score::Later => self.finish_import(&hash, ImportEnd::Unavailable),
            },
            Err(error) => self.refuse(&hash, &error, peer),
        }
    }

    /// Begins to check a block as it came in an answer.
    fn import_delivered(&mut self, block: Block, peer: PeerId) -> Result<(), CoreError> {
        let (hash, spec) = (block.hash(), self.spec.clone());
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        let formed = match Formed::check(&spec, &self.chain_hash, block) {
            Ok(formed) => formed,
            Err(error) => return self.refuse(&hash, &error.into(), Some(peer)),
        };
        if !self.view.chain.contains(&formed.parent()) {
            return self.finish_import(&hash, ImportEnd::Unconnected);
        }
        if !self.may_execute(&formed)? {
            tracing::debug!(block = %hash.short(), producer = %formed.header.message.producer.short(), "a third block of one producer on one parent, left alone");
            return self.finish_import(&hash, ImportEnd::Unavailable);
        }
        // A vote that came with it may have begun its import.
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        match formed.verify(&self.chain_hash) {
            Ok(block) => self.start_import(Arc::new(block), Some(peer)),
            Err(error) => self.refuse(&hash, &error.into(), Some(peer)),
        }
    }

    fn gather_blobs(
        &mut self,
        block: VerifiedBlock,
        prepared: Prepared,
        peer: Option<PeerId>,
    ) -> Result<(), CoreError> {
        let needed = prepared.job().map(podl_consensus::rules::WorkJob::blobs).unwrap_or_default();
        let store = self.network.blobs();
        let missing: Vec<BlobRef> = needed.into_iter().filter(|b| !store.contains(&b.root)).collect();
        let hash = block.hash();
        if missing.is_empty() {
            return self.check_work(&block, Box::new(prepared));
        }
        self.imports.fetching.insert(hash, (block, Box::new(prepared)));
        self.fetch_all(missing, peer, move |all| Input::BlobsReady { hash, all });
        Ok(())
    }

    /// Fetches blobs and puts `done(whether all came)` into the queue.
    pub(super) fn fetch_all(
        &self,
        blobs: Vec<BlobRef>,
        provider: Option<PeerId>,
        done: impl FnOnce(bool) -> Input + Send + 'static,
    ) {
        let (network, handle) = (self.network.clone(), self.handle.clone());
        self.runtime.spawn(async move {
            let providers: Vec<PeerId> = provider.into_iter().collect();
            let mut all = true;
            for blob in blobs {
                if let Err(error) = network.fetch(blob.root, blob.bytes, &providers).await {
                    tracing::debug!(root = %blob.root.short(), %error, "blob not fetched");
                    all = false;
                }
            }
            // The queue may be full for a moment, and this must not hold an async worker.
            let _ = tokio::task::spawn_blocking(move || handle.send(done(all))).await;
        });
    }

    pub(super) fn on_blobs(&mut self, hash: BlockHash, all: bool) -> Result<(), CoreError> {
        if let Some(key) = self.imports.keys.remove(&hash) {
            return self.retry_key(key, all);
        }
        let Some((block, prepared)) = self.imports.fetching.remove(&hash) else { return Ok(()) };
        if !all {
            tracing::debug!(block = %hash.short(), "its blobs are not to be had now");
            return self.finish_import(&hash, ImportEnd::Unavailable);
        }
        self.check_work(&block, prepared)
    }

    fn check_work(&mut self, block: &VerifiedBlock, prepared: Box<Prepared>) -> Result<(), CoreError> {
        let blobs = prepared.job().map(podl_consensus::rules::WorkJob::blobs).unwrap_or_default();
        self.imports.begin_work(block.hash(), blobs.iter().map(|blob| blob.root).collect());
        self.worker.post(Job::Check { prepared })
    }

    pub(super) fn on_worked(&mut self, hash: &BlockHash, result: Result<Checked, BlockError>) -> Result<(), CoreError> {
        self.imports.end_work(hash);
        match result.and_then(|checked| self.view.chain.commit(checked)) {
            Ok(imported) => {
                self.take_imported(imported)?;
                self.finish_import(hash, ImportEnd::Imported)
            }
            Err(error) => self.refuse(hash, &error, None),
        }
    }

    /// Writes a block that is in the chain now, and tells the machine.
    pub(super) fn take_imported(&mut self, imported: Imported) -> Result<(), CoreError> {
        self.persist(&imported)?;
        self.drive(Event::BlockImported(imported.block, imported.meta))
    }

    /// One synced batch: the block, what it made final, what it pruned.
    fn persist(&mut self, imported: &Imported) -> Result<(), CoreError> {
        self.note_lost(&imported.pruned);
        let db = self.db.clone();
        let mut batch = db.batch();
        batch.insert_block(&imported.hash, &imported.block, &imported.delta)?;
        self.note_reward(&mut batch, imported)?;
        for f in &imported.newly_final {
            batch.finalise(&f.hash, &f.block, &f.delta)?;
        }
        for block in &imported.pruned {
            batch.prune_block(&block.hash())?;
        }
        self.note_needed(&mut batch, &imported.newly_final)?;
        db.commit(batch)?;
        if let Some(last) = imported.newly_final.last() {
            self.view.chain.folded(Checkpoint { height: last.height, block: last.hash });
            self.forget_own(last.height)?;
            self.siblings.prune(last.height);
        }
        Ok(())
    }

    fn refuse(&mut self, hash: &BlockHash, error: &BlockError, peer: Option<PeerId>) -> Result<(), CoreError> {
        match error {
            BlockError::Known(_) => return self.finish_import(hash, ImportEnd::Imported),
            BlockError::UnknownParent { .. } => {
                tracing::debug!(block = %hash.short(), %error, "block not checkable now");
                return self.finish_import(hash, ImportEnd::Unconnected);
            }
            BlockError::NotAvailable(_) => {
                tracing::debug!(block = %hash.short(), %error, "block not checkable now");
                return self.finish_import(hash, ImportEnd::Unavailable);
            }
            _ => {}
        }
        let blame = error.blame();
        tracing::warn!(block = %hash.short(), %error, ?blame, "block refused");
        if let Some(peer) = peer.filter(|_| matches!(blame, Blame::Producer | Blame::Sender)) {
            self.penalise(peer, Misbehaviour::InvalidMessage, &error.to_string());
        }
        self.finish_import(hash, ImportEnd::Refused(blame))
    }

    /// Tells whoever waits for the block: the machine, or the delivery that it is part of.
    pub(super) fn finish_import(&mut self, hash: &BlockHash, end: ImportEnd) -> Result<(), CoreError> {
        match end {
            // The damaged copy says nothing about the block whose hash it bears.
            ImportEnd::Imported | ImportEnd::Refused(Blame::Sender) => {}
            ImportEnd::Refused(_) => self.drive(Event::CandidateRefused(*hash))?,
            ImportEnd::Unconnected | ImportEnd::Unavailable => self.drive(Event::CandidateUnavailable(*hash))?,
        }
        let delivery = self.imports.deliveries.front_mut();
        let Some(delivery) = delivery.filter(|d| d.blocks.front().is_some_and(|block| block.hash() == *hash)) else {
            return Ok(());
        };
        delivery.blocks.pop_front();
        if end == ImportEnd::Imported {
            delivery.imported = delivery.imported.saturating_add(1);
            return self.import_next();
        }
        self.end_delivery(Some(end))?;
        self.import_next()
    }

    /// Takes blocks that sync asked for; they are imported one after the other.
    pub(super) fn deliver(&mut self, peer: PeerId, blocks: Vec<Block>, is_range: bool) -> Result<(), CoreError> {
        // One range at a time, and what becomes of it is waited for; single blocks may come again.
        if !is_range && self.imports.deliveries.len() >= DELIVERIES {
            return Ok(());
        }
        let delivery = Delivery { peer, is_range, blocks: blocks.into(), imported: 0, known: None };
        self.imports.deliveries.push_back(delivery);
        // The one before goes on by itself.
        if self.imports.deliveries.len() == 1 { self.import_next() } else { Ok(()) }
    }

    fn import_next(&mut self) -> Result<(), CoreError> {
        let final_height = self.finalised().height;
        while let Some(delivery) = self.imports.deliveries.front_mut() {
            let Some(block) = delivery.blocks.front() else {
                self.end_delivery(None)?;
                continue;
            };
            if !self.view.chain.contains(&block.hash()) && block.height() > final_height {
                let (block, peer) = (block.clone(), delivery.peer);
                return self.import_delivered(block, peer);
            }
            delivery.known = delivery.known.max(Some(block.height()));
            delivery.blocks.pop_front();
        }
        Ok(())
    }

    /// Ends the delivery under way and tells sync what became of a range.
    fn end_delivery(&mut self, end: Option<ImportEnd>) -> Result<(), CoreError> {
        let Some(delivery) = self.imports.deliveries.pop_front() else { return Ok(()) };
        if !delivery.is_range {
            return Ok(());
        }
        let range = match (end, delivery.known) {
            (Some(ImportEnd::Refused(Blame::Producer | Blame::Sender)), _) => RangeEnd::Invalid,
            _ if delivery.imported > 0 => RangeEnd::Imported(delivery.imported),
            (Some(ImportEnd::Unavailable), _) => RangeEnd::Stalled,
            (None, Some(last)) => RangeEnd::Known(last),
            _ => RangeEnd::Unconnected,
        };
        self.sync_event(podl_engine::sync::Event::Processed { peer: delivery.peer, range })
    }

    /// Blocks that were ahead of this node's clock, once they no longer are.
    pub(super) fn retry_imports(&mut self) -> Result<(), CoreError> {
        let limit = unix_ms().saturating_add(self.spec.phases.ahead_ms);
        let due = self.imports.no_longer_ahead(limit, self.finalised().height);
        due.into_iter().try_for_each(|block| self.drive(Event::Candidate(block)))
    }

    /// Fetches the shard that a key opens, then tries again.
    pub(super) fn wait_for_shard(&mut self, key: ShardKey, key_hash: Hash32) {
        let interval = self.view.interval(&self.machine.base().block);
        let shard = interval.and_then(|i| i.published.as_ref().map(|round| round.shard));
        let Some(shard) = shard.filter(|s| s.key_hash == key_hash) else { return };
        if self.imports.keys.insert(key_hash, key).is_none() {
            self.fetch_all(vec![shard.sealed], None, move |all| Input::BlobsReady { hash: key_hash, all });
        }
    }

    fn retry_key(&mut self, key: ShardKey, came: bool) -> Result<(), CoreError> {
        let base = self.machine.base();
        if came {
            return self.try_key(base, key);
        }
        tracing::warn!("the test shard of this interval is not to be had from any peer");
        Ok(())
    }
}
