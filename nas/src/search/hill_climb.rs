//! Hill climbing: change the best network so far.

use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::strategy::{draw, keep_best, keep_leader};
use super::{SearchBox, Strategy};
use crate::data::Random;

const DOMAIN: &str = "podl search hill-climb v2";

/// Random networks that are reported before climbing starts, where there are no starting points.
const FIRST_SAMPLES: u64 = 20;

/// Wide steps among ten proposals: one setting of all layers at once. What keeps a network at chance level is often
/// the same in all its layers, too few bits say, and single changes then show nothing.
const WIDE_STEPS_OF_TEN: u32 = 4;

/// Stochastic hill climbing: small changes of one to three settings, and wide steps of one setting in all layers. In
/// the study of docs/search.md it needs a third of the evaluations of random search, and no model of what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HillClimb {
    search_box: SearchBox,
    seed: [u8; 32],
    /// Networks to try first, the next one last.
    starts: Vec<Architecture>,
    had_starts: bool,
    draws: u64,
    reports: u64,
    /// Where the next mutation starts.
    incumbent: Option<(Architecture, u32)>,
    best: Option<(Architecture, u32)>,
    /// The best of the highest rung that training went on to, with that rung.
    leader: Option<(Architecture, u32, usize)>,
}

impl HillClimb {
    /// A fresh climb in a box.
    pub fn new(search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        let starts: Vec<_> = starts.iter().rev().map(|start| search_box.project(start)).collect();
        let had_starts = !starts.is_empty();
        Self { search_box, seed, starts, had_starts, draws: 0, reports: 0, incumbent: None, best: None, leader: None }
    }

    /// The network that the next step starts from, if it is time to climb. What a first few epochs show is what most
    /// steps are judged by; where training went on, every other step starts from the network that proved best there.
    fn foot(&self, random: &mut Random) -> Option<&Architecture> {
        let incumbent = &self.incumbent.as_ref()?.0;
        match &self.leader {
            _ if self.reports < FIRST_SAMPLES && !self.had_starts => None,
            Some((leader, ..)) if random.below(2) == 0 => Some(leader),
            _ => Some(incumbent),
        }
    }
}

impl Strategy for HillClimb {
    fn propose(&mut self) -> Architecture {
        if let Some(start) = self.starts.pop() {
            return start;
        }
        let mut random = draw(DOMAIN, &self.seed, &mut self.draws);
        match self.foot(&mut random) {
            Some(foot) => self.search_box.step(foot, WIDE_STEPS_OF_TEN, &mut random),
            None => self.search_box.sample(&mut random),
        }
    }

    fn report(&mut self, architecture: &Architecture, reward: u32) {
        self.reports += 1;
        // Equal rewards move the climb on: plateaus are wide where settings do not matter.
        if self.incumbent.as_ref().is_none_or(|(_, known)| reward >= *known) {
            self.incumbent = Some((architecture.clone(), reward));
        }
        keep_best(&mut self.best, architecture, reward);
    }

    fn promoted(&mut self, architecture: &Architecture, rung: usize, reward: u32) {
        keep_leader(&mut self.leader, architecture, rung, reward);
    }

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }
}
