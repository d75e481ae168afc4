//! Folding: how far a unit is unrolled to take fewer than a number of cycles.

use super::units::{Folding, MatrixVector, SlidingWindow};

/// Widest stream of weights to one output at once, in bits.
const MOST_WEIGHT_STREAM_BITS: u64 = 36;

impl MatrixVector {
    /// The first folding that takes fewer than `target_cycles`, or the fastest: more inputs at once while the weight
    /// stream is narrow enough, then more outputs at once.
    pub fn fold(&self, target_cycles: u64) -> Folding {
        let mut folding = Folding::LEAST;
        for simd in divisors(self.inputs, MOST_WEIGHT_STREAM_BITS / self.weight_bits) {
            folding.simd = simd;
            if self.cycles(folding) < target_cycles {
                return folding;
            }
        }
        folding.pe = least_divisor(self.outputs, self.cycles(folding), target_cycles);
        folding
    }
}

impl SlidingWindow {
    /// The fewest channels at once that take fewer than `target_cycles`, or all.
    pub fn fold(&self, target_cycles: u64) -> u64 {
        least_divisor(self.channels, self.cycles(1), target_cycles)
    }
}

/// The least divisor of `parts` that cuts `cycles` to fewer than the target, or `parts` itself.
fn least_divisor(parts: u64, cycles: u64, target_cycles: u64) -> u64 {
    let Some(needed) = target_cycles.checked_sub(1).filter(|&most| most > 0).map(|most| cycles.div_ceil(most)) else {
        return parts;
    };
    divisors(parts, parts).find(|&divisor| divisor >= needed).unwrap_or(parts)
}

/// Divisors of `number` up to `most`, ascending.
fn divisors(number: u64, most: u64) -> impl Iterator<Item = u64> {
    (1..=most.min(number)).filter(move |divisor| number.is_multiple_of(*divisor))
}
