//! What a node holds of one interval: commitments, closings, candidates. Everything bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podl_chain_spec::{AccountId, Hash32, Limits};

use super::News;
use super::candidates::Candidates;
use super::timeline::Timeline;
use crate::interval_context::IntervalContext;
use crate::signed::Signed;
use crate::state::majority;
use crate::types::{ClosingList, Commitment, Evidence, ListedClosing};
use crate::verified::Verified;

/// One interval.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub context: Arc<IntervalContext>,
    pub timeline: Timeline,
    pub candidates: Candidates,
    /// First seen before the node closed and before it saw the key, by owner.
    commitments: BTreeMap<AccountId, Vec<Verified<Signed<Commitment>>>>,
    closings: BTreeMap<AccountId, Verified<ListedClosing>>,
    /// How many commitments of each owner were heard, kept or not.
    heard: BTreeMap<AccountId, usize>,
    /// How often each commitment is listed, with its owner.
    tally: BTreeMap<Hash32, (AccountId, usize)>,
    /// Seats that closed twice.
    caught: BTreeSet<AccountId>,
    /// The node's key signed a block on the parent.
    pub signed_block: bool,
    /// Whether the key was seen, which ends collecting even when the key turns out bad.
    pub key_seen: bool,
    /// Whether the publisher was told to release.
    pub collection_closed: bool,
    /// Whether the node was asked to open the shard.
    pub shard_asked: bool,
    /// Highest view that was considered for proposing, so that each is considered once.
    pub next_view: u32,
}

/// What became of a closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClosingInsert {
    New,
    /// Known, no seat's, with a list of another task or round, or one more of a seat already caught.
    Ignored,
    Equivocation(Box<Evidence>),
}

impl Round {
    pub fn new(context: Arc<IntervalContext>) -> Self {
        Self {
            context,
            timeline: Timeline::default(),
            candidates: Candidates::default(),
            commitments: BTreeMap::new(),
            heard: BTreeMap::new(),
            closings: BTreeMap::new(),
            tally: BTreeMap::new(),
            caught: BTreeSet::new(),
            signed_block: false,
            key_seen: false,
            collection_closed: false,
            shard_asked: false,
            next_view: 0,
        }
    }

    /// Whether the task is a published one, whose shard needs a key.
    pub fn needs_key(&self) -> bool {
        !self.context.is_filler()
    }

    /// How many commitments of an owner are held.
    pub fn commitments_of(&self, owner: &AccountId) -> usize {
        self.commitments.get(owner).map_or(0, Vec::len)
    }

    /// What a commitment can tell: nothing once collecting is over, and nothing beyond twice what its owner may have
    /// listed, kept or not. What is passed on costs every node a signature's check.
    pub fn news_of_commitment(&self, commitment: &Signed<Commitment>, limits: &Limits) -> News {
        let owner = &commitment.message.owner;
        let own = self.commitments.get(owner).map_or(&[][..], Vec::as_slice);
        if let Some(held) = own.iter().find(|held| held.message == commitment.message) {
            return if **held == *commitment { News::Held } else { News::Nothing };
        }
        let heard = self.heard.get(owner).copied().unwrap_or_default();
        let is_over = self.timeline.closed.is_some() || self.key_seen;
        let too_many = heard >= 2 * usize::from(limits.commitments_per_owner);
        if is_over || too_many { News::Nothing } else { News::Fresh }
    }

    /// What a closing can tell: of each seat the first, and another one, which is evidence.
    pub fn news_of_closing(&self, listed: &ListedClosing) -> News {
        let message = &listed.closing.message;
        match self.closings.get(&message.seat) {
            Some(held) if **held == *listed => News::Held,
            // Any valid signature of the same messages may stand in a list: the first that came does.
            Some(held) if held.closing.message == *message => News::Nothing,
            Some(_) if self.caught.contains(&message.seat) => News::Nothing,
            _ => News::Fresh,
        }
    }

    /// Counts a commitment of an owner, kept or not, whether or not it can be paid.
    pub fn hear(&mut self, owner: AccountId) {
        *self.heard.entry(owner).or_default() += 1;
    }

    /// Notes a commitment for the node's own list. Returns whether it is new and in time.
    pub fn add_commitment(&mut self, commitment: Verified<Signed<Commitment>>, limits: &Limits) -> bool {
        let (message, context) = (&commitment.message, &self.context);
        let fits = message.parent == context.parent.block
            && message.task == context.task
            && message.round == context.round
            && self.timeline.closed.is_none()
            && !self.key_seen
            && self.commitments.values().map(Vec::len).sum::<usize>() < limits.list_cap as usize;
        let own = self.commitments.get(&message.owner).map_or(&[][..], Vec::as_slice);
        let new =
            own.len() < usize::from(limits.commitments_per_owner) && own.iter().all(|c| c.message.id != message.id);
        if fits && new {
            self.commitments.entry(message.owner).or_default().push(commitment);
        }
        fits && new
    }

    /// The node's own list.
    pub fn list(&self) -> ClosingList {
        ClosingList::new(self.commitments.values().flatten().map(|commitment| (**commitment).clone()))
    }

    /// Notes a seat's closing if its list is of this interval.
    pub fn add_closing(&mut self, listed: Verified<ListedClosing>) -> ClosingInsert {
        let (message, context) = (&listed.closing.message, &self.context);
        if message.parent != context.parent.block || !context.seats.contains(&message.seat) {
            return ClosingInsert::Ignored;
        }
        if let Some(first) = self.closings.get(&message.seat).map(|first| &first.closing) {
            let seat = message.seat;
            if first.message == *message || self.caught.contains(&seat) {
                return ClosingInsert::Ignored;
            }
            let evidence = Evidence::Closings(first.clone(), listed.closing.clone());
            self.caught.insert(seat);
            return ClosingInsert::Equivocation(Box::new(evidence));
        }
        // All of a verified list are to one task and round.
        let first = listed.list.0.first().map(|commitment| (commitment.message.task, commitment.message.round));
        if first.is_some_and(|first| first != (context.task, context.round)) {
            return ClosingInsert::Ignored;
        }
        for commitment in &listed.list.0 {
            let listed = self.tally.entry(commitment.message.hash()).or_insert((commitment.message.owner, 0));
            listed.1 += 1;
        }
        self.closings.insert(message.seat, listed);
        ClosingInsert::New
    }

    /// The closing of a seat.
    pub fn closing(&self, seat: &AccountId) -> Option<&Verified<ListedClosing>> {
        self.closings.get(seat)
    }

    /// All closings known, by seat.
    pub fn closings(&self) -> impl Iterator<Item = &Verified<ListedClosing>> {
        self.closings.values()
    }

    /// Whether closings of a majority are known.
    pub fn has_majority(&self) -> bool {
        self.closings.len() >= majority(self.context.seats.len())
    }

    /// The closings that list a commitment (all, for `None`), if they are of a majority.
    pub fn majority_closings(&self, listing: Option<&Hash32>) -> Option<Vec<Verified<ListedClosing>>> {
        let lists = |closing: &&Verified<ListedClosing>| {
            let list = &closing.list.0;
            listing.is_none_or(|hash| list.binary_search_by_key(hash, |c| c.message.hash()).is_ok())
        };
        let chosen: Vec<_> = self.closings.values().filter(lists).cloned().collect();
        (chosen.len() >= majority(self.context.seats.len())).then_some(chosen)
    }

    /// Whether a majority lists the commitment with this hash, or may, the closings still unknown counted in.
    pub fn may_be_listed(&self, commitment: &Hash32) -> bool {
        let unknown = self.context.seats.len().saturating_sub(self.closings.len());
        let times = self.tally.get(commitment).map_or(0, |(_, times)| *times);
        times + unknown >= majority(self.context.seats.len())
    }

    /// Whether any commitment is listed by a majority, which a void block must show.
    pub fn has_counted(&self) -> bool {
        let needed = majority(self.context.seats.len());
        self.tally.values().any(|(_, times)| *times >= needed)
    }

    /// Whether all owners of commitments that a majority may have listed (the closings still unknown counted in) have
    /// shown a candidate. One candidate an owner is enough: its key may sign only one block on the parent.
    pub fn all_shown(&self) -> bool {
        let unknown = self.context.seats.len().saturating_sub(self.closings.len());
        let needed = majority(self.context.seats.len());
        let mut possible = self.tally.values().filter(|(_, times)| times + unknown >= needed);
        possible.all(|(owner, _)| self.candidates.has_scored_by(owner))
    }
}
