//! The inner loop: sums of products for some positions and one panel of outputs, in tiles that stay in registers.

use super::dot::Dot;
use super::{Form, Job, Simd};

/// The sums of one panel of outputs at some positions:
/// `sums[position][output] = biases[output] + sum over taps of input[position + tap] * weights[tap][output]`,
/// where inputs and weights are words of packed values and a product is that of [`Form`].
///
/// No im2col is needed: positions and taps are byte offsets into the padded input.
pub(in crate::engine) struct Product<'a> {
    pub(in crate::engine) form: Form,
    pub(in crate::engine) input: &'a [u8],
    /// Offset of each position.
    pub(in crate::engine) positions: &'a [usize],
    /// Offset of each word from a position.
    pub(in crate::engine) taps: &'a [u32],
    /// Where partial sums are folded into 32 bits: ends of runs of taps, ascending.
    pub(in crate::engine) segments: &'a [usize],
    /// `[tap][vector][lane]`.
    pub(in crate::engine) weights: &'a [i32],
    /// `[vector][lane]`.
    pub(in crate::engine) biases: &'a [i32],
    /// `[position][vector][lane]`.
    pub(in crate::engine) sums: &'a mut [i32],
}

impl Job for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.form {
            Form::Bytes => self.run_with::<S::Bytes>(S::REGISTERS),
            Form::Halves => self.run_with::<S::Halves>(S::REGISTERS),
        }
    }
}

impl Product<'_> {
    /// Chooses the tile that fills the registers: its sums, one row of weights, one activation and one product.
    #[inline(always)]
    fn run_with<D: Dot>(self, registers: usize) {
        match (registers, self.biases.len() / D::LANES) {
            (32, 1) => self.tiles::<D, 12, 1>(),
            (32, _) => self.tiles::<D, 12, 2>(),
            (16, 1) => self.tiles::<D, 8, 1>(),
            (16, _) => self.tiles::<D, 6, 2>(),
            (_, 1) => self.tiles::<D, 2, 1>(),
            (_, _) => self.tiles::<D, 2, 2>(),
        }
    }

    #[inline(always)]
    fn tiles<D: Dot, const ROWS: usize, const VECTORS: usize>(mut self) {
        self.check(VECTORS * D::LANES);
        let mut first = 0;
        while first < self.positions.len() {
            // SAFETY: checked above, and the first position is one.
            unsafe { self.tile::<D, ROWS, VECTORS>(first) };
            first += ROWS;
        }
    }

    /// Panics unless every access of [`Product::tile`] for panels of `width` outputs is within its slice.
    #[inline(always)]
    fn check(&self, width: usize) {
        let (mut position, mut tap) = (0, 0);
        for &at in self.positions {
            position = position.max(at);
        }
        for &at in self.taps {
            tap = tap.max(at);
        }
        let last_word = position.checked_add(tap as usize).and_then(|at| at.checked_add(size_of::<i32>()));
        assert!(last_word.is_some_and(|end| end <= self.input.len()), "positions and taps lie in the input");
        assert_eq!(self.biases.len(), width);
        assert_eq!(self.taps.len().checked_mul(width), Some(self.weights.len()));
        assert_eq!(self.positions.len().checked_mul(width), Some(self.sums.len()));
    }

    /// One tile: `ROWS` positions from `first` on, all vectors of the panel. Where positions run out, the last one is
    /// computed again.
    ///
    /// # Safety
    /// [`Product::check`] passed for `VECTORS * D::LANES`, and `first` is less than the number of positions.
    #[inline(always)]
    unsafe fn tile<D: Dot, const ROWS: usize, const VECTORS: usize>(&mut self, first: usize) {
        let last = self.positions.len() - 1;
        let mut inputs = [self.input.as_ptr(); ROWS];
        for (row, input) in inputs.iter_mut().enumerate() {
            // SAFETY: the index is at most `last`, and a position lies in the input.
            *input = unsafe { input.add(*self.positions.get_unchecked((first + row).min(last))) };
        }
        // SAFETY: there are as many biases as one row has sums.
        let mut totals = [unsafe { load_row::<D, VECTORS>(self.biases.as_ptr()) }; ROWS];
        let mut tap = 0;
        for &end in self.segments {
            let end = end.min(self.taps.len());
            let mut sums = [[D::zero(); VECTORS]; ROWS];
            while tap < end {
                // SAFETY: `tap` is less than the number of taps; the rest is this function's own condition.
                unsafe { self.step(tap, &inputs, &mut sums) };
                tap += 1;
            }
            for (totals, sums) in totals.iter_mut().zip(sums) {
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = total.plus_partial(sum);
                }
            }
        }
        for (row, totals) in totals.into_iter().enumerate() {
            let at = (first + row).min(last) * VECTORS * D::LANES;
            for (vector, total) in totals.into_iter().enumerate() {
                // SAFETY: `sums` has a row of this length for each position, of which this is one.
                unsafe { total.store(self.sums.as_mut_ptr().add(at + vector * D::LANES)) };
            }
        }
    }

    /// Adds the products of one tap.
    ///
    /// # Safety
    /// [`Product::check`] passed for `VECTORS * D::LANES`, `tap` is less than the number of taps, and every input
    /// pointer is a position's.
    #[inline(always)]
    unsafe fn step<D: Dot, const ROWS: usize, const VECTORS: usize>(
        &self,
        tap: usize,
        inputs: &[*const u8; ROWS],
        sums: &mut [[D; VECTORS]; ROWS],
    ) {
        // SAFETY: `tap` is in range, weights are `VECTORS * LANES` for each tap, and position + tap + 4 bytes lie in
        // the input.
        unsafe {
            let offset = *self.taps.get_unchecked(tap) as usize;
            let weights = load_row::<D, VECTORS>(self.weights.as_ptr().add(tap * VECTORS * D::LANES));
            for (input, sums) in inputs.iter().zip(sums) {
                let activations = D::splat(input.add(offset).cast::<i32>().read_unaligned());
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = sum.plus_products(activations, weights);
                }
            }
        }
    }
}

/// Reads the vectors of one row.
///
/// # Safety
/// `from` must be good for reading `VECTORS * D::LANES` words.
#[inline(always)]
unsafe fn load_row<D: Dot, const VECTORS: usize>(from: *const i32) -> [D; VECTORS] {
    let mut row = [D::zero(); VECTORS];
    for (vector, value) in row.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *value = unsafe { D::load(from.add(vector * D::LANES)) };
    }
    row
}
