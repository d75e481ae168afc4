//! Tiles of one layer: how many LUTs buy how few cycles.

use super::tables::{multiplier_lut, truncator_lut};
use super::{CostModel, LayerCost};

/// LUTs and cycles of one tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) lut: u64,
    pub(super) cycles: u64,
}

/// Tiles `Tn` (input channels, outer) by `Tm` (output channels, inner) of one layer, kept in the few that a mapping
/// can choose.
///
/// LUTs are `Tm x unit(Tn)` and cycles `ceil(M / Tm) x ceil(N / Tn) x pass`. All `Tn` with one value of
/// `ceil(N / Tn)` form a class of equal speed, and classes follow each other as `Tn` grows. Within a class a later
/// `Tn` is only ever chosen when its unit is smaller than all before, because ties go to the first hit; so each class
/// keeps its strictly falling minima, which nearly always is its first `Tn` alone.
#[derive(Clone, Debug)]
pub(super) struct TileSpace {
    outputs: u64,
    classes: Vec<Class>,
}

#[derive(Clone, Debug)]
struct Class {
    /// Cycles with `Tm = M`: `ceil(N / Tn) x pass`.
    cycles: u64,
    /// Units of the kept `Tn`, strictly falling.
    units: Vec<u64>,
}

impl Class {
    fn smallest_unit(&self) -> u64 {
        // A class is made with one unit.
        self.units.last().copied().unwrap_or(u64::MAX)
    }
}

impl TileSpace {
    pub(super) fn new(model: CostModel, layer: &LayerCost) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        for tn in 1..=layer.inputs {
            let cycles = layer.inputs.div_ceil(tn) * layer.pass_cycles;
            let unit = unit_lut(model, layer, tn);
            match classes.last_mut().filter(|class| class.cycles == cycles) {
                Some(class) if unit < class.smallest_unit() => class.units.push(unit),
                Some(_) => {}
                None => classes.push(Class { cycles, units: vec![unit] }),
            }
        }
        Self { outputs: layer.outputs, classes }
    }

    /// LUTs of the smallest tile at any speed (`Tm = 1`).
    pub(super) fn smallest_lut(&self) -> u64 {
        self.classes.iter().map(Class::smallest_unit).min().unwrap_or(0)
    }

    /// Cycles of the fastest tile at any size (all channels at once).
    pub(super) fn fewest_cycles(&self) -> u64 {
        self.classes.last().map_or(0, |class| class.cycles)
    }

    /// The tile of least LUTs within both limits, the first in `Tn`, `Tm` order among equals.
    pub(super) fn least_lut(&self, lut_limit: u64, cycle_limit: u64) -> Option<Tile> {
        let mut best: Option<Tile> = None;
        for class in &self.classes {
            let rounds = cycle_limit / class.cycles;
            if rounds == 0 {
                continue;
            }
            // The fewest outputs at once that need at most that many rounds.
            let tm = self.outputs.div_ceil(rounds);
            let lut = tm * class.smallest_unit();
            if lut <= lut_limit && best.is_none_or(|b| lut < b.lut) {
                best = Some(Tile { lut, cycles: self.outputs.div_ceil(tm) * class.cycles });
            }
        }
        best
    }

    /// The tile of least cycles within both limits, the first in `Tn`, `Tm` order among equals.
    pub(super) fn least_cycles(&self, lut_limit: u64, cycle_limit: u64) -> Option<Tile> {
        let mut best: Option<Tile> = None;
        for class in &self.classes {
            let widest = lut_limit.checked_div(class.smallest_unit()).unwrap_or(self.outputs).min(self.outputs);
            if widest == 0 {
                continue;
            }
            let rounds = self.outputs.div_ceil(widest);
            let cycles = rounds * class.cycles;
            if cycles > cycle_limit || best.is_some_and(|b| cycles >= b.cycles) {
                continue;
            }
            // The first hit: the first `Tn` of the class that can be this wide, with the smallest `Tm` as fast.
            let tm = self.outputs.div_ceil(rounds);
            let unit = class.units.iter().find(|&&unit| unit * tm <= lut_limit);
            best = unit.map(|unit| Tile { lut: unit * tm, cycles }).or(best);
        }
        best
    }
}

/// LUTs of a tile of `tn` inputs for each of its outputs: multipliers, adder tree, accumulator, truncator.
fn unit_lut(model: CostModel, layer: &LayerCost, tn: u64) -> u64 {
    let [in_int, in_frac] = <[u8; 2]>::from(layer.in_act).map(u32::from);
    let [weight_int, weight_frac] = <[u8; 2]>::from(layer.weight).map(u32::from);
    let [out_int, out_frac] = <[u8; 2]>::from(layer.out_act).map(u32::from);
    let activation_bits = match model {
        CostModel::Naqs => in_int,
        CostModel::Corrected => in_int + in_frac,
    };
    let multipliers = tn * multiplier_lut(model, activation_bits, weight_int + weight_frac);

    // The adder tree halves the number of operands and widens them by a bit each level.
    let (mut int, frac) = (in_int + weight_int, in_frac + weight_frac);
    let (mut operands, mut adders) = (tn, 0);
    while operands > 1 {
        adders += (operands / 2) * u64::from(int + frac);
        operands = operands.div_ceil(2);
        int += 1;
    }
    // The accumulator is at least as wide as the output on both sides.
    let (int, frac) = (int.max(out_int), frac.max(out_frac));
    adders += u64::from(int + frac);
    let int = int + 1;
    let truncator = truncator_lut(int.max(out_int), frac.max(out_frac), int.abs_diff(out_int), frac.abs_diff(out_frac));
    multipliers + adders + truncator
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::FixedPoint;
    use proptest::prelude::*;

    use super::*;

    fn brute(
        model: CostModel,
        layer: &LayerCost,
        key: fn(Tile) -> u64,
        lut_limit: u64,
        cycle_limit: u64,
    ) -> Option<Tile> {
        let mut best: Option<Tile> = None;
        for tn in 1..=layer.inputs {
            for tm in 1..=layer.outputs {
                let cycles = layer.outputs.div_ceil(tm) * layer.inputs.div_ceil(tn) * layer.pass_cycles;
                let tile = Tile { lut: tm * unit_lut(model, layer, tn), cycles };
                let fits = tile.lut <= lut_limit && tile.cycles <= cycle_limit;
                if fits && best.is_none_or(|b| key(tile) < key(b)) {
                    best = Some(tile);
                }
            }
        }
        best
    }

    fn format() -> impl Strategy<Value = FixedPoint> {
        (0u8..4, 0u8..7).prop_map(|(int, frac)| FixedPoint::new(int, frac))
    }

    proptest! {
        /// The kept tiles answer every question as a scan of all tiles does, first hits included.
        #[test]
        fn equals_the_scan_of_all_tiles(
            (inputs, outputs) in (1u64..40, 1u64..40),
            (in_act, out_act, weight) in (format(), format(), format()),
            naqs in any::<bool>(),
            lut_limit in 0u64..20_000,
            cycle_limit in 1u64..2_000,
        ) {
            let model = if naqs { CostModel::Naqs } else { CostModel::Corrected };
            let layer = LayerCost { inputs, outputs, pass_cycles: 3, in_act, out_act, weight };
            let tiles = TileSpace::new(model, &layer);
            prop_assert_eq!(
                tiles.least_lut(lut_limit, cycle_limit), brute(model, &layer, |t| t.lut, lut_limit, cycle_limit)
            );
            prop_assert_eq!(
                tiles.least_cycles(lut_limit, cycle_limit), brute(model, &layer, |t| t.cycles, lut_limit, cycle_limit)
            );
        }
    }
}
