//! Quantisers with straight-through gradients.
//!
//! Forward, a value is rounded half to even to a multiple of `2^-frac` and clamped; backward, the gradient passes
//! unchanged where the value was within the range and not at all outside (docs/workload, section 2).

use podl_consensus::workload::FixedPoint;

use super::gemm::{Row, TILE};
use super::simd::{Lanes, dispatch};

/// Marks an output whose gradient reaches no input: the activation was outside its range.
pub const BLOCKED: u16 = u16::MAX;

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
struct Range {
    scale: f32,
    step: f32,
    high: f32,
    /// Least sum that passes a gradient: 0 for the quantiser; above it for the ReLU, whose gradient at 0 is 0.
    pass_from: f32,
}

impl Activation {
    fn range(self) -> Range {
        match self {
            Self::Quantised(format) => {
                let step = power(-i32::from(format.frac_bits));
                let high = format.unsigned_max() as f32 * step;
                Range { scale: power(format.frac_bits.into()), step, high, pass_from: 0.0 }
            }
            Self::Relu | Self::Identity => {
                Range { scale: 1.0, step: 1.0, high: f32::INFINITY, pass_from: f32::MIN_POSITIVE }
            }
        }
    }
}

impl Activation {
    /// The output for one sum, and whether its gradient passes.
    pub fn apply(self, sum: f32) -> (f32, bool) {
        let range = self.range();
        let passes = sum >= range.pass_from && sum <= range.high;
        match self {
            Self::Quantised(_) => {
                (((sum * range.scale).round_ties_even() * range.step).max(0.0).min(range.high), passes)
            }
            Self::Relu => (sum.max(0.0), passes),
            Self::Identity => (sum, true),
        }
    }
}

dispatch!(
    /// Adds the bias, applies the activation and takes the maximum over the planes of a max-pool.
    ///
    /// `sums` holds one tile a plane, `stride` rows apart; `out` and `source` (the plane whose gradient passes, or
    /// [`BLOCKED`]) one value a lane. The first of several equal maxima counts.
    pub fn activate(
        activation: Activation,
        bias: f32,
        sums: &[Row],
        stride: usize,
        out: &mut Row,
        source: &mut [u16; TILE],
    ) = activate_body
);

#[inline(always)]
fn activate_body<V: Lanes>(
    activation: Activation,
    bias: f32,
    sums: &[Row],
    stride: usize,
    out: &mut Row,
    source: &mut [u16; TILE],
) {
    match activation {
        Activation::Quantised(_) => pool_planes::<true>(activation.range(), bias, sums, stride, out, source),
        Activation::Relu => pool_planes::<false>(activation.range(), bias, sums, stride, out, source),
        Activation::Identity => {
            *out = std::array::from_fn(|i| sums[0][i] + bias);
            *source = [0; TILE];
        }
    }
}

#[inline(always)]
fn pool_planes<const ROUND: bool>(
    range: Range,
    bias: f32,
    sums: &[Row],
    stride: usize,
    out: &mut Row,
    source: &mut [u16; TILE],
) {
    // 32-bit marks while computing, so that values and marks share one vector width.
    let mut best = [-1.0f32; TILE];
    let mut mark = [0u32; TILE];
    for (plane, sums) in sums.iter().step_by(stride).enumerate() {
        for i in 0..TILE {
            let sum = sums[i] + bias;
            let rounded = if ROUND { (sum * range.scale).round_ties_even() * range.step } else { sum };
            let value = rounded.max(0.0).min(range.high);
            let passes = sum >= range.pass_from && sum <= range.high;
            let here = if passes { plane as u32 } else { u32::from(BLOCKED) };
            let better = value > best[i];
            best[i] = if better { value } else { best[i] };
            mark[i] = if better { here } else { mark[i] };
        }
    }
    *out = best;
    *source = mark.map(|m| m as u16);
}

dispatch!(
    /// Gradient of the sums: plane `p` of lane `i` gets `gradient[i]` where `source[i] == p`, else 0. What passed is
    /// added to `bias`, lane by lane.
    pub fn route(gradient: &Row, source: &[u16; TILE], sums: &mut [Row], stride: usize, bias: &mut Row) = route_body
);

#[inline(always)]
fn route_body<V: Lanes>(gradient: &Row, source: &[u16; TILE], sums: &mut [Row], stride: usize, bias: &mut Row) {
    let mark = source.map(u32::from);
    for i in 0..TILE {
        bias[i] += if mark[i] == u32::from(BLOCKED) { 0.0 } else { gradient[i] };
    }
    for (plane, sums) in sums.iter_mut().step_by(stride).enumerate() {
        for i in 0..TILE {
            sums[i] = if mark[i] == plane as u32 { gradient[i] } else { 0.0 };
        }
    }
}

dispatch!(
    /// `to += from`, element by element.
    pub fn add(from: &[f32], to: &mut [f32]) = add_body
);

#[inline(always)]
fn add_body<V: Lanes>(from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
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

    #[test]
    fn the_first_maximum_takes_the_gradient() {
        let activation = Activation::Quantised(FixedPoint::new(1, 1));
        let lane = |values: [f32; 4]| values.map(|v| [v; TILE]);
        // (sums of four planes, expected value, expected plane); step 0.5, range 0 to 1.5.
        let cases = [
            ([0.5, 0.5, 0.4, 0.0], 0.5, 0),
            ([0.4, 0.6, 0.5, 0.5], 0.5, 0),
            ([-1.0, 0.1, 0.2, 0.0], 0.0, BLOCKED),
            ([0.1, -1.0, 0.2, 0.0], 0.0, 0),
            ([0.0, 1.0, 1.6, 0.0], 1.5, BLOCKED),
            ([0.0, 1.0, 0.9, 1.5], 1.5, 3),
            ([0.25, 0.75, 1.25, 0.0], 1.0, 1),
            ([0.3, f32::NEG_INFINITY, 0.0, 0.0], 0.5, 0),
        ];
        for (planes, value, plane) in cases {
            for isa in Isa::available() {
                let (mut out, mut source) = ([9.0; TILE], [9; TILE]);
                activate(isa, activation, 0.0, &lane(planes), 1, &mut out, &mut source);
                assert_eq!((out, source), ([value; TILE], [plane; TILE]), "{planes:?} {}", isa.name());
            }
        }
    }

    #[test]
    fn relu_has_no_gradient_at_zero() {
        let (mut out, mut source) = ([9.0; TILE], [9; TILE]);
        let mut sums = [[0.0; TILE]];
        sums[0][1] = 0.3;
        sums[0][2] = -0.3;
        activate(Isa::detect(), Activation::Relu, 0.0, &sums, 1, &mut out, &mut source);
        assert_eq!((&out[..3], &source[..3]), (&[0.0, 0.3, 0.0][..], &[BLOCKED, 0, BLOCKED][..]));
    }

    #[test]
    fn routing_gives_each_gradient_to_one_plane() {
        let gradient: Row = std::array::from_fn(|i| i as f32 + 1.0);
        let source: [u16; TILE] = std::array::from_fn(|i| if i % 5 == 4 { BLOCKED } else { (i % 5) as u16 });
        for isa in Isa::available() {
            let (mut sums, mut bias) = ([[9.0; TILE]; 4], [1.0; TILE]);
            route(isa, &gradient, &source, &mut sums, 1, &mut bias);
            for i in 0..TILE {
                let total: f32 = sums.iter().map(|s| s[i]).sum();
                let expected = if i % 5 == 4 { 0.0 } else { gradient[i] };
                assert_eq!((total, bias[i]), (expected, 1.0 + expected));
                assert!(i % 5 == 4 || sums[i % 5][i] == gradient[i]);
            }
        }
    }
}
