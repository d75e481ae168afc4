//! Hill climbing: change the best network so far.

use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::strategy::{draw, keep_best};
use super::{SearchBox, Strategy};

const DOMAIN: &str = "podl search hill-climb v2";

/// Random networks that are reported before climbing starts, where there are no starting points.
const FIRST_SAMPLES: u64 = 20;

/// Wide steps among ten proposals: one setting of all layers at once. What keeps a network at chance level is often
/// the same in all its layers, too few bits say, and single changes then show nothing.
const WIDE_STEPS_OF_TEN: u32 = 4;

/// Stochastic hill climbing: small changes of one to three settings, and wide steps of one setting in all layers. In
/// the study of docs/search.md it finds better networks than evolution and random search at every budget.
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
}

impl HillClimb {
    /// A fresh climb in a box.
    pub fn new(search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        let starts: Vec<_> = starts.iter().rev().map(|start| search_box.project(start)).collect();
        let had_starts = !starts.is_empty();
        Self { search_box, seed, starts, had_starts, draws: 0, reports: 0, incumbent: None, best: None }
    }
}

impl Strategy for HillClimb {
    fn propose(&mut self) -> Architecture {
        if let Some(start) = self.starts.pop() {
            return start;
        }
        let mut random = draw(DOMAIN, &self.seed, &mut self.draws);
        match &self.incumbent {
            Some(_) if self.reports < FIRST_SAMPLES && !self.had_starts => self.search_box.sample(&mut random),
            Some((incumbent, _)) if random.below(10) < WIDE_STEPS_OF_TEN => {
                self.search_box.shift(incumbent, &mut random)
            }
            Some((incumbent, _)) => {
                // Mostly one change, sometimes two or three at once.
                let changes = 1 + u32::from(random.below(2) == 0) + u32::from(random.below(4) == 0);
                self.search_box.mutate(incumbent, changes, &mut random)
            }
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

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }
}
