//! Verified work by interval and miner.

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::AccountId;
use podl_consensus::types::{Height, ModelRoot};
use serde::{Deserialize, Serialize};

use super::{LUCK_INTERVALS, PayScheme};
use crate::types::MinerId;

/// Intervals kept beyond the window: a block may be told of late, or another one of its height may win after a reorg.
const SPARE: usize = 16;
/// Most models noted in one interval, several times the commitments an owner has.
const MOST_MODELS: usize = 64;

/// What a miner did in one interval, or in a window of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work {
    /// Whom it had paid last.
    pub account: AccountId,
    /// Verified training multiply-accumulates.
    pub macs: u64,
    /// How far its best confirmed model is above chance.
    pub points: u64,
}

/// A model that the pool committed to, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub root: ModelRoot,
    pub miner: MinerId,
    pub account: AccountId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Interval {
    works: BTreeMap<MinerId, Work>,
    found: Vec<Found>,
}

/// The work of the latest intervals. They are named by height: intervals of one height on two branches are one chance to
/// win, since only one of their blocks stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intervals {
    kept: BTreeMap<Height, Interval>,
    current: Height,
    /// The last intervals with verified work, the current one too: [`LUCK_INTERVALS`] and one.
    worked: BTreeSet<Height>,
}

impl Intervals {
    /// New work belongs to the interval of this height from now on.
    pub fn begin(&mut self, height: Height, window: u16) {
        self.current = height;
        self.kept.entry(height).or_default();
        while self.kept.len() > usize::from(window).saturating_add(SPARE) {
            self.kept.pop_first();
        }
    }

    /// A block of this height was won: what is verified from now on has not taken part in that chance, and counts
    /// from the next one on.
    pub fn end(&mut self, height: Height) {
        self.note_worked(height);
        self.current = self.current.max(height.saturating_add(1));
    }

    fn note_worked(&mut self, height: Height) {
        self.worked.insert(height);
        if self.worked.len() > LUCK_INTERVALS + 1 {
            self.worked.pop_first();
        }
    }

    /// The last intervals with verified work that are over, latest first.
    pub fn worked(&self) -> impl Iterator<Item = Height> {
        self.worked.range(..self.current).rev().take(LUCK_INTERVALS).copied()
    }

    fn work(&mut self, miner: MinerId, account: AccountId) -> &mut Work {
        self.note_worked(self.current);
        let works = &mut self.kept.entry(self.current).or_default().works;
        let work = works.entry(miner).or_insert(Work { account, macs: 0, points: 0 });
        work.account = account;
        work
    }

    pub fn credit(&mut self, miner: MinerId, account: AccountId, macs: u64) {
        let work = self.work(miner, account);
        work.macs = work.macs.saturating_add(macs);
    }

    pub fn note_points(&mut self, miner: MinerId, account: AccountId, points: u64) {
        let work = self.work(miner, account);
        work.points = work.points.max(points);
    }

    pub fn note_model(&mut self, found: Found) {
        let models = &mut self.kept.entry(self.current).or_default().found;
        if models.len() < MOST_MODELS && models.iter().all(|f| f.root != found.root) {
            models.push(found);
        }
    }

    /// Takes everything of a miner and returns how many multiply-accumulates it was.
    pub fn forfeit(&mut self, miner: &MinerId) -> u64 {
        let mut taken: u64 = 0;
        for interval in self.kept.values_mut() {
            taken = taken.saturating_add(interval.works.remove(miner).map_or(0, |work| work.macs));
            interval.found.retain(|f| f.miner != *miner);
        }
        taken
    }

    /// Intervals in the window that ends with this height, latest first.
    fn window(&self, height: Height, window: u16) -> impl Iterator<Item = &Interval> {
        self.kept.range(..=height).rev().take(window.into()).map(|(_, interval)| interval)
    }

    /// What every miner did in the window that ends with this height, under its latest account.
    pub fn sums(&self, height: Height, window: u16) -> BTreeMap<MinerId, Work> {
        let mut sums: BTreeMap<MinerId, Work> = BTreeMap::new();
        for interval in self.window(height, window) {
            for (miner, work) in &interval.works {
                let sum = sums.entry(*miner).or_insert(Work { macs: 0, points: 0, ..*work });
                sum.macs = sum.macs.saturating_add(work.macs);
                sum.points = sum.points.max(work.points);
            }
        }
        sums
    }

    /// Intervals whose work the next block would pay.
    fn open(&self, window: u16) -> impl Iterator<Item = &Interval> {
        // Between a win and the next interval that one has its place already.
        let is_begun = self.kept.contains_key(&self.current);
        self.window(self.current, if is_begun { window } else { window.saturating_sub(1) })
    }

    /// A miner's work in the window that ends now.
    pub fn macs(&self, miner: &MinerId, window: u16) -> u64 {
        let works = self.open(window).filter_map(|interval| interval.works.get(miner));
        works.fold(0, |sum, work| sum.saturating_add(work.macs))
    }

    /// Whether a block still to be won could pay a miner.
    pub fn is_owed(&self, miner: &MinerId, window: u16) -> bool {
        self.open(window).any(|i| i.works.contains_key(miner) || i.found.iter().any(|f| f.miner == *miner))
    }

    /// The work of all in it.
    pub fn total_macs(&self, window: u16) -> u128 {
        let works = self.open(window).flat_map(|interval| interval.works.values());
        works.fold(0, |sum: u128, work| sum.saturating_add(work.macs.into()))
    }

    /// By what a block won now would pay a miner, and all together.
    pub fn weights(&self, miner: &MinerId, scheme: PayScheme) -> (u128, u128) {
        let weight = |work: &Work| u128::from(scheme.weight(work.macs, work.points));
        let open = || self.open(scheme.window());
        // Points are not summed over intervals, but theirs is a window of one.
        let own = open().filter_map(|interval| interval.works.get(miner)).map(weight);
        let all = open().flat_map(|interval| interval.works.values()).map(weight);
        (own.sum(), all.sum())
    }

    /// Whose a model is, if the pool committed to it at this height.
    pub fn finder(&self, height: Height, root: &ModelRoot) -> Option<Found> {
        self.kept.get(&height)?.found.iter().find(|f| f.root == *root).copied()
    }
}
