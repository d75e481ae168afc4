//! Exact numbers of networks: a space of six layers has more than 128 bits can count.

use std::cmp::Ordering;
use std::fmt;

/// Limbs are decimal, so that a count is written as it is kept.
const BASE: u64 = 1_000_000_000;
const DIGITS: usize = 9;

/// A natural number without limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Below [`BASE`] each, the least first; the last is not 0.
    limbs: Vec<u64>,
}

impl Count {
    fn new(mut limbs: Vec<u64>) -> Self {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        Self { limbs }
    }

    /// Sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let sum = (0..=self.limbs.len().max(other.limbs.len())).map(|place| {
            let sum = self.limb(place) + other.limb(place) + carry;
            carry = sum / BASE;
            sum % BASE
        });
        Self::new(sum.collect())
    }

    /// Difference, or `None` when `other` is greater.
    pub fn checked_minus(&self, other: &Self) -> Option<Self> {
        if self < other {
            return None;
        }
        let mut borrow = 0;
        let difference = (0..self.limbs.len()).map(|place| {
            let difference = BASE + self.limb(place) - other.limb(place) - borrow;
            borrow = 1 - difference / BASE;
            difference % BASE
        });
        Some(Self::new(difference.collect()))
    }

    /// Product.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0; self.limbs.len() + other.limbs.len() + 1];
        for (i, a) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            // One place more than the other has, for the last carry.
            for (j, limb) in limbs.iter_mut().skip(i).take(other.limbs.len() + 1).enumerate() {
                let sum = *limb + a * other.limb(j) + carry;
                (*limb, carry) = (sum % BASE, sum / BASE);
            }
        }
        Self::new(limbs)
    }

    /// What part of `whole` it is, to about 12 digits; 0 of nothing.
    pub fn share_of(&self, whole: &Self) -> f64 {
        if self.limbs.is_empty() || whole.limbs.is_empty() {
            return 0.0;
        }
        10f64.powf(self.log10() - whole.log10())
    }

    /// As a power of ten, minus infinity for 0: limbs but the first three are less than a float can tell.
    pub fn log10(&self) -> f64 {
        let first = self.limbs.len().saturating_sub(3);
        let head = self.limbs[first..].iter().rev().fold(0.0, |sum, &limb| sum * BASE as f64 + limb as f64);
        head.log10() + (first * DIGITS) as f64
    }

    fn limb(&self, place: usize) -> u64 {
        self.limbs.get(place).copied().unwrap_or(0)
    }
}

impl From<u128> for Count {
    fn from(mut number: u128) -> Self {
        let mut limbs = Vec::new();
        while number > 0 {
            // A remainder of a division by BASE fits.
            limbs.push((number % u128::from(BASE)) as u64);
            number /= u128::from(BASE);
        }
        Self { limbs }
    }
}

impl Ord for Count {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }
}

impl PartialOrd for Count {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All decimal digits.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs = self.limbs.iter().rev();
        write!(f, "{}", limbs.next().copied().unwrap_or(0))?;
        limbs.try_for_each(|limb| write!(f, "{limb:0DIGITS$}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reckons_as_integers_do(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) {
            let [a, b, c] = [a, b, c].map(u128::from);
            let of = Count::from;
            prop_assert_eq!(of(a).to_string(), a.to_string());
            prop_assert_eq!(of(a).times(&of(b)), of(a * b));
            prop_assert_eq!(of(a * b).plus(&of(c)), of(a * b + c));
            prop_assert_eq!(of(a * b).checked_minus(&of(c)), (a * b).checked_sub(c).map(of));
            prop_assert_eq!(of(a * b).cmp(&of(c)), (a * b).cmp(&c));
            let share = of(a).share_of(&of(b * c));
            prop_assert!(b * c == 0 || (share - a as f64 / (b * c) as f64).abs() <= share * 1e-11);
        }
    }

    #[test]
    fn large_numbers_are_exact() {
        let ten = Count::from(10);
        let power = (0..300).fold(Count::from(1), |product, _| product.times(&ten));
        assert_eq!(power.to_string(), format!("1{}", "0".repeat(300)));
        let less = power.checked_minus(&Count::from(1)).unwrap();
        assert_eq!(less.to_string(), "9".repeat(300));
        assert_eq!((less.plus(&Count::from(1)), less.checked_minus(&power)), (power.clone(), None));
        let square = power.times(&power);
        assert!((power.share_of(&square).log10() + 300.0).abs() < 1e-9 && square > power);
        assert_eq!((square.share_of(&square), Count::default().share_of(&power)), (1.0, 0.0));
        assert_eq!((Count::default().to_string(), Count::default().times(&power)), ("0".into(), Count::default()));
    }
}
