//! The pool of votes: for fork choice, for the votes and certificates that blocks carry, and for evidence.
//!
//! Votes may come before their block. Bounded: only seats that some state of the tree knows, only heights near it, at
//! most two votes (which are evidence) a seat and height.

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::AccountId;

use crate::finality::{is_quorum, voters_on};
use crate::fork_choice::LatestVotes;
use crate::state::{Checkpoint, SeatSets, majority};
use crate::tree::{BlockTree, TreeBlock};
use crate::types::{BlockHash, Certificate, Evidence, Height, SignedVote, Vote};
use crate::verified::Verified;

/// Votes further above the highest known block are not kept: whoever is that far behind syncs.
const VOTES_AHEAD: Height = 1024;

/// What became of a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoteInsert {
    /// Kept.
    New,
    /// It was there.
    Known,
    /// Not kept: no seat's, or too far below or above.
    Refused,
    /// The seat signed a vote that this one excludes: it no longer counts in the fork choice.
    Equivocation(Box<Evidence>),
}

/// Votes by seat and height.
#[derive(Clone, Debug, Default)]
pub struct VotePool {
    votes: BTreeMap<AccountId, BTreeMap<Height, Vec<Verified<SignedVote>>>>,
    equivocators: BTreeSet<AccountId>,
    eligible: BTreeSet<AccountId>,
    lowest: Height,
    highest: Height,
}

impl VotePool {
    /// Adjusts the bounds to a tree: who may vote, and at which heights. Call after every change of the tree.
    pub fn follow(&mut self, tree: &BlockTree) {
        let accounts = |sets: &SeatSets| -> Vec<AccountId> {
            sets.current.iter().map(|s| s.account).chain(sets.previous.iter().copied()).collect()
        };
        let metas = || std::iter::once(tree.root_meta()).chain(tree.blocks().map(|b| &b.meta));
        self.eligible = metas()
            .flat_map(|meta| std::iter::once(&meta.seats).chain(meta.seats_log.iter().map(|(_, sets)| sets)))
            .flat_map(accounts)
            .collect();
        // Votes on the root itself pay their seats in its child, and lift the justified height of other branches.
        self.lowest = tree.root().height;
        self.highest = tree.blocks().map(|b| b.height).max().unwrap_or(0).max(self.lowest) + VOTES_AHEAD;
        let (eligible, lowest) = (&self.eligible, self.lowest);
        self.votes.retain(|seat, _| eligible.contains(seat));
        self.equivocators.retain(|seat| eligible.contains(seat));
        for heights in self.votes.values_mut() {
            *heights = heights.split_off(&lowest);
        }
    }

    /// Adds a vote.
    pub fn insert(&mut self, vote: Verified<SignedVote>) -> VoteInsert {
        let (seat, height) = (vote.message.seat, vote.message.height);
        if !self.is_near(&seat, height) {
            return VoteInsert::Refused;
        }
        let heights = self.votes.entry(seat).or_default();
        if heights.get(&height).is_some_and(|kept| kept.len() >= 2 || kept.iter().any(|v| v.message == vote.message)) {
            return VoteInsert::Known;
        }
        let excluded = heights.values().flatten().find(|kept| excludes(kept, &vote)).cloned();
        heights.entry(height).or_default().push(vote.clone());
        match excluded {
            Some(earlier) => {
                self.equivocators.insert(seat);
                VoteInsert::Equivocation(Box::new(Evidence::Votes(earlier.into_inner(), vote.into_inner())))
            }
            None => VoteInsert::New,
        }
    }

    /// Votes for a block of the tree that its children may carry: by its voters, with its state's justified height;
    /// sorted by seat, one per seat.
    pub fn on(&self, tree: &BlockTree, block: &BlockHash) -> Vec<Verified<SignedVote>> {
        let (Some(meta), Some(height)) = (tree.meta(block), tree.height(block)) else { return Vec::new() };
        let Some(sets) = voters_on(meta, height) else { return Vec::new() };
        self.votes
            .iter()
            .filter(|(seat, _)| sets.is_voter(seat))
            .filter_map(|(_, heights)| heights.get(&height)?.iter().find(|vote| is_for(vote, tree, block)))
            .cloned()
            .collect()
    }

    /// Whether votes of a majority of the seats that vote on it are known for a block of the tree.
    pub fn has_majority(&self, tree: &BlockTree, block: &BlockHash) -> bool {
        let (Some(meta), Some(height)) = (tree.meta(block), tree.height(block)) else { return false };
        let Some(sets) = voters_on(meta, height) else { return false };
        let seats = self.on(tree, block).iter().filter(|vote| sets.is_seat(&vote.message.seat)).count();
        seats >= majority(sets.current.len())
    }

    /// Whether votes of a quorum are known for a block of the tree.
    pub fn has_quorum(&self, tree: &BlockTree, block: &BlockHash) -> bool {
        let (Some(meta), Some(height)) = (tree.meta(block), tree.height(block)) else { return false };
        let voters: Vec<AccountId> = self.on(tree, block).iter().map(|v| v.message.seat).collect();
        is_quorum(meta, height, &voters)
    }

    /// Whether a vote would be kept: of a seat that some state of the tree knows, near its heights, and not the third at
    /// its height. Cheap, before its signature is looked at.
    pub fn wants(&self, vote: &Vote) -> bool {
        let (seat, height) = (vote.seat, vote.height);
        let kept = self.votes.get(&seat).and_then(|heights| heights.get(&height));
        self.is_near(&seat, height) && kept.is_none_or(|kept| kept.len() < 2 && kept.iter().all(|v| v.message != *vote))
    }

    /// Whether this very vote is kept: then its signature was checked.
    pub fn holds(&self, vote: &SignedVote) -> bool {
        let kept = self.votes.get(&vote.message.seat).and_then(|heights| heights.get(&vote.message.height));
        kept.is_some_and(|kept| kept.iter().any(|kept| **kept == *vote))
    }

    fn is_near(&self, seat: &AccountId, height: Height) -> bool {
        self.eligible.contains(seat) && height >= self.lowest.max(1) && height <= self.highest
    }

    /// Whether an account holds a seat, or lately held one, in some state of the tree.
    pub fn is_eligible(&self, account: &AccountId) -> bool {
        self.eligible.contains(account)
    }

    /// The highest height above this one at which a quorum of both sets voted for one block, known or not.
    pub fn quorum_above(&self, height: Height, sets: &SeatSets) -> Option<Height> {
        let mut voters = BTreeMap::<(Height, BlockHash), BTreeSet<&AccountId>>::new();
        for (seat, heights) in self.votes.iter().filter(|(seat, _)| sets.is_voter(seat)) {
            for (height, vote) in
                heights.range(height.saturating_add(1)..).flat_map(|(h, v)| v.iter().map(move |v| (h, v)))
            {
                voters.entry((*height, vote.message.block)).or_default().insert(seat);
            }
        }
        let quorum = voters.into_iter().rev().find(|(_, voters)| sets.has_quorum(voters.iter().copied()));
        quorum.map(|((height, _), _)| height)
    }

    /// How many of these seats voted at a height or above, for whatever block.
    pub fn seats_at_or_above(&self, height: Height, seats: &[AccountId]) -> usize {
        let voted =
            |seat: &&AccountId| self.votes.get(seat).is_some_and(|heights| heights.range(height..).next().is_some());
        seats.iter().filter(voted).count()
    }

    /// Whether any vote names the block, known or not.
    pub fn names(&self, height: Height, block: &BlockHash) -> bool {
        self.at(height).any(|vote| vote.message.block == *block)
    }

    fn at(&self, height: Height) -> impl Iterator<Item = &Verified<SignedVote>> {
        self.votes.values().filter_map(move |heights| heights.get(&height)).flatten()
    }

    /// The certificate that a child of `parent` should carry, if votes of a quorum are known for an ancestor of `parent`
    /// above the justified height of its state: the one that makes that justified block final if there is one, else
    /// for the highest such ancestor. (Finality first: the votes on `parent` lift the justified height anyway, while
    /// the chance to finalise the justified block is gone once it is no longer the highest. docs/adr/0010.)
    pub fn certificate(&self, tree: &BlockTree, parent: &BlockHash) -> Option<Certificate<Verified<SignedVote>>> {
        let meta = tree.meta(parent)?;
        let justified = meta.justified.height;
        let root = tree.root();
        let ancestors = tree.branch(parent).map(TreeBlock::checkpoint).skip(1);
        let ancestors = ancestors.chain((*parent != root.block).then_some(root));
        let above: Vec<Checkpoint> = ancestors.take_while(|ancestor| ancestor.height > justified).collect();
        let finalises = |ancestor: &&Checkpoint| {
            let own = tree.meta(&ancestor.block).map(|meta| meta.justified.height);
            ancestor.height == justified + 1 && own == Some(justified)
        };
        let first = above.last().filter(finalises);
        first.into_iter().chain(&above).find_map(|ancestor| {
            let votes = self.on(tree, &ancestor.block);
            let voters: Vec<AccountId> = votes.iter().map(|v| v.message.seat).collect();
            let certificate = Certificate { height: ancestor.height, block: ancestor.block, votes };
            is_quorum(meta, ancestor.height, &voters).then_some(certificate)
        })
    }

    /// Blocks that votes name and the tree lacks, with how many seats name each: of each seat those of its two highest
    /// heights, so that neither a flood of votes nor one lost block makes this long.
    pub fn unknown_blocks(&self, tree: &BlockTree) -> BTreeMap<BlockHash, usize> {
        let latest = self.votes.values().flat_map(|heights| heights.iter().rev().take(2));
        let above = latest.filter(|(height, _)| **height > tree.root().height).flat_map(|(_, votes)| votes);
        let mut named = BTreeMap::new();
        for block in above.map(|vote| vote.message.block).filter(|block| !tree.contains(block)) {
            *named.entry(block).or_default() += 1;
        }
        named
    }

    /// Every vote above a height, for peers that may lack them.
    pub fn above(&self, height: Height) -> impl Iterator<Item = &Verified<SignedVote>> {
        self.votes.values().flat_map(move |heights| heights.range(height.saturating_add(1)..)).flat_map(|(_, v)| v)
    }

    /// Seats that were caught equivocating.
    pub fn equivocators(&self) -> &BTreeSet<AccountId> {
        &self.equivocators
    }
}

/// Whether two votes of one seat exclude each other: two at one height, or one that surrounds the other.
fn excludes(a: &SignedVote, b: &SignedVote) -> bool {
    let (a, b) = (&a.message, &b.message);
    let surrounds = |x: &Vote, y: &Vote| x.justified < y.justified && y.height < x.height;
    (a.height == b.height && a != b) || surrounds(a, b) || surrounds(b, a)
}

fn is_for(vote: &SignedVote, tree: &BlockTree, block: &BlockHash) -> bool {
    let vote = &vote.message;
    vote.block == *block
        && tree.height(block) == Some(vote.height)
        && tree.meta(block).is_some_and(|meta| meta.justified.height == vote.justified)
}

impl LatestVotes for VotePool {
    fn latest_vote(&self, tree: &BlockTree, seat: &AccountId) -> Option<BlockHash> {
        if self.equivocators.contains(seat) {
            return None;
        }
        let mut votes = self.votes.get(seat)?.values().rev().flatten();
        votes.find(|vote| is_for(vote, tree, &vote.message.block)).map(|vote| vote.message.block)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use podl_chain_spec::Hash32;

    use super::*;
    use crate::fork_choice::choose_head;
    use crate::signed::{Signature, Signed};
    use crate::tree::tests::{grow, meta, root};

    fn vote(seat: u8, block: Checkpoint, justified: Height) -> Verified<SignedVote> {
        let message =
            Vote { height: block.height, block: block.block, justified, ready: vec![], seat: AccountId([seat; 32]) };
        Verified::trusted(Signed { message, signature: Signature([0; 64]) })
    }

    fn seven() -> (BlockTree, VotePool) {
        let tree = BlockTree::new(root(), meta(0, root(), 7));
        let mut pool = VotePool::default();
        pool.follow(&tree);
        (tree, pool)
    }

    #[test]
    fn votes_count_once_their_block_is_known_and_says_what_they_say() {
        let (mut tree, mut pool) = seven();
        let mut grown = tree.clone();
        let a1 = grow(&mut grown, root().block, 1, root());
        for seat in 0..3 {
            assert_eq!(pool.insert(vote(seat, a1, 0)), VoteInsert::New);
        }
        assert_eq!(pool.insert(vote(0, a1, 0)), VoteInsert::Known);
        assert_eq!(pool.insert(vote(99, a1, 0)), VoteInsert::Refused);
        assert_eq!(pool.insert(vote(3, Checkpoint { height: 2000, ..a1 }, 0)), VoteInsert::Refused);
        assert_eq!(pool.insert(vote(3, a1, 7)), VoteInsert::New, "another justified height than the block's");
        assert_eq!(pool.unknown_blocks(&tree), BTreeMap::from([(a1.block, 4)]));
        assert!(pool.on(&tree, &a1.block).is_empty() && choose_head(&tree, &pool) == root());
        grow(&mut tree, root().block, 1, root());
        assert!(pool.unknown_blocks(&tree).is_empty());
        assert_eq!(pool.on(&tree, &a1.block).len(), 3);
        assert!(!pool.has_majority(&tree, &a1.block));
        pool.insert(vote(4, a1, 0));
        assert!(pool.has_majority(&tree, &a1.block) && !pool.has_quorum(&tree, &a1.block));
        pool.insert(vote(5, a1, 0));
        assert!(pool.has_quorum(&tree, &a1.block));
    }

    #[test]
    fn what_a_quorum_of_both_sets_voted_for_ahead_is_seen() {
        let (tree, mut pool) = seven();
        let sets = tree.root_meta().seats.clone();
        let far = |height: Height| Checkpoint { height, block: Hash32([height as u8; 32]) };
        for seat in 0..4 {
            pool.insert(vote(seat, far(9), 7));
        }
        assert_eq!(pool.quorum_above(0, &sets), None, "four of seven");
        pool.insert(vote(4, far(9), 7));
        assert_eq!(pool.quorum_above(0, &sets), Some(9));
        assert_eq!((pool.quorum_above(8, &sets), pool.quorum_above(9, &sets)), (Some(9), None));
        // Five seats for five blocks say nothing.
        (0..5).for_each(|seat| drop(pool.insert(vote(seat, Checkpoint { block: Hash32([seat; 32]), ..far(12) }, 7))));
        assert_eq!(pool.quorum_above(u64::MAX, &sets), None);
        assert_eq!(pool.quorum_above(0, &sets), Some(9));
    }

    #[test]
    fn only_votes_that_would_be_kept_are_wanted() {
        let (_, mut pool) = seven();
        let at = |height: Height, n: u8| Checkpoint { height, block: Hash32([n; 32]) };
        assert!(pool.wants(&vote(0, at(1, 1), 0).message));
        for (seat, height) in [(99, 1), (0, 0), (0, 2_000), (0, u64::MAX)] {
            assert!(!pool.wants(&vote(seat, at(height, 1), 0).message));
        }
        pool.insert(vote(0, at(1, 1), 0));
        assert!(!pool.wants(&vote(0, at(1, 1), 0).message) && pool.wants(&vote(0, at(1, 2), 0).message));
        pool.insert(vote(0, at(1, 2), 0));
        assert!(!pool.wants(&vote(0, at(1, 3), 0).message), "two are evidence enough");
    }

    #[test]
    fn equivocators_leave_the_fork_choice_but_their_votes_still_count_in_blocks() {
        let (mut tree, mut pool) = seven();
        let a1 = grow(&mut tree, root().block, 1, root());
        let b1 = grow(&mut tree, root().block, 2, root());
        pool.follow(&tree);
        pool.insert(vote(0, a1, 0));
        assert_eq!(pool.latest_vote(&tree, &AccountId([0; 32])), Some(a1.block));
        assert!(matches!(pool.insert(vote(0, b1, 0)), VoteInsert::Equivocation(_)));
        assert_eq!(pool.latest_vote(&tree, &AccountId([0; 32])), None);
        assert_eq!((pool.on(&tree, &a1.block).len(), pool.on(&tree, &b1.block).len()), (1, 1));
        let third = Checkpoint { height: 1, block: Hash32([77; 32]) };
        assert_eq!(pool.insert(vote(0, third, 0)), VoteInsert::Known, "two are evidence enough");
        // A vote that surrounds another is evidence too.
        pool.insert(vote(1, Checkpoint { height: 5, block: Hash32([5; 32]) }, 4));
        let around = vote(1, Checkpoint { height: 9, block: Hash32([9; 32]) }, 2);
        assert!(matches!(pool.insert(around), VoteInsert::Equivocation(_)));
        assert_eq!(pool.equivocators().len(), 2);
    }

    #[test]
    fn a_vote_for_a_pruned_block_falls_back_to_the_one_before() {
        let (mut tree, mut pool) = seven();
        let a1 = grow(&mut tree, root().block, 1, root());
        let a2 = grow(&mut tree, a1.block, 1, a1);
        let lost = Checkpoint { height: 3, block: Hash32([42; 32]) };
        pool.insert(vote(0, a2, 1));
        pool.insert(vote(0, lost, 1));
        assert_eq!(pool.latest_vote(&tree, &AccountId([0; 32])), Some(a2.block));
    }

    #[test]
    fn certificates_are_for_the_highest_ancestor_with_a_quorum_above_the_justified_height() {
        let (mut tree, mut pool) = seven();
        let chain: Vec<Checkpoint> = (0..5).fold(vec![root()], |mut chain, _| {
            let parent = chain[chain.len() - 1].block;
            chain.push(grow(&mut tree, parent, 1, root()));
            chain
        });
        pool.follow(&tree);
        let tip = chain[5].block;
        assert_eq!(pool.certificate(&tree, &tip), None);
        for (height, votes) in [(2usize, 5u8), (3, 5), (4, 4), (5, 7)] {
            (0..votes).for_each(|seat| drop(pool.insert(vote(seat, chain[height], 0))));
        }
        let certificate = pool.certificate(&tree, &tip).unwrap();
        assert_eq!((certificate.height, certificate.votes.len()), (3, 5));
        assert!(certificate.votes.is_sorted_by_key(|v| v.message.seat));
        // The votes on the parent travel as votes; a branch with the same justified height needs none.
        let high = grow(&mut tree, tip, 1, chain[4]);
        assert_eq!(pool.certificate(&tree, &high.block).unwrap().height, 5);
        let higher = grow(&mut tree, tip, 2, chain[5]);
        assert_eq!(pool.certificate(&tree, &higher.block), None);
    }

    #[test]
    fn a_certificate_that_makes_the_justified_block_final_comes_first() {
        let (mut tree, mut pool) = seven();
        let a1 = grow(&mut tree, root().block, 1, root());
        let a2 = grow(&mut tree, a1.block, 1, a1);
        // From here on producers leave votes out: in all these states a1 is justified.
        let a3 = grow(&mut tree, a2.block, 1, a1);
        let a4 = grow(&mut tree, a3.block, 1, a1);
        let a5 = grow(&mut tree, a4.block, 1, a1);
        pool.follow(&tree);
        for block in [a2, a3, a4] {
            (0..5).for_each(|seat| drop(pool.insert(vote(seat, block, 1))));
        }
        assert_eq!(pool.certificate(&tree, &a5.block).unwrap().block, a2.block, "it makes a1 final");
        // Without a quorum on a2 nothing can be made final, and the highest lifts the justified height most.
        let mut pool = VotePool::default();
        pool.follow(&tree);
        for block in [a3, a4] {
            (0..5).for_each(|seat| drop(pool.insert(vote(seat, block, 1))));
        }
        assert_eq!(pool.certificate(&tree, &a5.block).unwrap().block, a4.block);
    }

    #[test]
    fn pruning_keeps_the_votes_on_the_root() {
        let (mut tree, mut pool) = seven();
        let a1 = grow(&mut tree, root().block, 1, root());
        let a2 = grow(&mut tree, a1.block, 1, a1);
        for (height, block) in BTreeMap::from([(1, a1), (2, a2)]) {
            pool.insert(vote(0, block, height - 1));
        }
        tree.finalise(&a2.block);
        pool.follow(&tree);
        assert_eq!(pool.above(0).map(|v| v.message.height).collect::<Vec<_>>(), [2]);
        assert_eq!(pool.insert(vote(1, a1, 0)), VoteInsert::Refused);
    }
}
