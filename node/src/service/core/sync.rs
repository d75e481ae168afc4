//! The sync machine's hands: requests, answers, and what this node serves to others.

use libp2p::PeerId;
use podl_consensus::codec;
use podl_consensus::interval::{ChainView, Event, Message};
use podl_consensus::types::{Block, BlockHash, Height};
use podl_engine::sync::{Effect, RANGE_BLOCKS};
use podl_network::{InboundRequest, Misbehaviour, Protocol, RequestError, Verdict};

use super::{Core, CoreError};
use crate::service::clock::unix_ms;
use crate::service::input::Input;
use podl_engine::wire::{
    Gossip, IntervalMessages, KeyRelease, SYNC_REQUEST_BYTES, SyncRequest, SyncResponse, sync_response_bytes,
};

/// How often a peer is asked where it is, in milliseconds. Its gossip tells sooner, in calm.
const STATUS_EVERY_MS: u64 = 8_000;

impl Core {
    /// Gives the sync machine an event and carries out what it wants.
    pub(super) fn sync_event(&mut self, event: podl_engine::sync::Event<PeerId>) -> Result<(), CoreError> {
        for effect in self.sync.handle(self.clock.now_ms(), event) {
            match effect {
                Effect::RequestRange { peer, request, from, count } => {
                    self.request(peer, Some(request), &SyncRequest::Range { from, count });
                }
                Effect::RequestBlock { peer, request, hash } => {
                    self.request(peer, Some(request), &SyncRequest::Block(hash));
                }
                Effect::Deliver { blocks, is_range } => self.deliver(blocks, is_range)?,
                Effect::Penalise { peer, why } => self.penalise(peer, Misbehaviour::FalsePromise, why),
                Effect::Behind(blocks) => {
                    tracing::info!(
                        blocks,
                        "{}",
                        if blocks > 0 { "behind the network, catching up" } else { "caught up" }
                    );
                    self.events.push_back(Event::CatchingUp(blocks > 0));
                }
            }
        }
        Ok(())
    }

    fn request(&self, peer: PeerId, request: Option<u64>, message: &SyncRequest) {
        let (network, handle, bytes) = (self.network.clone(), self.handle.clone(), codec::encode(message));
        let limit = sync_response_bytes(&self.spec);
        self.runtime.spawn(async move {
            let answer = match network.request(peer, Protocol::Sync, bytes).await {
                Err(RequestError::Unsupported(_)) => {
                    let _ = tokio::task::spawn_blocking(move || handle.send(Input::NoNode(peer))).await;
                    return;
                }
                Ok(bytes) => match codec::decode(&bytes, limit) {
                    Ok(answer) => Some(answer),
                    Err(error) => {
                        let _ = network.penalise(peer, Misbehaviour::Malformed, error.to_string());
                        None
                    }
                },
                Err(error) => {
                    tracing::debug!(%peer, %error, "no answer");
                    None
                }
            };
            let input = Input::SyncAnswer { peer, request, answer };
            let _ = tokio::task::spawn_blocking(move || handle.send(input)).await;
        });
    }

    pub(super) fn on_peer(&mut self, peer: PeerId) {
        let now = self.clock.now_ms();
        if self.peers.is_empty() {
            self.waiting.tell_soon(now);
        }
        self.peers.insert(peer, now);
        self.request(peer, None, &SyncRequest::Status(self.sync.status()));
        self.request(peer, None, &SyncRequest::Interval(self.machine.base().block));
    }

    /// A peer went away, or is none that blocks could be had from.
    pub(super) fn forget_peer(&mut self, peer: PeerId) -> Result<(), CoreError> {
        self.peers.remove(&peer);
        self.sync_event(podl_engine::sync::Event::PeerGone(peer))
    }

    /// Asks peers where they are, now and then.
    pub(super) fn poll_peers(&mut self) {
        let now = self.clock.now_ms();
        let due: Vec<PeerId> =
            self.peers.iter().filter(|(_, asked)| now >= **asked + STATUS_EVERY_MS).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.peers.insert(peer, now);
            self.request(peer, None, &SyncRequest::Status(self.sync.status()));
        }
    }

    /// Asks a peer for what was said in the current interval: gossip reaches only those who listened at the time.
    pub(super) fn pull_interval(&self) {
        // One peer at a time, in turn by the clock: whichever it is, the next pull asks another.
        let count = self.peers.len() as u64;
        let Some(turn) = self.clock.now_ms().checked_div(1_000).and_then(|s| s.checked_rem(count)) else { return };
        if let Some(peer) = usize::try_from(turn).ok().and_then(|turn| self.peers.keys().nth(turn)) {
            self.request(*peer, None, &SyncRequest::Interval(self.machine.base().block));
        }
    }

    /// Wants a block that a peer spoke of, or votes if there is no peer.
    pub(super) fn want_block(&mut self, peer: Option<PeerId>, hash: BlockHash) -> Result<(), CoreError> {
        if self.imports.is_refused(&hash) {
            return Ok(());
        }
        self.sync_event(podl_engine::sync::Event::Unknown { peer, hash })
    }

    /// Remembers who spoke of a block that may be wanted later.
    pub(super) fn note_named(&mut self, peer: PeerId, hash: BlockHash) -> Result<(), CoreError> {
        self.sync_event(podl_engine::sync::Event::Named { peer, hash })
    }

    /// Notes where a peer says it is.
    pub(super) fn on_status(&mut self, peer: PeerId, status: podl_engine::sync::Status) -> Result<(), CoreError> {
        let highest = self.highest_possible();
        self.sync_event(podl_engine::sync::Event::PeerStatus { peer, status, highest })
    }

    /// The highest block that there can be by this node's clock.
    fn highest_possible(&self) -> Height {
        let since_ms = unix_ms().saturating_add(self.spec.phases.ahead_ms).saturating_sub(self.spec.genesis.time_ms);
        since_ms / self.spec.min_interval_ms().max(1)
    }

    /// Tells sync of blocks that a quorum voted for and that are not here.
    pub(super) fn note_voted_ahead(&mut self) -> Result<(), CoreError> {
        let height = self.machine.voted_ahead().unwrap_or(0);
        self.sync_event(podl_engine::sync::Event::VotedAhead(height))
    }

    pub(super) fn on_sync_answer(
        &mut self,
        peer: PeerId,
        request: Option<u64>,
        answer: Option<SyncResponse>,
    ) -> Result<(), CoreError> {
        if !self.peers.contains_key(&peer) {
            // It has gone meanwhile; sync has heard of that.
            return Ok(());
        }
        match (request, answer) {
            (Some(request), Some(SyncResponse::Blocks(blocks))) => {
                let parent = blocks.first().map(Block::parent);
                let connects = parent.is_some_and(|parent| self.view.chain.contains(&parent));
                self.sync_event(podl_engine::sync::Event::Blocks { peer, request, blocks, connects })?;
            }
            (Some(request), _) => self.sync_event(podl_engine::sync::Event::Failed { peer, request })?,
            (None, Some(SyncResponse::Status(status))) => {
                self.on_status(peer, status)?;
            }
            (None, Some(SyncResponse::Interval(messages))) => self.take_messages(peer, *messages)?,
            (None, _) => {}
        }
        // What the sync machine pushed for the interval machine.
        self.drive(Event::Tick)
    }

    /// Messages of an interval from one peer, one by one through the same door as gossip.
    pub(super) fn take_messages(&mut self, peer: PeerId, messages: IntervalMessages) -> Result<(), CoreError> {
        if !messages.is_bounded(&self.spec) {
            self.penalise(peer, Misbehaviour::Malformed, "sent more messages of an interval than there can be");
            return Ok(());
        }
        let IntervalMessages { commitments, closings, key, votes, blocks } = messages;
        let all = commitments.into_iter().map(Gossip::Commitment);
        let all = all.chain(closings.into_iter().map(Gossip::Closing)).chain(key.into_iter().map(Gossip::Key));
        for message in all.chain(votes.into_iter().map(Gossip::Vote)) {
            let (verdict, event) = self.judge(message, peer);
            if verdict == Verdict::Reject {
                self.penalise(
                    peer,
                    Misbehaviour::InvalidMessage,
                    "sent a message of an interval that no seat may sign",
                );
                return Ok(());
            }
            event.map_or(Ok(()), |event| self.drive(event))?;
        }
        for hash in blocks {
            if !self.view.chain.contains(&hash) && self.machine.candidate(&hash).is_none() {
                self.want_block(Some(peer), hash)?;
            }
        }
        Ok(())
    }

    /// Answers a peer of the sync protocol. Requests of the pool go to the miner's side before they reach the core.
    pub(super) fn on_request(&mut self, request: InboundRequest) -> Result<(), CoreError> {
        let Ok(message) = codec::decode::<SyncRequest>(&request.bytes, SYNC_REQUEST_BYTES * 4) else {
            self.penalise(request.peer, Misbehaviour::Malformed, "sent a malformed sync request");
            return Ok(());
        };
        let answer = match message {
            SyncRequest::Status(status) => {
                self.on_status(request.peer, status)?;
                SyncResponse::Status(self.sync.status())
            }
            SyncRequest::Range { from, count } => SyncResponse::Blocks(self.range(from, count)?),
            SyncRequest::Block(hash) => SyncResponse::Blocks(self.any_block(&hash)?.into_iter().collect()),
            SyncRequest::Interval(parent) => SyncResponse::Interval(Box::new(self.interval_messages(&parent))),
        };
        if let Err(error) = request.reply.send(codec::encode(&answer)) {
            tracing::debug!(%error, "answer not sent");
        }
        Ok(())
    }

    /// Blocks of the head's chain, as many as fit a response; none from above the head.
    pub(super) fn range(&self, from: Height, count: u32) -> Result<Vec<Block>, CoreError> {
        let mut blocks = Vec::new();
        let mut room = sync_response_bytes(&self.spec) - 1024;
        let last = self.head().height.min(from.saturating_add(count.min(RANGE_BLOCKS).into()).saturating_sub(1));
        for height in from..=last {
            let Some(block) = self.block_at(height)? else { break };
            let bytes = codec::encode(&block).len();
            if bytes > room {
                break;
            }
            room -= bytes;
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The block of the head's chain at a height; genesis has none.
    pub(super) fn block_at(&self, height: Height) -> Result<Option<Block>, CoreError> {
        if height <= self.view.chain.stored().height {
            let Some(hash) = self.db.final_hash(height)? else { return Ok(None) };
            return Ok(self.db.block(&hash)?);
        }
        let hash = self.view.chain.ancestor(&self.head().block, height);
        let entry = hash.and_then(|hash| self.view.chain.block(&hash));
        Ok(entry.map(|entry| entry.block.as_ref().clone().into_inner()))
    }

    /// Any block that this node holds, candidates included.
    pub(super) fn any_block(&self, hash: &BlockHash) -> Result<Option<Block>, CoreError> {
        if let Some(entry) = self.view.chain.block(hash) {
            return Ok(Some(entry.block.as_ref().clone().into_inner()));
        }
        if let Some(block) = self.machine.candidate(hash) {
            return Ok(Some(block.as_ref().clone().into_inner()));
        }
        Ok(self.db.block(hash)?)
    }

    /// What this node holds of an interval, as much as fits a response.
    fn interval_messages(&self, parent: &BlockHash) -> IntervalMessages {
        let commitments = self.machine.commitments(parent);
        let mut messages = IntervalMessages { commitments, ..IntervalMessages::default() };
        let base = self.machine.base();
        for message in self.machine.catch_up_messages() {
            match message {
                Message::Vote(vote) => messages.votes.push(vote),
                Message::Closing(closing) => messages.closings.push(closing),
                Message::Key(key) => {
                    let interval = self.view.interval(&base.block);
                    messages.key = interval.map(|i| KeyRelease { task: i.task, round: i.round, key });
                }
                Message::Block(block) => messages.blocks.push(block.hash()),
            }
        }
        let children = self.machine.tree().children(&base.block).map(|child| child.checkpoint().block);
        messages.blocks.extend(children);
        messages.bound(&self.spec);
        messages
    }
}
