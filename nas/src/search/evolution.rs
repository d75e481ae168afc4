//! Regularised evolution: tournaments in a population whose oldest member dies.
//!
//! After Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier Architecture Search (2019). Ageing
//! keeps a lucky network from fathering the population for ever.

use std::collections::VecDeque;

use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::strategy::{draw, keep_best};
use super::{SearchBox, Strategy};

const DOMAIN: &str = "podl search evolution v2";

/// Members of the population: few, since a search has hundreds of evaluations rather than the thousands of that paper.
const POPULATION: usize = 20;

/// Members that are drawn for a tournament; the best of them has the child.
const TOURNAMENT: usize = 10;

/// Wide steps among ten.
const WIDE_STEPS_OF_TEN: u32 = 4;

/// Regularised evolution with the steps of hill climbing (see [`SearchBox::step`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evolution {
    search_box: SearchBox,
    seed: [u8; 32],
    /// Networks to try first, the next one last.
    starts: Vec<Architecture>,
    draws: u64,
    /// The youngest last.
    population: VecDeque<(Architecture, u32)>,
    best: Option<(Architecture, u32)>,
}

impl Evolution {
    /// A fresh population in a box.
    pub fn new(search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        let starts = starts.iter().rev().map(|start| search_box.project(start)).collect();
        Self { search_box, seed, starts, draws: 0, population: VecDeque::new(), best: None }
    }

    /// Members now, at most 20.
    pub fn population(&self) -> usize {
        self.population.len()
    }
}

impl Strategy for Evolution {
    fn propose(&mut self) -> Architecture {
        if let Some(start) = self.starts.pop() {
            return start;
        }
        let mut random = draw(DOMAIN, &self.seed, &mut self.draws);
        if self.population.len() < POPULATION {
            return self.search_box.sample(&mut random);
        }
        let mut members: Vec<&(Architecture, u32)> = self.population.iter().collect();
        random.shuffle(&mut members);
        members.truncate(TOURNAMENT);
        // There are members, the population being full.
        match members.into_iter().max_by_key(|(_, reward)| *reward) {
            Some((parent, _)) => self.search_box.step(parent, WIDE_STEPS_OF_TEN, &mut random),
            None => self.search_box.sample(&mut random),
        }
    }

    fn report(&mut self, architecture: &Architecture, reward: u32) {
        self.population.push_back((architecture.clone(), reward));
        if self.population.len() > POPULATION {
            self.population.pop_front();
        }
        keep_best(&mut self.best, architecture, reward);
    }

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::{Setting, Space};

    use super::*;

    #[test]
    fn the_oldest_dies_and_children_are_one_step_from_the_living() {
        let search_box = SearchBox::from_space(&Space::full(6)).unwrap();
        let mut evolution = Evolution::new(search_box, [7; 32], Vec::new());
        let mut seen: Vec<Architecture> = Vec::new();
        for episode in 0..90 {
            let child = evolution.propose();
            if episode >= POPULATION {
                let is_near = |parent: &Architecture| {
                    let layers = || parent.layers.iter().zip(&child.layers);
                    let differ = |setting: &Setting| layers().filter(|(a, b)| setting.get(a) != setting.get(b)).count();
                    let changes = Setting::ALL.map(|setting| differ(&setting));
                    changes.iter().sum::<usize>() <= 3 || changes.iter().filter(|&&count| count > 0).count() == 1
                };
                assert!(seen[episode - POPULATION..].iter().any(is_near), "a child of the living");
            }
            evolution.report(&child, episode as u32 % 13);
            seen.push(child);
            assert_eq!(evolution.population(), seen.len().min(POPULATION));
            assert_eq!(evolution.population.front().map(|m| &m.0), seen.get(seen.len() - evolution.population()));
        }
    }
}
