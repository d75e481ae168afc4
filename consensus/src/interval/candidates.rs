//! Candidates and fallback proposals of one interval, and the order in which they are checked.
//!
//! Bounded in producers, in blocks of one producer and in bytes. What is dropped here is not lost: once a seat votes for
//! it, it is fetched by its hash and kept whatever else there is.

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::AccountId;

use crate::codec;
use crate::tree::Rank;
use crate::types::{Block, BlockHash};
use crate::verified::VerifiedBlock;

/// Blocks taken of one producer on one parent. Honest keys sign one; a second one is the evidence, a third says no more.
pub const BLOCKS_PER_PRODUCER: usize = 2;
/// Bytes of scored candidates kept on one parent: 32 full blocks, or hundreds of usual ones.
pub(super) const SCORED_BYTES: usize = 64 << 20;

/// How far the checking of a block got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Not asked for.
    Waiting,
    /// Asked for, no answer yet.
    Running,
    /// Valid, in the tree.
    Valid,
    /// Not valid.
    Refused,
    /// Lacks blobs; asked for again at this time.
    Unavailable {
        /// When.
        retry: u64,
    },
}

/// A block on the interval's parent.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub hash: BlockHash,
    pub block: VerifiedBlock,
    pub rank: Rank,
    /// Encoded.
    pub bytes: usize,
    /// When it came.
    pub arrived: u64,
    pub check: Check,
}

impl Candidate {
    pub fn view(&self) -> u32 {
        self.block.header.message.view
    }

    pub fn producer(&self) -> AccountId {
        self.block.header.message.producer
    }

    /// Whether it may be dropped for want of room. Fallback proposals are few, those of seats; valid blocks are in the
    /// tree all the same; one that is being checked will soon be one or the other.
    fn is_spare(&self) -> bool {
        self.rank.is_scored() && !matches!(self.check, Check::Running | Check::Valid)
    }

    /// Whether it may be asked for now.
    fn is_due(&self, now: u64) -> bool {
        match self.check {
            Check::Waiting => true,
            Check::Unavailable { retry } => retry <= now,
            Check::Running | Check::Valid | Check::Refused => false,
        }
    }
}

/// All blocks known on the interval's parent.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    blocks: BTreeMap<BlockHash, Candidate>,
    /// How many blocks of each producer were taken, dropped ones counted in.
    taken: BTreeMap<AccountId, usize>,
    /// What was dropped for want of room, so that it is not taken again and again.
    dropped: BTreeSet<BlockHash>,
}

impl Candidates {
    /// Notes a block. Returns whether it is new and within the bounds: scored ones of `most_scored` producers, and two
    /// blocks of each producer. Fallback proposals are bounded by their producers, who are seats, so candidates cannot
    /// crowd them out. Blocks that somebody voted for (at most two votes count of a seat) are taken beyond all bounds:
    /// fork choice needs them.
    pub fn add(&mut self, block: VerifiedBlock, now: u64, most_scored: usize, is_voted: bool) -> bool {
        let (hash, producer, rank) = (block.hash(), block.header.message.producer, Rank::of(&block));
        let of_producer = self.taken.get(&producer).copied().unwrap_or_default();
        let crowded = rank.is_scored() && !self.has_scored_by(&producer) && self.scored_producers() >= most_scored;
        let full = of_producer >= BLOCKS_PER_PRODUCER || crowded || self.dropped.contains(&hash);
        if self.blocks.contains_key(&hash) || (full && !is_voted) {
            return false;
        }
        *self.taken.entry(producer).or_default() += 1;
        self.dropped.remove(&hash);
        let bytes = codec::encode(&**block).len();
        self.blocks.insert(hash, Candidate { hash, block, rank, bytes, arrived: now, check: Check::Waiting });
        self.make_room(is_voted.then_some(hash));
        self.blocks.contains_key(&hash)
    }

    fn scored_producers(&self) -> usize {
        let scored = self.blocks.values().filter(|c| c.rank.is_scored());
        scored.map(Candidate::producer).collect::<BTreeSet<_>>().len()
    }

    /// Drops scored candidates until the rest is within the bytes: refuted ones first, then the largest, so that whoever
    /// would crowd others out with bytes loses his own; among equals the one that claims least.
    fn make_room(&mut self, kept: Option<BlockHash>) {
        while self.spare_bytes() > SCORED_BYTES {
            let spare = self.blocks.values().filter(|c| c.is_spare() && Some(c.hash) != kept);
            let worst = spare.max_by_key(|c| (c.check == Check::Refused, c.bytes, c.rank)).map(|c| c.hash);
            let Some(worst) = worst else { return };
            self.blocks.remove(&worst);
            self.dropped.insert(worst);
        }
    }

    /// Bytes of the blocks that are held here only.
    pub fn spare_bytes(&self) -> usize {
        self.blocks.values().filter(|c| c.is_spare()).map(|c| c.bytes).sum()
    }

    /// Notes that a block is valid, whether or not it was known.
    pub fn set_valid(&mut self, block: VerifiedBlock, now: u64) {
        let (hash, rank) = (block.hash(), Rank::of(&block));
        if let Some(known) = self.blocks.get_mut(&hash) {
            known.check = Check::Valid;
            return;
        }
        *self.taken.entry(block.header.message.producer).or_default() += 1;
        // Its bytes never count: they are the tree's.
        self.blocks.insert(hash, Candidate { hash, block, rank, bytes: 0, arrived: now, check: Check::Valid });
    }

    /// Notes the answer to a check.
    pub fn set(&mut self, hash: &BlockHash, check: Check) {
        if let Some(candidate) = self.blocks.get_mut(hash).filter(|c| c.check != Check::Valid) {
            candidate.check = check;
        }
    }

    pub fn get(&self, hash: &BlockHash) -> Option<&Candidate> {
        self.blocks.get(hash)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.blocks.values()
    }

    /// Whether the owner has shown a scored candidate, valid or not.
    pub fn has_scored_by(&self, owner: &AccountId) -> bool {
        self.blocks.values().any(|c| c.rank.is_scored() && c.producer() == *owner)
    }

    /// Another block of the same producer, which together with this one is evidence.
    pub fn twin(&self, block: &Block) -> Option<&VerifiedBlock> {
        let (hash, producer) = (block.hash(), block.header.message.producer);
        self.blocks.values().find(|c| c.producer() == producer && c.hash != hash).map(|c| &c.block)
    }

    /// Marks the best-ranked block that `wanted` wants and that may be checked now as running, and returns it. At most
    /// `parallel` scored ones run at a time; the others cost no scoring.
    pub fn next_check(
        &mut self,
        now: u64,
        parallel: usize,
        wanted: impl Fn(&Candidate) -> bool,
    ) -> Option<VerifiedBlock> {
        let running = self.blocks.values().filter(|c| c.check == Check::Running && c.rank.is_scored()).count();
        let free = |c: &Candidate| !c.rank.is_scored() || running < parallel;
        let due = self.blocks.values_mut().filter(|c| c.is_due(now) && free(c) && wanted(c));
        let next = due.min_by_key(|c| c.rank)?;
        next.check = Check::Running;
        Some(next.block.clone())
    }

    /// Whether the best-ranked scored candidates that came in time have been checked, down to the first valid one.
    pub fn best_is_checked(&self, in_time: impl Fn(&Candidate) -> bool) -> bool {
        let mut scored: Vec<&Candidate> = self.blocks.values().filter(|c| c.rank.is_scored() && in_time(c)).collect();
        scored.sort_by_key(|c| c.rank);
        let undecided = scored.into_iter().find(|c| c.check != Check::Refused);
        undecided.is_none_or(|c| c.check == Check::Valid)
    }

    /// Ranks that blocks claim which are not known to be invalid.
    pub fn unrefuted(&self) -> impl Iterator<Item = &Rank> {
        self.blocks.values().filter(|c| c.check != Check::Refused).map(|c| &c.rank)
    }

    /// When an unavailable block is asked for again.
    pub fn retries(&self) -> impl Iterator<Item = u64> {
        self.blocks.values().filter_map(|c| match c.check {
            Check::Unavailable { retry } => Some(retry),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::signed::Signature;
    use crate::testkit::{Harness, account, small_spec, unchecked};
    use crate::types::{BatchPayment, Outcome, Payment, SignedTransaction, Transaction, TransactionKind};
    use podl_chain_spec::{Amount, Hash32};

    const MANY: usize = 64;

    /// A candidate of a miner that claims `correct` and has about so many bytes.
    fn block(h: &mut Harness, owner: u64, correct: u32, bytes: usize) -> VerifiedBlock {
        let (genesis, parts) = (h.genesis(), h.parts(h.genesis()));
        let mut block = h.scored(genesis, owner, correct, parts);
        let payments = vec![Payment { to: account(1), amount: Amount(1) }; bytes / 33];
        let batch = BatchPayment { block: Hash32::ZERO, shares_root: Hash32::ZERO, payments };
        let message =
            Transaction { sender: account(1), nonce: 0, fee: Amount(1), kind: TransactionKind::BatchPayout(batch) };
        block.body.transactions = vec![SignedTransaction { message, signature: Signature([0; 64]) }];
        Arc::new(unchecked(block))
    }

    fn refute(candidates: &mut Candidates, block: &Block) {
        candidates.set(&block.hash(), Check::Refused);
    }

    #[test]
    fn bytes_are_bounded_and_who_is_small_stays() {
        let (mut h, mut candidates) = (Harness::new(small_spec(4, 24)), Candidates::default());
        let honest = block(&mut h, 10, 30, 1000);
        assert!(candidates.add(honest.clone(), 0, MANY, false));
        // Three times what there is room for, all claiming more.
        for n in 0..96u32 {
            let large = block(&mut h, 11 + u64::from(n % 50), 50 + n % 40, 2 << 20);
            candidates.add(large, 0, MANY, false);
            assert!(candidates.spare_bytes() <= SCORED_BYTES);
        }
        assert!(candidates.spare_bytes() > SCORED_BYTES - (3 << 20), "the room is used");
        assert!(candidates.get(&honest.hash()).is_some());
    }

    #[test]
    fn refuted_ones_go_first_and_nothing_dropped_comes_back_by_itself() {
        let (mut h, mut candidates) = (Harness::new(small_spec(4, 60)), Candidates::default());
        let small = block(&mut h, 10, 99, 1000);
        let mut large: Vec<VerifiedBlock> = (0..31).map(|n| block(&mut h, 11 + n, 50, 2 << 20)).collect();
        large.sort_by_key(|block| Rank::of(block));
        assert!(candidates.add(small.clone(), 0, MANY, false));
        assert!(large.iter().all(|block| candidates.add(block.clone(), 0, MANY, false)));
        refute(&mut candidates, &small);
        refute(&mut candidates, &large[0]);
        let better = block(&mut h, 50, 80, 3 << 20);
        assert!(candidates.add(better.clone(), 0, MANY, false));
        assert!(candidates.get(&large[0].hash()).is_none(), "the larger of the refuted ones");
        assert!(!candidates.add(large[0].clone(), 0, MANY, false));
        assert!(candidates.add(large[0].clone(), 0, MANY, true), "unless a seat voted for it");
        assert!(candidates.get(&small.hash()).is_none(), "the other refuted one");
        assert!(candidates.spare_bytes() <= SCORED_BYTES);
        // Of the rest, which are as large as each other, the one that claims least goes when one more comes.
        let last = block(&mut h, 51, 70, 2 << 20);
        assert!(candidates.add(last, 0, MANY, false));
        assert!(candidates.spare_bytes() <= SCORED_BYTES);
    }

    #[test]
    fn producers_are_bounded_and_twins_take_nobody_elses_place() {
        let (mut h, mut candidates) = (Harness::new(small_spec(4, 60)), Candidates::default());
        for owner in 10..13 {
            for _ in 0..4 {
                let block = block(&mut h, owner, 40, 100);
                candidates.add(block, 0, 4, false);
            }
        }
        assert_eq!(candidates.iter().count(), 3 * BLOCKS_PER_PRODUCER);
        assert!(candidates.add(block(&mut h, 13, 40, 100), 0, 4, false), "a fourth producer");
        assert!(!candidates.add(block(&mut h, 14, 40, 100), 0, 4, false), "a fifth of four");
        let idle = h.idle(h.genesis(), 0, None, h.parts(h.genesis()));
        assert!(candidates.add(Arc::new(unchecked(idle)), 0, 4, false), "proposals of seats are apart");
    }

    #[test]
    fn valid_blocks_cost_no_room_and_are_never_dropped() {
        let (mut h, mut candidates) = (Harness::new(small_spec(4, 60)), Candidates::default());
        let valid: Vec<VerifiedBlock> = (0..40).map(|n| block(&mut h, 11 + n, 50, 2 << 20)).collect();
        valid.iter().for_each(|block| candidates.set_valid(block.clone(), 0));
        assert_eq!(candidates.spare_bytes(), 0);
        assert!(candidates.add(block(&mut h, 59, 50, 2 << 20), 0, 60, false));
        assert!(valid.iter().all(|block| candidates.get(&block.hash()).is_some()));
        assert!(matches!(valid[0].body.outcome, Outcome::Scored { .. }));
    }
}
