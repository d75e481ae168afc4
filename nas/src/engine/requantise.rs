//! From an accumulator to the next layer's activation.

/// The scaling of a layer: `shift = fraction bits of input + of weights - of output`, then a clamp that is the ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requantise {
    /// Bits to drop (rounding half to even), or to add when negative.
    pub(super) shift: i32,
    /// Greatest activation, `2^bits - 1`; the least is 0.
    pub(super) most: i32,
}

impl Requantise {
    /// What rounding may add to an accumulator before bits are dropped.
    pub(super) fn headroom(self) -> i64 {
        1 << self.shift.clamp(0, 62)
    }

    /// Activation of a 32-bit accumulator that lies at least [`Requantise::headroom`] within its range. Free of branches,
    /// so that loops over it become vectors.
    ///
    /// Half less one is added, and one more when the quotient is odd: rounds up from just over a half, and from exactly
    /// a half only to even. Clamped before bits are added, so that none is lost: what is over the maximum stays over it.
    #[inline(always)]
    pub(super) fn narrow(self, accumulator: i32) -> i32 {
        let down = self.shift.max(0).cast_unsigned();
        let up = self.shift.min(0).unsigned_abs();
        let is_down = i32::from(self.shift > 0);
        let half = 1i32.wrapping_shl(down) >> 1;
        let odd = accumulator.wrapping_shr(down) & is_down;
        let sum = accumulator.wrapping_add(half).wrapping_sub(is_down).wrapping_add(odd);
        sum.wrapping_shr(down).clamp(0, self.most).wrapping_shl(up).min(self.most)
    }

    /// Activation of a 64-bit accumulator.
    #[inline(always)]
    pub(super) fn wide(self, accumulator: i64) -> i16 {
        let most = i64::from(self.most);
        let value = if self.shift > 0 {
            let odd = (accumulator >> self.shift) & 1;
            (accumulator.wrapping_add((1 << (self.shift - 1)) - 1).wrapping_add(odd)) >> self.shift
        } else {
            accumulator.clamp(0, most) << -self.shift
        };
        value.clamp(0, most) as i16
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::reference;

    #[test]
    fn halves_go_to_even() {
        let by = |shift| Requantise { shift, most: 100 };
        let halves = [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4), (9, 4), (-1, 0), (-5, 0), (4000, 100)];
        for (accumulator, expected) in halves {
            assert_eq!(by(1).narrow(accumulator), expected, "{accumulator}");
        }
        assert_eq!((by(2).narrow(6), by(2).narrow(7), by(2).narrow(5), by(2).narrow(2)), (2, 2, 1, 0));
        assert_eq!((by(0).narrow(7), by(-2).narrow(7), by(-2).narrow(26), by(-14).narrow(i32::MAX)), (7, 28, 100, 100));
    }

    proptest! {
        #[test]
        fn equals_the_rule(accumulator in -(1i32 << 29)..(1 << 29), shift in -14i32..=28, bits in 1u32..=14) {
            let requantise = Requantise { shift, most: (1 << bits) - 1 };
            let expected = reference::requantise(accumulator.into(), shift, bits);
            prop_assert_eq!(i64::from(requantise.narrow(accumulator)), expected);
            prop_assert_eq!(i64::from(requantise.wide(accumulator.into())), expected);
        }

        #[test]
        fn wide_equals_the_rule(accumulator in -(1i64 << 46)..(1 << 46), shift in -14i32..=28, bits in 1u32..=14) {
            let requantise = Requantise { shift, most: (1 << bits) - 1 };
            prop_assert_eq!(i64::from(requantise.wide(accumulator)), reference::requantise(accumulator, shift, bits));
        }
    }
}
