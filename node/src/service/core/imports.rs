//! From a block's bytes to a block in the chain: rules, blobs, work, one synced batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p::PeerId;
use podl_chain_spec::Hash32;
use podl_consensus::chain::{Checked, Imported, Prepared};
use podl_consensus::codec;
use podl_consensus::interval::{ChainView, Event};
use podl_consensus::rules::context_rules::may_follow;
use podl_consensus::rules::{Blame, BlockError, WorkJob};
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
/// Deliveries of single blocks under way at one time.
const DELIVERIES: usize = 32;
/// Bytes of them: what strangers can make a node hold before anything of it is checked.
const DELIVERY_BYTES: usize = 64 << 20;
/// A delivery whose block waits for blobs for longer than this holds up others no longer. The block's import goes on.
const PATIENCE_MS: u64 = 5_000;
/// Hashes of refused blocks that are remembered, so that nobody makes this node fetch and check them again.
const REFUSED_KEPT: usize = 1_024;

/// Blocks that came together, each the parent of the next, imported one after the other. Deliveries do not wait for each
/// other: one whose block lacks blobs holds up nothing else.
struct Delivery {
    id: u64,
    /// Whether sync asked for them as a range, and waits for what becomes of it.
    is_range: bool,
    /// Who was asked for the range.
    peer: Option<PeerId>,
    /// With who sent each.
    blocks: VecDeque<(PeerId, Block)>,
    bytes: usize,
    imported: u32,
    /// Highest of them that was here already.
    known: Option<Height>,
    /// When the import of the first one began.
    since_ms: u64,
}

impl Delivery {
    fn waits_for(&self, hash: &BlockHash) -> bool {
        self.blocks.front().is_some_and(|(_, block)| block.hash() == *hash)
    }
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
    /// Blobs of this node's own blocks whose work is being checked.
    own: BTreeMap<BlockHash, Vec<BlobRoot>>,
    /// Delivered by sync.
    deliveries: Vec<Delivery>,
    next_delivery: u64,
    /// Blocks that broke a rule, with their heights.
    refused: VecDeque<(Height, BlockHash)>,
    /// Ahead of this node's clock, with their bytes.
    ahead: Vec<(VerifiedBlock, usize)>,
    /// Keys whose shards are being fetched.
    keys: BTreeMap<Hash32, ShardKey>,
}

impl Imports {
    /// Votes in the block that came behind this one; none when there is no such block.
    pub(super) fn successor_votes(&self, hash: &BlockHash) -> &[SignedVote] {
        let delivery = self.deliveries.iter().find(|delivery| delivery.waits_for(hash));
        let next = delivery.and_then(|delivery| delivery.blocks.get(1));
        next.filter(|(_, next)| next.parent() == *hash).map_or(&[], |(_, next)| &next.body.votes)
    }

    /// Votes for a block in the blocks that came with it: those of its child, and certificates.
    pub(super) fn votes_of_range(&self, hash: &BlockHash) -> Vec<&SignedVote> {
        let delivered = self.deliveries.iter().filter(|delivery| delivery.waits_for(hash));
        let votes = delivered.flat_map(|delivery| &delivery.blocks).flat_map(|(_, block)| {
            let certificate = block.body.certificate.iter().filter(|c| c.block == *hash).flat_map(|c| &c.votes);
            let own = if block.parent() == *hash { block.body.votes.as_slice() } else { &[] };
            own.iter().chain(certificate)
        });
        votes.filter(|vote| vote.message.block == *hash).collect()
    }

    /// Whether a block is the last of a range of which others were imported.
    pub(super) fn ends_range(&self, hash: &BlockHash) -> bool {
        let ends = |d: &Delivery| d.is_range && d.imported > 0 && d.blocks.len() == 1 && d.waits_for(hash);
        self.deliveries.iter().any(ends)
    }

    /// Whether a block was found to break a rule.
    pub(super) fn is_refused(&self, hash: &BlockHash) -> bool {
        self.refused.iter().any(|(_, refused)| refused == hash)
    }

    fn note_refused(&mut self, height: Height, hash: BlockHash) {
        if self.refused.len() >= REFUSED_KEPT {
            self.refused.pop_front();
        }
        self.refused.push_back((height, hash));
    }

    /// Notes that the work of a block of this node's own is being checked, with the blobs that it reads.
    pub(super) fn begin_own(&mut self, hash: BlockHash, blobs: Vec<BlobRoot>) {
        self.own.insert(hash, blobs);
    }

    pub(super) fn end_own(&mut self, hash: &BlockHash) {
        self.own.remove(hash);
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
        let fetched = jobs.flat_map(WorkJob::blobs).map(|blob| blob.root);
        fetched.chain(self.working.values().chain(self.own.values()).flatten().copied())
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

    pub(super) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    pub(super) fn ahead_count(&self) -> usize {
        self.ahead.len()
    }

    pub(super) fn is_ahead(&self, hash: &BlockHash) -> bool {
        self.ahead.iter().any(|(block, _)| block.hash() == *hash)
    }
}

impl Core {
    /// Begins to check a block whose form and signatures stand. `provider` may have its blobs; it is not to blame for rules
    /// that only an execution can check.
    pub(super) fn start_import(&mut self, block: VerifiedBlock, provider: Option<PeerId>) -> Result<(), CoreError> {
        let hash = block.hash();
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        // A block ahead of the clock is set aside, never rejected: it may be our clock that is wrong.
        let is_ahead = block.header.message.time_ms > unix_ms().saturating_add(self.spec.phases.ahead_ms);
        if is_ahead && self.view.interval(&block.parent()).is_some_and(|interval| may_follow(&interval, &block)) {
            self.imports.set_aside(block);
            return self.finish_import(&hash, ImportEnd::Unavailable);
        }
        match self.view.chain.prepare_import(block.clone()) {
            Ok(prepared) => match self.score_of(&block) {
                Score::Checked => self.gather_blobs(block, prepared, provider),
                Score::Proved => self.take_proved(&block, prepared),
                Score::Later => self.finish_import(&hash, ImportEnd::Unavailable),
            },
            Err(error) => self.refuse(&hash, block.height(), &error),
        }
    }

    /// Begins to check a block as it came in an answer. Whoever sent it answers for its form and signatures; for the other
    /// rules only if it offered it as part of its own chain.
    fn import_delivered(&mut self, block: Block, peer: PeerId, is_range: bool) -> Result<(), CoreError> {
        let (hash, height, spec) = (block.hash(), block.height(), self.spec.clone());
        if let Some((block, prepared)) = self.imports.fetching.remove(&hash) {
            // It waits for blobs that nobody may have any more; what came now may prove its score.
            if self.score_of(&block) == Score::Proved {
                return self.take_proved(&block, *prepared);
            }
            self.imports.fetching.insert(hash, (block, prepared));
        }
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        if self.imports.is_refused(&hash) {
            return self.finish_import(&hash, ImportEnd::Refused(Blame::Producer));
        }
        let chain = self.chain_hash;
        let formed = match Formed::check(&spec, &chain, block) {
            Ok(formed) => formed,
            Err(error) => return self.refuse_delivered(&hash, height, &error.into(), peer, is_range),
        };
        if !self.view.chain.contains(&formed.parent()) {
            return self.finish_import(&hash, ImportEnd::Unconnected);
        }
        if self.view.interval(&formed.parent()).is_some_and(|interval| !may_follow(&interval, &formed)) {
            // Everybody who has the parent sees that at once: nobody honest holds it, and its signatures are left alone.
            return self.refuse_early(&hash, height, peer, is_range);
        }
        if !self.may_execute(&formed)? {
            tracing::debug!(block = %hash.short(), producer = %formed.header.message.producer.short(), "a third block of one producer on one parent, left alone");
            return self.finish_import(&hash, ImportEnd::Unavailable);
        }
        match formed.verify(&chain) {
            Ok(block) => {
                self.siblings.take(&block);
                self.start_import(Arc::new(block), Some(peer))
            }
            Err(error) => self.refuse_delivered(&hash, height, &error.into(), peer, is_range),
        }
    }

    /// A block that cannot be of its interval at all.
    fn refuse_early(
        &mut self,
        hash: &BlockHash,
        height: Height,
        peer: PeerId,
        is_range: bool,
    ) -> Result<(), CoreError> {
        self.charge_single(peer, is_range, "a block that cannot follow its parent");
        self.imports.note_refused(height, *hash);
        self.finish_import(hash, ImportEnd::Refused(Blame::Producer))
    }

    /// A block whose bytes alone show that it is bad: whoever sends it could see that.
    fn refuse_delivered(
        &mut self,
        hash: &BlockHash,
        height: Height,
        error: &BlockError,
        peer: PeerId,
        is_range: bool,
    ) -> Result<(), CoreError> {
        self.charge_single(peer, is_range, &error.to_string());
        self.refuse(hash, height, error)
    }

    /// Charges who sent a single block; who sent a range is charged by sync when that ends.
    fn charge_single(&self, peer: PeerId, is_range: bool, why: &str) {
        if !is_range {
            self.penalise(peer, Misbehaviour::InvalidMessage, why);
        }
    }

    fn gather_blobs(
        &mut self,
        block: VerifiedBlock,
        prepared: Prepared,
        provider: Option<PeerId>,
    ) -> Result<(), CoreError> {
        let needed = prepared.job().map(WorkJob::blobs).unwrap_or_default();
        let store = self.network.blobs();
        let missing: Vec<BlobRef> = needed.into_iter().filter(|b| !store.contains(&b.root)).collect();
        let hash = block.hash();
        if missing.is_empty() {
            return self.check_work(&block, Box::new(prepared));
        }
        self.imports.fetching.insert(hash, (block, Box::new(prepared)));
        self.fetch_all(missing, provider, move |all| Input::BlobsReady { hash, all });
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
        let blobs = prepared.job().map(WorkJob::blobs).unwrap_or_default();
        self.imports.begin_work(block.hash(), blobs.iter().map(|blob| blob.root).collect());
        self.worker.post(Job::Check { prepared })
    }

    pub(super) fn on_worked(
        &mut self,
        hash: &BlockHash,
        height: Height,
        result: Result<Checked, BlockError>,
    ) -> Result<(), CoreError> {
        self.imports.end_work(hash);
        match result.and_then(|checked| self.view.chain.commit(checked)) {
            Ok(imported) => {
                self.take_imported(imported)?;
                self.finish_import(hash, ImportEnd::Imported)
            }
            Err(error) => self.refuse(hash, height, &error),
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
            self.imports.refused.retain(|(height, _)| *height > last.height);
        }
        Ok(())
    }

    fn refuse(&mut self, hash: &BlockHash, height: Height, error: &BlockError) -> Result<(), CoreError> {
        let end = match error {
            BlockError::Known(_) => return self.finish_import(hash, ImportEnd::Imported),
            BlockError::UnknownParent { .. } => ImportEnd::Unconnected,
            BlockError::NotAvailable(_) => ImportEnd::Unavailable,
            _ => ImportEnd::Refused(error.blame()),
        };
        match end {
            ImportEnd::Refused(blame) => tracing::warn!(block = %hash.short(), %error, ?blame, "block refused"),
            _ => tracing::debug!(block = %hash.short(), %error, "block not checkable now"),
        }
        if end == ImportEnd::Refused(Blame::Producer) {
            self.imports.note_refused(height, *hash);
        }
        self.finish_import(hash, end)
    }

    /// Tells whoever waits for the block: the machine, and the deliveries that it is part of.
    pub(super) fn finish_import(&mut self, hash: &BlockHash, end: ImportEnd) -> Result<(), CoreError> {
        match end {
            // The damaged copy says nothing about the block whose hash it bears.
            ImportEnd::Imported | ImportEnd::Refused(Blame::Sender) => {}
            ImportEnd::Refused(_) => self.drive(Event::CandidateRefused(*hash))?,
            ImportEnd::Unconnected | ImportEnd::Unavailable => self.drive(Event::CandidateUnavailable(*hash))?,
        }
        let waiting = self.imports.deliveries.iter().filter(|delivery| delivery.waits_for(hash));
        let waiting: Vec<u64> = waiting.map(|delivery| delivery.id).collect();
        for id in waiting {
            if end != ImportEnd::Imported {
                self.end_delivery(id, Some(end))?;
                continue;
            }
            if let Some(delivery) = self.imports.deliveries.iter_mut().find(|delivery| delivery.id == id) {
                delivery.blocks.pop_front();
                delivery.imported = delivery.imported.saturating_add(1);
            }
            self.import_next(id)?;
        }
        Ok(())
    }

    /// Takes blocks that sync asked for.
    pub(super) fn deliver(&mut self, blocks: Vec<(PeerId, Block)>, is_range: bool) -> Result<(), CoreError> {
        let bytes = blocks.iter().map(|(_, block)| codec::encode(block).len()).sum();
        let held: usize = self.imports.deliveries.iter().map(|delivery| delivery.bytes).sum();
        let is_full = self.imports.deliveries.len() >= DELIVERIES || held.saturating_add(bytes) > DELIVERY_BYTES;
        // One range at a time, and what becomes of it is waited for; single blocks may come again.
        if is_full && !is_range {
            return Ok(());
        }
        let id = self.imports.next_delivery;
        self.imports.next_delivery = id.wrapping_add(1);
        let since_ms = self.clock.now_ms();
        let peer = blocks.first().map(|(peer, _)| *peer);
        let blocks = blocks.into();
        self.imports.deliveries.push(Delivery {
            id,
            peer,
            is_range,
            blocks,
            bytes,
            imported: 0,
            known: None,
            since_ms,
        });
        self.import_next(id)
    }

    /// Begins the import of the next block of a delivery that is not here.
    fn import_next(&mut self, id: u64) -> Result<(), CoreError> {
        let (final_height, now) = (self.finalised().height, self.clock.now_ms());
        while let Some(delivery) = self.imports.deliveries.iter_mut().find(|delivery| delivery.id == id) {
            let Some((peer, block)) = delivery.blocks.front() else { return self.end_delivery(id, None) };
            if !self.view.chain.contains(&block.hash()) && block.height() > final_height {
                delivery.since_ms = now;
                let (block, peer, is_range) = (block.clone(), *peer, delivery.is_range);
                return self.import_delivered(block, peer, is_range);
            }
            delivery.known = delivery.known.max(Some(block.height()));
            delivery.blocks.pop_front();
        }
        Ok(())
    }

    /// Ends a delivery and tells sync what became of a range.
    fn end_delivery(&mut self, id: u64, end: Option<ImportEnd>) -> Result<(), CoreError> {
        let Some(place) = self.imports.deliveries.iter().position(|delivery| delivery.id == id) else { return Ok(()) };
        let delivery = self.imports.deliveries.remove(place);
        let Some(peer) = delivery.peer.filter(|_| delivery.is_range) else { return Ok(()) };
        let range = match (end, delivery.known) {
            (Some(ImportEnd::Refused(Blame::Producer | Blame::Sender)), _) => RangeEnd::Invalid,
            _ if delivery.imported > 0 => RangeEnd::Imported(delivery.imported),
            (Some(ImportEnd::Unconnected), _) => RangeEnd::Unconnected,
            // What this node cannot judge, for whatever reason, is no peer's fault.
            (Some(_), _) => RangeEnd::Stalled,
            (None, Some(last)) => RangeEnd::Known(last),
            (None, None) => RangeEnd::Unconnected,
        };
        self.sync_event(podl_engine::sync::Event::Processed { peer, range })
    }

    /// Lets go of deliveries whose next block waits for blobs: the import goes on, and what comes meanwhile finds room.
    pub(super) fn release_stalled(&mut self) -> Result<(), CoreError> {
        let now = self.clock.now_ms();
        let stalled = self.imports.deliveries.iter().filter(|delivery| {
            let front = delivery.blocks.front().map(|(_, block)| block.hash());
            let is_fetching = front.is_some_and(|hash| self.imports.fetching.contains_key(&hash));
            is_fetching && delivery.since_ms.saturating_add(PATIENCE_MS) <= now
        });
        let stalled: Vec<u64> = stalled.map(|delivery| delivery.id).collect();
        stalled.into_iter().try_for_each(|id| self.end_delivery(id, Some(ImportEnd::Unavailable)))
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
