//! Why a network meets its bounds or not, and what it would take. For publishers who choose bounds and for people who
//! choose networks; no rule reads it.

mod mapping;
mod pipeline;

use podl_consensus::workload::Bounds;
use serde::Serialize;

use super::finn::Unit;
use super::{Answer, Cost};

/// The answer to a line with its reasons. The names are a stable interface (docs/workload.md).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What is answered without an explanation.
    #[serde(flatten)]
    pub answer: Answer,
    /// Most LUTs that were allowed.
    pub lut_bound: u64,
    /// Images a second that had to be exceeded.
    pub throughput_bound: u64,
    /// Which bound cannot be met.
    pub verdict: Verdict,
    /// The smallest design at any speed.
    pub smallest: Smallest,
    /// The fastest design at any size.
    pub fastest: Fastest,
    /// The fewest LUTs found with which the throughput bound is met; `None` where it cannot be met at any size.
    pub lut_needed: Option<u64>,
    /// The fastest design found within the LUT bound; `None` where even the smallest does not fit.
    pub at_lut_bound: Option<Found>,
    /// Parts of the design that was answered; for an infeasible network, those of `at_lut_bound`.
    pub design: Option<Parts>,
    /// What to change for more throughput: the part of `design` that takes the most cycles.
    pub bottleneck: Option<Bottleneck>,
}

/// Which bound a network breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Neither.
    Feasible,
    /// Even the smallest design needs more LUTs than the bound.
    TooLarge,
    /// No design of any size is faster than the bound.
    TooSlow,
    /// Each bound can be met alone, but no design was found that meets both.
    NotBoth,
}

/// The smallest design at any speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Smallest {
    /// Its LUTs.
    pub lut: u64,
    /// The layer that takes most of them, from 0; the two dense layers come after the convolutions.
    pub layer: usize,
}

/// The fastest design at any size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fastest {
    /// Clock cycles an image.
    pub cycles: u64,
    /// Images a second, to three decimals.
    pub throughput: f64,
    /// The layer that caps it, from 0.
    pub layer: usize,
}

/// A design that was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Found {
    /// LUTs.
    pub lut: u64,
    /// Clock cycles an image.
    pub cycles: u64,
    /// Images a second, to three decimals.
    pub throughput: f64,
}

/// What a design consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// Groups of layers, one after the other in time.
    Groups(Vec<Group>),
    /// Units of a pipeline, all at once.
    Units(Vec<Unit>),
}

/// Layers that are on the chip together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// First layer, from 0.
    pub first: usize,
    /// Last layer.
    pub last: usize,
    /// LUTs of all its layers.
    pub lut: u64,
    /// Clock cycles of its slowest layer.
    pub cycles: u64,
    /// The slowest layer.
    pub slowest: usize,
}

/// What takes the most cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bottleneck {
    /// Index into the parts of the design.
    pub part: usize,
    /// The layer that sets the part's cycles, from 0.
    pub layer: usize,
    /// Clock cycles of the part.
    pub cycles: u64,
}

impl From<Cost> for Found {
    fn from(cost: Cost) -> Self {
        Self { lut: cost.lut, cycles: cost.cycles, throughput: cost.rounded_throughput() }
    }
}

impl Fastest {
    fn new(cycles: u64, layer: usize) -> Self {
        Self { cycles, throughput: Cost { lut: 0, cycles }.rounded_throughput(), layer }
    }

    fn is_faster_than(self, throughput: u64) -> bool {
        Cost { lut: 0, cycles: self.cycles }.is_faster_than(throughput)
    }
}

impl Parts {
    /// The part of most cycles, the first of several.
    fn bottleneck(&self) -> Option<Bottleneck> {
        let cycles_and_layers: Vec<(u64, usize)> = match self {
            Self::Groups(groups) => groups.iter().map(|group| (group.cycles, group.slowest)).collect(),
            Self::Units(units) => units.iter().map(|unit| (unit.cycles, unit.layer)).collect(),
        };
        let (cycles, part) = greatest(cycles_and_layers.iter().map(|(cycles, _)| *cycles))?;
        Some(Bottleneck { part, layer: cycles_and_layers[part].1, cycles })
    }
}

impl Verdict {
    fn new(is_feasible: bool, bounds: Bounds, smallest: Smallest, fastest: Fastest) -> Self {
        if is_feasible {
            Self::Feasible
        } else if smallest.lut > bounds.lut {
            Self::TooLarge
        } else if !fastest.is_faster_than(bounds.throughput) {
            Self::TooSlow
        } else {
            Self::NotBoth
        }
    }
}

/// The greatest value and its index, the first of several.
fn greatest(values: impl Iterator<Item = u64>) -> Option<(u64, usize)> {
    values
        .enumerate()
        .map(|(index, value)| (value, index))
        .max_by_key(|&(value, index)| (value, std::cmp::Reverse(index)))
}

#[cfg(test)]
mod tests;
