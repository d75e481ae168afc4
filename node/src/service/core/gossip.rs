//! What comes from the network: checked before it is passed on, and before any machine sees it.
//!
//! Every message comes through [`Core::judge`], whether it was gossiped or is part of an answer: cheap looks first (is it
//! wanted at all?), then its form, then its signatures, once. A machine takes nothing but what passed.

use std::sync::Arc;

use libp2p::PeerId;
use podl_consensus::interval::{ChainView, Event, News};
use podl_consensus::rules::transaction::TransactionFormError;
use podl_consensus::shard::key_hash;
use podl_consensus::signed::Signed;
use podl_consensus::state::SeatSets;
use podl_consensus::types::{Block, BlockHash, Commitment, ListedClosing, ShardKey, SignedTransaction, SignedVote};
use podl_consensus::verified::{Formed, Verified};
use podl_mempool::MempoolError;
use podl_network::{GossipMessage, Misbehaviour, NetworkEvent, Verdict};

use super::{Core, CoreError};
use podl_engine::wire::{Gossip, Topic};

impl Core {
    pub(super) fn on_network(&mut self, event: NetworkEvent) -> Result<(), CoreError> {
        match event {
            NetworkEvent::Gossip(message) => self.on_gossip(&message),
            NetworkEvent::Request(request) => self.on_request(request),
            NetworkEvent::PeerConnected { peer, address, .. } => {
                tracing::debug!(%peer, %address, "connected");
                self.on_peer(peer);
                Ok(())
            }
            NetworkEvent::PeerDisconnected { peer } => {
                tracing::debug!(%peer, "disconnected");
                self.forget_peer(peer)
            }
            NetworkEvent::Listening(address) => {
                tracing::info!(%address, "listening");
                self.listen.push(address.to_string());
                Ok(())
            }
            NetworkEvent::WrongChain { address, theirs, .. } => {
                tracing::warn!(%address, theirs, "a peer on another chain was refused");
                Ok(())
            }
            NetworkEvent::Banned { peer, why, length } => {
                tracing::warn!(%peer, why, seconds = length.as_secs(), "peer banned");
                Ok(())
            }
        }
    }

    fn on_gossip(&mut self, message: &GossipMessage) -> Result<(), CoreError> {
        let decoded = Topic::from_name(&message.topic).map(|topic| Gossip::decode(topic, &message.bytes, &self.spec));
        let (verdict, event) = match decoded {
            Some(Ok(gossip)) => self.judge(gossip, message.peer),
            Some(Err(error)) => {
                tracing::debug!(peer = %message.peer, topic = message.topic, %error, "malformed message");
                (Verdict::Reject, None)
            }
            None => (Verdict::Ignore, None),
        };
        if let Err(error) = self.network.report(message.id, message.peer, verdict) {
            tracing::debug!(%error, "no verdict given");
        }
        match event {
            Some(event) => self.drive(event),
            None => Ok(()),
        }
    }

    /// Whether a message is passed on, and what the machine hears of it.
    pub(super) fn judge(&mut self, gossip: Gossip, peer: PeerId) -> (Verdict, Option<Event>) {
        match gossip {
            Gossip::Transaction(transaction) => (self.judge_transaction(transaction), None),
            Gossip::Commitment(commitment) => self.judge_commitment(commitment),
            Gossip::Closing(closing) => self.judge_closing(closing),
            Gossip::Key(release) => self.judge_key(release.key),
            Gossip::Vote(vote) => self.judge_vote(vote, peer),
            Gossip::Block(block) => self.judge_block(*block, peer),
        }
    }

    fn seats_on(&self, parent: &BlockHash) -> Option<SeatSets> {
        self.view.chain.meta(parent).map(|meta| meta.seats.clone())
    }

    /// Whether a block lies below the last final one: messages on it are of the past, and anybody can send them again. A disk
    /// that cannot be read is for the next write to report.
    fn is_past(&self, parent: &BlockHash) -> bool {
        self.db.has_block(parent).unwrap_or(false)
    }

    /// A seat's closing. On a parent that is not known here it is kept, if an account that may hold a seat made it.
    fn judge_closing(&self, listed: ListedClosing) -> (Verdict, Option<Event>) {
        let (parent, seat) = (listed.closing.message.parent, listed.closing.message.seat);
        let seats = self.seats_on(&parent);
        let is_known = seats.is_some();
        let may_close = seats.map_or_else(|| self.machine.votes().is_eligible(&seat), |seats| seats.is_seat(&seat));
        // Of another task or round it can be no closing of this interval, whoever signed it.
        let interval = self.view.interval(&parent);
        let first = listed.list.0.first().map(|first| (first.message.task, first.message.round));
        let is_other = interval.zip(first).is_some_and(|(interval, first)| first != (interval.task, interval.round));
        if may_close && is_other {
            return (Verdict::Reject, None);
        }
        match self.machine.news_of_closing(&listed) {
            News::Fresh if may_close && (is_known || !self.is_past(&parent)) => {}
            // Sent again because somebody may have missed it.
            News::Held => return (Verdict::Accept, None),
            News::Fresh | News::Nothing => return (Verdict::Ignore, None),
        }
        match Verified::check(&self.spec, &self.chain_hash, listed) {
            Ok(closing) => (accept_if(is_known), Some(Event::Closing(closing))),
            Err(error) => {
                tracing::debug!(%seat, %error, "bad closing");
                (Verdict::Reject, None)
            }
        }
    }

    /// The key of the interval at hand, or of a live task that this node may reach later.
    fn judge_key(&self, key: ShardKey) -> (Verdict, Option<Event>) {
        let hash = key_hash(&key);
        let interval = self.view.interval(&self.machine.base().block);
        let wanted = interval.and_then(|interval| interval.key_hash()) == Some(hash);
        if self.machine.knows_key(&hash) {
            return (Verdict::Ignore, None);
        }
        (accept_if(wanted || self.tasks.is_key_of_live(&hash)), Some(Event::Key(key)))
    }

    /// A vote of an account that may hold a seat: passed on even while its block is not here, or slow nodes would be holes
    /// in the network.
    fn judge_vote(&mut self, vote: SignedVote, peer: PeerId) -> (Verdict, Option<Event>) {
        let block = vote.message.block;
        let parent = self.view.chain.block(&block).map(|entry| entry.block.parent());
        let seats = parent.and_then(|parent| self.seats_on(&parent));
        let may_vote = seats.is_none_or(|seats| seats.is_voter(&vote.message.seat));
        if self.machine.votes().holds(&vote) {
            // Sent again because somebody may have missed it.
            return (accept_if(may_vote), None);
        }
        if !may_vote || !self.machine.votes().wants(&vote.message) {
            return (Verdict::Ignore, None);
        }
        match Verified::check(&self.spec, &self.chain_hash, vote) {
            Ok(vote) => {
                if parent.is_none() {
                    log_failure(self.note_named(peer, block));
                }
                (Verdict::Accept, Some(Event::Vote(vote)))
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "bad vote");
                (Verdict::Reject, None)
            }
        }
    }

    /// A commitment of an account that can pay for it. On a parent that is not known here the head's state decides that:
    /// keys cost nothing, money does.
    fn judge_commitment(&self, commitment: Signed<Commitment>) -> (Verdict, Option<Event>) {
        let message = &commitment.message;
        let interval = self.view.interval(&message.parent);
        let is_known = interval.is_some();
        let can_pay = match &interval {
            Some(interval) if (interval.task, interval.round) != (message.task, message.round) => {
                return (Verdict::Reject, None);
            }
            Some(_) => self.view.can_commit(&message.parent, &message.owner, 1),
            None => self.view.can_commit(&self.head().block, &message.owner, 1),
        };
        match self.machine.news_of_commitment(&commitment) {
            News::Fresh if can_pay && (is_known || !self.is_past(&message.parent)) => {}
            News::Held => return (Verdict::Accept, None),
            News::Fresh | News::Nothing => return (Verdict::Ignore, None),
        }
        match Verified::check(&self.spec, &self.chain_hash, commitment) {
            Ok(commitment) => (accept_if(is_known), Some(Event::Commitment(commitment))),
            Err(_) => (Verdict::Reject, None),
        }
    }

    fn judge_block(&mut self, block: Block, peer: PeerId) -> (Verdict, Option<Event>) {
        let hash = block.hash();
        let is_past = self.view.chain.contains(&hash) || block.height() <= self.finalised().height;
        if is_past || self.imports.is_refused(&hash) {
            return (Verdict::Ignore, None);
        }
        let (spec, parent) = (self.spec.clone(), block.parent());
        let formed = match Formed::check(&spec, &self.chain_hash, block) {
            Ok(formed) => formed,
            Err(error) => {
                tracing::debug!(%peer, block = %hash.short(), %error, "bad block");
                return (Verdict::Reject, None);
            }
        };
        if !self.view.chain.contains(&parent) {
            // Fetched again with what it builds on, from whoever sent it.
            log_failure(self.want_block(Some(peer), hash));
            return (Verdict::Ignore, None);
        }
        let (verdict, wanted) = self.judge_sibling(&formed, peer);
        if !wanted {
            return (verdict, None);
        }
        match formed.verify(&self.chain_hash) {
            Ok(block) => {
                self.siblings.take(&block);
                (verdict, Some(Event::Candidate(Arc::new(block))))
            }
            Err(error) => {
                tracing::debug!(%peer, block = %hash.short(), %error, "bad block");
                (Verdict::Reject, None)
            }
        }
    }

    fn judge_transaction(&mut self, signed: SignedTransaction) -> Verdict {
        match self.add_transaction(signed) {
            Ok(_) => Verdict::Accept,
            Err(AddError::Form(_)) => Verdict::Reject,
            // It may have been fine where it came from: states differ for a moment.
            Err(AddError::Mempool(_)) => Verdict::Ignore,
        }
    }

    /// Takes a transaction into the mempool.
    pub(super) fn add_transaction(&mut self, signed: SignedTransaction) -> Result<podl_chain_spec::Hash32, AddError> {
        let verified = Verified::check(&self.spec, &self.chain_hash, signed)?;
        let sender = self.view.sender(&self.head().block, &verified.message.sender);
        Ok(self.mempool.insert(verified, sender)?)
    }

    pub(super) fn penalise(&self, peer: PeerId, what: Misbehaviour, why: &str) {
        #[cfg(test)]
        self.blamed.borrow_mut().push(peer);
        if let Err(error) = self.network.penalise(peer, what, why) {
            tracing::debug!(%error, "not penalised");
        }
    }
}

/// A verdict is given all the same: only a delivery can fail, and asking delivers nothing.
fn log_failure(asked: Result<(), CoreError>) {
    if let Err(error) = asked {
        tracing::error!(%error, "sync");
    }
}

/// What cannot be judged fully here is kept and not passed on.
fn accept_if(is_known: bool) -> Verdict {
    if is_known { Verdict::Accept } else { Verdict::Ignore }
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It can be in no block, or is not signed by its sender.
    #[error(transparent)]
    Form(#[from] TransactionFormError),
    /// The mempool has no use for it.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
}
