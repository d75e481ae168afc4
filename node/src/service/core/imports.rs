//! From a block's bytes to a block in the chain: rules, blobs, work, one synced batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p::PeerId;
use podl_chain_spec::Hash32;
use podl_consensus::chain::{Checked, Imported, Prepared};
use podl_consensus::codec;
use podl_consensus::interval::{ChainView, Event};
use podl_consensus::rules::{Blame, BlockError, isolation};
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{BlobRef, BlobRoot, Block, BlockHash, ShardKey, SignedVote};
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

/// Blocks on their way in.
#[derive(Default)]
pub(super) struct Imports {
    /// Waiting for blobs, by hash.
    fetching: BTreeMap<BlockHash, (Arc<Block>, Box<Prepared>)>,
    /// At the worker, by hash, with the blobs that it reads.
    working: BTreeMap<BlockHash, Vec<BlobRoot>>,
    /// Delivered by sync, to be imported one after the other, with who sent them.
    range: VecDeque<Arc<Block>>,
    range_peer: Option<PeerId>,
    range_imported: u32,
    /// Ahead of this node's clock, with their bytes.
    ahead: VecDeque<(Arc<Block>, usize)>,
    /// Keys whose shards are being fetched.
    keys: BTreeMap<Hash32, ShardKey>,
}

impl Imports {
    /// Votes in the block that follows this one in the range under way; none when there is no such block.
    pub(super) fn successor_votes(&self, hash: &BlockHash) -> &[SignedVote] {
        let follows = self.range.get(1).filter(|next| next.parent() == *hash);
        follows.map_or(&[], |next| &next.body.votes)
    }

    /// Votes for a block in the blocks that came with it: those of its child, and certificates.
    pub(super) fn votes_of_range(&self, hash: &BlockHash) -> Vec<&SignedVote> {
        let votes = self.range.iter().flat_map(|block| {
            let certificate = block.body.certificate.iter().filter(|c| c.block == *hash).flat_map(|c| &c.votes);
            let own = if block.parent() == *hash { block.body.votes.as_slice() } else { &[] };
            own.iter().chain(certificate)
        });
        votes.filter(|vote| vote.message.block == *hash).collect()
    }

    /// Whether a block is the last of a range of which others were imported.
    pub(super) fn ends_range(&self, hash: &BlockHash) -> bool {
        self.range_imported > 0 && self.range.len() == 1 && self.range[0].hash() == *hash
    }

    /// Notes that a block's work is being judged, with the blobs that it reads.
    pub(super) fn begin_work(&mut self, block: &Block, blobs: Vec<BlobRoot>) {
        self.working.insert(block.hash(), blobs);
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

    fn is_aside(&self, hash: &BlockHash) -> bool {
        self.ahead.iter().any(|(block, _)| block.hash() == *hash)
    }

    /// Keeps a block until the clock has come to it, if there is room.
    fn set_aside(&mut self, block: Arc<Block>) {
        let bytes = codec::encode(block.as_ref()).len();
        let held: usize = self.ahead.iter().map(|(_, bytes)| bytes).sum();
        if self.ahead.len() < AHEAD_KEPT && held + bytes <= AHEAD_BYTES {
            self.ahead.push_back((block, bytes));
        }
    }
}

#[cfg(test)]
impl Imports {
    pub(super) fn range_is_done(&self) -> bool {
        self.range_peer.is_none()
    }

    /// As if a range of this peer's were under way.
    pub(super) fn pretend_range(&mut self, peer: PeerId) {
        self.range_peer = Some(peer);
    }

    pub(super) fn end_pretence(&mut self) {
        self.range_peer = None;
    }

    pub(super) fn ahead_count(&self) -> usize {
        self.ahead.len()
    }
}

impl Core {
    /// Begins to check a block. `peer` is to blame for it, where it is known.
    pub(super) fn start_import(&mut self, block: Arc<Block>, peer: Option<PeerId>) -> Result<(), CoreError> {
        let hash = block.hash();
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        if block.header.message.time_ms > unix_ms().saturating_add(self.spec.phases.ahead_ms) {
            return self.set_aside(block, peer);
        }
        if !self.may_execute(&block)? {
            tracing::debug!(block = %hash.short(), producer = %block.header.message.producer.short(), "a third block of one producer on one parent, left alone");
            return self.finish_import(&hash, Err(None));
        }
        // A vote that came with it may have begun its import.
        if self.imports.is_under_way(&hash) {
            return Ok(());
        }
        match self.view.chain.prepare_import(block.as_ref().clone()) {
            Ok(prepared) => match self.score_of(&block) {
                Score::Checked => self.gather_blobs(block, prepared, peer),
                Score::Proved => self.take_proved(block, prepared),
                Score::Later => self.finish_import(&hash, Err(None)),
            },
            Err(error) => self.refuse(&hash, &error, peer),
        }
    }

    /// A block ahead of the clock is set aside, never rejected: it may be our clock that is wrong.
    fn set_aside(&mut self, block: Arc<Block>, peer: Option<PeerId>) -> Result<(), CoreError> {
        let hash = block.hash();
        if !self.imports.is_aside(&hash) {
            if let Err(error) = self.check_alone(&block) {
                return self.refuse(&hash, &error, peer);
            }
            self.imports.set_aside(block);
        }
        self.finish_import(&hash, Err(None))
    }

    /// Form and signatures of a block that nobody checked yet: the machine believes both.
    fn check_alone(&self, block: &Block) -> Result<(), BlockError> {
        isolation::check_form(&self.spec, &self.chain_hash, block)?;
        Ok(isolation::check_signatures(&self.chain_hash, block)?)
    }

    fn gather_blobs(&mut self, block: Arc<Block>, prepared: Prepared, peer: Option<PeerId>) -> Result<(), CoreError> {
        let needed = prepared.job().map(podl_consensus::rules::WorkJob::blobs).unwrap_or_default();
        let store = self.network.blobs();
        let missing: Vec<BlobRef> = needed.into_iter().filter(|b| !store.contains(&b.root)).collect();
        let hash = block.hash();
        if missing.is_empty() {
            self.check_work(block, Box::new(prepared));
            return Ok(());
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
            return self.finish_import(&hash, Err(None));
        }
        self.check_work(block, prepared);
        Ok(())
    }

    fn check_work(&mut self, block: Arc<Block>, prepared: Box<Prepared>) {
        let blobs = prepared.job().map(podl_consensus::rules::WorkJob::blobs).unwrap_or_default();
        self.imports.begin_work(&block, blobs.iter().map(|blob| blob.root).collect());
        self.worker.post(Job::Check { block, prepared });
    }

    pub(super) fn on_worked(
        &mut self,
        block: &Arc<Block>,
        result: Result<Checked, BlockError>,
    ) -> Result<(), CoreError> {
        let hash = block.hash();
        self.imports.end_work(&hash);
        match result.and_then(|checked| self.view.chain.commit(checked)) {
            Ok(imported) => {
                self.persist(&imported)?;
                self.drive(Event::BlockImported(imported.block, imported.meta))?;
                self.finish_import(&hash, Ok(()))
            }
            Err(error) => self.refuse(&hash, &error, None),
        }
    }

    /// One synced batch: the block, what it made final, what it pruned.
    fn persist(&mut self, imported: &Imported) -> Result<(), CoreError> {
        self.note_lost(&imported.pruned)?;
        let db = self.db.clone();
        let mut batch = db.batch();
        batch.insert_block(&imported.hash, &imported.block, &imported.delta)?;
        self.note_reward(&mut batch, imported)?;
        for f in &imported.newly_final {
            batch.finalise(&f.hash, &f.block, &f.delta)?;
        }
        for hash in &imported.pruned {
            batch.prune_block(hash)?;
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
            BlockError::Known(_) => return self.finish_import(hash, Ok(())),
            BlockError::UnknownParent { .. } | BlockError::NotAvailable(_) => {
                tracing::debug!(block = %hash.short(), %error, "block not checkable now");
                return self.finish_import(hash, Err(None));
            }
            _ => {}
        }
        let blame = error.blame();
        tracing::warn!(block = %hash.short(), %error, ?blame, "block refused");
        if let Some(peer) = peer.filter(|_| matches!(blame, Blame::Producer | Blame::Sender)) {
            self.penalise(peer, Misbehaviour::InvalidMessage, &error.to_string());
        }
        self.finish_import(hash, Err(Some(blame)))
    }

    /// Tells whoever waits for the block: the machine, or the range that sync delivered.
    pub(super) fn finish_import(
        &mut self,
        hash: &BlockHash,
        result: Result<(), Option<Blame>>,
    ) -> Result<(), CoreError> {
        match &result {
            // The damaged copy says nothing about the block whose hash it bears.
            Ok(()) | Err(Some(Blame::Sender)) => {}
            Err(Some(_)) => self.drive(Event::CandidateRefused(*hash))?,
            Err(None) => self.drive(Event::CandidateUnavailable(*hash))?,
        }
        if self.imports.range.front().is_some_and(|block| block.hash() == *hash) {
            self.imports.range.pop_front();
            match result {
                Ok(()) => self.imports.range_imported += 1,
                Err(blame) => {
                    self.imports.range.clear();
                    return self.end_range(matches!(blame, Some(Blame::Producer | Blame::Sender)));
                }
            }
            return self.next_of_range();
        }
        Ok(())
    }

    /// Imports what sync delivered, one block after the other.
    pub(super) fn deliver(&mut self, peer: PeerId, blocks: Vec<Block>) -> Result<(), CoreError> {
        if let [single] = &blocks[..]
            && self.imports.range_peer.is_some()
        {
            // A single block beside a range: the machine decides whether it is wanted.
            return match self.check_alone(single) {
                Ok(()) => self.drive(Event::Candidate(Arc::new(single.clone()))),
                Err(error) => {
                    self.penalise(peer, Misbehaviour::InvalidMessage, &error.to_string());
                    Ok(())
                }
            };
        }
        self.imports.range = blocks.into_iter().map(Arc::new).collect();
        self.imports.range_peer = Some(peer);
        self.imports.range_imported = 0;
        self.next_of_range()
    }

    fn next_of_range(&mut self) -> Result<(), CoreError> {
        while let Some(block) = self.imports.range.front().cloned() {
            if !self.view.chain.contains(&block.hash()) && block.height() > self.finalised().height {
                return self.start_import(block, self.imports.range_peer);
            }
            self.imports.range.pop_front();
        }
        self.end_range(false)
    }

    fn end_range(&mut self, invalid: bool) -> Result<(), CoreError> {
        let Some(peer) = self.imports.range_peer.take() else { return Ok(()) };
        let imported = self.imports.range_imported;
        self.sync_event(podl_engine::sync::Event::Processed { peer, invalid, imported })
    }

    /// Blocks that were ahead of this node's clock, once they no longer are.
    pub(super) fn retry_imports(&mut self) -> Result<(), CoreError> {
        let limit = unix_ms().saturating_add(self.spec.phases.ahead_ms);
        let ahead = std::mem::take(&mut self.imports.ahead);
        let (due, later): (VecDeque<_>, VecDeque<_>) =
            ahead.into_iter().partition(|(block, _)| block.header.message.time_ms <= limit);
        self.imports.ahead = later;
        due.into_iter().try_for_each(|(block, _)| self.drive(Event::Candidate(block)))
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
        let base = self.machine.base().block;
        if came && let Some(interval) = self.view.interval(&base) {
            self.worker.post(Job::TryKey { interval, key, key_hash: podl_consensus::shard::key_hash(&key) });
        } else {
            tracing::warn!("the test shard of this interval is not to be had from any peer");
        }
        Ok(())
    }
}
