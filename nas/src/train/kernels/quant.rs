//! Quantisers with straight-through gradients.
//!
//! Forward, a value is rounded half to even to a multiple of `2^-frac` and clamped; backward, the gradient passes
//! unchanged where the value was within the range and not at all outside (docs/workload, section 2).

use podl_consensus::workload::FixedPoint;

use super::simd::{Lanes, dispatch};

/// Marks an output whose gradient reaches no input: the activation was outside its range.
pub const BLOCKED: u8 = u8::MAX;

/// Signed quantiser of weights and biases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightQuantiser {
    scale: f32,
    step: f32,
    low: f32,
    high: f32,
}

/// `2^bits`, exact for every format (the caps allow 14 bits).
fn power(bits: i32) -> f32 {
    libm::ldexpf(1.0, bits)
}

impl WeightQuantiser {
    /// Quantiser of a format whose integer bits count the sign.
    pub fn new(format: FixedPoint) -> Self {
        let (low, high) = format.signed_range();
        let step = power(-i32::from(format.frac_bits));
        Self { scale: power(format.frac_bits.into()), step, low: low as f32 * step, high: high as f32 * step }
    }

    /// The integer that stands for `value`: rounded half to even, clamped; 0 for NaN.
    pub fn integer(self, value: f32) -> i32 {
        // A clamped value times the scale is an integer of at most 14 bits.
        (self.quantise(value) * self.scale) as i32
    }

    #[inline(always)]
    fn quantise(self, value: f32) -> f32 {
        ((value * self.scale).round_ties_even() * self.step).max(self.low).min(self.high)
    }
}

dispatch!(
    /// Quantises `values` into `out`.
    pub fn quantise_weights(quantiser: WeightQuantiser, values: &[f32], out: &mut [f32]) = quantise_weights_body
);

#[inline(always)]
fn quantise_weights_body<V: Lanes>(quantiser: WeightQuantiser, values: &[f32], out: &mut [f32]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = quantiser.quantise(value);
    }
}

dispatch!(
    /// Straight-through gradient: zeroes `gradient` where the value is outside the quantiser's range.
    pub fn mask_weights(quantiser: WeightQuantiser, values: &[f32], gradient: &mut [f32]) = mask_weights_body
);

#[inline(always)]
fn mask_weights_body<V: Lanes>(quantiser: WeightQuantiser, values: &[f32], gradient: &mut [f32]) {
    for (gradient, &value) in gradient.iter_mut().zip(values) {
        let inside = value >= quantiser.low && value <= quantiser.high;
        *gradient = if inside { *gradient } else { 0.0 };
    }
}

/// What becomes of the sums of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// ReLU and quantiser in one: unsigned clamp, round half to even.
    Quantised(FixedPoint),
    /// ReLU, for training in floating point.
    Relu,
    /// The sums themselves (the last layer).
    Identity,
}

/// Numbers of an [`Activation`].
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Steps of the quantiser in a unit.
    pub scale: f32,
    /// Size of a step.
    pub step: f32,
    /// Greatest activation, in steps.
    pub most: f32,
    /// Least sum that passes a gradient, in steps: 0 for the quantiser; above it for the ReLU, whose gradient at 0 is 0.
    pub pass_from: f32,
}

impl Activation {
    /// The numbers; those of the ReLU for the identity.
    pub fn range(self) -> Range {
        match self {
            Self::Quantised(format) => Range {
                scale: power(format.frac_bits.into()),
                step: power(-i32::from(format.frac_bits)),
                most: format.unsigned_max() as f32,
                pass_from: 0.0,
            },
            Self::Relu | Self::Identity => {
                Range { scale: 1.0, step: 1.0, most: f32::INFINITY, pass_from: f32::MIN_POSITIVE }
            }
        }
    }
}

impl Activation {
    /// The output for one sum, and whether its gradient passes.
    pub fn apply(self, sum: f32) -> (f32, bool) {
        let range = self.range();
        let steps = sum * range.scale;
        let passes = steps >= range.pass_from && steps <= range.most;
        match self {
            Self::Quantised(_) => (steps.round_ties_even().max(0.0).min(range.most) * range.step, passes),
            Self::Relu => (sum.max(0.0), passes),
            Self::Identity => (sum, true),
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // the very bits are what is tested
mod tests {
    use super::super::simd::Isa;
    use super::*;

    #[test]
    fn weights_round_half_to_even_and_clamp() {
        let q = WeightQuantiser::new(FixedPoint::new(1, 2));
        let values = [0.125, 0.375, -0.125, -0.375, 0.2, 5.0, -5.0, 0.75, -1.0, f32::NAN];
        let expected = [0.0, 0.5, -0.0, -0.5, 0.25, 0.75, -1.0, 0.75, -1.0];
        for isa in Isa::available() {
            let mut out = [9.0; 10];
            quantise_weights(isa, q, &values, &mut out);
            assert_eq!(out[..9], expected, "{}", isa.name());
            let mut gradient = [1.0; 10];
            mask_weights(isa, q, &values, &mut gradient);
            assert_eq!(gradient, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        }
        assert_eq!(values.map(|v| q.integer(v))[..9], [0, 2, 0, -2, 1, 3, -4, 3, -4]);
    }
}
