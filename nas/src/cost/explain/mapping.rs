//! Explanations of the models of tiles and groups.

use podl_consensus::workload::{Architecture, Bounds, InputShape};

use super::super::mapping::{Limits, map_groups, map_layers};
use super::super::tile::{Tile, TileSpace};
use super::super::{Answer, Cost, CostError, CostModel, limits, map_within, tile_spaces};
use super::{Explanation, Fastest, Found, Group, Parts, Smallest, Verdict, greatest};

/// The most LUTs that a bound can allow in a task, and so the most that are looked for.
const MOST_LUT: u64 = 1 << 40;
/// How often a faster mapping is asked for: every round finds one or is the last.
const MOST_ROUNDS: usize = 64;

impl Explanation {
    /// Why the model finds the network feasible or not.
    ///
    /// # Errors
    /// As [`evaluate`](super::super::evaluate).
    pub fn of_mapping(
        model: CostModel,
        architecture: &Architecture,
        input: InputShape,
        bounds: Bounds,
    ) -> Result<Self, CostError> {
        let tiles = tile_spaces(model, architecture, input)?;
        let cost = map_within(&tiles, bounds);
        let smallest = smallest(&tiles);
        let fastest = fastest(&tiles);
        let within = fastest_within(&tiles, bounds, cost.is_some());
        let design_limits = if cost.is_some() { Some(limits(bounds)) } else { within.map(|(_, limits)| limits) };
        let design = design_limits.and_then(|limits| map_groups(&tiles, limits)).map(parts);
        Ok(Self {
            answer: Answer::new(cost),
            lut_bound: bounds.lut,
            throughput_bound: bounds.throughput,
            verdict: Verdict::new(cost.is_some(), bounds, smallest, fastest),
            smallest,
            fastest,
            lut_needed: lut_needed(&tiles, bounds, smallest.lut, fastest),
            at_lut_bound: within.map(|(cost, _)| Found::from(cost)),
            bottleneck: design.as_ref().and_then(Parts::bottleneck),
            design,
        })
    }
}

/// Every layer alone in its smallest tile.
fn smallest(tiles: &[TileSpace]) -> Smallest {
    let (lut, layer) = greatest(tiles.iter().map(TileSpace::smallest_lut)).unwrap_or_default();
    Smallest { lut, layer }
}

/// All layers at once, with all their channels at once.
fn fastest(tiles: &[TileSpace]) -> Fastest {
    let (cycles, layer) = greatest(tiles.iter().map(TileSpace::fewest_cycles)).unwrap_or_default();
    Fastest::new(cycles, layer)
}

/// The fastest mapping found within the LUT bound and the limits that find it.
///
/// The heuristic may miss a faster mapping when nothing hurries it, so it is asked again for one that is a cycle
/// faster. What it does not find within the bounds does not count, even if it should come up on another way.
fn fastest_within(tiles: &[TileSpace], bounds: Bounds, is_feasible: bool) -> Option<(Cost, Limits)> {
    let counts = |cost: &Cost| is_feasible || !cost.is_faster_than(bounds.throughput);
    let mut asked = Limits { lut: bounds.lut, cycles: limits(Bounds { throughput: 0, ..bounds }).cycles };
    let mut best = None;
    for _ in 0..MOST_ROUNDS {
        let Some(cost) = map_layers(tiles, asked).filter(counts) else { break };
        best = Some((cost, asked));
        asked.cycles = cost.cycles.saturating_sub(1);
    }
    best
}

/// The fewest LUTs found with which the throughput bound is met. Searched on the side of the LUT bound that the answer
/// leaves: now and then more LUTs make a network infeasible, and an explanation must not contradict the answer.
fn lut_needed(tiles: &[TileSpace], bounds: Bounds, smallest_lut: u64, fastest: Fastest) -> Option<u64> {
    if !fastest.is_faster_than(bounds.throughput) {
        return None;
    }
    let fits = |lut: u64| map_within(tiles, Bounds { lut, ..bounds }).is_some();
    let (mut low, mut high) = (smallest_lut.saturating_sub(1), bounds.lut);
    if !fits(high) {
        low = low.max(high);
        high = low.saturating_add(1);
        while !fits(high) {
            if high >= MOST_LUT {
                return None;
            }
            (low, high) = (high, 2 * high);
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

fn parts(groups: Vec<Vec<Tile>>) -> Parts {
    let mut first = 0;
    let groups = groups.iter().map(|tiles| {
        let (cycles, slowest) = greatest(tiles.iter().map(|tile| tile.cycles)).unwrap_or_default();
        let lut = tiles.iter().map(|tile| tile.lut).sum();
        let group = Group { first, last: first + tiles.len() - 1, lut, cycles, slowest: first + slowest };
        first += tiles.len();
        group
    });
    Parts::Groups(groups.collect())
}
