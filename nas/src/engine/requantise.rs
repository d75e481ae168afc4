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

    /// Activation of a 32-bit accumulator that lies at least [`Requantise::headroom`] within its range.
    #[cfg(test)]
    fn narrow(self, accumulator: i32) -> i16 {
        if self.shift > 0 { self.narrow_down(accumulator) } else { self.narrow_up(accumulator) }
    }

    /// Drops `shift > 0` bits. Half less one is added, and one more when the quotient is odd: rounds up from just over
    /// a half, and from exactly a half only to even.
    #[inline(always)]
    fn narrow_down(self, accumulator: i32) -> i16 {
        let odd = (accumulator >> self.shift) & 1;
        let value = accumulator.wrapping_add((1 << (self.shift - 1)) - 1).wrapping_add(odd) >> self.shift;
        // At most 14 bits.
        value.clamp(0, self.most) as i16
    }

    /// Adds `-shift >= 0` bits. Clamped first, so that no bit is lost: what is over the maximum stays over it.
    #[inline(always)]
    fn narrow_up(self, accumulator: i32) -> i16 {
        let value = accumulator.clamp(0, self.most) << -self.shift;
        value.clamp(0, self.most) as i16
    }

    /// Activation of every sum plus `bias`, which must lie at least [`Requantise::headroom`] within 32 bits.
    #[inline(always)]
    pub(super) fn narrow_row(self, sums: &[i32], bias: i32, target: &mut [i16]) {
        // The test of the shift's sign stays outside of the loops, which are vectors then.
        if self.shift > 0 {
            for (value, &sum) in target.iter_mut().zip(sums) {
                *value = self.narrow_down(sum.wrapping_add(bias));
            }
        } else {
            for (value, &sum) in target.iter_mut().zip(sums) {
                *value = self.narrow_up(sum.wrapping_add(bias));
            }
        }
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
