//! The limit that the other kernels are measured against.

use super::simd::{Lanes, dispatch};

/// Sums that are under way at once: more than any processor's latency times its multipliers.
const CHAINS: usize = 12;

/// Floating-point operations of [`multiply_adds`].
pub fn operations(isa: super::simd::Isa, rounds: u64) -> u64 {
    2 * rounds * (CHAINS * isa.vector_groups() * super::simd::GROUP) as u64
}

dispatch!(
    /// Multiply-adds of registers and nothing else; `out` gets something of them, so that they are done.
    pub fn multiply_adds(rounds: u64, out: &mut [f32; 16]) = multiply_adds_body
);

#[inline(always)]
#[allow(unsafe_code)]
fn multiply_adds_body<V: Lanes>(rounds: u64, out: &mut [f32; 16]) {
    // SAFETY: the longest vector has as many floats as `out`.
    let factor = unsafe { V::load(out.as_ptr()) };
    let mut sums = [factor; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = sum.mul_add(factor, factor);
        }
    }
    let mut total = V::zero();
    for sum in sums {
        total = sum.mul_add(factor, total);
    }
    // SAFETY: as above.
    unsafe { total.store(out.as_mut_ptr()) }
}
