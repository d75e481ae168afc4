//! Random search, the yardstick.

use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::strategy::{draw, keep_best};
use super::{SearchBox, Strategy};

const DOMAIN: &str = "podl search random v1";

/// Draws networks of the box, all equally likely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomSearch {
    search_box: SearchBox,
    seed: [u8; 32],
    /// Networks to try first, the next one last.
    starts: Vec<Architecture>,
    draws: u64,
    best: Option<(Architecture, u32)>,
}

impl RandomSearch {
    /// A fresh search in a box.
    pub fn new(search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        let starts = starts.iter().rev().map(|start| search_box.project(start)).collect();
        Self { search_box, seed, starts, draws: 0, best: None }
    }
}

impl Strategy for RandomSearch {
    fn propose(&mut self) -> Architecture {
        match self.starts.pop() {
            Some(start) => start,
            None => self.search_box.sample(&mut draw(DOMAIN, &self.seed, &mut self.draws)),
        }
    }

    fn report(&mut self, architecture: &Architecture, reward: u32) {
        keep_best(&mut self.best, architecture, reward);
    }

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }
}
