//! Carrying out what the interval machine wants.

use podl_consensus::chain::{BlockParts, Claim};
use podl_consensus::interval::{ChainView, Effect, Event, Message, Phase};
use podl_consensus::rules::commitments::check_list;
use podl_consensus::rules::vote;
use podl_consensus::shard::key_hash;
use podl_consensus::state::Checkpoint;
use podl_consensus::types::{ClosingList, Height, ListedClosing, OutcomeKind, ShardKey, TaskId, Vote};
use podl_consensus::verified::Verified;

use super::{Core, CoreError};
use crate::service::clock::unix_ms;
use crate::service::mining::MiningEvent;
use crate::service::signer::{SignError, Signer};
use crate::service::worker::Job;
use podl_engine::wire::{Gossip, KeyRelease};

impl Core {
    pub(super) fn perform(&mut self, effect: Effect) -> Result<(), CoreError> {
        match effect {
            Effect::SignClosing { parent, list } => self.sign_closing(parent, list),
            Effect::CastVote { block, justified, ready } => self.cast_vote(block, justified, ready),
            Effect::Propose { parent, view, kind, key } => self.propose(parent, view, kind, key),
            Effect::CollectionClosed { task, round, .. } => {
                self.release(task, round);
                Ok(())
            }
            Effect::OpenCandidates { parent, key } => self.open_candidates(parent, key),
            Effect::CheckShard { parent, key } => self.try_key(parent, key),
            Effect::ValidateCandidate(block) => self.start_import(block, None),
            Effect::FetchBlock(hash) => self.want_block(None, hash),
            Effect::Rebroadcast(message) => {
                self.rebroadcast(message);
                Ok(())
            }
            Effect::Equivocation(evidence) => {
                tracing::warn!(
                    ?evidence,
                    "a key signed two messages that exclude each other; it no longer counts here"
                );
                Ok(())
            }
            Effect::HeadChanged { old, new } => self.head_changed(old, new),
            Effect::Finalised(blocks) => self.finalised_up_to(&blocks),
            Effect::PhaseChanged { parent, phase } => {
                self.phase_changed(parent, phase);
                Ok(())
            }
        }
    }

    /// A signature, or nothing when the guard forbids it; only a failing disk is an error.
    pub(super) fn signed<T>(
        &mut self,
        what: &str,
        sign: impl FnOnce(&mut Signer) -> Result<T, SignError>,
    ) -> Result<Option<T>, CoreError> {
        let Some(signer) = &mut self.signer else { return Ok(None) };
        match sign(signer) {
            Ok(signed) => Ok(Some(signed)),
            Err(SignError::Guard(error)) => {
                tracing::info!(what, %error, "not signed");
                Ok(None)
            }
            Err(SignError::Storage(error)) => Err(error.into()),
        }
    }

    fn sign_closing(&mut self, parent: Checkpoint, list: ClosingList) -> Result<(), CoreError> {
        // Checked as others will before the guard's one closing on this parent is given away.
        let stands = list.0.iter().all(|commitment| commitment.verify(&self.chain_hash).is_ok());
        let interval = self.view.interval(&parent.block);
        let is_of_interval = interval.is_some_and(|interval| {
            let names = (&interval.parent.block, &interval.task, interval.round);
            check_list(&self.spec.limits, names, list.0.iter().map(|commitment| &commitment.message)).is_ok()
        });
        if !stands || !is_of_interval {
            tracing::error!(parent = parent.height, "others would refuse this node's list: it does not close");
            return Ok(());
        }
        let Some((closing, list)) = self.signed("closing", |s| s.closing(parent, list))? else { return Ok(()) };
        tracing::debug!(parent = parent.height, commitments = list.0.len(), "closed");
        // An earlier one may come back, of before a restart.
        match Verified::check(&self.spec, &self.chain_hash, ListedClosing { closing, list }) {
            Ok(closing) => {
                self.publish(&Gossip::Closing((*closing).clone()));
                self.events.push_back(Event::Closing(closing));
            }
            Err(error) => tracing::error!(parent = parent.height, %error, "this node's own closing is not sent"),
        }
        Ok(())
    }

    fn cast_vote(&mut self, block: Checkpoint, justified: Height, ready: Vec<TaskId>) -> Result<(), CoreError> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let vote = Vote { height: block.height, block: block.block, justified, ready, seat: signer.account() };
        if let Err(error) = vote::check_form(&vote) {
            tracing::error!(height = block.height, %error, "others would refuse this node's vote: it is not signed");
            return Ok(());
        }
        let Some(vote) = self.signed("vote", |s| s.vote(vote))? else { return Ok(()) };
        match Verified::check(&self.spec, &self.chain_hash, vote) {
            Ok(vote) => {
                self.publish(&Gossip::Vote((*vote).clone()));
                self.events.push_back(Event::Vote(vote));
            }
            Err(error) => tracing::error!(height = block.height, %error, "this node's own vote is not sent"),
        }
        Ok(())
    }

    pub(super) fn propose(
        &mut self,
        parent: Checkpoint,
        view: u32,
        kind: OutcomeKind,
        key: Option<ShardKey>,
    ) -> Result<(), CoreError> {
        let claim = match kind {
            OutcomeKind::Void => match self.machine.majority_closings(&parent.block, None) {
                Some(closings) => Claim::Void { closings },
                None => {
                    self.events.push_back(Event::Proposing { parent: parent.block, is_under_way: false });
                    return Ok(());
                }
            },
            OutcomeKind::Idle | OutcomeKind::Scored => Claim::Idle { key },
        };
        self.propose_block(parent, view, claim)
    }

    /// Everything that a block on `parent` carries besides its outcome.
    pub(super) fn block_parts(&self, parent: Checkpoint) -> BlockParts {
        let limits = &self.spec.limits;
        let transactions =
            self.mempool.select(limits.block_bytes as usize, limits.block_transactions as usize, |account| {
                self.view.sender(&parent.block, account)
            });
        BlockParts {
            votes: self.machine.votes_for(&parent.block),
            certificate: self.machine.certificate_for(&parent.block),
            transactions,
            time_ms: unix_ms(),
        }
    }

    fn release(&mut self, task: TaskId, round: u32) {
        let Some(key) = self.publisher.key(&task, round) else { return };
        tracing::info!(task = %task.short(), round, "key released");
        self.publish(&Gossip::Key(KeyRelease { task, round, key }));
        self.events.push_back(Event::Key(key));
    }

    /// Has a key tried on its shard.
    pub(super) fn try_key(&mut self, parent: Checkpoint, key: ShardKey) -> Result<(), CoreError> {
        let interval = self.view.interval(&parent.block);
        let shard = interval.and_then(|interval| self.view.chain.shard_job(&interval, Some(key)));
        let key_hash = key_hash(&key);
        shard.map_or(Ok(()), |shard| self.worker.post(Job::TryKey { shard: Box::new(shard), key, key_hash }))
    }

    pub(super) fn on_shard_tried(
        &mut self,
        key: ShardKey,
        key_hash: podl_chain_spec::Hash32,
        opens: Option<bool>,
    ) -> Result<(), CoreError> {
        match opens {
            Some(opens) => self.drive(Event::ShardChecked { key_hash, opens }),
            None => {
                // The shard is not here (yet): fetch it, and try again when it came.
                self.wait_for_shard(key, key_hash);
                Ok(())
            }
        }
    }

    fn rebroadcast(&mut self, message: Message) {
        let gossip = match message {
            Message::Vote(vote) => Gossip::Vote(vote),
            Message::Closing(closing) => Gossip::Closing(closing),
            Message::Key(key) => match self.view.interval(&self.machine.base().block) {
                Some(interval) => Gossip::Key(KeyRelease { task: interval.task, round: interval.round, key }),
                None => return,
            },
            Message::Block(block) => Gossip::Block(Box::new(block.as_ref().clone().into_inner())),
        };
        self.publish(&gossip);
        // Gossip does not pass on what went round already: whoever missed it is asked for what we may lack in turn.
        self.pull_interval();
    }

    fn head_changed(&mut self, old: Checkpoint, new: Checkpoint) -> Result<(), CoreError> {
        let follows = self.view.chain.ancestor(&new.block, old.height) == Some(old.block);
        // Candidates of one interval follow each other as heads until the votes are in: that is everyday. A branch that
        // loses a block with a successor is not.
        if !follows && old.height > self.finalised().height && new.height != old.height {
            tracing::warn!(from = old.height, from_hash = %old.block.short(), to = new.height, "the chain was reorganised");
        }
        self.log_block(new);
        let mut batch = self.db.batch();
        batch.set_head(new)?;
        self.db.commit(batch)?;
        let view = &self.view;
        self.mempool.prune(|account| view.sender(&new.block, account));
        self.take_back(old, new);
        let finalised = self.finalised();
        self.sync_event(podl_engine::sync::Event::Local { head: new, finalised })?;
        self.wake_waiters();
        self.follow_tasks()
    }

    fn log_block(&self, head: Checkpoint) {
        let Some(entry) = self.view.chain.block(&head.block) else { return };
        let header = &entry.block.header.message;
        let finalised = self.finalised().height;
        match &entry.block.body.outcome {
            podl_consensus::types::Outcome::Scored { opening, .. } => tracing::info!(
                height = head.height,
                hash = %head.block.short(),
                task = %header.task.short(),
                round = header.round,
                correct = opening.correct,
                winner = %header.producer.short(),
                finalised,
                "block"
            ),
            outcome => tracing::info!(
                height = head.height,
                hash = %head.block.short(),
                kind = ?outcome.kind(),
                view = header.view,
                finalised,
                "block without a model"
            ),
        }
    }

    fn finalised_up_to(&mut self, blocks: &[Checkpoint]) -> Result<(), CoreError> {
        let (Some(first), Some(last)) = (blocks.first(), blocks.last().copied()) else { return Ok(()) };
        if let Some(signer) = &mut self.signer {
            signer.prune(last.height);
        }
        self.settle_won(first.height, last.height)
    }

    fn phase_changed(&mut self, parent: Checkpoint, phase: Phase) {
        self.phase_since_ms = self.clock.now_ms();
        let height = parent.height + 1;
        if let Some(interval) = self.view.interval(&parent.block) {
            let task = if interval.is_filler() { "filler".into() } else { interval.task.short() };
            tracing::info!(height, phase = ?phase, task, round = interval.round, "phase");
        }
        match phase {
            // The interval moved on to this block: votes of a majority stand behind it.
            Phase::Train => {
                let revealed = self.reveal_since_ms.take();
                self.previous_reveal_ms = revealed.map(|since| self.phase_since_ms.saturating_sub(since));
                self.tell_winner(parent);
                self.announce_interval();
            }
            phase => {
                if phase == Phase::Reveal {
                    self.reveal_since_ms = Some(self.phase_since_ms);
                }
                self.tell_miner(MiningEvent::Closed { parent: parent.block });
            }
        }
    }

    /// Sends a message; what cannot be sent now is sent again by the machine.
    pub(super) fn publish(&self, message: &Gossip) {
        if let Err(error) = self.network.publish(message.topic().name(), message.encode()) {
            tracing::debug!(%error, topic = message.topic().name(), "not sent");
        }
    }
}
