//! Searches without a pool, over the same landscape, on the same miners.
//!
//! A worker takes a network from its search, trains it in full, which takes its time at the worker's speed, and tells its
//! search. There are no messages, leases or checks here: these baselines have nothing to pay for coordination.

use std::collections::BTreeSet;

use podl_consensus::workload::{Architecture, Workload};
use podl_nas::search::{AnyStrategy, BoxError, Strategy, StrategyKind, reward_of};
use podl_nas::train::TrainingCosts;

use super::setup::VALIDATION_IMAGES;
use crate::partition::Subspace;
use crate::sim::{SimModel, SimSpec};
use crate::types::meets_bounds;

/// Proposals in a row after which a search counts as used up.
const PATIENCE: u32 = 20_000;

/// One search and the speeds of those who work for it, in training multiply-accumulates a second.
pub struct Team {
    strategy: AnyStrategy,
    seen: BTreeSet<Architecture>,
    workers: Vec<u64>,
}

impl Team {
    /// A search of a part of the space.
    ///
    /// # Errors
    /// [`BoxError`] when there is nothing to search.
    pub fn new(
        kind: StrategyKind,
        part: &Subspace,
        costs: TrainingCosts,
        seed: [u8; 32],
        workers: Vec<u64>,
    ) -> Result<Self, BoxError> {
        let strategy = AnyStrategy::new(kind, part.search_box()?, seed, Vec::new()).sparing(costs);
        Ok(Self { strategy, seen: BTreeSet::new(), workers })
    }

    /// The next feasible network that this search has not had.
    fn next(&mut self, work: &Workload) -> Option<Architecture> {
        for _ in 0..PATIENCE {
            let network = self.strategy.propose();
            if !meets_bounds(&network, work.input, work.bounds) {
                self.strategy.reject(&network);
            } else if self.seen.insert(network.clone()) {
                self.strategy.pending(&network);
                return Some(network);
            }
        }
        None
    }
}

/// Milliseconds until the first of the teams has a network of `target_ppm`; `limit_ms` when none has by then.
pub fn race(mut teams: Vec<Team>, spec: &SimSpec, target_ppm: u32, limit_ms: u64) -> u64 {
    let work = &spec.workload;
    let costs = TrainingCosts::of_task(work);
    let mut busy: BTreeSet<(u64, usize, usize, Architecture)> = BTreeSet::new();
    let mut idle: Vec<(u64, usize, usize)> = Vec::new();
    for (team, workers) in teams.iter().map(|t| t.workers.len()).enumerate() {
        idle.extend((0..workers).map(|worker| (0, team, worker)));
    }
    loop {
        for (now_ms, team, worker) in idle.drain(..) {
            let Some(group) = teams.get_mut(team) else { continue };
            let speed = group.workers.get(worker).copied().unwrap_or(1).max(1);
            if let Some(network) = group.next(work) {
                let macs = costs.of(&network).unwrap_or(u64::MAX);
                let ms = u128::from(macs) * u128::from(spec.full_images) * 1000 / u128::from(speed);
                let ms = u64::try_from(ms).unwrap_or(u64::MAX);
                busy.insert((now_ms.saturating_add(ms), team, worker, network));
            }
        }
        let Some((now_ms, team, worker, network)) = busy.pop_first() else { return limit_ms };
        let ppm = spec.landscape.accuracy_ppm(&network);
        if now_ms >= limit_ms || ppm >= target_ppm {
            return now_ms.min(limit_ms);
        }
        if let Some(group) = teams.get_mut(team) {
            let model = SimModel::train(&network, ppm, None, now_ms ^ (worker as u64) << 48, spec.full_images);
            let count = model.count(spec.full_images, "holdout", VALIDATION_IMAGES);
            group.strategy.report(&network, reward_of(count, VALIDATION_IMAGES));
        }
        idle.push((now_ms, team, worker));
    }
}
