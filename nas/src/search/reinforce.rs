//! REINFORCE with the paper's controller.

use podl_consensus::workload::{Architecture, Setting};
use serde::{Deserialize, Serialize};

use super::controller::{Controller, Start, Weights, WrongWeights, initial_weights};
use super::strategy::{draw, keep_best};
use super::{MOST_REWARD, SearchBox, Strategy};
use crate::data::Random;

const DOMAIN: &str = "podl search reinforce v1";

/// Stream of the initial weights, apart from the numbered draws.
const WEIGHTS_DOMAIN: &str = "podl search reinforce weights v1";

/// Episodes of a gradient step.
const BATCH: usize = 5;

/// Rewards whose mean is the first baseline; then each new one counts 2 / 20.
const BASELINE_REWARDS: u64 = 20;

/// Roll-outs in a row that may lie outside the box, each an episode with reward 0. Only formats of 0 bits do.
const MOST_OUTSIDE: u32 = 1_000;

/// A controller that learns which choices were rewarded. What is infeasible earns 0; a network that comes again earns
/// what it did before, without another evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reinforce {
    search_box: SearchBox,
    seed: [u8; 32],
    /// Networks to try first, the next one last; the controller does not learn from them.
    starts: Vec<Architecture>,
    draws: u64,
    /// Weights after the steps so far; none before the first, when they follow from the seed.
    weights: Option<Weights>,
    /// Where roll-outs of this batch begin.
    start: Option<Start>,
    /// The network under evaluation and the choices that made it.
    asked: Option<(Architecture, Vec<u32>)>,
    /// Choices and advantages of the batch so far, in millionths.
    batch: Vec<(Vec<u32>, i64)>,
    rewards: u64,
    /// Sum of the first 20 rewards, then the moving average; in millionths of a millionth.
    baseline: u64,
    best: Option<(Architecture, u32)>,
}

impl Reinforce {
    /// A fresh controller for a box.
    pub fn new(search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        let starts = starts.iter().rev().map(|start| search_box.project(start)).collect();
        Self {
            search_box,
            seed,
            starts,
            draws: 0,
            weights: None,
            start: None,
            asked: None,
            batch: Vec::new(),
            rewards: 0,
            baseline: 0,
            best: None,
        }
    }

    /// Number of choices of each decision: the settings of the first layer, then those of the next.
    fn choices(&self) -> Vec<usize> {
        let layer = |layer: usize| Setting::ALL.map(|setting| self.search_box.values(layer, setting).len());
        (0..self.search_box.len()).flat_map(layer).collect()
    }

    fn controller(&self) -> Result<Controller, WrongWeights> {
        let choices = self.choices();
        match &self.weights {
            Some(weights) => Controller::new(&choices, weights),
            None => {
                let mut random = Random::new(WEIGHTS_DOMAIN, &self.seed, 0);
                Controller::new(&choices, &initial_weights(&choices, &mut random))
            }
        }
    }

    fn roll_out(&mut self) -> Result<Vec<u32>, WrongWeights> {
        let mut random = draw(DOMAIN, &self.seed, &mut self.draws);
        let choices = self.choices();
        let start = self.start.get_or_insert_with(|| Start::draw(&choices, &mut random)).clone();
        Ok(self.controller()?.roll_out(&start, &mut random))
    }

    /// The network of these choices, or `None` when a format has no bits.
    fn network(&self, chosen: &[u32]) -> Option<Architecture> {
        let value = |(at, &choice): (usize, &u32)| {
            let (layer, setting) = (at / Setting::ALL.len(), Setting::ALL[at % Setting::ALL.len()]);
            self.search_box.values(layer, setting)[choice as usize]
        };
        let values: Vec<u16> = chosen.iter().enumerate().map(value).collect();
        Some(self.search_box.of_values(&values)).filter(|network| self.search_box.contains(network))
    }

    /// One more episode; every fifth is followed by a gradient step.
    fn learn(&mut self, chosen: Vec<u32>, reward: u32) {
        let reward = u64::from(reward) * u64::from(MOST_REWARD);
        self.batch.push((chosen, self.advantage(reward)));
        self.rewards += 1;
        self.baseline = match self.rewards {
            // The sum of at most 20 rewards.
            1..=BASELINE_REWARDS => self.baseline + reward,
            _ => self.mean_reward(self.rewards - 1).saturating_mul(9).saturating_add(reward) / 10,
        };
        if self.batch.len() >= BATCH {
            // Weights fit by construction. Should stored ones not, this batch teaches nothing.
            if let Some(weights) = self.step() {
                self.weights = Some(weights);
            }
            self.batch.clear();
            self.start = None;
        }
    }

    /// The baseline after so many rewards.
    fn mean_reward(&self, rewards: u64) -> u64 {
        if rewards > BASELINE_REWARDS { self.baseline } else { self.baseline / rewards.max(1) }
    }

    /// Reward over the baseline of the rewards before it, in millionths.
    fn advantage(&self, reward: u64) -> i64 {
        let difference = i128::from(reward) - i128::from(self.mean_reward(self.rewards));
        i64::try_from(difference / i128::from(MOST_REWARD)).unwrap_or(0)
    }

    /// Weights after a gradient step on the batch.
    fn step(&self) -> Option<Weights> {
        let start = self.start.as_ref()?;
        let episodes: Vec<Vec<u32>> = self.batch.iter().map(|(chosen, _)| chosen.clone()).collect();
        let advantages: Vec<f32> = self.batch.iter().map(|(_, a)| *a as f32 / MOST_REWARD as f32).collect();
        self.controller().map(|controller| controller.learn(start, &episodes, &advantages)).ok()
    }
}

impl Strategy for Reinforce {
    fn propose(&mut self) -> Architecture {
        if let Some(start) = self.starts.pop() {
            return start;
        }
        for _ in 0..MOST_OUTSIDE {
            let Ok(chosen) = self.roll_out() else { break };
            match self.network(&chosen) {
                Some(network) => {
                    self.asked = Some((network.clone(), chosen));
                    return network;
                }
                None => self.learn(chosen, 0),
            }
        }
        // A controller that insists on formats without bits: go on at random rather than not at all.
        self.asked = None;
        self.search_box.sample(&mut draw(DOMAIN, &self.seed, &mut self.draws))
    }

    fn report(&mut self, architecture: &Architecture, reward: u32) {
        keep_best(&mut self.best, architecture, reward);
        // What others found says nothing of this controller's own choices.
        if let Some((_, chosen)) = self.asked.take_if(|(asked, _)| asked == architecture) {
            self.learn(chosen, reward);
        }
    }

    fn reject(&mut self, architecture: &Architecture) {
        if let Some((_, chosen)) = self.asked.take_if(|(asked, _)| asked == architecture) {
            self.learn(chosen, 0);
        }
    }

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }

    fn patience(&self) -> u32 {
        // A controller that has settled on known networks stays there.
        2_000
    }
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::Space;

    use super::*;

    fn fresh() -> Reinforce {
        Reinforce::new(SearchBox::from_space(&Space::full(2)).unwrap(), [3; 32], Vec::new())
    }

    #[test]
    fn the_baseline_is_a_mean_then_a_moving_average() {
        let mut strategy = fresh();
        let chosen = vec![0; 20];
        let (mut expected, mut sum) = (0.0f64, 0.0);
        for episode in 0..60u32 {
            let reward = (episode * 7919) % 1_000_000;
            let before = f64::from(reward) - expected;
            strategy.start.get_or_insert(Start::draw(&strategy.choices(), &mut Random::new("test", &[0; 32], 0)));
            assert!((strategy.advantage(u64::from(reward) * 1_000_000) as f64 - before).abs() < 2.0, "{episode}");
            strategy.learn(chosen.clone(), reward);
            sum += f64::from(reward);
            expected =
                if episode < 20 { sum / f64::from(episode + 1) } else { expected * 0.9 + f64::from(reward) * 0.1 };
            assert_eq!(strategy.batch.len() as u32, (episode + 1) % 5);
        }
    }

    #[test]
    fn what_is_infeasible_earns_nothing() {
        let (mut rejected, mut reported) = (fresh(), fresh());
        for _ in 0..7 {
            let network = rejected.propose();
            assert_eq!(network, reported.propose());
            rejected.reject(&network);
            reported.report(&network, 0);
            assert_eq!(rejected.best(), None);
        }
        reported.best = None;
        assert_eq!(rejected, reported);
        assert_eq!(rejected.rewards, 7);
    }

    #[test]
    fn it_learns_to_prefer_what_is_rewarded() {
        let mut strategy = fresh();
        let share = |strategy: &mut Reinforce| {
            let draws = (0..40).map(|_| strategy.propose()).collect::<Vec<_>>();
            draws.iter().filter(|network| network.layers[0].pool == 2).count()
        };
        let before = share(&mut strategy.clone());
        for _ in 0..100 {
            let network = strategy.propose();
            let reward = if network.layers[0].pool == 2 { 900_000 } else { 100_000 };
            strategy.report(&network, reward);
        }
        let after = share(&mut strategy);
        assert!(after > before && after > 30, "{before} then {after} of 40");
    }
}
