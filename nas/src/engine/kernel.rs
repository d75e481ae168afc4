//! The inner loop: 16-bit products summed into 32 bits, for the instruction sets there are.
//!
//! Values travel as pairs: two 16-bit numbers in one 32-bit word, the first in the low half. A pair of activations
//! times a pair of weights, summed, is one lane of the multiply-add that all x86 processors have.

/// Outputs computed together.
pub(super) const ROWS: usize = 4;
/// Positions of a panel.
pub(super) const COLUMNS: usize = 64;
/// Positions that kernels take at least.
pub(super) const STEP: usize = 16;

/// Pairs of one tap at all positions of a panel.
pub(super) type PanelRow = [i32; COLUMNS];
/// Pairs of one tap for the outputs computed together.
pub(super) type WeightRow = [i32; ROWS];
/// Sums for each output at each position.
pub(super) type Sums = [[i32; COLUMNS]; ROWS];

/// Sums of products over taps.
pub(super) trait MacKernel: Copy {
    /// Overwrites the first `columns` (a multiple of [`STEP`]) sums of every output with the sum over taps of
    /// activation pair x weight pair. The caller guarantees that no sum leaves 32 bits.
    fn tile(self, weights: &[WeightRow], panel: &[PanelRow], columns: usize, sums: &mut Sums);

    /// Runs a job compiled for the kernel's instruction set.
    fn run<J: Job>(self, job: J);
}

/// Work that is compiled once for each instruction set.
pub(super) trait Job {
    /// Does the work with that kernel. Implementations are `#[inline(always)]`.
    fn run<K: MacKernel>(self, kernel: K);
}

/// Runs a job with the best kernel of this processor. All kernels give the same sums.
pub(super) fn run_best<J: Job>(job: J) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = x86::Wide::new() {
            return simd.run(job);
        }
        if let Some(simd) = x86::Medium::new() {
            return simd.run(job);
        }
    }
    Portable.run(job);
}

/// Plain code for every processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl MacKernel for Portable {
    #[inline(always)]
    fn tile(self, weights: &[WeightRow], panel: &[PanelRow], columns: usize, sums: &mut Sums) {
        for (output, sums) in sums.iter_mut().enumerate() {
            sums[..columns].fill(0);
            for (weights, activations) in weights.iter().zip(panel) {
                let [first, second] = halves(weights[output]);
                for (sum, &pair) in sums[..columns].iter_mut().zip(activations) {
                    let [low, high] = halves(pair);
                    *sum = sum.wrapping_add(low * first).wrapping_add(high * second);
                }
            }
        }
    }

    fn run<J: Job>(self, job: J) {
        job.run(self);
    }
}

/// Two 16-bit values as one word.
#[inline(always)]
pub(super) fn pair(low: i16, high: i16) -> i32 {
    (i32::from(high) << 16) | i32::from(low.cast_unsigned())
}

#[inline(always)]
fn halves(pair: i32) -> [i32; 2] {
    [i32::from(pair as i16), pair >> 16]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::x86::{V3, V4};
    use pulp::{NullaryFnOnce, cast, i16x16, i16x32, i32x8, i32x16};

    use super::{COLUMNS, Job, MacKernel, PanelRow, ROWS, STEP, Sums, WeightRow};

    /// A job with its kernel, in the form that compiles it for the instruction set.
    struct With<K, J>(K, J);

    impl<K: MacKernel, J: Job> NullaryFnOnce for With<K, J> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            self.1.run(self.0);
        }
    }

    /// AVX-512: 16 positions a vector.
    #[derive(Clone, Copy)]
    pub(super) struct Wide(V4);

    impl Wide {
        pub(super) fn new() -> Option<Self> {
            V4::try_new().map(Self)
        }

        #[inline(always)]
        fn block<const VECTORS: usize>(self, weights: &[WeightRow], panel: &[PanelRow], first: usize, sums: &mut Sums) {
            let simd = self.0;
            let mut accumulators = [[simd.splat_i32x16(0); VECTORS]; ROWS];
            for (weights, row) in weights.iter().zip(panel) {
                let (row, _) = row.as_chunks::<16>();
                let mut activations = [cast::<[i32; 16], i16x32>([0; 16]); VECTORS];
                for (vector, activation) in activations.iter_mut().enumerate() {
                    *activation = cast(row[first + vector]);
                }
                for (accumulators, &weight) in accumulators.iter_mut().zip(weights) {
                    let weight: i16x32 = cast(simd.splat_i32x16(weight));
                    for (sum, &activation) in accumulators.iter_mut().zip(&activations) {
                        let product = simd.multiply_wrapping_add_adjacent_i16x32(activation, weight);
                        *sum = add_16(simd, *sum, product);
                    }
                }
            }
            for (sums, accumulators) in sums.iter_mut().zip(accumulators) {
                let (sums, _) = sums.as_chunks_mut::<16>();
                for (vector, sum) in accumulators.into_iter().enumerate() {
                    sums[first + vector] = cast(sum);
                }
            }
        }
    }

    #[inline(always)]
    fn add_16(simd: V4, a: i32x16, b: i32x16) -> i32x16 {
        cast(simd.wrapping_add_u32x16(cast(a), cast(b)))
    }

    #[inline(always)]
    fn add_8(simd: V3, a: i32x8, b: i32x8) -> i32x8 {
        cast(simd.wrapping_add_u32x8(cast(a), cast(b)))
    }

    impl MacKernel for Wide {
        #[inline(always)]
        fn tile(self, weights: &[WeightRow], panel: &[PanelRow], columns: usize, sums: &mut Sums) {
            if columns == COLUMNS {
                return self.block::<4>(weights, panel, 0, sums);
            }
            for first in 0..columns / STEP {
                self.block::<1>(weights, panel, first, sums);
            }
        }

        fn run<J: Job>(self, job: J) {
            self.0.vectorize(With(self, job));
        }
    }

    /// AVX2: 8 positions a vector.
    #[derive(Clone, Copy)]
    pub(super) struct Medium(V3);

    impl Medium {
        pub(super) fn new() -> Option<Self> {
            V3::try_new().map(Self)
        }

        /// Two vectors (16 positions) of every output.
        #[inline(always)]
        fn block(self, weights: &[WeightRow], panel: &[PanelRow], first: usize, sums: &mut Sums) {
            let simd = self.0;
            let mut accumulators = [[simd.splat_i32x8(0); 2]; ROWS];
            for (weights, row) in weights.iter().zip(panel) {
                let (row, _) = row.as_chunks::<8>();
                let activations: [i16x16; 2] = [cast(row[2 * first]), cast(row[2 * first + 1])];
                for (accumulators, &weight) in accumulators.iter_mut().zip(weights) {
                    let weight: i16x16 = cast(simd.splat_i32x8(weight));
                    for (sum, &activation) in accumulators.iter_mut().zip(&activations) {
                        let product = simd.multiply_wrapping_add_adjacent_i16x16(activation, weight);
                        *sum = add_8(simd, *sum, product);
                    }
                }
            }
            for (sums, accumulators) in sums.iter_mut().zip(accumulators) {
                let (sums, _) = sums.as_chunks_mut::<8>();
                for (vector, sum) in accumulators.into_iter().enumerate() {
                    sums[2 * first + vector] = cast(sum);
                }
            }
        }
    }

    impl MacKernel for Medium {
        #[inline(always)]
        fn tile(self, weights: &[WeightRow], panel: &[PanelRow], columns: usize, sums: &mut Sums) {
            for first in 0..columns / STEP {
                self.block(weights, panel, first, sums);
            }
        }

        fn run<J: Job>(self, job: J) {
            self.0.vectorize(With(self, job));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Tile<'a> {
        weights: &'a [WeightRow],
        panel: &'a [PanelRow],
        columns: usize,
        sums: &'a mut Sums,
    }

    impl Job for Tile<'_> {
        #[inline(always)]
        fn run<K: MacKernel>(self, kernel: K) {
            kernel.tile(self.weights, self.panel, self.columns, self.sums);
        }
    }

    fn check<K: MacKernel>(kernel: K, weights: &[WeightRow], panel: &[PanelRow], columns: usize) {
        let mut sums = [[7; COLUMNS]; ROWS];
        kernel.run(Tile { weights, panel, columns, sums: &mut sums });
        for (output, row) in sums.iter().enumerate() {
            for (column, &sum) in row[..columns].iter().enumerate() {
                let products = weights.iter().zip(panel).map(|(weights, activations)| {
                    let ([a, b], [x, y]) = (halves(weights[output]), halves(activations[column]));
                    a * x + b * y
                });
                assert_eq!(sum, products.sum::<i32>(), "output {output}, column {column}");
            }
        }
    }

    proptest! {
        /// Every kernel that this machine has gives the plain sums.
        #[test]
        fn kernels_agree(seed in any::<u64>(), taps in 0usize..40, steps in 1usize..=4) {
            let mut state = seed;
            let mut value = |limit: u64| i16::try_from(crate::testing::next(&mut state) % (2 * limit)).unwrap()
                - i16::try_from(limit).unwrap();
            let weights: Vec<WeightRow> = (0..taps).map(|_| [0; ROWS].map(|_| pair(value(500), value(500)))).collect();
            let panel: Vec<PanelRow> = (0..taps).map(|_| [0; COLUMNS].map(|_| pair(value(9000), value(9000)))).collect();
            let columns = steps * STEP;
            check(Portable, &weights, &panel, columns);
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(kernel) = x86::Medium::new() {
                    check(kernel, &weights, &panel, columns);
                }
                if let Some(kernel) = x86::Wide::new() {
                    check(kernel, &weights, &panel, columns);
                }
            }
        }
    }

    #[test]
    fn pairs_keep_signs() {
        for (low, high) in [(0, 0), (-1, 1), (i16::MIN, i16::MAX), (1, -1)] {
            assert_eq!(halves(pair(low, high)), [i32::from(low), i32::from(high)]);
        }
    }
}
