//! The tree of valid blocks from the last final one on, and the rank of siblings.
//!
//! Owns what fork choice, voting and finality need of a block: its place, its rank and the consensus part of its state.
//! Bodies and state deltas stay with the chain.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podl_chain_spec::{AccountId, Hash32};

use crate::hash::{Domain, hash_value};
use crate::state::{Checkpoint, Meta};
use crate::types::{Block, BlockHash, Height, Outcome, OutcomeKind};

/// Rank of a block among its siblings; **less is better**. Steers votes and ties and is no validity rule
/// (docs/protocol.md, section 4): scored before idle with a key before void before idle; then higher count, fewer
/// MAC-bits, lower lot, lower view, lower hash. When a block arrived plays no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: u8,
    correct: Reverse<u32>,
    mac_bits: u64,
    lot: Hash32,
    view: u32,
    hash: BlockHash,
}

impl Rank {
    /// Rank of a block by what it claims; of a valid block the claims are true.
    pub fn of(block: &Block) -> Self {
        let header = &block.header.message;
        let rank = |class| Self {
            class,
            correct: Reverse(0),
            mac_bits: 0,
            lot: Hash32::ZERO,
            view: header.view,
            hash: header.hash(),
        };
        match &block.body.outcome {
            Outcome::Scored { opening, key, .. } => {
                // Neither salt nor artefact enters the lot, so a miner cannot draw again; the key and the parent are
                // unknown when it commits.
                let seed = key.as_ref().map_or(header.parent, |key| Hash32(key.0));
                let lot = hash_value(Domain::RankTie, &(seed, header.producer));
                Self { correct: Reverse(opening.correct), mac_bits: opening.mac_bits, lot, ..rank(0) }
            }
            Outcome::Idle { key: Some(_) } => rank(1),
            Outcome::Void { .. } => rank(2),
            Outcome::Idle { key: None } => rank(3),
        }
    }

    /// Whether a model was scored.
    pub const fn is_scored(&self) -> bool {
        self.class == 0
    }
}

/// What the tree knows of a valid block.
#[derive(Clone, Debug)]
pub struct TreeBlock {
    /// Its name.
    pub hash: BlockHash,
    /// The block before.
    pub parent: BlockHash,
    /// Its height.
    pub height: Height,
    /// Kind of its outcome.
    pub kind: OutcomeKind,
    /// Fallback view that it was proposed in.
    pub view: u32,
    /// Who made it.
    pub producer: AccountId,
    /// Its rank among its siblings.
    pub rank: Rank,
    /// Consensus part of the state after it.
    pub meta: Arc<Meta>,
}

impl TreeBlock {
    /// The tree's part of a valid block, with the state after it.
    pub fn new(block: &Block, meta: Arc<Meta>) -> Self {
        let header = &block.header.message;
        Self {
            hash: block.hash(),
            parent: header.parent,
            height: header.height,
            kind: header.kind,
            view: header.view,
            producer: header.producer,
            rank: Rank::of(block),
            meta,
        }
    }

    /// Its height and hash.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { height: self.height, block: self.hash }
    }
}

/// A block that the tree cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Its parent is not in the tree: unknown, or on a branch that lost.
    #[error("block {block:?} at height {height}: its parent {parent:?} is not in the tree")]
    UnknownParent {
        /// The block.
        block: BlockHash,
        /// Its height.
        height: Height,
        /// Its parent.
        parent: BlockHash,
    },
    /// Its height does not follow its parent's.
    #[error("block {block:?} has height {got}, expected {expected}")]
    Height {
        /// The block.
        block: BlockHash,
        /// Height it claims.
        got: Height,
        /// One more than its parent's.
        expected: Height,
    },
}

/// Valid blocks that descend from the last final one, which is the root.
#[derive(Clone, Debug)]
pub struct BlockTree {
    root: Checkpoint,
    root_meta: Arc<Meta>,
    blocks: BTreeMap<BlockHash, TreeBlock>,
    children: BTreeMap<BlockHash, BTreeSet<BlockHash>>,
    /// Highest justified block in any state, if it is in the tree; else the root.
    justified: Checkpoint,
}

impl BlockTree {
    /// A tree that holds only the last final block, with the state after it.
    pub fn new(root: Checkpoint, root_meta: Arc<Meta>) -> Self {
        Self { root, root_meta, blocks: BTreeMap::new(), children: BTreeMap::new(), justified: root }
    }

    /// The last final block.
    pub fn root(&self) -> Checkpoint {
        self.root
    }

    /// Consensus part of the state of the last final block.
    pub fn root_meta(&self) -> &Arc<Meta> {
        &self.root_meta
    }

    /// Number of blocks above the root.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether the block is the root or above it.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        *hash == self.root.block || self.blocks.contains_key(hash)
    }

    /// A block above the root.
    pub fn block(&self, hash: &BlockHash) -> Option<&TreeBlock> {
        self.blocks.get(hash)
    }

    /// All blocks above the root, in order of their hashes.
    pub fn blocks(&self) -> impl Iterator<Item = &TreeBlock> {
        self.blocks.values()
    }

    /// Consensus part of the state after a block of the tree, the root included.
    pub fn meta(&self, hash: &BlockHash) -> Option<&Arc<Meta>> {
        if *hash == self.root.block { Some(&self.root_meta) } else { self.blocks.get(hash).map(|b| &b.meta) }
    }

    /// Height of a block of the tree, the root included.
    pub fn height(&self, hash: &BlockHash) -> Option<Height> {
        if *hash == self.root.block { Some(self.root.height) } else { self.blocks.get(hash).map(|b| b.height) }
    }

    /// Valid children of a block.
    pub fn children(&self, hash: &BlockHash) -> impl Iterator<Item = &TreeBlock> {
        self.children.get(hash).into_iter().flatten().filter_map(|child| self.blocks.get(child))
    }

    /// Highest block of the tree that the state of any of its blocks calls justified; the root if there is none. Of two
    /// at one height, which takes more equivocating seats than a third, the one with the lower hash.
    pub fn justified(&self) -> Checkpoint {
        self.justified
    }

    /// The block and its ancestors down to the root, which is not among them.
    pub fn branch(&self, hash: &BlockHash) -> impl Iterator<Item = &TreeBlock> {
        std::iter::successors(self.blocks.get(hash), |block| self.blocks.get(&block.parent))
    }

    /// Whether `ancestor` is `block` or one of its ancestors. Blocks outside the tree are nobody's ancestors.
    pub fn is_ancestor(&self, ancestor: &BlockHash, block: &BlockHash) -> bool {
        if *ancestor == self.root.block {
            return self.contains(block);
        }
        let Some(height) = self.height(ancestor) else { return false };
        self.branch(block).take_while(|b| b.height >= height).any(|b| b.hash == *ancestor)
    }

    /// Adds a valid block. Adding it again changes nothing.
    ///
    /// # Errors
    /// [`TreeError`] when its parent is not there or its height does not follow.
    pub fn insert(&mut self, block: TreeBlock) -> Result<(), TreeError> {
        if self.contains(&block.hash) {
            return Ok(());
        }
        let Some(parent_height) = self.height(&block.parent) else {
            return Err(TreeError::UnknownParent { block: block.hash, height: block.height, parent: block.parent });
        };
        if Some(block.height) != parent_height.checked_add(1) {
            let expected = parent_height.saturating_add(1);
            return Err(TreeError::Height { block: block.hash, got: block.height, expected });
        }
        let justified = block.meta.justified;
        self.children.entry(block.parent).or_default().insert(block.hash);
        self.blocks.insert(block.hash, block);
        self.raise_justified(justified);
        Ok(())
    }

    fn raise_justified(&mut self, justified: Checkpoint) {
        let key = |c: &Checkpoint| (c.height, Reverse(c.block));
        if self.contains(&justified.block) && key(&justified) > key(&self.justified) {
            self.justified = justified;
        }
    }

    /// Makes a block of the tree the last final one and drops all that does not descend from it. Returns the blocks that
    /// became final, lowest first; none if the block is not in the tree, because finality on another branch never
    /// makes a node switch.
    pub fn finalise(&mut self, hash: &BlockHash) -> Vec<TreeBlock> {
        let mut newly_final: Vec<TreeBlock> = self.branch(hash).cloned().collect();
        newly_final.reverse();
        let Some(last) = newly_final.last() else { return Vec::new() };
        (self.root, self.root_meta) = (last.checkpoint(), last.meta.clone());
        let mut kept = BTreeMap::new();
        let mut stack: Vec<BlockHash> = self.children.get(hash).into_iter().flatten().copied().collect();
        while let Some(next) = stack.pop() {
            stack.extend(self.children.get(&next).into_iter().flatten().copied());
            kept.extend(self.blocks.remove_entry(&next));
        }
        self.children.retain(|parent, _| parent == hash || kept.contains_key(parent));
        self.blocks = kept;
        self.justified = self.root;
        let justified: Vec<Checkpoint> = self.blocks.values().map(|b| b.meta.justified).collect();
        justified.into_iter().for_each(|j| self.raise_justified(j));
        newly_final
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use podl_chain_spec::Amount;

    use super::*;
    use crate::signed::{Signature, Signed};
    use crate::state::{Seat, SeatSets};
    use crate::types::{Body, ClosingSet, Header, Opening, ShardKey};

    pub(crate) fn meta(height: Height, justified: Checkpoint, seats: u8) -> Arc<Meta> {
        let seat = |n: u8| Seat { account: AccountId([n; 32]), bond: Amount::ZERO, since: 0, last_vote: 0 };
        let sets = SeatSets {
            current: (0..seats).map(seat).collect(),
            previous: (0..seats).map(|n| AccountId([n; 32])).collect(),
        };
        Arc::new(Meta {
            height,
            time_ms: 0,
            justified,
            finalised: Checkpoint { height: 0, block: Hash32::ZERO },
            seats_log: vec![(0, sets.clone())],
            seats: sets,
            justified_log: vec![(0, 0)],
            winners: Vec::new(),
            supply: Amount::ZERO,
            minted: Amount::ZERO,
            burned: Amount::ZERO,
        })
    }

    pub(crate) fn block(parent: BlockHash, height: Height, producer: u8, outcome: Outcome, view: u32) -> Block {
        let body = Body { votes: Vec::new(), certificate: None, outcome, transactions: Vec::new() };
        let header = Header {
            chain: Hash32::ZERO,
            height,
            parent,
            time_ms: 0,
            kind: body.outcome.kind(),
            view,
            task: Hash32::ZERO,
            round: 0,
            producer: AccountId([producer; 32]),
            body_root: body.root(),
            state_root: Hash32::ZERO,
        };
        Block { header: Signed { message: header, signature: Signature([0; 64]) }, body }
    }

    pub(crate) fn scored(correct: u32, mac_bits: u64, key: Option<ShardKey>) -> Outcome {
        let opening = Opening { model_root: Hash32::ZERO, artefact_bytes: 1, salt: [0; 32], correct, mac_bits };
        Outcome::Scored { closings: ClosingSet::default(), opening, key }
    }

    pub(crate) fn root() -> Checkpoint {
        Checkpoint { height: 0, block: Hash32([255; 32]) }
    }

    /// Grows a tree by one idle block whose state calls `justified` justified.
    pub(crate) fn grow(tree: &mut BlockTree, parent: BlockHash, producer: u8, justified: Checkpoint) -> Checkpoint {
        let height = tree.height(&parent).unwrap() + 1;
        let block = TreeBlock::new(
            &block(parent, height, producer, Outcome::Idle { key: None }, 0),
            meta(height, justified, 7),
        );
        let checkpoint = block.checkpoint();
        tree.insert(block).unwrap();
        checkpoint
    }

    #[test]
    fn siblings_rank_by_kind_count_cost_lot_view_and_hash() {
        let key = ShardKey([7; 32]);
        let rank = |producer, outcome, view| Rank::of(&block(Hash32::ZERO, 1, producer, outcome, view));
        let idle = || Outcome::Idle { key: None };
        let order = [
            rank(1, scored(10, 5, None), 0),
            rank(1, scored(10, 6, None), 0),
            rank(1, scored(9, 1, None), 0),
            rank(1, Outcome::Idle { key: Some(key) }, 5),
            rank(1, Outcome::Void { closings: ClosingSet::default() }, 0),
            rank(1, idle(), 0),
            rank(1, idle(), 1),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
        // Equal claims: the lot decides, and it follows key, parent and owner only.
        let (one, two) = (rank(1, scored(3, 3, Some(key)), 0), rank(2, scored(3, 3, Some(key)), 0));
        assert_eq!(one < two, one.lot < two.lot);
        assert_ne!(one.lot, rank(1, scored(3, 3, None), 0).lot);
        assert_eq!(one.lot, rank(1, scored(4, 1, Some(key)), 3).lot);
    }

    #[test]
    fn the_tree_takes_only_children_of_its_blocks() {
        let mut tree = BlockTree::new(root(), meta(0, root(), 7));
        let orphan = TreeBlock::new(&block(Hash32([9; 32]), 1, 0, Outcome::Idle { key: None }, 0), meta(1, root(), 7));
        assert!(matches!(tree.insert(orphan), Err(TreeError::UnknownParent { .. })));
        let tall = TreeBlock::new(&block(root().block, 2, 0, Outcome::Idle { key: None }, 0), meta(2, root(), 7));
        let hash = tall.hash;
        assert_eq!(tree.insert(tall), Err(TreeError::Height { block: hash, got: 2, expected: 1 }));
        let one = grow(&mut tree, root().block, 1, root());
        assert_eq!(grow(&mut tree, root().block, 1, root()), one, "again");
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn finalising_drops_other_branches_and_keeps_descendants() {
        let mut tree = BlockTree::new(root(), meta(0, root(), 7));
        let a1 = grow(&mut tree, root().block, 1, root());
        let b1 = grow(&mut tree, root().block, 2, root());
        let b2 = grow(&mut tree, b1.block, 2, b1);
        let a2 = grow(&mut tree, a1.block, 1, a1);
        let a3 = grow(&mut tree, a2.block, 1, a2);
        assert!(tree.is_ancestor(&a1.block, &a3.block) && !tree.is_ancestor(&b1.block, &a3.block));
        assert!(tree.is_ancestor(&root().block, &a3.block) && !tree.is_ancestor(&a3.block, &a1.block));
        assert_eq!(tree.justified(), a2);
        let newly: Vec<Checkpoint> = tree.finalise(&a1.block).iter().map(TreeBlock::checkpoint).collect();
        assert_eq!((newly, tree.root(), tree.len()), (vec![a1], a1, 2));
        assert!(!tree.contains(&b2.block) && !tree.contains(&root().block));
        assert_eq!(tree.justified(), a2);
        assert!(tree.finalise(&b2.block).is_empty(), "finality on another branch");
        assert_eq!(tree.finalise(&a3.block).len(), 2);
        assert_eq!((tree.justified(), tree.is_empty()), (a3, true));
        assert_eq!(tree.children(&a3.block).count(), 0);
    }
}
