//! One simulated node: real machine, guard and chain, and a clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, ChainSpec, Hash32};
use podl_consensus::guard::Guard;
use podl_consensus::interval::IntervalMachine;
use podl_consensus::signed::{Signed, account_of};
use podl_consensus::types::{BlockHash, Commitment, Opening};
use podl_consensus::verified::{Verified, VerifiedBlock};

use super::ledger::Ledger;
use super::setup::Conduct;

/// A monotonic clock that started at some time and runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it showed at virtual time 0.
    pub offset_ms: u64,
    /// Parts in a million that it gains (or loses, below a million).
    pub rate_ppm: u64,
}

impl Clock {
    /// What it shows at a virtual time.
    pub fn local(&self, virtual_ms: u64) -> u64 {
        self.offset_ms + virtual_ms * self.rate_ppm / 1_000_000
    }

    /// The first virtual time at which it shows this or more.
    pub fn virtual_of(&self, local_ms: u64) -> u64 {
        (local_ms.saturating_sub(self.offset_ms) * 1_000_000).div_ceil(self.rate_ppm)
    }
}

/// What the node may open in an interval.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its commitment.
    pub commitment: Verified<Signed<Commitment>>,
    /// What opens it.
    pub opening: Opening,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its account, which mines and may hold a seat.
    pub account: AccountId,
    /// The account's key.
    pub key: SigningKey,
    /// Its clock.
    pub clock: Clock,
    /// How it behaves.
    pub conduct: Conduct,
    /// None while it is down.
    pub machine: Option<IntervalMachine>,
    /// In memory; after a restart it is what was persisted.
    pub guard: Guard,
    /// On disk.
    pub guard_disk: Vec<u8>,
    /// On disk.
    pub ledger: Ledger,
    /// Every block that it found valid, for peers that are behind. On disk.
    pub archive: BTreeMap<BlockHash, VerifiedBlock>,
    /// What it committed to, by parent. Lost in a crash.
    pub own: BTreeMap<BlockHash, Vec<Own>>,
    /// Parents on which it mines or refrains, so that each is considered once.
    pub mined: VecDeque<BlockHash>,
    /// Counts starts, so that what belongs to an earlier life is dropped.
    pub life: u32,
    /// Virtual time of the one valid timer.
    pub timer_ms: u64,
}

impl Node {
    /// A node that never ran.
    pub fn new(key: SigningKey, clock: Clock, conduct: Conduct, ledger: Ledger) -> Self {
        let account = account_of(&key);
        let guard = Guard::new(account);
        let guard_disk = guard.record().to_bytes();
        Self {
            account,
            key,
            clock,
            conduct,
            machine: None,
            guard,
            guard_disk,
            ledger,
            archive: BTreeMap::new(),
            own: BTreeMap::new(),
            mined: VecDeque::new(),
            life: 0,
            timer_ms: u64::MAX,
        }
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// Dies: memory is gone.
    pub fn crash(&mut self) {
        self.machine = None;
        self.own.clear();
        self.mined.clear();
        self.life += 1;
        self.timer_ms = u64::MAX;
    }

    /// Starts from what is on disk. The blocks above the final one are for the caller to give to the machine.
    ///
    /// # Panics
    /// When the guard's record is damaged, which the simulated disk never does.
    pub fn start(&mut self, spec: &ChainSpec) -> Vec<(VerifiedBlock, Arc<podl_consensus::state::Meta>)> {
        self.guard = Guard::restore(self.account, &self.guard_disk).expect("the record that was persisted");
        let (root, meta, above) = self.ledger.reload();
        self.machine = Some(IntervalMachine::new(spec, root, meta, Some(&self.guard)));
        above
    }

    /// The block, valid or not yet checked, if the node has it.
    pub fn block(&self, hash: &Hash32) -> Option<VerifiedBlock> {
        let held = || self.machine.as_ref().and_then(|machine| machine.candidate(hash));
        self.archive.get(hash).cloned().or_else(held)
    }

    /// A block with its ancestors above a height, lowest first, as far as the node has them.
    pub fn branch_above(&self, hash: &Hash32, height: u64) -> Vec<VerifiedBlock> {
        let mut blocks: Vec<_> = std::iter::successors(self.block(hash), |block| self.block(&block.parent()))
            .take_while(|block| block.height() > height)
            .collect();
        blocks.reverse();
        blocks
    }
}
