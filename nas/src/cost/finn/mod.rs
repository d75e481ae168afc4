//! A second opinion: the analytic estimators of the FINN tool chain, which puts the whole network on the chip as a
//! pipeline of units, dense layers included. Throughput is the clock over the cycles of the slowest unit, and the LUTs
//! of all units add up.
//!
//! *Not* consensus-critical: rules judge by [`CostModel`](super::CostModel), which has no variant for this, so that
//! nothing here can be reached from one. All of it is integers all the same (the logarithms are bit lengths and 1.1 is
//! 11/10), so that every machine gives the same figures.
//!
//! Against synthesis the published error of such estimates is 10 to 30 % (R^2 of 0.8 to 0.98).
//!
//! What the formulas leave open is taken from the tool chain's defaults: memories as synthesis decides
//! ([`Memory::Auto`]), a FIFO of depth 2 behind every unit but the last. Every convolution has a sliding window, one of
//! 1 x 1 too. Padding and changes of stream width have no estimator and cost nothing.

mod folding;
mod units;

use podl_consensus::workload::{Bounds, ConvShape, DenseShape, FixedPoint, INPUT_BITS, Network};
use serde::Serialize;

use super::{CLOCK_HZ, Cost, CostError, CostModel, check_bits};
pub use units::{Folding, MatrixVector, Memory, SlidingWindow, bram18, fifo_lut, max_pool_cycles};

/// Words of the FIFO behind a unit: the tool chain's default.
const FIFO_DEPTH: u64 = 2;

/// Which unit of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// Cuts the image into the vectors of a convolution.
    SlidingWindow,
    /// Convolution after its sliding window, or dense layer.
    MatrixVector,
    /// Max-pool.
    MaxPool,
}

/// One unit of a folded design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its layer, from 0; the two dense layers come after the convolutions.
    pub layer: usize,
    /// Which unit of the layer.
    pub unit: UnitKind,
    /// Outputs at once (1 where a unit has no such choice).
    pub pe: u64,
    /// Inputs at once; all channels in a max-pool.
    pub simd: u64,
    /// LUTs, the FIFO behind the unit included.
    pub lut: u64,
    /// Clock cycles an image.
    pub cycles: u64,
    /// Block memories of 18 kbit for weights.
    pub bram18: u64,
}

/// A folded network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Design {
    /// Units in the order of the stream; never empty.
    pub units: Vec<Unit>,
    /// LUTs of all units.
    pub lut: u64,
    /// Clock cycles of the slowest unit.
    pub cycles: u64,
    /// Block memories of 18 kbit of all units.
    pub bram18: u64,
}

impl Design {
    fn new(units: Vec<Unit>) -> Self {
        Self {
            lut: units.iter().map(|unit| unit.lut).sum(),
            cycles: units.iter().map(|unit| unit.cycles).max().unwrap_or(0),
            bram18: units.iter().map(|unit| unit.bram18).sum(),
            units,
        }
    }

    /// LUTs and cycles alone.
    pub fn cost(&self) -> Cost {
        Cost { lut: self.lut, cycles: self.cycles }
    }

    /// The unit that caps the rate, the first of several.
    pub fn slowest(&self) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.cycles == self.cycles)
    }
}

/// A network as units that wait to be folded.
#[derive(Clone, Debug)]
pub struct Pipeline {
    stages: Vec<Stage>,
    memory: Memory,
}

#[derive(Clone, Copy, Debug)]
struct Stage {
    layer: usize,
    kind: StageKind,
}

#[derive(Clone, Copy, Debug)]
enum StageKind {
    SlidingWindow(SlidingWindow),
    MatrixVector(MatrixVector),
    MaxPool { cycles: u64, channels: u64, bits: u64 },
}

impl Pipeline {
    /// The units of a network, dense layers included.
    ///
    /// # Errors
    /// [`CostError::Bits`] for formats of no or more than 14 bits.
    pub fn new(network: &Network, memory: Memory) -> Result<Self, CostError> {
        let mut stages = Vec::with_capacity(3 * network.convs.len() + 2);
        let mut input = (INPUT_BITS, true);
        for (layer, conv) in network.convs.iter().enumerate() {
            check_formats(layer, conv.layer.act, conv.layer.weight)?;
            stages.extend(conv_stages(conv, input).map(|kind| Stage { layer, kind }));
            input = (conv.layer.act, false);
        }
        let (dense, layer) = (network.dense, network.convs.len());
        check_formats(layer, dense.act, dense.weight)?;
        let hidden = dense_stage(network.hidden, dense.weight, input, Some(dense.act));
        let output = dense_stage(network.output, dense.weight, (dense.act, false), None);
        stages.push(Stage { layer, kind: hidden });
        stages.push(Stage { layer: layer + 1, kind: output });
        Ok(Self { stages, memory })
    }

    /// Folds every unit until it takes fewer than `target_cycles`. Where a unit cannot, it caps the rate, and all are
    /// folded for the rate that it allows: faster ones would only wait.
    pub fn fold(&self, target_cycles: u64) -> Design {
        let design = self.fold_each(target_cycles);
        if design.cycles < target_cycles { design } else { self.fold_each(design.cycles + 1) }
    }

    fn fold_each(&self, target_cycles: u64) -> Design {
        let last = self.stages.len().saturating_sub(1);
        let units = self.stages.iter().enumerate();
        Design::new(units.map(|(index, stage)| stage.fold(target_cycles, self.memory, index < last)).collect())
    }

    /// The smallest design at any speed: nothing unrolled.
    pub fn smallest(&self) -> Design {
        self.fold(u64::MAX)
    }

    /// The fastest design at any size, folded for the rate that its slowest unit allows.
    pub fn fastest(&self) -> Design {
        self.fold(0)
    }

    /// The smallest design that is faster than the throughput bound; `None` when it is larger than the LUT bound or no
    /// folding is that fast.
    pub fn within(&self, bounds: Bounds) -> Option<Design> {
        let design = self.fold(target_cycles(bounds.throughput));
        let is_fast = design.cycles < target_cycles(bounds.throughput);
        (is_fast && design.lut <= bounds.lut).then_some(design)
    }

    /// The fastest design within a LUT bound; `None` when the smallest design is larger.
    pub fn fastest_within(&self, lut: u64) -> Option<Design> {
        // LUTs only fall as the target grows, so the least target that fits is found by halving.
        let mut best = self.smallest();
        if best.lut > lut {
            return None;
        }
        let (mut low, mut high) = (0, best.cycles + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let design = self.fold(middle);
            if design.lut <= lut {
                (high, best) = (middle, design);
            } else {
                low = middle;
            }
        }
        Some(best)
    }
}

/// The cycles that a design must stay under to be faster than `throughput` images a second.
fn target_cycles(throughput: u64) -> u64 {
    if throughput == 0 { u64::MAX } else { CLOCK_HZ.div_ceil(throughput) }
}

fn check_formats(layer: usize, act: FixedPoint, weight: FixedPoint) -> Result<(), CostError> {
    // The same formats as the corrected model: the two are there to be compared.
    check_bits(CostModel::Corrected, layer, act)?;
    check_bits(CostModel::Corrected, layer, weight)
}

/// The units of a convolution whose input has that format and perhaps a sign.
fn conv_stages(conv: &ConvShape, (input, is_input_signed): (FixedPoint, bool)) -> impl Iterator<Item = StageKind> {
    let kernel = conv.layer.kernel.map(u64::from);
    let output = [conv.rows.output, conv.columns.output].map(u64::from);
    let (outputs, bits) = (u64::from(conv.layer.filters), u64::from(conv.layer.act.total_bits()));
    let window = SlidingWindow {
        channels: conv.in_channels.into(),
        bits: input.total_bits().into(),
        kernel,
        stride_width: conv.layer.stride[1].into(),
        row_width: conv.columns.padded().into(),
        output,
    };
    let matrix = MatrixVector {
        inputs: conv.fan_in(),
        outputs,
        vectors: output[0] * output[1],
        weight_bits: conv.layer.weight.total_bits().into(),
        input_bits: input.total_bits().into(),
        is_input_signed,
        output_bits: Some(bits),
    };
    let pool = (conv.layer.pool > 1).then(|| {
        let cycles = max_pool_cycles(output[0], output[1], conv.layer.pool.into());
        StageKind::MaxPool { cycles, channels: outputs, bits }
    });
    [StageKind::SlidingWindow(window), StageKind::MatrixVector(matrix)].into_iter().chain(pool)
}

fn dense_stage(
    shape: DenseShape,
    weight: FixedPoint,
    (input, is_input_signed): (FixedPoint, bool),
    output: Option<FixedPoint>,
) -> StageKind {
    StageKind::MatrixVector(MatrixVector {
        inputs: shape.inputs.into(),
        outputs: shape.outputs.into(),
        vectors: 1,
        weight_bits: weight.total_bits().into(),
        input_bits: input.total_bits().into(),
        is_input_signed,
        output_bits: output.map(|format| format.total_bits().into()),
    })
}

impl Stage {
    fn fold(&self, target_cycles: u64, memory: Memory, has_fifo: bool) -> Unit {
        let (unit, folding, lut, cycles, bram18, stream_bits) = match self.kind {
            StageKind::SlidingWindow(window) => {
                let simd = window.fold(target_cycles);
                let (lut, cycles) = (window.lut(simd, memory), window.cycles(simd));
                (UnitKind::SlidingWindow, Folding { pe: 1, simd }, lut, cycles, 0, simd * window.bits)
            }
            StageKind::MatrixVector(matrix) => {
                let folding = matrix.fold(target_cycles);
                let (lut, bram18) = (matrix.lut(folding, memory), matrix.bram18(folding, memory));
                let bits = matrix.output_bits.unwrap_or_else(|| matrix.accumulator_bits());
                (UnitKind::MatrixVector, folding, lut, matrix.cycles(folding), bram18, folding.pe * bits)
            }
            StageKind::MaxPool { cycles, channels, bits } => {
                (UnitKind::MaxPool, Folding { pe: 1, simd: channels }, 0, cycles, 0, channels * bits)
            }
        };
        let fifo = if has_fifo { fifo_lut(FIFO_DEPTH, stream_bits) } else { 0 };
        Unit { layer: self.layer, unit, pe: folding.pe, simd: folding.simd, lut: lut + fifo, cycles, bram18 }
    }
}

#[cfg(test)]
mod tests;
