//! Matrix products with a fixed order of summation.
//!
//! Columns are kept in **tiles** of [`TILE`]: a matrix of `depth` rows and `n` columns is `ceil(n / TILE)` blocks of
//! `depth` rows of `TILE` floats, columns behind the last being zero. The left matrix is **packed** in panels of up to
//! 12 rows, depth-major, so that the inner loop reads both sides front to back.
//!
//! # Correctness
//! Every element of [`multiply`] is one chain of fused multiply-adds over the depth, first to last; every element of
//! [`add_products`] is 16 such chains over the columns (one a lane), added in the tree of [`Lanes::sum`]. Neither
//! depends on tile height, instruction set, cache sizes or threads, so results are the same on every machine. (The
//! `gemm` crate chooses block sizes by the machine's caches, which changes the last bits.)

// Indexed loops with constant bounds are what keeps sums in registers.
#![allow(clippy::needless_range_loop)]

use super::simd::{LANES, Lanes, dispatch};

/// Columns of a tile: two [`Lanes`].
pub const TILE: usize = 32;

/// One row of one tile.
pub type Row = [f32; TILE];

/// Depth of the blocks in which a product is made, so that one block of a tile stays in the first-level cache.
const DEPTH_BLOCK: usize = 384;

/// Tiles that hold `columns` columns.
pub const fn tiles(columns: usize) -> usize {
    columns.div_ceil(TILE)
}

/// A left matrix, packed: panels of 12, 8 or 4 rows, each depth-major, missing rows zero.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    rows: usize,
    depth: usize,
    data: Vec<f32>,
}

/// Height of the panel that starts with `rest` rows to go. Panels of one matrix differ only in height, which changes
/// no result.
const fn panel_height(rest: usize) -> usize {
    match rest {
        12.. => 12,
        9..=11 => 12,
        5..=8 => 8,
        _ => 4,
    }
}

impl Packed {
    /// Packs the matrix whose element (row, column) is `source[row * row_stride + column * depth_stride]`,
    /// reusing this value's memory.
    ///
    /// # Panics
    /// If `source` is too short.
    pub fn pack(&mut self, source: &[f32], rows: usize, depth: usize, row_stride: usize, depth_stride: usize) {
        (self.rows, self.depth) = (rows, depth);
        self.data.clear();
        let mut first = 0;
        while first < rows {
            let height = panel_height(rows - first);
            let real = height.min(rows - first);
            for k in 0..depth {
                let start = first * row_stride + k * depth_stride;
                self.data.extend((0..real).map(|r| source[start + r * row_stride]));
                self.data.extend(std::iter::repeat_n(0.0, height - real));
            }
            first += height;
        }
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Copies a row-major matrix of `depth` rows and `columns` columns into tiles.
pub fn tile_rows(source: &[f32], columns: usize, tiled: &mut Vec<Row>) {
    let depth = source.len() / columns;
    tiled.clear();
    tiled.resize(tiles(columns) * depth, [0.0; TILE]);
    for (k, row) in source.chunks_exact(columns).enumerate() {
        for (t, part) in row.chunks(TILE).enumerate() {
            tiled[t * depth + k][..part.len()].copy_from_slice(part);
        }
    }
}

/// Copies the transpose of a row-major matrix of `columns` rows and `depth` columns into tiles.
pub fn tile_transposed(source: &[f32], depth: usize, tiled: &mut Vec<Row>) {
    let columns = source.len() / depth;
    tiled.clear();
    tiled.resize(tiles(columns) * depth, [0.0; TILE]);
    for (column, row) in source.chunks_exact(depth).enumerate() {
        let tile = &mut tiled[column / TILE * depth..][..depth];
        for (to, &value) in tile.iter_mut().zip(row) {
            to[column % TILE] = value;
        }
    }
}

dispatch!(
    /// `out = left * right`: `right` and `out` tiled, with the depth and the rows of `left`.
    pub fn multiply(left: &Packed, right: &[Row], out: &mut [Row]) = multiply_body
);

#[inline(always)]
fn multiply_body<V: Lanes>(left: &Packed, right: &[Row], out: &mut [Row]) {
    if left.depth == 0 {
        return out.fill([0.0; TILE]);
    }
    for (right, out) in right.chunks_exact(left.depth).zip(out.chunks_exact_mut(left.rows)) {
        let mut start = 0;
        while start < left.depth {
            let length = DEPTH_BLOCK.min(left.depth - start);
            multiply_block::<V>(left, start, &right[start..start + length], out);
            start += length;
        }
    }
}

/// One depth block of one tile against all panels.
#[inline(always)]
fn multiply_block<V: Lanes>(left: &Packed, start: usize, right: &[Row], out: &mut [Row]) {
    let (mut panels, mut out) = (left.data.as_slice(), out);
    while !out.is_empty() {
        let height = panel_height(out.len());
        let (panel, rest) = panels.split_at(height * left.depth);
        let block = &panel[height * start..height * (start + right.len())];
        let (rows, below) = out.split_at_mut(height.min(out.len()));
        match height {
            12 => panel_product::<V, 12>(block, right, rows, start > 0),
            8 => panel_product::<V, 8>(block, right, rows, start > 0),
            _ => panel_product::<V, 4>(block, right, rows, start > 0),
        }
        (panels, out) = (rest, below);
    }
}

/// A panel of 12, 8 or 4 rows, in one go where the registers hold it, else in quarters of it.
#[inline(always)]
fn panel_product<V: Lanes, const HEIGHT: usize>(panel: &[f32], right: &[Row], out: &mut [Row], resume: bool) {
    let panel = panel.as_chunks::<HEIGHT>().0;
    if V::PANEL >= HEIGHT {
        return micro_kernel::<V, HEIGHT, HEIGHT, 2>(panel, 0, right, 0, out, resume);
    }
    for first in (0..HEIGHT).step_by(4) {
        if first < out.len() {
            let out = &mut out[first..];
            micro_kernel::<V, HEIGHT, 4, 1>(panel, first, right, 0, out, resume);
            micro_kernel::<V, HEIGHT, 4, 1>(panel, first, right, 1, out, resume);
        }
    }
}

/// `ROWS` rows of a panel, from `first`, by `HALVES` halves of a tile, from `half`, all sums in registers.
#[inline(always)]
fn micro_kernel<V: Lanes, const HEIGHT: usize, const ROWS: usize, const HALVES: usize>(
    panel: &[[f32; HEIGHT]],
    first: usize,
    right: &[Row],
    half: usize,
    out: &mut [Row],
    resume: bool,
) {
    // Loops over the sums have constant bounds only: an index that is not constant would keep them in memory.
    let mut sums = [[V::splat(0.0); HALVES]; ROWS];
    for r in 0..ROWS {
        if resume && r < out.len() {
            for h in 0..HALVES {
                sums[r][h] = V::load(&out[r].as_chunks::<LANES>().0[half + h]);
            }
        }
    }
    for (column, row) in panel.iter().zip(right) {
        let row = row.as_chunks::<LANES>().0;
        let right: [V; HALVES] = std::array::from_fn(|h| V::load(&row[half + h]));
        for r in 0..ROWS {
            let left = V::splat(column[first + r]);
            for h in 0..HALVES {
                sums[r][h] = left.mul_add(right[h], sums[r][h]);
            }
        }
    }
    for r in 0..ROWS {
        if r < out.len() {
            for h in 0..HALVES {
                sums[r][h].store(&mut out[r].as_chunks_mut::<LANES>().0[half + h]);
            }
        }
    }
}

dispatch!(
    /// `out += left * right^T`, summed over the columns: `left` and `right` are tiled with `rows` and `depth` rows,
    /// `out` is row-major, `rows` x `depth`.
    pub fn add_products(left: &[Row], rows: usize, right: &[Row], depth: usize, out: &mut [f32]) = add_products_body
);

#[inline(always)]
fn add_products_body<V: Lanes>(left: &[Row], rows: usize, right: &[Row], depth: usize, out: &mut [f32]) {
    // Four rows by four or six take 4 x 6 + 4 + 1 = 29 of 32 registers with AVX-512; the others read more often.
    let (mut r, step) = (0, if V::PANEL == 12 { 4 } else { 2 });
    while r < rows {
        let height = if rows - r >= step { step } else { 1 };
        match height {
            4 => product_strip::<V, 4>(left, rows, r, right, depth, out),
            2 => product_strip::<V, 2>(left, rows, r, right, depth, out),
            _ => product_strip::<V, 1>(left, rows, r, right, depth, out),
        }
        r += height;
    }
}

/// `HEIGHT` rows of `left` against every row of `right`.
#[inline(always)]
fn product_strip<V: Lanes, const HEIGHT: usize>(
    left: &[Row],
    rows: usize,
    r: usize,
    right: &[Row],
    depth: usize,
    out: &mut [f32],
) {
    let (mut k, step) = (0, if V::PANEL == 12 { 6 } else { 3 });
    while k < depth {
        let width = if depth - k >= step { step } else { 1 };
        match width {
            6 => product_tile::<V, HEIGHT, 6>(left, rows, r, right, depth, k, out),
            3 => product_tile::<V, HEIGHT, 3>(left, rows, r, right, depth, k, out),
            _ => product_tile::<V, HEIGHT, 1>(left, rows, r, right, depth, k, out),
        }
        k += width;
    }
}

/// `HEIGHT` x `WIDTH` sums in registers over all columns.
#[inline(always)]
fn product_tile<V: Lanes, const HEIGHT: usize, const WIDTH: usize>(
    left: &[Row],
    rows: usize,
    r: usize,
    right: &[Row],
    depth: usize,
    k: usize,
    out: &mut [f32],
) {
    let mut sums = [[V::splat(0.0); WIDTH]; HEIGHT];
    for (left, right) in left.chunks_exact(rows).zip(right.chunks_exact(depth)) {
        let (Some(left), Some(right)) = (left[r..].first_chunk::<HEIGHT>(), right[k..].first_chunk::<WIDTH>()) else {
            return;
        };
        for half in 0..TILE / LANES {
            let left: [V; HEIGHT] = std::array::from_fn(|i| V::load(&left[i].as_chunks::<LANES>().0[half]));
            for j in 0..WIDTH {
                let right = V::load(&right[j].as_chunks::<LANES>().0[half]);
                for i in 0..HEIGHT {
                    sums[i][j] = left[i].mul_add(right, sums[i][j]);
                }
            }
        }
    }
    for i in 0..HEIGHT {
        if let Some(out) = out[(r + i) * depth + k..].first_chunk_mut::<WIDTH>() {
            for j in 0..WIDTH {
                out[j] += sums[i][j].sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::values;
    use super::super::simd::Isa;
    use super::*;

    /// Row-major product by one chain of multiply-adds an element.
    fn naive(left: &[f32], right: &[f32], rows: usize, depth: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0.0f32; rows * columns];
        for (i, out) in out.iter_mut().enumerate() {
            let (r, c) = (i / columns, i % columns);
            *out = (0..depth).fold(0.0, |sum, k| left[r * depth + k].mul_add(right[k * columns + c], sum));
        }
        out
    }

    #[test]
    fn product_is_the_same_on_every_instruction_set_and_shape() {
        let shapes = [(1, 1, 1), (4, 27, 33), (36, 324, 64), (13, 5, 31), (21, 400, 32), (8, 800, 1), (7, 1, 96)];
        for (rows, depth, columns) in shapes {
            let (left, right) = (values(1, rows * depth), values(2, depth * columns));
            let expected = naive(&left, &right, rows, depth, columns);
            let (mut packed, mut tiled) = (Packed::default(), Vec::new());
            packed.pack(&left, rows, depth, depth, 1);
            tile_rows(&right, columns, &mut tiled);
            for isa in Isa::available() {
                let mut out = vec![[f32::NAN; TILE]; tiles(columns) * rows];
                multiply(isa, &packed, &tiled, &mut out);
                for (i, expected) in expected.iter().enumerate() {
                    let (r, c) = (i / columns, i % columns);
                    let got = out[c / TILE * rows + r][c % TILE];
                    assert_eq!(got.to_bits(), expected.to_bits(), "{} {rows}x{depth}x{columns} at {r},{c}", isa.name());
                }
            }
        }
    }

    #[test]
    fn packing_by_strides_transposes() {
        let (rows, depth) = (14, 9);
        let source = values(3, rows * depth);
        let transposed: Vec<f32> = (0..rows * depth).map(|i| source[(i % rows) * depth + i / rows]).collect();
        let (mut direct, mut strided) = (Packed::default(), Packed::default());
        direct.pack(&source, rows, depth, depth, 1);
        strided.pack(&transposed, rows, depth, 1, rows);
        assert_eq!(direct.data, strided.data);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        tile_rows(&source, depth, &mut a);
        tile_transposed(&transposed, rows, &mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn products_over_columns_agree_with_the_naive_sum() {
        for (rows, depth, columns) in [(1, 1, 5), (36, 27, 64), (5, 7, 40), (8, 13, 32), (4, 6, 100)] {
            let (left, right) = (values(4, rows * columns), values(5, depth * columns));
            let (mut tiled_left, mut tiled_right) = (Vec::new(), Vec::new());
            tile_rows(&left, columns, &mut tiled_left);
            tile_rows(&right, columns, &mut tiled_right);
            let mut all = Vec::new();
            for isa in Isa::available() {
                let mut out = vec![1.0f32; rows * depth];
                add_products(isa, &tiled_left, rows, &tiled_right, depth, &mut out);
                for (i, got) in out.iter().enumerate() {
                    let (r, k) = (i / depth, i % depth);
                    let sum: f64 = (0..columns)
                        .map(|c| f64::from(left[r * columns + c]) * f64::from(right[k * columns + c]))
                        .sum();
                    assert!((f64::from(*got) - 1.0 - sum).abs() < 1e-4, "{rows}x{depth}x{columns}: {got} {sum}");
                }
                all.push(out.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            }
            assert!(all.windows(2).all(|w| w[0] == w[1]));
        }
    }
}
