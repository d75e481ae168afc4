//! Fork choice by latest votes (docs/protocol.md, section 6).
//!
//! Each seat of the last final state counts once, for the block of its highest vote that the tree knows and for that
//! block's ancestors. Weight is never summed along a chain: a private chain could be as long as it likes.

use std::collections::BTreeMap;

use podl_chain_spec::AccountId;

use crate::state::Checkpoint;
use crate::tree::BlockTree;
use crate::types::BlockHash;

/// Where a seat's vote counts.
pub trait LatestVotes {
    /// The block of the seat's highest vote whose block is in the tree with the justified height that the vote names;
    /// `None` if there is none, or if the seat was caught equivocating.
    fn latest_vote(&self, tree: &BlockTree, seat: &AccountId) -> Option<BlockHash>;
}

/// The head: from the highest justified block known, at each fork the child with more seats behind it, ties by rank.
pub fn choose_head(tree: &BlockTree, votes: &impl LatestVotes) -> Checkpoint {
    let start = tree.justified();
    let mut behind: BTreeMap<BlockHash, usize> = BTreeMap::new();
    for seat in &tree.root_meta().seats.current {
        if let Some(block) = votes.latest_vote(tree, &seat.account) {
            for block in tree.branch(&block).take_while(|b| b.height > start.height) {
                *behind.entry(block.hash).or_default() += 1;
            }
        }
    }
    let mut head = start;
    let weight = |hash: &BlockHash| behind.get(hash).copied().unwrap_or(0);
    while let Some(best) = tree.children(&head.block).max_by(|a, b| {
        // A lower rank is better.
        weight(&a.hash).cmp(&weight(&b.hash)).then_with(|| b.rank.cmp(&a.rank))
    }) {
        head = best.checkpoint();
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{grow, meta, root};

    /// Votes by seat number.
    struct Votes(BTreeMap<u8, Checkpoint>);

    impl LatestVotes for Votes {
        fn latest_vote(&self, _: &BlockTree, seat: &AccountId) -> Option<BlockHash> {
            self.0.get(&seat.0[0]).map(|c| c.block)
        }
    }

    fn votes(given: &[(u8, Checkpoint)]) -> Votes {
        Votes(given.iter().copied().collect())
    }

    #[test]
    fn without_votes_rank_decides() {
        let mut tree = BlockTree::new(root(), meta(0, root(), 7));
        assert_eq!(choose_head(&tree, &votes(&[])), root());
        let siblings = [1, 2, 3].map(|producer| grow(&mut tree, root().block, producer, root()));
        let best = siblings.iter().min_by_key(|c| tree.block(&c.block).unwrap().rank).unwrap();
        assert_eq!(choose_head(&tree, &votes(&[])), *best);
    }

    #[test]
    fn each_seat_counts_once_for_its_latest_block_and_its_ancestors() {
        let mut tree = BlockTree::new(root(), meta(0, root(), 7));
        let a1 = grow(&mut tree, root().block, 1, root());
        let b1 = grow(&mut tree, root().block, 2, root());
        // A private chain, however long, weighs as much as its two voters.
        let mut private = b1;
        for _ in 0..20 {
            private = grow(&mut tree, private.block, 2, root());
        }
        let a2 = grow(&mut tree, a1.block, 1, root());
        let given = [(0, a2), (1, a1), (2, a2), (3, private), (4, private)];
        assert_eq!(choose_head(&tree, &votes(&given)), a2);
        // Strangers do not count.
        let given = [(0, a2), (3, private), (4, private), (20, a2), (21, a2)];
        assert_eq!(choose_head(&tree, &votes(&given)), private);
    }

    #[test]
    fn the_highest_justified_block_beats_any_number_of_votes() {
        let mut tree = BlockTree::new(root(), meta(0, root(), 7));
        let a1 = grow(&mut tree, root().block, 1, root());
        let b1 = grow(&mut tree, root().block, 2, root());
        let given: Vec<_> = (0..7).map(|seat| (seat, a1)).collect();
        assert_eq!(choose_head(&tree, &votes(&given)), a1);
        let b2 = grow(&mut tree, b1.block, 2, b1);
        assert_eq!(choose_head(&tree, &votes(&given)), b2);
    }
}
