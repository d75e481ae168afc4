//! The interval machine: what a node does in an interval, as events in and effects out (docs/protocol.md, section 3).
//!
//! Owns the tree of valid blocks, the votes, and what is known of the intervals on its blocks. Signs, stores, sends and
//! times nothing itself: time is an argument (`now`, milliseconds of the node's own monotonic clock, never falling), and
//! everything to be done comes back as [`Effect`]s. Seats and observers run the same machine.
//!
//! The node works in the interval on its **base**, which is its head or the head's parent: a head becomes the base when
//! votes of a majority for it are known, or `view_ms` after the node voted or abstained at its height.

mod advance;
mod candidates;
mod event;
mod fallback;
mod intake;
mod port;
mod resend;
mod round;
mod timeline;
mod votes;
mod voting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use podl_chain_spec::{AccountId, ChainSpec, Hash32, Limits, Phases};

use crate::guard::Guard;
use crate::signed::Signed;
use crate::state::{Checkpoint, Meta};
use crate::tree::BlockTree;
use crate::types::{BlockHash, Certificate, Commitment, Height, ListedClosing, ShardKey, SignedVote, TaskId};
use crate::verified::{Verified, VerifiedBlock};

pub use candidates::BLOCKS_PER_PRODUCER;
pub use event::{Effect, Event, Message, Phase};
pub use port::ChainView;
use resend::Resend;
use round::Round;
pub use votes::{VoteInsert, VotePool};

/// Intervals kept in memory: the base's, and those on its siblings and children that others are in.
const ROUNDS_KEPT: usize = 16;
/// Bytes of candidates kept in all of them, valid blocks aside: two parents' worth.
const ROUNDS_BYTES: usize = 2 * candidates::SCORED_BYTES;
/// Scored candidates checked at a time: a second one, so that one whose blobs come slowly does not hold up the rest.
const CHECKS_AT_ONCE: usize = 2;

/// What a message can tell the machine, seen before its signatures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It may be new.
    Fresh,
    /// It is held byte for byte, so its signatures stand.
    Held,
    /// It is beyond what its signer can have listed or kept, comes too late, or differs from what is held in signatures
    /// only.
    Nothing,
}

/// What the seat's key signed before this start.
#[derive(Clone, Debug, Default)]
struct Before {
    last_vote: Option<Height>,
    highest_justified: Height,
    blocks: BTreeSet<BlockHash>,
}

/// The machine of one node.
#[derive(Clone, Debug)]
pub struct IntervalMachine {
    phases: Phases,
    limits: Limits,
    /// The node's account, if it has one that may hold a seat.
    account: Option<AccountId>,
    signed: Before,
    tree: BlockTree,
    votes: VotePool,
    head: Checkpoint,
    base: Checkpoint,
    rounds: BTreeMap<BlockHash, Round>,
    /// When the node voted or abstained, by height.
    decided: BTreeMap<Height, u64>,
    /// Keys by their hashes, newest last, whether or not an interval that needs them is known.
    keys: VecDeque<(Hash32, ShardKey)>,
    /// Hashes of keys that do not open their shards.
    bad_keys: VecDeque<Hash32>,
    /// Messages on parents that are not known yet.
    early: VecDeque<Event>,
    ready: Vec<TaskId>,
    catching_up: bool,
    phase: Option<(Checkpoint, Phase)>,
    resend: Resend,
}

impl IntervalMachine {
    /// A machine that knows the last final block only; blocks above it follow as [`Event::BlockImported`]. `guard` is
    /// that of the node's account, if it may sign.
    pub fn new(spec: &ChainSpec, root: Checkpoint, root_meta: Arc<Meta>, guard: Option<&Guard>) -> Self {
        let signed = guard.map_or_else(Before::default, |guard| Before {
            last_vote: guard.last_vote().map(|vote| vote.height),
            highest_justified: guard.highest_justified(),
            blocks: guard.signed_parents().collect(),
        });
        let tree = BlockTree::new(root, root_meta);
        let mut votes = VotePool::default();
        votes.follow(&tree);
        Self {
            phases: spec.phases.clone(),
            limits: spec.limits.clone(),
            account: guard.map(Guard::account),
            signed,
            tree,
            votes,
            head: root,
            base: root,
            rounds: BTreeMap::new(),
            decided: BTreeMap::new(),
            keys: VecDeque::new(),
            bad_keys: VecDeque::new(),
            early: VecDeque::new(),
            ready: Vec::new(),
            catching_up: false,
            phase: None,
            resend: Resend::default(),
        }
    }

    /// Takes one event and returns what is to be done, in order. `now` never falls.
    pub fn handle(&mut self, now: u64, event: Event, chain: &dyn ChainView) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(now, event, chain, &mut effects);
        self.advance(now, chain, &mut effects);
        effects
    }

    /// When the machine wants an [`Event::Tick`] if nothing happens before; always after `now`.
    pub fn next_deadline_ms(&self, now: u64) -> u64 {
        let needs_key = |round: &Round| round.needs_key();
        let base = self.rounds.get(&self.base.block);
        let times = base.into_iter().flat_map(|round| {
            let line = round.timeline.deadlines(&self.phases, needs_key(round));
            let views = round.candidates.iter().filter_map(|c| round.timeline.view_due(&self.phases, c.view()));
            let own = round.timeline.view_due(&self.phases, round.next_view);
            line.chain(views).chain(own).chain(round.candidates.retries())
        });
        let over = self.decided.get(&self.head.height).map(|decided| decided + self.phases.view_ms);
        let next = times.chain(over).chain(self.resend.due()).filter(|time| *time > now).min();
        next.unwrap_or(now + self.phases.view_ms)
    }

    /// The fork choice's head.
    pub fn head(&self) -> Checkpoint {
        self.head
    }

    /// The block that the node's current interval builds on.
    pub fn base(&self) -> Checkpoint {
        self.base
    }

    /// Valid blocks from the last final one on.
    pub fn tree(&self) -> &BlockTree {
        &self.tree
    }

    /// All votes known.
    pub fn votes(&self) -> &VotePool {
        &self.votes
    }

    /// The height above the head's child at which a quorum of the seats after the head voted for one block: blocks that
    /// this node lacks are there.
    pub fn voted_ahead(&self) -> Option<Height> {
        let meta = self.tree.meta(&self.head.block)?;
        self.votes.quorum_above(self.head.height.saturating_add(1), &meta.seats)
    }

    /// Votes on `parent` for its child to carry: sorted by seat, one per seat, all of seats that may vote on it.
    pub fn votes_for(&self, parent: &BlockHash) -> Vec<Verified<SignedVote>> {
        self.votes.on(&self.tree, parent)
    }

    /// The certificate for a child of `parent` to carry, if one can be made.
    pub fn certificate_for(&self, parent: &BlockHash) -> Option<Certificate<Verified<SignedVote>>> {
        self.votes.certificate(&self.tree, parent)
    }

    /// Commitments in the interval on `parent` that the node holds, in the order of their hashes.
    pub fn commitments(&self, parent: &BlockHash) -> Vec<Signed<Commitment>> {
        self.rounds.get(parent).map_or_else(Vec::new, |round| round.list().0)
    }

    /// Closings on `parent` that the node holds.
    pub fn closings(&self, parent: &BlockHash) -> usize {
        self.rounds.get(parent).map_or(0, |round| round.closings().count())
    }

    /// Closings of a majority on `parent`, if so many are known: those that list the commitment with this hash, which
    /// a scored block carries, or all of them for a void block.
    pub fn majority_closings(
        &self,
        parent: &BlockHash,
        listing: Option<&Hash32>,
    ) -> Option<Vec<Verified<ListedClosing>>> {
        self.rounds.get(parent)?.majority_closings(listing)
    }

    /// Whether closings of a majority on `parent` list the commitment with this hash, or may once the rest is known.
    pub fn may_be_listed(&self, parent: &BlockHash, commitment: &Hash32) -> bool {
        self.rounds.get(parent).is_some_and(|round| round.may_be_listed(commitment))
    }

    /// The released key of the interval on `parent`, unless it turned out not to open its shard.
    pub fn key_for(&self, parent: &BlockHash) -> Option<ShardKey> {
        self.key_of(self.rounds.get(parent)?)
    }

    /// What a commitment can tell the machine.
    pub fn news_of_commitment(&self, commitment: &Signed<Commitment>) -> News {
        let message = &commitment.message;
        if !self.tree.contains(&message.parent) {
            return self.early_news(&message.owner);
        }
        let round = self.rounds.get(&message.parent);
        round.map_or(self.news_without_round(&message.parent), |round| {
            round.news_of_commitment(commitment, &self.limits)
        })
    }

    /// What a closing can tell the machine.
    pub fn news_of_closing(&self, listed: &ListedClosing) -> News {
        let message = &listed.closing.message;
        if !self.tree.contains(&message.parent) {
            return self.early_news(&message.seat);
        }
        let round = self.rounds.get(&message.parent);
        round.map_or(self.news_without_round(&message.parent), |round| round.news_of_closing(listed))
    }

    /// Of a known parent on whose interval nothing is held: what lies below the one at hand is over, and was forgotten.
    fn news_without_round(&self, parent: &BlockHash) -> News {
        let is_over = self.tree.height(parent).is_some_and(|height| height < self.base.height);
        if is_over { News::Nothing } else { News::Fresh }
    }

    /// Of a parent that is not known here: whether there is room for one more message of this signer.
    fn early_news(&self, signer: &AccountId) -> News {
        if self.early_of(signer) < intake::EARLY_OF_SIGNER { News::Fresh } else { News::Nothing }
    }

    /// Whether a key with this hash is held, or was found to be no use.
    pub fn knows_key(&self, hash: &Hash32) -> bool {
        self.keys.iter().any(|(known, _)| known == hash) || self.bad_keys.contains(hash)
    }

    /// A block that the node holds and did not refute: for peers that ask for it.
    pub fn candidate(&self, hash: &BlockHash) -> Option<VerifiedBlock> {
        let held = self.rounds.values().find_map(|round| round.candidates.get(hash));
        held.filter(|c| c.check != candidates::Check::Refused).map(|c| c.block.clone())
    }

    /// The node's current interval's phase, with its parent.
    pub fn phase(&self) -> Option<(Checkpoint, Phase)> {
        self.phase
    }

    /// Everything that a peer which was away may lack besides blocks: votes above the justified height, keys, and the
    /// closings on the base.
    pub fn catch_up_messages(&self) -> Vec<Message> {
        let justified = self.tree.meta(&self.head.block).map_or(0, |meta| meta.justified.height);
        let votes =
            self.votes.above(justified.max(self.tree.root().height)).map(|vote| Message::Vote((**vote).clone()));
        let base = self.rounds.get(&self.base.block);
        let closings = base.into_iter().flat_map(Round::closings).map(|closing| Message::Closing((**closing).clone()));
        let key = base.and_then(|round| self.key_of(round)).map(Message::Key);
        votes.chain(closings).chain(key).collect()
    }

    fn key_of(&self, round: &Round) -> Option<ShardKey> {
        let hash = round.context.key_hash()?;
        let key = self.keys.iter().find(|(known, _)| *known == hash)?;
        (!self.bad_keys.contains(&hash)).then_some(key.1)
    }
}
