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
        let mut totals = [[D::zero(); VECTORS]; ROWS];
        for row in 0..ROWS {
            // SAFETY: the index is at most `last`; a position lies in the input; biases are as many as asserted.
            unsafe {
                inputs[row] = inputs[row].add(*self.positions.get_unchecked((first + row).min(last)));
                for vector in 0..VECTORS {
                    totals[row][vector] = D::load(self.biases.as_ptr().add(vector * D::LANES));
                }
            }
        }
        let mut tap = 0;
        for &end in self.segments {
            let end = end.min(self.taps.len());
            let mut sums = [[D::zero(); VECTORS]; ROWS];
            while tap < end {
                // SAFETY: `tap` is less than the number of taps; the rest is this function's own condition.
                unsafe { self.step(tap, &inputs, &mut sums) };
                tap += 1;
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    totals[row][vector] = totals[row][vector].plus_partial(sums[row][vector]);
                }
            }
        }
        for row in 0..ROWS {
            let at = (first + row).min(last) * VECTORS * D::LANES;
            for vector in 0..VECTORS {
                // SAFETY: `sums` has a row of this length for each position, of which this is one.
                unsafe { totals[row][vector].store(self.sums.as_mut_ptr().add(at + vector * D::LANES)) };
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
            let mut weights = [D::zero(); VECTORS];
            for vector in 0..VECTORS {
                weights[vector] = D::load(self.weights.as_ptr().add((tap * VECTORS + vector) * D::LANES));
            }
            for row in 0..ROWS {
                let activations = D::splat(inputs[row].add(offset).cast::<i32>().read_unaligned());
                for vector in 0..VECTORS {
                    sums[row][vector] = sums[row][vector].plus_products(activations, weights[vector]);
                }
            }
        }
    }
}
