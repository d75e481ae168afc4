//! Matrix products with a fixed order of summation, whose left side is gathered.
//!
//! The left matrix is never made: element (row, k) is `values[rows[row] + depth[k]]`. A convolution over channels-last
//! images is then a product of the images themselves: rows are output positions, `depth` lists the kernel's taps. With
//! rows and depth exchanged, the same product gives the gradient of the weights.
//!
//! Columns come in groups of [`GROUP`] and are computed in **panels** of a few vectors. The right matrix is read row by
//! row as it lies, or **packed**: panel by panel, each depth-major.
//!
//! # Correctness
//! Every element is one chain of fused multiply-adds over the depth, first to last. Nothing else enters: not the tiles,
//! nor the instruction set, cache sizes or threads, so results are the same on every machine. (The `gemm` crate chooses
//! block sizes by the machine's caches, which changes the last bits.)

use super::simd::{Columns, GROUP, Isa, Lanes, dispatch, tile};

/// Depth of the blocks in which a product is made, so that a block of a panel stays in the first-level cache.
const DEPTH_BLOCK: usize = 320;

/// `columns` rounded up to whole groups.
pub const fn padded(columns: usize) -> usize {
    columns.next_multiple_of(GROUP)
}

/// Floats of a cache line.
const LINE: usize = 16;

/// The first float of a buffer that begins a cache line; where that cannot be told, a line's length.
fn first_aligned(buffer: &[f32]) -> usize {
    buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE)
}

/// The first `len` floats of a buffer that begin on a cache line; what they hold is of no matter.
pub fn aligned(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let first = first_aligned(buffer);
    &mut buffer[first..first + len]
}

/// Groups of the next panel when so many are left, for vectors of `vector` groups: two vectors, or three where one would
/// stay behind; less than a vector only at the end.
const fn panel_groups(vector: usize, left: usize) -> usize {
    match left / vector {
        0 => left,
        1 => vector,
        vectors if vectors.is_multiple_of(2) => 2 * vector,
        _ => 3 * vector,
    }
}

/// A right matrix, packed for one instruction set.
#[derive(Debug, Default)]
pub struct Packed {
    depth: usize,
    columns: usize,
    vector: usize,
    data: Vec<f32>,
}

impl Packed {
    /// Packs the matrix whose element (k, column) is `value(k, column)`, reusing this value's memory.
    pub fn pack(&mut self, isa: Isa, depth: usize, columns: usize, value: impl Fn(usize, usize) -> f32) {
        self.panels(isa, depth, columns).into_iter().for_each(|panel| panel.fill(&value));
    }

    /// The panels of a matrix of that size, each to be filled; on several threads, if there are.
    pub fn panels(&mut self, isa: Isa, depth: usize, columns: usize) -> Vec<Panel<'_>> {
        (self.depth, self.columns, self.vector) = (depth, padded(columns), isa.vector_groups());
        let mut rest = aligned(&mut self.data, depth * padded(columns));
        let (mut panels, mut first) = (Vec::new(), 0);
        while first < columns {
            let width = GROUP * panel_groups(self.vector, (padded(columns) - first) / GROUP);
            let (values, later) = rest.split_at_mut(depth * width);
            panels.push(Panel { first, width, real: width.min(columns - first), values });
            (rest, first) = (later, first + width);
        }
        panels
    }

    fn values(&self) -> &[f32] {
        let first = first_aligned(&self.data);
        self.data.get(first..first + self.depth * self.columns).unwrap_or(&[])
    }
}

/// Some columns of a matrix that is being packed.
#[derive(Debug)]
pub struct Panel<'a> {
    first: usize,
    width: usize,
    real: usize,
    values: &'a mut [f32],
}

impl Panel<'_> {
    /// Packs the panel from `value(k, column)`.
    pub fn fill(self, value: &impl Fn(usize, usize) -> f32) {
        for (k, row) in self.values.chunks_exact_mut(self.width).enumerate() {
            let (row, padding) = row.split_at_mut(self.real);
            row.iter_mut().enumerate().for_each(|(at, to)| *to = value(k, self.first + at));
            padding.fill(0.0);
        }
    }
}

/// A left matrix: element (row, k) is `values[rows[row] + depth[k]]`.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// The values.
    pub values: &'a [f32],
    /// Start of each row.
    pub rows: &'a [u32],
    /// Offset of each factor.
    pub depth: &'a [u32],
}

/// A right matrix.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// Packed.
    Packed(&'a Packed),
    /// Row-major with so many floats from row to row.
    Rows(&'a [f32], usize),
}

/// Where the rows of a product go.
#[derive(Clone, Copy, Debug)]
pub enum Places<'a> {
    /// One after the other, so many floats apart.
    Every(usize),
    /// Row by row.
    At(&'a [u32]),
}

impl Places<'_> {
    #[inline(always)]
    fn of(self, row: usize) -> usize {
        match self {
            Self::Every(stride) => row * stride,
            Self::At(places) => places[row] as usize,
        }
    }
}

/// Rows that a product writes.
#[derive(Debug)]
pub struct Out<'a> {
    /// The values.
    pub values: &'a mut [f32],
    /// Where each row begins.
    pub places: Places<'a>,
    /// Columns of a row, a multiple of [`GROUP`].
    pub columns: usize,
    /// Whether the sums go on from what the rows hold, or start at 0.
    pub resume: bool,
}

dispatch!(
    /// `out = left * right`, or `out += left * right` as one chain.
    ///
    /// # Panics
    /// If an offset lies outside its values.
    pub fn product(left: Left<'_>, right: Right<'_>, out: &mut Out<'_>) = product_body
);

#[inline(always)]
fn product_body<V: Lanes>(left: Left<'_>, right: Right<'_>, out: &mut Out<'_>) {
    check(left, right, out, V::GROUPS);
    let (depth, blocks) = (left.depth.len(), left.depth.len().div_ceil(DEPTH_BLOCK).max(1));
    let block = depth.div_ceil(blocks).max(1);
    let mut first = 0;
    while first < out.columns {
        let groups = panel_groups(V::GROUPS, (out.columns - first) / GROUP);
        let (values, stride) = match right {
            Right::Packed(packed) => (&packed.values()[first * depth..], groups * GROUP),
            Right::Rows(values, stride) => (&values[first.min(values.len())..], stride),
        };
        let mut start = 0;
        while start == 0 || start < depth {
            let end = (start + block).min(depth);
            let columns = Columns {
                left: left.values,
                depth: &left.depth[start..end],
                right: &values[(start * stride).min(values.len())..],
                stride,
                resume: out.resume || start > 0,
            };
            panel::<V>(groups, columns, left.rows, first, out);
            start += block;
        }
        first += groups * GROUP;
    }
}

/// What [`tile`] relies on, once for the whole product.
#[inline(always)]
fn check(left: Left<'_>, right: Right<'_>, out: &Out<'_>, vector: usize) {
    let most = |offsets: &[u32]| offsets.iter().fold(0, |most, &offset| most.max(offset)) as usize;
    assert!(out.columns.is_multiple_of(GROUP));
    if left.rows.is_empty() || out.columns == 0 {
        return;
    }
    let last = match out.places {
        Places::Every(stride) => (left.rows.len() - 1) * stride,
        Places::At(places) => most(&places[..left.rows.len()]),
    };
    assert!(last + out.columns <= out.values.len());
    if !left.depth.is_empty() {
        assert!(most(left.rows) + most(left.depth) < left.values.len());
        match right {
            Right::Packed(packed) => {
                assert_eq!((packed.depth, packed.columns, packed.vector), (left.depth.len(), out.columns, vector));
            }
            Right::Rows(values, stride) => assert!((left.depth.len() - 1) * stride + out.columns <= values.len()),
        }
    }
}

/// All rows of one panel. Tile heights suit the registers, 16 of them with AVX2 (4 x 3 sums would fill them to the last
/// one, and the compiler then keeps a sum in memory), 32 with AVX-512; eight sums at least hide an addition's latency.
#[inline(always)]
fn panel<V: Lanes>(groups: usize, columns: Columns<'_>, rows: &[u32], first: usize, out: &mut Out<'_>) {
    match (groups / V::GROUPS, V::GROUPS) {
        (0, _) => tiles::<V::Half, 8, 1>(columns, rows, first, out),
        (1, _) => tiles::<V, 8, 1>(columns, rows, first, out),
        (2, 1) => tiles::<V, 6, 2>(columns, rows, first, out),
        (2, _) => tiles::<V, 8, 2>(columns, rows, first, out),
        (_, 1) => tiles::<V, 3, 3>(columns, rows, first, out),
        _ => tiles::<V, 8, 3>(columns, rows, first, out),
    }
}

#[inline(always)]
#[allow(unsafe_code)]
fn tiles<V: Lanes, const ROWS: usize, const VECTORS: usize>(
    columns: Columns<'_>,
    rows: &[u32],
    first: usize,
    out: &mut Out<'_>,
) {
    let mut row = 0;
    while row < rows.len() {
        let real = ROWS.min(rows.len() - row);
        let (mut starts, mut places) = ([0; ROWS], [0; ROWS]);
        for r in 0..ROWS {
            // Rows behind the last repeat it and are not written.
            let at = row + r.min(real - 1);
            (starts[r], places[r]) = (rows[at] as usize, out.places.of(at) + first);
        }
        // SAFETY: `check` has seen the greatest of all offsets.
        unsafe { tile::<V, ROWS, VECTORS>(columns, starts, out.values, places, real) };
        row += ROWS;
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::values;
    use super::*;

    /// One chain of multiply-adds an element.
    fn naive(left: Left<'_>, right: &[f32], columns: usize, start: f32) -> Vec<f32> {
        let element = |i: usize| {
            let (row, column) = (left.rows[i / columns] as usize, i % columns);
            let terms = left.depth.iter().enumerate();
            terms.fold(start, |sum, (k, &d)| left.values[row + d as usize].mul_add(right[k * columns + column], sum))
        };
        (0..left.rows.len() * columns).map(element).collect()
    }

    #[test]
    fn products_are_the_same_on_every_instruction_set_and_shape() {
        let shapes = [(1, 1, 1), (4, 27, 33), (36, 324, 64), (13, 5, 31), (21, 400, 36), (8, 800, 10), (7, 0, 96)];
        for (rows, depth, columns) in shapes {
            let left_values = values(1, rows + 3 * depth + 1);
            let starts: Vec<u32> = (0..rows as u32).rev().collect();
            let offsets: Vec<u32> = (0..depth as u32).map(|k| 3 * k).collect();
            let left = Left { values: &left_values, rows: &starts, depth: &offsets };
            let right = values(2, depth * columns);
            let stride = padded(columns);
            let mut wide = vec![0.0; depth * stride];
            for (wide, row) in wide.chunks_exact_mut(stride).zip(right.chunks_exact(columns)) {
                wide[..columns].copy_from_slice(row);
            }
            for isa in Isa::available() {
                let mut packed = Packed::default();
                packed.pack(isa, depth, columns, |k, column| right[k * columns + column]);
                let places: Vec<u32> = (0..rows as u32).map(|r| r * stride as u32).collect();
                for (right_side, at, resume) in [
                    (Right::Packed(&packed), Places::Every(stride), false),
                    (Right::Rows(&wide, stride), Places::At(&places), true),
                ] {
                    let mut got = vec![if resume { 0.5 } else { f32::NAN }; rows * stride];
                    product(isa, left, right_side, &mut Out { values: &mut got, places: at, columns: stride, resume });
                    let expected = naive(left, &right, columns, if resume { 0.5 } else { 0.0 });
                    for (i, expected) in expected.iter().enumerate() {
                        let got = got[i / columns * stride + i % columns];
                        assert_eq!(got.to_bits(), expected.to_bits(), "{} {rows}x{depth}x{columns} {i}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn an_offset_outside_is_refused() {
        let left = Left { values: &[1.0; 10], rows: &[0, 6], depth: &[0, 4] };
        let mut out = [0.0; 16];
        let mut out = Out { values: &mut out, places: Places::Every(8), columns: 8, resume: false };
        product(Isa::detect(), left, Right::Rows(&[0.0; 16], 8), &mut out);
    }
}
