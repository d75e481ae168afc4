//! Mapping of layers to groups: on the chip together within a group, one group after the other in time.

use super::Cost;
use super::tile::{Tile, TileSpace};

/// What a pass of pruning sorts or compares by.
type Key = fn(&Partial) -> u64;

/// A mapping of the layers so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Partial {
    /// Cycles of all groups.
    total: u64,
    /// LUTs of the last group (a sum over its layers).
    last_lut: u64,
    /// Cycles of the last group (the most of its layers).
    last_cycles: u64,
    /// Most LUTs of any group.
    most_lut: u64,
}

impl Partial {
    const EMPTY: Self = Self { total: 0, last_lut: 0, last_cycles: 0, most_lut: 0 };

    /// Cycles of all groups but the last.
    fn before_last(self) -> u64 {
        self.total - self.last_cycles
    }

    fn open(self, tile: Tile) -> Self {
        Self {
            total: self.total + tile.cycles,
            last_lut: tile.lut,
            last_cycles: tile.cycles,
            most_lut: self.most_lut.max(tile.lut),
        }
    }

    fn join(self, tile: Tile) -> Self {
        let (last_lut, last_cycles) = (self.last_lut + tile.lut, self.last_cycles.max(tile.cycles));
        Self { total: self.before_last() + last_cycles, last_lut, last_cycles, most_lut: self.most_lut.max(last_lut) }
    }
}

/// The mapping of least cycles that the published heuristic finds within the limits, of those with equal cycles the
/// one with most LUTs (as the published logs have it); `None` if it finds none.
pub(super) fn map_layers(layers: &[TileSpace], lut_limit: u64, cycle_limit: u64) -> Option<Cost> {
    let mut pool = vec![Partial::EMPTY];
    let mut grown = Vec::new();
    for (index, tiles) in layers.iter().enumerate() {
        grown.clear();
        for partial in &pool {
            extend(*partial, tiles, index > 0, lut_limit, cycle_limit, &mut grown);
        }
        pool = prune(&grown);
    }
    let best = pool.iter().min_by_key(|partial| (partial.total, std::cmp::Reverse(partial.most_lut)))?;
    Some(Cost { lut: best.most_lut, cycles: best.total })
}

/// Appends the up to four ways in which the next layer continues a mapping.
fn extend(
    partial: Partial,
    tiles: &TileSpace,
    can_join: bool,
    lut_limit: u64,
    cycle_limit: u64,
    grown: &mut Vec<Partial>,
) {
    let cycles_left = cycle_limit - partial.total;
    grown.extend(tiles.least_lut(lut_limit, cycles_left).map(|tile| partial.open(tile)));
    grown.extend(tiles.least_cycles(lut_limit, cycles_left).map(|tile| partial.open(tile)));
    if can_join {
        let (lut_left, cycles_left) = (lut_limit - partial.last_lut, cycle_limit - partial.before_last());
        grown.extend(tiles.least_lut(lut_left, cycles_left).map(|tile| partial.join(tile)));
        grown.extend(tiles.least_cycles(lut_left, cycles_left).map(|tile| partial.join(tile)));
    }
}

/// Keeps the mappings that one of three fronts keeps. The order of the passes, of each list and of what is kept
/// decides ties later on, so it is part of the rule.
fn prune(grown: &[Partial]) -> Vec<Partial> {
    let mut order: Vec<usize> = (0..grown.len()).collect();
    let mut is_kept = vec![false; grown.len()];
    let mut kept = Vec::new();
    let passes: [(Key, Key); 3] =
        [(|p| p.last_lut, |p| p.total), (|p| p.total, |p| p.before_last()), (|p| p.last_lut, |p| p.before_last())];
    for (first, second) in passes {
        order.sort_by_key(|&index| first(&grown[index]));
        for index in front(grown, &order, first, second) {
            if !std::mem::replace(&mut is_kept[index], true) && !kept.contains(&grown[index]) {
                kept.push(grown[index]);
            }
        }
    }
    kept
}

/// Indices of the front of falling `second` along the order by `first`; among equal `first` the last improvement.
fn front(grown: &[Partial], order: &[usize], first: Key, second: Key) -> Vec<usize> {
    let mut emitted: Vec<usize> = Vec::new();
    for &index in order {
        let candidate = &grown[index];
        match emitted.last_mut() {
            Some(last) if second(candidate) >= second(&grown[*last]) => {}
            Some(last) if first(candidate) == first(&grown[*last]) => *last = index,
            _ => emitted.push(index),
        }
    }
    emitted
}
