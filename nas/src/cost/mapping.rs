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

/// One way in which a layer continues a mapping.
#[derive(Clone, Copy)]
struct Step {
    tile: Tile,
    /// Whether the layer joins the last group rather than opening one.
    is_join: bool,
    to: Partial,
}

/// Limits that a mapping keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most LUTs of a group.
    pub(super) lut: u64,
    /// Most cycles of all groups.
    pub(super) cycles: u64,
}

/// The mapping of least cycles that the published heuristic finds within the limits, of those with equal cycles the
/// one with most LUTs (as the published logs have it); `None` if it finds none.
pub(super) fn map_layers(layers: &[TileSpace], limits: Limits) -> Option<Cost> {
    let mut pool = vec![Partial::EMPTY];
    let mut grown = Vec::new();
    for (index, tiles) in layers.iter().enumerate() {
        pool = grow(&pool, tiles, index > 0, limits, &mut grown);
    }
    best_of(&pool).map(|best| Cost { lut: best.most_lut, cycles: best.total })
}

fn best_of(pool: &[Partial]) -> Option<&Partial> {
    pool.iter().min_by_key(|partial| (partial.total, std::cmp::Reverse(partial.most_lut)))
}

/// The pool with one more layer. `grown` is scratch space.
fn grow(pool: &[Partial], tiles: &TileSpace, can_join: bool, limits: Limits, grown: &mut Vec<Partial>) -> Vec<Partial> {
    grown.clear();
    for partial in pool {
        grown.extend(steps(*partial, tiles, can_join, limits).into_iter().flatten().map(|step| step.to));
    }
    prune(grown)
}

/// The up to four ways in which the next layer continues a mapping, in the order that decides ties.
fn steps(partial: Partial, tiles: &TileSpace, can_join: bool, limits: Limits) -> [Option<Step>; 4] {
    let open = |tile| Step { tile, is_join: false, to: partial.open(tile) };
    let join = |tile| Step { tile, is_join: true, to: partial.join(tile) };
    let cycles_left = limits.cycles - partial.total;
    let mut steps = [None; 4];
    steps[0] = tiles.least_lut(limits.lut, cycles_left).map(open);
    steps[1] = tiles.least_cycles(limits.lut, cycles_left).map(open);
    if can_join {
        let (lut_left, cycles_left) = (limits.lut - partial.last_lut, limits.cycles - partial.before_last());
        steps[2] = tiles.least_lut(lut_left, cycles_left).map(join);
        steps[3] = tiles.least_cycles(lut_left, cycles_left).map(join);
    }
    steps
}

/// Groups of the mapping that [`map_layers`] finds within the limits, each with the tiles of its layers.
pub(super) fn map_groups(layers: &[TileSpace], limits: Limits) -> Option<Vec<Vec<Tile>>> {
    let (mut pools, mut grown) = (vec![vec![Partial::EMPTY]], Vec::new());
    for (index, tiles) in layers.iter().enumerate() {
        let next = grow(&pools[index], tiles, index > 0, limits, &mut grown);
        pools.push(next);
    }
    // Mappings do not remember how they came to be, so the steps are looked for from the end.
    let mut at = *best_of(pools.last()?)?;
    let mut groups = vec![Vec::new()];
    for (index, tiles) in layers.iter().enumerate().rev() {
        let ways = pools[index].iter().flat_map(|from| {
            steps(*from, tiles, index > 0, limits).into_iter().flatten().map(move |step| (*from, step))
        });
        let (from, step) = ways.into_iter().find(|(_, step)| step.to == at)?;
        groups.last_mut()?.push(step.tile);
        if !step.is_join && index > 0 {
            groups.push(Vec::new());
        }
        at = from;
    }
    groups.iter_mut().for_each(|group| group.reverse());
    groups.reverse();
    Some(groups)
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
