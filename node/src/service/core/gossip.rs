//! What comes from the network: checked before it is passed on, and before any machine sees it.

use std::sync::Arc;

use libp2p::PeerId;
use podl_consensus::interval::Event;
use podl_consensus::rules::{isolation, transaction};
use podl_consensus::signed::{Signable, Signed};
use podl_consensus::state::SeatSets;
use podl_consensus::types::{Block, BlockHash, Commitment, SignedTransaction};
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
            Gossip::Closing(closing, list) => {
                let seats = self.seats_on(&closing.message.parent);
                let is_seat = |s: SeatSets| s.is_seat(&closing.message.seat);
                let verdict = self.of_voter(&closing, seats.map(is_seat));
                let signed = list.0.iter().all(|c| c.verify(&self.chain_hash).is_ok());
                if verdict == Verdict::Accept && !(signed && list.root() == closing.message.list_root) {
                    return (Verdict::Reject, None);
                }
                (verdict, (verdict != Verdict::Reject).then_some(Event::Closing(closing, list)))
            }
            Gossip::Key(release) => match self.machine.key_for(&self.machine.base().block) {
                Some(_) => (Verdict::Ignore, None),
                None if self.wants_key(&release.key) => (Verdict::Accept, Some(Event::Key(release.key))),
                // Perhaps of an interval that this node has not reached: the machine keeps a few.
                None => (Verdict::Ignore, Some(Event::Key(release.key))),
            },
            Gossip::Vote(vote) => {
                let parent = self.view.chain.block(&vote.message.block).map(|entry| entry.block.parent());
                let seats = parent.and_then(|parent| self.seats_on(&parent));
                let verdict = self.of_voter(&vote, seats.map(|s| s.is_voter(&vote.message.seat)));
                (verdict, (verdict != Verdict::Reject).then_some(Event::Vote(vote)))
            }
            Gossip::Block(block) => self.judge_block(*block, peer),
        }
    }

    /// A seat's message: reject a bad signature, ignore (but keep) what cannot be judged yet.
    fn of_voter<T: Signable>(&self, signed: &Signed<T>, may_sign: Option<bool>) -> Verdict {
        match (signed.verify(&self.chain_hash), may_sign) {
            (Err(_), _) => Verdict::Reject,
            (Ok(()), Some(true)) => Verdict::Accept,
            (Ok(()), Some(false) | None) => Verdict::Ignore,
        }
    }

    fn seats_on(&self, parent: &BlockHash) -> Option<SeatSets> {
        self.view.chain.meta(parent).map(|meta| meta.seats.clone())
    }

    fn wants_key(&self, key: &podl_consensus::types::ShardKey) -> bool {
        use podl_consensus::interval::ChainView;
        let interval = self.view.interval(&self.machine.base().block);
        interval.and_then(|i| i.key_hash()) == Some(podl_consensus::shard::key_hash(key))
    }

    fn judge_commitment(&self, commitment: Signed<Commitment>) -> (Verdict, Option<Event>) {
        use podl_consensus::interval::ChainView;
        if commitment.verify(&self.chain_hash).is_err() {
            return (Verdict::Reject, None);
        }
        let message = &commitment.message;
        match self.view.interval(&message.parent) {
            Some(interval) if (interval.task, interval.round) != (message.task, message.round) => {
                (Verdict::Reject, None)
            }
            Some(_) if !self.view.can_commit(&message.parent, &message.owner, 1) => (Verdict::Ignore, None),
            Some(_) => (Verdict::Accept, Some(Event::Commitment(commitment))),
            None => (Verdict::Ignore, Some(Event::Commitment(commitment))),
        }
    }

    fn judge_block(&mut self, block: Block, peer: PeerId) -> (Verdict, Option<Event>) {
        let hash = block.hash();
        if self.view.chain.contains(&hash) || block.height() <= self.finalised().height {
            return (Verdict::Ignore, None);
        }
        let checked = isolation::check_form(&self.spec, &self.chain_hash, &block)
            .and_then(|()| isolation::check_signatures(&self.chain_hash, &block));
        if let Err(error) = checked {
            tracing::debug!(%peer, block = %hash.short(), %error, "bad block");
            return (Verdict::Reject, None);
        }
        let parent = block.parent();
        let is_known = self.view.chain.contains(&parent);
        if !is_known {
            let unknown = podl_engine::sync::Event::Unknown { peer, hash: parent };
            if let Err(error) = self.sync_event(unknown) {
                tracing::error!(%error, "sync");
            }
        }
        let (verdict, wanted) = if is_known { self.judge_sibling(&block, peer) } else { (Verdict::Ignore, false) };
        (verdict, wanted.then(|| Event::Candidate(Arc::new(block))))
    }

    fn judge_transaction(&mut self, signed: SignedTransaction) -> Verdict {
        match self.add_transaction(signed) {
            Ok(_) => Verdict::Accept,
            Err(AddError::Form(_) | AddError::Signature) => Verdict::Reject,
            // It may have been fine where it came from: states differ for a moment.
            Err(AddError::Mempool(_)) => Verdict::Ignore,
        }
    }

    /// Takes a transaction into the mempool.
    pub(super) fn add_transaction(&mut self, signed: SignedTransaction) -> Result<podl_chain_spec::Hash32, AddError> {
        transaction::check_form(&self.spec, &signed)?;
        signed.verify(&self.chain_hash).map_err(|_| AddError::Signature)?;
        let sender = self.view.sender(&self.head().block, &signed.message.sender);
        Ok(self.mempool.insert(signed, sender)?)
    }

    pub(super) fn penalise(&self, peer: PeerId, what: Misbehaviour, why: &str) {
        if let Err(error) = self.network.penalise(peer, what, why) {
            tracing::debug!(%error, "not penalised");
        }
    }
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It can be in no block.
    #[error(transparent)]
    Form(#[from] transaction::FormError),
    /// It is not signed by its sender.
    #[error("the signature is not the sender's")]
    Signature,
    /// The mempool has no use for it.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
}
