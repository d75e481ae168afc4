//! Partition of a search space among miners: the pool's own boxes and the paper's Algorithm 1.

mod algorithm1;
mod count;
mod disjoint;
mod paper_table;
mod subspace;
#[cfg(test)]
mod tests;

pub use algorithm1::algorithm1;
pub use count::Count;
pub use disjoint::{BoxRecord, Halving, boxes_for, disjoint};
pub use paper_table::paper_table;
pub use subspace::{Cut, Subspace, union_cardinality};

use std::fmt;
use std::str::FromStr;

use podl_consensus::workload::Space;
use serde::{Deserialize, Serialize};

use crate::rng::SeededRng;

/// How a pool cuts the space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// The whole space for all: one search that every result feeds.
    #[default]
    Whole,
    /// Boxes that cover the space exactly once; halved as evidence comes.
    Disjoint,
    /// Random subsets, one a miner (paper).
    Algorithm1,
    /// The paper's nine subspaces S1 to S9, as far as they lie in the space.
    PaperTable,
}

impl Scheme {
    /// All, in the order of the manual.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Disjoint, Self::Algorithm1, Self::PaperTable];

    /// Its name in configurations and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Disjoint => "disjoint",
            Self::Algorithm1 => "algorithm1",
            Self::PaperTable => "paper-table",
        }
    }

    /// Whether parts are given up as evidence comes. Those of the paper are kept: it gives every miner its own for good.
    pub const fn halves(self) -> bool {
        matches!(self, Self::Disjoint)
    }

    /// Parts for that many exploring miners.
    pub fn parts(self, space: &Space, miners: usize, rng: &mut SeededRng) -> Vec<Subspace> {
        match self {
            Self::Whole => vec![Subspace::whole(space.clone())],
            Self::Disjoint => disjoint(space, boxes_for(miners)),
            Self::Algorithm1 => algorithm1(space, miners.max(1), rng),
            Self::PaperTable => paper_table(space),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}
