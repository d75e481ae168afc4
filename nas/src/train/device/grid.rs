//! Quantisers with their masks, as `kernels/quant.rs` has them.

use candle_core::{Result, Tensor};
use podl_consensus::workload::FixedPoint;

/// 1.5 x 2^23. A 32-bit float of that size has no fraction digits, so adding it rounds half to even; exact for values
/// up to 2^22, and clamped ones stay below 2^14.
const ROUNDER: f64 = 12_582_912.0;

/// Multiples of `step` from `low` to `high`.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    step: f64,
    low: f64,
    high: f64,
}

impl Grid {
    /// Signed: weights and biases.
    pub fn weights(format: FixedPoint) -> Self {
        let (low, high) = format.signed_range();
        Self::new(format, low, high)
    }

    /// Unsigned: activations.
    pub fn activations(format: FixedPoint) -> Self {
        Self::new(format, 0, format.unsigned_max())
    }

    fn new(format: FixedPoint, low: i64, high: i64) -> Self {
        let step = libm::ldexp(1.0, -i32::from(format.frac_bits));
        Self { step, low: low as f64 * step, high: high as f64 * step }
    }

    /// Values rounded half to even and clamped, and a mask of those that were within the range: their gradients pass.
    pub fn quantise(&self, values: &Tensor) -> Result<(Tensor, Tensor)> {
        // The ends lie on the grid, so clamping first gives the same.
        let clamped = values.clamp(self.low, self.high)?;
        let inside = clamped.eq(values)?;
        let rounded = clamped.affine(1.0 / self.step, ROUNDER)?.affine(self.step, -ROUNDER * self.step)?;
        Ok((rounded, inside))
    }
}

/// `values` where the mask is set, else 0.
pub fn masked(mask: &Tensor, values: &Tensor) -> Result<Tensor> {
    mask.where_cond(values, &values.zeros_like()?)
}
