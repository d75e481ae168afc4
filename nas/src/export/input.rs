//! From pixels to what the first layer takes: the task's input table inside the graph.
//!
//! A table made from a mean and a deviation is a straight line, rounded: then multiplying, adding and quantising give
//! it back exactly, which is tried for all 256 bytes of every channel. Any other table is looked up.

use podl_consensus::workload::InputShape;

use super::graph::{GraphBuilder, Grid, Tensor, int, step};
use super::onnx::DataType;
use crate::engine::INPUT_FRAC_BITS;

/// Bisections until the slope's interval is below the resolution of a double.
const STEPS: u32 = 200;
/// No slope between 16-bit values over 255 bytes is steeper.
const STEEPEST: f64 = 258.0;

/// Per channel what a pixel is multiplied by and what is then added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) step: f32,
    pub(super) offset: f32,
}

impl Line {
    /// The line whose rounding is the table; `None` when no line is found that 32-bit floats put on the right side of
    /// every rounding edge, fused or not.
    pub(super) fn through(table: &[i16]) -> Option<Self> {
        let (mut low, mut high) = (-STEEPEST, STEEPEST);
        // The room for an offset is a concave function of the slope.
        for _ in 0..STEPS {
            let third = (high - low) / 3.0;
            if room(table, low + third).1 < room(table, high - third).1 { low += third } else { high -= third }
        }
        let slope = (low + high) / 2.0;
        let (offset, room) = room(table, slope);
        let unit = f64::from(step(INPUT_FRAC_BITS));
        let line = Self { step: (slope * unit) as f32, offset: (offset * unit) as f32 };
        (room > 0.0 && line.gives(table)).then_some(line)
    }

    fn gives(self, table: &[i16]) -> bool {
        let rounded = |value: f32| (value / step(INPUT_FRAC_BITS)).round_ties_even();
        (0u16..).zip(table).all(|(byte, &expected)| {
            let (byte, expected) = (f32::from(byte), f32::from(expected));
            // Both are whole numbers of at most 16 bits.
            let is_same = |value: f32| (rounded(value) - expected).abs() < 0.5;
            is_same(byte * self.step + self.offset) && is_same(byte.mul_add(self.step, self.offset))
        })
    }
}

/// For a slope the middle offset with which every byte rounds to its value, and how much room there is around it
/// (negative: none).
fn room(table: &[i16], slope: f64) -> (f64, f64) {
    let rests = (0u16..).zip(table).map(|(byte, &value)| f64::from(value) - slope * f64::from(byte));
    let ends = (f64::NEG_INFINITY, f64::INFINITY);
    let (low, high) = rests.fold(ends, |(low, high), rest| (low.max(rest - 0.5), high.min(rest + 0.5)));
    (low.midpoint(high), high - low)
}

/// How many bits the table's values need in two's complement; at least 2.
pub(super) fn table_bits(table: &[Vec<i16>]) -> u32 {
    let needed = |value: &i16| 17 - (if *value < 0 { !*value } else { *value }).leading_zeros();
    table.iter().flatten().map(needed).max().unwrap_or(2).max(2)
}

/// Adds the nodes that turn pixels (floats 0 to 255) into input values. The flag says whether they look up the table
/// (or else compute it).
pub(super) fn add_stage(graph: &mut GraphBuilder, pixels: &Tensor, table: &[Vec<i16>]) -> (Tensor, bool) {
    let lines: Option<Vec<Line>> = table.iter().map(|channel| Line::through(channel)).collect();
    let is_lookup = lines.is_none();
    let values = match lines {
        Some(lines) => add_lines(graph, pixels, &lines),
        None => add_lookup(graph, pixels, table),
    };
    let grid = Grid { frac_bits: INPUT_FRAC_BITS, bits: table_bits(table), is_signed: true };
    (graph.quantise(&values, "input.values", grid, false), is_lookup)
}

fn add_lines(graph: &mut GraphBuilder, pixels: &Tensor, lines: &[Line]) -> Tensor {
    let shape = [1, pixels.shape[1], 1, 1];
    let steps = graph.constant(Tensor::floats("input.step", &shape), lines.iter().map(|line| line.step));
    let offsets = graph.constant(Tensor::floats("input.offset", &shape), lines.iter().map(|line| line.offset));
    let scaled = graph.apply("Mul", &[pixels, &steps], Tensor::floats("input.scaled", &pixels.shape), vec![]);
    graph.apply("Add", &[&scaled, &offsets], Tensor::floats("input.shifted", &pixels.shape), vec![])
}

fn add_lookup(graph: &mut GraphBuilder, pixels: &Tensor, table: &[Vec<i16>]) -> Tensor {
    let shape = &pixels.shape;
    let bytes = Tensor::integers("input.bytes", shape);
    let bytes = graph.apply("Cast", &[pixels], bytes, vec![int("to", i32::from(DataType::Int64).into())]);
    // All channels' tables lie in one, 256 entries each.
    let starts = (0i64..).step_by(256).take(table.len());
    let starts = graph.integer_constant(Tensor::integers("input.start", &[1, shape[1], 1, 1]), starts);
    let entries = graph.apply("Add", &[&bytes, &starts], Tensor::integers("input.entry", shape), vec![]);
    let values = table.iter().flatten().map(|&value| f32::from(value) * step(INPUT_FRAC_BITS));
    let table = graph.constant(Tensor::floats("input.table", &[256 * shape[1]]), values);
    graph.apply("Gather", &[&table, &entries], Tensor::floats("input.looked_up", shape), vec![int("axis", 0)])
}

/// Shape of one image as a batch of 1.
pub(super) fn image_shape(input: InputShape) -> [u32; 4] {
    [1, input.channels.into(), input.height.into(), input.width.into()]
}
