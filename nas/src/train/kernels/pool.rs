//! Bias, activation and max-pool of a layer's sums, and the way back.
//!
//! The outputs of a pool window are numbered row by row. Forward leaves one mark for each pooled value: the number of
//! the output whose gradient passes, or [`BLOCKED`].

use super::geometry::{Block, Geometry};
use super::quant::{Activation, BLOCKED, Range};
use super::simd::{Lanes, dispatch};

/// One pool window of a block.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// First float of the pooled pixel among the layer's pooled images.
    pooled: usize,
    /// First output, counted in positions of the block.
    first: usize,
    /// Positions from one row to the next.
    width: usize,
    /// Rows and columns that exist.
    size: [usize; 2],
}

impl Window {
    fn outputs(&self) -> usize {
        self.size[0] * self.size[1]
    }

    #[inline(always)]
    fn position(&self, k: usize) -> usize {
        self.first + k / self.size[1] * self.width + k % self.size[1]
    }
}

/// What is done with every window. A trait rather than a closure, because closures are not compiled for the kernel's
/// instruction set unless they happen to be inlined.
trait Visit {
    fn window(&mut self, window: Window);
}

#[inline(always)]
fn visit(g: &Geometry, block: &Block, visitor: &mut impl Visit) {
    let rows = block.rows[1] - block.rows[0];
    for image in 0..block.images[1] {
        for py in block.pooled[0]..block.pooled[1] {
            let [top, bottom] = g.window(0, py);
            for px in 0..g.pooled[1] {
                let [left, right] = g.window(1, px);
                let pixel = ((block.images[0] + image) * g.pooled[0] + py) * g.pooled[1] + px;
                visitor.window(Window {
                    pooled: pixel * g.out_pixel(),
                    first: (image * rows + top - block.rows[0]) * g.output[1] + left,
                    width: g.output[1],
                    size: [bottom - top, right - left],
                });
            }
        }
    }
}

/// What forward makes of a block.
#[derive(Debug)]
pub struct Activate<'a> {
    /// What follows the sums.
    pub activation: Activation,
    /// One a filter, padded.
    pub bias: &'a [f32],
    /// Positions of the block x padded filters.
    pub sums: &'a [f32],
    /// The layer's pooled images, channels-last.
    pub out: &'a mut [f32],
    /// As `out`.
    pub marks: &'a mut [u8],
}

dispatch!(
    /// Bias, activation and pool of a block's sums.
    pub fn activate(g: &Geometry, block: &Block, to: Activate<'_>) = activate_body
);

#[inline(always)]
fn activate_body<V: Lanes>(g: &Geometry, block: &Block, to: Activate<'_>) {
    let range = to.activation.range();
    match to.activation {
        Activation::Quantised(_) => visit(g, block, &mut Forward::<true> { range, to }),
        Activation::Relu | Activation::Identity => visit(g, block, &mut Forward::<false> { range, to }),
    }
}

struct Forward<'a, const ROUND: bool> {
    range: Range,
    to: Activate<'a>,
}

impl<const ROUND: bool> Visit for Forward<'_, ROUND> {
    #[inline(always)]
    fn window(&mut self, w: Window) {
        let (range, n) = (self.range, self.to.bias.len());
        let Activate { bias, sums, out, marks, .. } = &mut self.to;
        let (out, marks) = (&mut out[w.pooled..w.pooled + n], &mut marks[w.pooled..w.pooled + n]);
        let from = |position: usize| position * n;
        match w.size {
            [1, 1] => best_of::<ROUND, 1>(range, bias, sums, [from(w.first)], out, marks),
            [2, 2] => {
                let below = w.first + w.width;
                let rows = [w.first, w.first + 1, below, below + 1].map(from);
                best_of::<ROUND, 4>(range, bias, sums, rows, out, marks);
            }
            _ => {
                best_of::<ROUND, 1>(range, bias, sums, [from(w.first)], out, marks);
                for k in 1..w.outputs() {
                    better_of::<ROUND>(range, bias, &sums[from(w.position(k))..][..n], k as u8, out, marks);
                }
            }
        }
    }
}

/// The activation of a sum in steps of the quantiser, and whether its gradient passes.
#[inline(always)]
fn steps<const ROUND: bool>(range: Range, sum: f32, bias: f32) -> (f32, bool) {
    // The scale is a power of two: this is one rounding, that of sum + bias.
    let x = sum.mul_add(range.scale, bias * range.scale);
    let rounded = if ROUND { x.round_ties_even() } else { x };
    // Comparisons rather than max and min, which take three instructions each for the sake of NaN.
    let above = if rounded > 0.0 { rounded } else { 0.0 };
    let value = if above < range.most { above } else { range.most };
    (value, x >= range.pass_from && x <= range.most)
}

/// Activation of the greatest of `N` outputs, whose sums begin at `rows`; the first of several equal ones counts.
#[inline(always)]
fn best_of<const ROUND: bool, const N: usize>(
    range: Range,
    bias: &[f32],
    sums: &[f32],
    rows: [usize; N],
    out: &mut [f32],
    marks: &mut [u8],
) {
    let n = out.len();
    let (bias, marks) = (&bias[..n], &mut marks[..n]);
    let mut cut = [&[][..]; N];
    for k in 0..N {
        cut[k] = &sums[rows[k]..][..n];
    }
    for i in 0..n {
        let (mut best, mut passes) = steps::<ROUND>(range, cut[0][i], bias[i]);
        let mut mark = 0u32;
        for k in 1..N {
            let (value, pass) = steps::<ROUND>(range, cut[k][i], bias[i]);
            let better = value > best;
            best = if better { value } else { best };
            passes = if better { pass } else { passes };
            mark = if better { k as u32 } else { mark };
        }
        out[i] = best * range.step;
        marks[i] = if passes { mark } else { u32::from(BLOCKED) } as u8;
    }
}

/// Takes output `k` where it is greater than what `out` holds.
#[inline(always)]
fn better_of<const ROUND: bool>(range: Range, bias: &[f32], sums: &[f32], k: u8, out: &mut [f32], marks: &mut [u8]) {
    for i in 0..out.len() {
        let (value, passes) = steps::<ROUND>(range, sums[i], bias[i]);
        if value * range.step > out[i] {
            out[i] = value * range.step;
            marks[i] = if passes { k } else { BLOCKED };
        }
    }
}

/// What backward makes of a block.
#[derive(Debug)]
pub struct Route<'a> {
    /// Of the layer's pooled images, channels-last.
    pub gradient: &'a [f32],
    /// As `gradient`.
    pub marks: &'a [u8],
    /// Positions of the block x padded filters: output k of a window gets the gradient where the mark is k, else 0.
    pub sums: &'a mut [f32],
    /// One a filter, padded: what passes is added.
    pub bias: &'a mut [f32],
}

dispatch!(
    /// Gradient of a block's sums from that of its pooled outputs.
    pub fn route(g: &Geometry, block: &Block, to: Route<'_>) = route_body
);

#[inline(always)]
fn route_body<V: Lanes>(g: &Geometry, block: &Block, mut to: Route<'_>) {
    visit(g, block, &mut to);
}

impl Visit for Route<'_> {
    #[inline(always)]
    fn window(&mut self, w: Window) {
        let n = self.bias.len();
        let (gradient, marks) = (&self.gradient[w.pooled..w.pooled + n], &self.marks[w.pooled..w.pooled + n]);
        for i in 0..n {
            self.bias[i] += if marks[i] == BLOCKED { 0.0 } else { gradient[i] };
        }
        for k in 0..w.outputs() {
            let to = &mut self.sums[w.position(k) * n..][..n];
            for i in 0..n {
                to[i] = if marks[i] == k as u8 { gradient[i] } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::FixedPoint;

    use super::super::reference::conv_shape;
    use super::super::simd::Isa;
    use super::*;

    const N: usize = 8;

    /// One 2 x 2 window of a 2 x 2 map with eight filters.
    fn one_window() -> (Geometry, Block) {
        let shape = conv_shape([1, 2, 2], [1, 1], 8, [1, 1], 2, FixedPoint::new(1, 1));
        let g = Geometry::new(&shape, false);
        let block = g.blocks(0, 1).next().unwrap();
        (g, block)
    }

    fn run(isa: Isa, activation: Activation, outputs: [f32; 4]) -> (f32, u8) {
        let (g, block) = one_window();
        let sums: Vec<f32> = outputs.iter().flat_map(|&sum| [sum; N]).collect();
        let (mut out, mut marks) = ([9.0; N], [9; N]);
        let to = Activate { activation, bias: &[0.0; N], sums: &sums, out: &mut out, marks: &mut marks };
        activate(isa, &g, &block, to);
        assert_eq!((out.map(f32::to_bits), marks), ([out[0].to_bits(); N], [marks[0]; N]));
        (out[0], marks[0])
    }

    #[test]
    fn the_first_maximum_takes_the_gradient() {
        // (sums of four outputs, expected value, expected mark); step 0.5, range 0 to 1.5.
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
        for (outputs, value, mark) in cases {
            for isa in Isa::available() {
                let got = run(isa, Activation::Quantised(FixedPoint::new(1, 1)), outputs);
                assert_eq!(got, (value, mark), "{outputs:?} {}", isa.name());
            }
        }
    }

    #[test]
    fn relu_has_no_gradient_at_zero() {
        let relu = |outputs| run(Isa::detect(), Activation::Relu, outputs);
        assert_eq!(relu([0.0; 4]), (0.0, BLOCKED));
        assert_eq!(relu([-0.5, 0.3, 0.3, -2.0]), (0.3, 1));
    }

    #[test]
    fn routing_gives_each_gradient_to_one_output() {
        let (g, block) = one_window();
        let gradient: [f32; N] = std::array::from_fn(|i| i as f32 + 1.0);
        let marks = [0, 1, 2, 3, BLOCKED, 0, 1, 2];
        for isa in Isa::available() {
            let (mut sums, mut bias) = ([9.0; 4 * N], [1.0; N]);
            route(isa, &g, &block, Route { gradient: &gradient, marks: &marks, sums: &mut sums, bias: &mut bias });
            for i in 0..N {
                let passes = if marks[i] == BLOCKED { 0.0 } else { gradient[i] };
                let got: Vec<f32> = (0..4).map(|k| sums[k * N + i]).collect();
                let expected: Vec<f32> = (0..4).map(|k| if marks[i] == k { passes } else { 0.0 }).collect();
                assert_eq!((got, bias[i]), (expected, 1.0 + passes));
            }
        }
    }
}
