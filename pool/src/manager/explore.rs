//! Exploring: which networks are tried next, and on how many images.

use podl_consensus::workload::Architecture;
use podl_nas::train::TrainingCosts;

use super::Manager;
use super::assign::{Plan, train_images, within};
use super::outlook::FULL_PASSES;
use super::proposals::{Fit, Proposals, Rung, known_networks};
use super::search::{Search, architecture_name};
use super::units::SLACK_IMAGES;
use crate::partition::{Halving, Subspace};
use crate::types::{Assignment, Class, MinerId, Purpose};

/// Most candidates of a lease: those of one lease are chosen before anything is known of each other. On recorded trainings
/// a pool of nine had networks of .60 and .70 after 3.8 and 7.3 minutes with 16, 2.1 and 4.2 with 2, 2.5 and 4.1 with 1
/// (12 seeds), which costs a message more for each.
const CANDIDATES: usize = 2;
/// Training multiply-accumulates of one image of so many pixels in a middling network of the paper's space; sizes rungs
/// until a network of the task is confirmed.
const TYPICAL_TRAINING_MACS: u64 = 9_000_000;
const TYPICAL_PIXELS: u64 = 32 * 32;
/// Fewest images of a candidate.
const LEAST_RUNG: u64 = 256;
/// Most leases of a strong miner that a candidate may take; dearer ones are not tried.
const MOST_LEASES: u128 = 4;
/// Part of a lease that a candidate should fill at least, or results would cost more than training; unless after some
/// tries no other is found.
const LEAST_SHARE: u128 = 40;
const SOME_TRIES: u32 = 200;

impl Manager {
    /// New candidates for a lease, as far as its budget trains them. What the budget does not cover of the last one is left
    /// for the miner's next lease.
    pub(super) fn explore(&mut self, miner: &MinerId, budget_macs: u64) -> Option<Plan> {
        self.make_proposals()?;
        let mut plan = Plan { purpose: Purpose::Explore, work: Vec::new() };
        let mut left_macs = budget_macs;
        while plan.work.len() < CANDIDATES && left_macs > budget_macs / 4 {
            let Some((network, part, rung_images, macs)) = self.candidate(budget_macs) else { break };
            let whole = Assignment::new(network, None, rung_images);
            let unit = self.begin_unit(&whole, Purpose::Explore, *miner, Some(part));
            let images = within(rung_images, left_macs, macs);
            left_macs = left_macs.saturating_sub(macs.saturating_mul(images));
            plan.work.push((Assignment { images, ..whole }, unit));
        }
        (!plan.work.is_empty()).then_some(plan)
    }

    /// The next candidate of which a miner with this budget trains something in a lease, with its part of the space, the
    /// images it is to be trained on, and what one costs.
    fn candidate(&mut self, budget_macs: u64) -> Option<(Architecture, usize, u64, u64)> {
        let lease_macs = u128::from(self.strong_rate()) * u128::from(self.params.lease_ms) / 1000;
        let search = self.search.as_ref()?;
        let memory = self.memories.current_mut()?;
        let proposals = memory.proposals.as_mut()?;
        let (trained, rung_images) = (&memory.trained, proposals.rung.images);
        let fit = |network: &Architecture, tries: u32| {
            let macs = search.interval.training_macs(network).unwrap_or(u64::MAX);
            let rung_macs = u128::from(macs) * u128::from(rung_images);
            let too_small = rung_macs < lease_macs / LEAST_SHARE && tries < SOME_TRIES;
            if trained.contains(&architecture_name(network)) {
                Fit::Known
            } else if rung_macs <= lease_macs * MOST_LEASES
                && macs.saturating_mul(SLACK_IMAGES) <= budget_macs
                && !too_small
                && search.interval.admits(network)
            {
                Fit::Usable
            } else {
                Fit::Infeasible
            }
        };
        // What a slow miner's budget does not pay for says nothing of a part.
        let is_telling = u128::from(budget_macs) >= lease_macs / 2;
        let (part, network) = proposals.propose_next(fit, is_telling)?;
        let macs = search.interval.training_macs(&network).ok()?.max(1);
        memory.note_trained(&network);
        Some((network, part, rung_images, macs))
    }

    /// Makes the search of a task when its first candidate is wanted: by then it is known how many miners explore.
    fn make_proposals(&mut self) -> Option<()> {
        if self.memories.current()?.proposals.is_some() {
            return Some(());
        }
        let strong = self.explorers();
        let lease_macs = u128::from(self.strong_rate()) * u128::from(self.params.lease_ms) / 1000;
        let search = self.search.as_ref()?;
        let memory = self.memories.current_mut()?;
        let best = memory.elites.first().and_then(|e| search.interval.training_macs(&e.architecture).ok());
        let macs = u128::from(best.unwrap_or_else(|| typical_macs(search)).max(1));
        let images_in = |macs_there: u128| u64::try_from(macs_there / macs).unwrap_or(u64::MAX);
        let passes = |passes: u32| u64::from(train_images(search)).saturating_mul(passes.into()).max(LEAST_RUNG);
        let rung = Rung::new(
            images_in(lease_macs).clamp(LEAST_RUNG, passes(self.params.most_passes)),
            images_in(lease_macs * MOST_LEASES / 2).min(passes(FULL_PASSES)),
        );
        let space = &search.interval.workload.space;
        let scheme = self.params.scheme;
        let halves = self.params.halve && scheme.halves();
        let parts = Halving::new(scheme.parts(space, strong, &mut self.rng), 1, halves);
        let mut known: Vec<Architecture> = memory.elites.iter().map(|e| e.architecture.clone()).collect();
        if self.params.starts {
            known.extend(known_networks(&Subspace::whole(space.clone())));
        }
        let seed = self.rng.next_bytes();
        // A space without networks has no leases.
        let costs = TrainingCosts::of_task(&search.interval.workload);
        let proposals = Proposals::new(&self.params, parts, rung, costs, seed, &known);
        memory.proposals = proposals.ok().map(Box::new);
        memory.proposals.as_ref().map(|_| ())
    }

    /// How many miners explore, those still being measured included: boxes are cut once, for all of them.
    fn explorers(&self) -> usize {
        let now_ms = self.now_ms;
        let online = || self.miners.values().filter(|m| m.online && !m.is_suspended(now_ms));
        let strong = online().filter(|m| m.is_calibrated() && m.rating.class == Class::Strong).count();
        strong.max(online().count() * usize::from(self.params.classes.strong_permille) / 1000).max(1)
    }

    /// The middle rate of strong miners: what one of them trains in a lease is a candidate's size.
    fn strong_rate(&self) -> u64 {
        let strong = self.miners.values().filter(|m| m.online && m.rating.class == Class::Strong && m.rate_macs_s > 0);
        let mut rates: Vec<u64> = strong.map(|m| m.rate_macs_s).collect();
        rates.sort_unstable();
        let middle = rates.get(rates.len() / 2).copied();
        middle.or_else(|| self.miners.values().map(|m| m.rate_macs_s).max()).unwrap_or(1).max(1)
    }
}

/// What an image costs to train on in a middling network of the task's input: a network's costs go with the pixels.
fn typical_macs(search: &Search) -> u64 {
    let input = search.interval.workload.input;
    let pixels = u64::from(input.height) * u64::from(input.width);
    TYPICAL_TRAINING_MACS * pixels / TYPICAL_PIXELS + TrainingCosts::of_task(&search.interval.workload).image()
}
