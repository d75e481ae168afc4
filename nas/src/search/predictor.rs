//! A learned predictor: of many changes to the best networks, try the one that promises most.
//!
//! Bayesian optimisation over mutants, after White, Neiswanger, Savani: BANANAS (2021), with a Gaussian process, which has
//! use for a few dozen evaluations already, instead of an ensemble of neural networks.

use std::collections::VecDeque;
use std::f64::consts::{PI, SQRT_2};

use podl_consensus::workload::{Architecture, InputShape};
use serde::{Deserialize, Serialize};

use super::features::features;
use super::gaussian_process::{Assumptions, GaussianProcess, Prediction};
use super::strategy::{draw, keep_best, keep_leader};
use super::{SearchBox, Strategy};
use crate::data::Random;
use crate::train::TrainingCosts;

const DOMAIN: &str = "podl search predictor v1";

/// Random networks that are reported before anything is predicted, where there are no starting points.
const FIRST_SAMPLES: usize = 20;

/// Parents: the best of what was reported.
const PARENTS: usize = 5;

/// Mutants that compete for one proposal.
const MUTANTS: u32 = 300;

/// Wide steps among ten mutants (see [`HillClimb`](super::HillClimb)).
const WIDE_STEPS_OF_TEN: u32 = 2;

/// Fewest reports that the process sees, and most; in between it is the better half. What sets good networks apart from
/// each other is not what sets them apart from networks at chance level.
const FEWEST_SEEN: usize = 15;
const MOST_SEEN: usize = 256;

const ASSUMPTIONS: Assumptions = Assumptions { sharpness: 0.6, noise: 0.01 };

/// Most networks remembered as being evaluated; each is a row of the process, and those that never come back are
/// forgotten when others take their place.
const MOST_PENDING: usize = 64;

/// Standard deviations that a mutant gets for being unlike what was seen (upper confidence bound).
const CURIOSITY: f64 = 1.0;

/// Standard deviations below the best from which on the improvement is expanded.
const FAR_BELOW: f64 = -8.0;

/// Proposals in a row that may be infeasible or known: mutants of feasible networks, so fewer than of blind draws.
const PATIENCE: u32 = 5_000;

/// What positions of layers are reckoned for. Only their order matters, which is the same for every input.
const INPUT: InputShape = InputShape::CIFAR;

/// Predictor-guided search: a Gaussian process over the rewards so far chooses among mutants of the best networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predictor {
    search_box: SearchBox,
    seed: [u8; 32],
    /// Networks to try first, the next one last.
    starts: Vec<Architecture>,
    had_starts: bool,
    draws: u64,
    reports: Vec<(Architecture, u32)>,
    /// Networks that others evaluate, oldest first.
    #[serde(default)]
    pending: VecDeque<Architecture>,
    /// Mutants in the order of their promise, the next one last; bred anew after a report.
    queue: Vec<Architecture>,
    best: Option<(Architecture, u32)>,
    /// The best of the highest rung that training went on to, with that rung.
    leader: Option<(Architecture, u32, usize)>,
    /// What networks cost, where time counts.
    #[serde(default)]
    costs: Option<TrainingCosts>,
}

impl Predictor {
    /// A fresh search in a box.
    pub fn new(search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        let starts: Vec<_> = starts.iter().rev().map(|start| search_box.project(start)).collect();
        let had_starts = !starts.is_empty();
        Self {
            search_box,
            seed,
            starts,
            had_starts,
            draws: 0,
            reports: Vec::new(),
            pending: VecDeque::new(),
            queue: Vec::new(),
            best: None,
            leader: None,
            costs: None,
        }
    }

    /// The same search where time counts: of the mutants it takes the one whose expected improvement of the best reward
    /// is greatest for its cost (Snoek, Larochelle, Adams 2012, 3.2), not the most hopeful one.
    #[must_use]
    pub fn sparing(self, costs: TrainingCosts) -> Self {
        Self { costs: Some(costs), ..self }
    }

    /// Reports in the order of their rewards, the first of equals first.
    fn ranking(&self) -> Vec<&(Architecture, u32)> {
        let mut order: Vec<_> = self.reports.iter().collect();
        order.sort_by_key(|(_, reward)| std::cmp::Reverse(*reward));
        order
    }

    /// Different mutants of good networks, none of them reported before, in no particular order.
    fn mutants(&self, ranking: &[&(Architecture, u32)], random: &mut Random) -> Vec<Architecture> {
        let parents = &ranking[..ranking.len().min(PARENTS)];
        let mut mutants: Vec<Architecture> = (0..MUTANTS)
            .map(|_| {
                let parent = self.parent(parents, random);
                self.search_box.step(parent, WIDE_STEPS_OF_TEN, random)
            })
            .collect();
        mutants.sort();
        mutants.dedup();
        mutants
            .retain(|mutant| self.reports.iter().all(|(known, _)| known != mutant) && !self.pending.contains(mutant));
        random.shuffle(&mut mutants);
        mutants
    }

    /// A network to change. Where training went on for some, it is half the time the one that proved best there; else
    /// one of the best after the first rung, the better the likelier (the first of two draws).
    fn parent<'a>(&'a self, parents: &[&'a (Architecture, u32)], random: &mut Random) -> &'a Architecture {
        match &self.leader {
            Some((leader, ..)) if random.below(2) == 0 => leader,
            _ => {
                // At most five.
                let count = parents.len() as u32;
                &parents[random.below(count).min(random.below(count)) as usize].0
            }
        }
    }

    /// A process over what was reported. What others evaluate counts as found to be what is expected of it, so that nobody
    /// is sent to the same place before they are back (the "believer" of Ginsbourger et al. 2010).
    fn fit(&self, mut rows: Vec<Vec<f64>>, mut rewards: Vec<f64>) -> Option<GaussianProcess> {
        let process = GaussianProcess::fit(&rows, &rewards, ASSUMPTIONS)?;
        if self.pending.is_empty() {
            return Some(process);
        }
        let expected: Vec<Vec<f64>> = self.pending.iter().map(|network| features(network, INPUT)).collect();
        rewards.extend(process.predict(&expected).iter().map(|at| at.mean));
        rows.extend(expected);
        GaussianProcess::fit(&rows, &rewards, ASSUMPTIONS)
    }

    /// What is hoped of a mutant, as a whole number: an order without ties that a last bit decides.
    fn hope(&self, at: &Prediction, mutant: &Architecture, best: f64) -> i64 {
        let Some(costs) = &self.costs else { return ((at.mean + CURIOSITY * at.deviation) * 1e6) as i64 };
        // What has no network is infeasible; it is rejected when it is proposed.
        let cost = costs.of(mutant).map_or(f64::INFINITY, |macs| macs as f64);
        ((log_expected_improvement(at, best) - libm::log(cost)) * 1e9) as i64
    }

    /// Breeds mutants and puts them in the order of what the process hopes of them.
    fn breed(&mut self) {
        let mut random = draw(DOMAIN, &self.seed, &mut self.draws);
        let ranking = self.ranking();
        let mut mutants = self.mutants(&ranking, &mut random);
        let seen = (self.reports.len() / 2).clamp(FEWEST_SEEN, MOST_SEEN).min(ranking.len());
        let rows: Vec<Vec<f64>> = ranking[..seen].iter().map(|(network, _)| features(network, INPUT)).collect();
        let rewards: Vec<f64> = ranking[..seen].iter().map(|(_, reward)| f64::from(*reward)).collect();
        if let Some(process) = self.fit(rows, rewards) {
            let rows: Vec<Vec<f64>> = mutants.iter().map(|mutant| features(mutant, INPUT)).collect();
            let best = ranking.first().map_or(0.0, |(_, reward)| f64::from(*reward));
            let hopes: Vec<i64> =
                process.predict(&rows).iter().zip(&mutants).map(|(at, mutant)| self.hope(at, mutant, best)).collect();
            let mut order: Vec<(i64, Architecture)> = hopes.into_iter().zip(mutants).collect();
            order.sort_by_key(|(hope, _)| *hope);
            mutants = order.into_iter().map(|(_, mutant)| mutant).collect();
        }
        self.queue = mutants;
    }
}

/// Logarithm of how much a reward is expected to exceed the best, where falling short counts as 0.
fn log_expected_improvement(at: &Prediction, best: f64) -> f64 {
    let deviation = at.deviation.max(1e-9);
    let sigmas = (at.mean - best) / deviation;
    let log_density = -0.5 * (sigmas * sigmas + libm::log(2.0 * PI));
    let relative = if sigmas < FAR_BELOW {
        // What is left of two nearly equal numbers: the first term of its expansion.
        log_density - 2.0 * libm::log(-sigmas)
    } else {
        libm::log(sigmas * 0.5 * libm::erfc(-sigmas / SQRT_2) + libm::exp(log_density))
    };
    libm::log(deviation) + relative
}

impl Strategy for Predictor {
    fn propose(&mut self) -> Architecture {
        if let Some(start) = self.starts.pop() {
            return start;
        }
        let is_time = self.had_starts || self.reports.len() >= FIRST_SAMPLES;
        if is_time && self.queue.is_empty() && !self.reports.is_empty() {
            self.breed();
        }
        match self.queue.pop() {
            Some(mutant) => mutant,
            None => self.search_box.sample(&mut draw(DOMAIN, &self.seed, &mut self.draws)),
        }
    }

    fn report(&mut self, architecture: &Architecture, reward: u32) {
        self.pending.retain(|network| network != architecture);
        // A draw that is known already teaches nothing.
        if self.reports.iter().any(|(known, _)| known == architecture) {
            return;
        }
        self.reports.push((architecture.clone(), reward));
        self.queue.clear();
        keep_best(&mut self.best, architecture, reward);
    }

    fn pending(&mut self, architecture: &Architecture) {
        self.pending.push_back(architecture.clone());
        if self.pending.len() > MOST_PENDING {
            self.pending.pop_front();
        }
        self.queue.clear();
    }

    fn promoted(&mut self, architecture: &Architecture, rung: usize, reward: u32) {
        keep_leader(&mut self.leader, architecture, rung, reward);
    }

    fn patience(&self) -> u32 {
        PATIENCE
    }

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::{DenseConfig, Space};

    use super::*;

    fn at(mean: f64, deviation: f64) -> Prediction {
        Prediction { mean, deviation }
    }

    #[test]
    fn improvement_is_expected_of_what_is_better_or_unsure() {
        // Of a standard normal number, the mean of its positive part is 1 / sqrt(2 pi).
        let expected = |mean, deviation| log_expected_improvement(&at(mean, deviation), 5.0).exp();
        assert!((expected(5.0, 1.0) - 0.398_942).abs() < 1e-6);
        assert!((expected(9.0, 0.001) - 4.0).abs() < 1e-6);
        assert!(expected(4.0, 1.0) < expected(4.0, 2.0));
        let far = |sigmas: f64| log_expected_improvement(&at(5.0 + sigmas, 1.0), 5.0);
        assert!((far(FAR_BELOW + 1e-6) - far(FAR_BELOW - 1e-6)).abs() < 0.1, "no step where it is expanded");
        assert!(far(-1000.0) < far(-999.0) && far(-1000.0).is_finite());
    }

    #[test]
    fn where_time_counts_the_cheaper_of_equals_is_tried_first() {
        let search_box = SearchBox::from_space(&Space::full(2)).unwrap();
        let mut networks: Vec<Architecture> =
            (0..2).map(|n| search_box.sample(&mut Random::new("test", &[n; 32], 0))).collect();
        let costs = TrainingCosts { input: INPUT, classes: 10, dense: DenseConfig::default() };
        networks.sort_by_key(|network| costs.of(network).unwrap());
        let plain = Predictor::new(search_box, [1; 32], Vec::new());
        let hopes = |search: &Predictor| [0, 1].map(|which: usize| search.hope(&at(0.4, 0.1), &networks[which], 0.5));
        assert_eq!(hopes(&plain)[0], hopes(&plain)[1]);
        let sparing = plain.sparing(costs);
        assert!(hopes(&sparing)[0] > hopes(&sparing)[1]);
    }
}
