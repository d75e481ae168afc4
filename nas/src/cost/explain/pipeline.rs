//! Explanations of the FINN tool chain's estimators.

use podl_consensus::workload::Bounds;

use super::super::finn::{Design, Pipeline};
use super::super::{Answer, Cost};
use super::{Explanation, Fastest, Found, Parts, Smallest, Verdict, greatest};

impl Explanation {
    /// Why the pipeline is feasible or not.
    pub fn of_pipeline(pipeline: &Pipeline, bounds: Bounds) -> Self {
        let answered = pipeline.within(bounds);
        let smallest = smallest(&pipeline.smallest());
        let fastest = fastest(&pipeline.fastest());
        let at_lut_bound = pipeline.fastest_within(bounds.lut);
        let found = at_lut_bound.as_ref().map(|design| Found::from(design.cost()));
        let answer = Answer::new(answered.as_ref().map(Design::cost));
        let unlimited = pipeline.within(Bounds { lut: u64::MAX, ..bounds });
        let design = answered.or(at_lut_bound).map(|design| Parts::Units(design.units));
        Self {
            answer,
            lut_bound: bounds.lut,
            throughput_bound: bounds.throughput,
            verdict: Verdict::new(answer.feasible, bounds, smallest, fastest),
            smallest,
            fastest,
            lut_needed: unlimited.map(|design| design.lut),
            at_lut_bound: found,
            bottleneck: design.as_ref().and_then(Parts::bottleneck),
            design,
        }
    }
}

/// Nothing unrolled; the layer with the largest share.
fn smallest(design: &Design) -> Smallest {
    let layers = design.units.iter().map(|unit| unit.layer).max().unwrap_or(0);
    let shares = (0..=layers).map(|layer| {
        let of_layer = design.units.iter().filter(|unit| unit.layer == layer);
        of_layer.map(|unit| unit.lut).sum::<u64>()
    });
    let (_, layer) = greatest(shares).unwrap_or_default();
    Smallest { lut: design.lut, layer }
}

/// Everything unrolled; the layer of the slowest unit.
fn fastest(design: &Design) -> Fastest {
    let Cost { cycles, .. } = design.cost();
    Fastest::new(cycles, design.slowest().map_or(0, |unit| unit.layer))
}
