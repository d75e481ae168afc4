//! FPGA cost model: how many LUTs and clock cycles an image the best mapping of a network takes.
//!
//! Consensus-critical and integers only. A layer is unrolled into a tile of `Tn` input by `Tm` output channels
//! ([`tile`](self)); consecutive layers form groups that are on the chip together, and groups follow each other in
//! time. [`CostModel::Naqs`] reproduces the published program, slips included, so that its logs can be checked;
//! [`CostModel::Corrected`] mends them and is what chains use.
//!
//! [`finn`] is a second opinion, [`Explanation`] says why a network meets its bounds or not, [`BOUNDS_PRESETS`] names
//! bounds that bite. None of the three is consensus-critical.

mod explain;
pub mod finn;
mod lines;
mod mapping;
mod presets;
mod tables;
mod tile;

use podl_consensus::workload::{Architecture, Bounds, FixedPoint, INPUT_BITS, InputShape, Span};

pub use explain::{Bottleneck, Explanation, Fastest, Found, Group, Parts, Smallest, Verdict};
pub use lines::{Answer, Estimator, LineError, answer_line, explain_line};
use mapping::{Limits, map_layers};
pub use presets::{BOUNDS_PRESETS, BoundsPreset};
use tile::TileSpace;

/// Clock of the modelled FPGA, in cycles a second.
pub const CLOCK_HZ: u64 = 100_000_000;

/// Version of the corrected model that chain specifications name.
pub const COST_MODEL_VERSION: u16 = 1;

/// Widest operand of the multiplier table, in bits.
const MOST_BITS: u32 = 14;

/// Which variant of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CostModel {
    /// The published program: multiplier sizes by the activation's integer bits alone, an unsymmetric multiplier
    /// table with a misprint, and the number of input channels in place of the number of rows.
    Naqs,
    /// The same model with these slips mended.
    Corrected,
}

/// Cost of the mapping that the model chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// LUTs of the largest group.
    pub lut: u64,
    /// Clock cycles an image, all groups.
    pub cycles: u64,
}

impl Cost {
    /// Whether the design is faster than `throughput` images a second.
    pub fn is_faster_than(self, throughput: u64) -> bool {
        u128::from(throughput) * u128::from(self.cycles) < u128::from(CLOCK_HZ)
    }

    /// Images a second, for people and JSON. Rules compare [`Cost::cycles`] instead.
    pub fn images_per_second(self) -> f64 {
        CLOCK_HZ as f64 / self.cycles as f64
    }

    /// The same to three decimals, as it is printed.
    fn rounded_throughput(self) -> f64 {
        (self.images_per_second() * 1e3).round() / 1e3
    }
}

/// Why a network has no cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// No layers.
    #[error("the architecture has no layers")]
    NoLayers,
    /// A size is 0.
    #[error("layer {layer}: a kernel, filter, stride, pool or input size is 0")]
    Zero {
        /// Which layer, from 0.
        layer: usize,
    },
    /// An operand that the multiplier table does not know.
    #[error("layer {layer}: a format of {got} bits, the cost model knows {least} to 14")]
    Bits {
        /// Which layer, from 0.
        layer: usize,
        /// Total bits.
        got: u32,
        /// Least bits of this model variant.
        least: u32,
    },
}

/// Everything about one layer that its tiles depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LayerCost {
    inputs: u64,
    outputs: u64,
    /// Cycles of one tile pass: rows x columns x kernel.
    pass_cycles: u64,
    in_act: FixedPoint,
    out_act: FixedPoint,
    weight: FixedPoint,
}

/// The best mapping of the network within the bounds, `None` if there is none (infeasible).
///
/// # Errors
/// [`CostError`] for networks that the model cannot express. `Naqs` takes formats of 0 bits, as the published
/// program does.
pub fn evaluate(
    model: CostModel,
    architecture: &Architecture,
    input: InputShape,
    bounds: Bounds,
) -> Result<Option<Cost>, CostError> {
    Ok(map_within(&tile_spaces(model, architecture, input)?, bounds))
}

fn map_within(tiles: &[TileSpace], bounds: Bounds) -> Option<Cost> {
    map_layers(tiles, limits(bounds)).filter(|cost| cost.is_faster_than(bounds.throughput))
}

fn limits(bounds: Bounds) -> Limits {
    Limits { lut: bounds.lut, cycles: CLOCK_HZ.checked_div(bounds.throughput).unwrap_or(u64::MAX >> 1) }
}

/// LUTs of the smallest design at any speed: every layer alone in its smallest tile.
///
/// # Errors
/// As [`evaluate`].
pub fn smallest_lut(model: CostModel, architecture: &Architecture, input: InputShape) -> Result<u64, CostError> {
    let tiles = tile_spaces(model, architecture, input)?;
    Ok(tiles.iter().map(TileSpace::smallest_lut).max().unwrap_or(0))
}

fn tile_spaces(model: CostModel, architecture: &Architecture, input: InputShape) -> Result<Vec<TileSpace>, CostError> {
    if architecture.layers.is_empty() {
        return Err(CostError::NoLayers);
    }
    Ok(layer_costs(model, architecture, input)?.iter().map(|layer| TileSpace::new(model, layer)).collect())
}

fn layer_costs(model: CostModel, architecture: &Architecture, input: InputShape) -> Result<Vec<LayerCost>, CostError> {
    let mut channels = u64::from(input.channels);
    let (mut height, mut width) = (u32::from(input.height), u32::from(input.width));
    let mut in_act = INPUT_BITS;
    let mut costs = Vec::with_capacity(architecture.layers.len());
    for (index, layer) in architecture.layers.iter().enumerate() {
        let [kernel_height, kernel_width] = layer.kernel.map(u32::from);
        let [stride_height, stride_width] = layer.stride.map(u32::from);
        let pool = u32::from(layer.pool);
        let sizes = [kernel_height, kernel_width, stride_height, stride_width, pool, height, width];
        if sizes.contains(&0) || channels == 0 || layer.filters == 0 {
            return Err(CostError::Zero { layer: index });
        }
        check_bits(model, index, layer.act)?;
        check_bits(model, index, layer.weight)?;
        let rows = Span::same_upper(height, kernel_height, stride_height);
        let columns = Span::same_upper(width, kernel_width, stride_width);
        let passes = match model {
            CostModel::Naqs => channels,
            CostModel::Corrected => rows.padded().into(),
        };
        let kernel = u64::from(kernel_height) * u64::from(kernel_width);
        let outputs = u64::from(layer.filters);
        costs.push(LayerCost {
            inputs: channels,
            outputs,
            pass_cycles: passes * u64::from(columns.padded()) * kernel,
            in_act,
            out_act: layer.act,
            weight: layer.weight,
        });
        (channels, in_act) = (outputs, layer.act);
        (height, width) = (rows.output.div_ceil(pool), columns.output.div_ceil(pool));
    }
    Ok(costs)
}

fn check_bits(model: CostModel, layer: usize, format: FixedPoint) -> Result<(), CostError> {
    let least = match model {
        CostModel::Naqs => 0,
        CostModel::Corrected => 1,
    };
    let got = format.total_bits();
    if (least..=MOST_BITS).contains(&got) { Ok(()) } else { Err(CostError::Bits { layer, got, least }) }
}

#[cfg(test)]
mod tests;
