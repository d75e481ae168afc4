//! Architecture of a child network, as searched, published and stored.

use serde::{Deserialize, Serialize};

/// A fixed-point format: integer and fraction bits, written `[int, frac]`.
///
/// Signed values (weights, biases) count the sign as one of the integer bits, so that a signed value `q` stands for
/// `q * 2^-frac` with `-2^(t-1) <= q <= 2^(t-1) - 1` and `t = int + frac`; `int` may be 0 then (range -1/2 to 1/2).
/// Unsigned values (activations) run from 0 to `2^t - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 2]", into = "[u8; 2]")]
pub struct FixedPoint {
    /// Bits before the binary point.
    pub int_bits: u8,
    /// Bits after the binary point.
    pub frac_bits: u8,
}

impl FixedPoint {
    /// A format of that many integer and fraction bits.
    pub const fn new(int_bits: u8, frac_bits: u8) -> Self {
        Self { int_bits, frac_bits }
    }

    /// Total bits of a value. 0 means that no value can be stored, which every check refuses.
    pub const fn total_bits(self) -> u32 {
        self.int_bits as u32 + self.frac_bits as u32
    }

    /// Least and greatest stored integer of a signed value; `(0, 0)` for a format without bits.
    pub const fn signed_range(self) -> (i64, i64) {
        match self.total_bits() {
            0 => (0, 0),
            t if t > 62 => (i64::MIN, i64::MAX),
            t => (-(1 << (t - 1)), (1 << (t - 1)) - 1),
        }
    }

    /// Greatest stored integer of an unsigned value; the least is 0.
    pub const fn unsigned_max(self) -> i64 {
        match self.total_bits() {
            t if t > 62 => i64::MAX,
            t => (1 << t) - 1,
        }
    }
}

impl From<[u8; 2]> for FixedPoint {
    fn from([int_bits, frac_bits]: [u8; 2]) -> Self {
        Self { int_bits, frac_bits }
    }
}

impl From<FixedPoint> for [u8; 2] {
    fn from(format: FixedPoint) -> Self {
        [format.int_bits, format.frac_bits]
    }
}

/// One layer: convolution with bias, quantised ReLU, max-pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvLayer {
    /// Kernel height and width, in pixels.
    pub kernel: [u8; 2],
    /// Output channels.
    pub filters: u16,
    /// Vertical and horizontal stride of the convolution.
    pub stride: [u8; 2],
    /// Window and stride of the max-pool; 1 means none.
    pub pool: u8,
    /// Format of the activations this layer puts out (unsigned).
    pub act: FixedPoint,
    /// Format of weights and biases (signed).
    pub weight: FixedPoint,
}

/// The searched part of a child network. Its JSON form is the architecture file of docs/interfaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Convolution layers from the input on. The dense layers behind them belong to the task.
    pub layers: Vec<ConvLayer>,
}

/// Size of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputShape {
    /// Colour channels.
    pub channels: u8,
    /// Rows, in pixels.
    pub height: u8,
    /// Columns, in pixels.
    pub width: u8,
}

impl InputShape {
    /// 3 x 32 x 32, the shape of CIFAR-10 and of the built-in set.
    pub const CIFAR: Self = Self { channels: 3, height: 32, width: 32 };

    /// Values (bytes) of one image.
    pub const fn values(self) -> usize {
        self.channels as usize * self.height as usize * self.width as usize
    }
}

/// The dense layers, which belong to the space but are not searched: one hidden layer, then one output a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseConfig {
    /// Neurons of the hidden layer.
    pub width: u16,
    /// Format of the hidden layer's activations.
    pub act: FixedPoint,
    /// Format of weights and biases of both dense layers.
    pub weight: FixedPoint,
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self { width: 256, act: FixedPoint::new(3, 5), weight: FixedPoint::new(2, 6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_quantiser() {
        // Signed clamp [-2^(i-1), 2^(i-1) - 2^-f], scaled by 2^f; unsigned clamp [0, 2^i - 2^-f].
        assert_eq!(FixedPoint::new(2, 6).signed_range(), (-128, 127));
        assert_eq!(FixedPoint::new(0, 3).signed_range(), (-4, 3));
        assert_eq!(FixedPoint::new(0, 1).signed_range(), (-1, 0));
        assert_eq!(FixedPoint::new(1, 0).signed_range(), (-1, 0));
        assert_eq!(FixedPoint::new(0, 0).signed_range(), (0, 0));
        assert_eq!(FixedPoint::new(3, 5).unsigned_max(), 255);
        assert_eq!(FixedPoint::new(0, 0).unsigned_max(), 0);
    }

    #[test]
    fn postcard_form_is_flat() {
        let layer = ConvLayer {
            kernel: [3, 5],
            filters: 36,
            stride: [1, 2],
            pool: 2,
            act: FixedPoint::new(1, 4),
            weight: FixedPoint::new(1, 5),
        };
        let bytes = postcard::to_stdvec(&layer).unwrap();
        assert_eq!(bytes, [3, 5, 36, 1, 2, 2, 1, 4, 1, 5]);
        assert_eq!(postcard::from_bytes::<ConvLayer>(&bytes).unwrap(), layer);
    }
}
