//! Strong and weak miners by measured speed x availability, never by what a miner says of itself.

use serde::{Deserialize, Serialize};

use crate::types::{Class, MinerId};

/// What is measured of a miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// Speed in multiply-accumulates a second: a running mean of verified work.
    pub speed_macs_s: u64,
    /// Thousandths of its leases that it finished, as a running mean.
    pub availability_permille: u16,
    /// Its class.
    pub class: Class,
}

impl Rating {
    /// A rating from a calibration alone.
    pub fn calibrated(speed_macs_s: u64) -> Self {
        Self { speed_macs_s, availability_permille: 1000, class: Class::Weak }
    }

    /// What classes go by.
    pub fn merit(self) -> u64 {
        let merit = u128::from(self.speed_macs_s) * u128::from(self.availability_permille) / 1000;
        u64::try_from(merit).unwrap_or(u64::MAX)
    }

    /// Takes in the speed seen under a lease, one part in four: single leases vary with what else a machine does.
    pub fn note_speed(&mut self, macs: u64, elapsed_ms: u64) {
        let seen = u128::from(macs) * 1000 / u128::from(elapsed_ms.max(1));
        let mixed = (u128::from(self.speed_macs_s) * 3 + seen) / 4;
        self.speed_macs_s = u64::try_from(mixed).unwrap_or(u64::MAX);
    }

    /// Takes in whether a lease was finished, one part in eight.
    pub fn note_lease(&mut self, finished: bool) {
        let seen = if finished { 1000 } else { 0 };
        // A mean of values up to 1,000 stays up to 1,000.
        let mixed = (u32::from(self.availability_permille) * 7 + seen) / 8;
        self.availability_permille = u16::try_from(mixed).unwrap_or(1000);
    }
}

/// How miners are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRule {
    /// Thousandths of the miners that are strong, rounded to whole miners and at least one.
    pub strong_permille: u16,
    /// By how many thousandths a weak miner must be faster than a strong one to take its place.
    pub hysteresis_permille: u16,
}

/// Assigns classes: the best quantile by merit is strong. Returns the least merit among the strong.
///
/// A strong miner's merit counts as higher by the hysteresis, so that two miners of almost the same speed do not swap
/// roles with every measurement.
pub fn assign<'a>(ratings: impl IntoIterator<Item = (MinerId, &'a mut Rating)>, rule: ClassRule) -> u64 {
    let mut ratings: Vec<_> = ratings.into_iter().collect();
    ratings.sort_by_key(|(id, rating)| {
        let bonus = if rating.class == Class::Strong { u128::from(rule.hysteresis_permille) } else { 0 };
        (std::cmp::Reverse(u128::from(rating.merit()) * (1000 + bonus)), *id)
    });
    let strong = ((ratings.len() * usize::from(rule.strong_permille.min(1000)) + 500) / 1000).max(1);
    let mut border = u64::MAX;
    for (place, (_, rating)) in ratings.iter_mut().enumerate() {
        rating.class = if place < strong { Class::Strong } else { Class::Weak };
        if place < strong {
            border = border.min(rating.merit());
        }
    }
    border
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use podl_chain_spec::Hash32;
    use proptest::prelude::*;

    use super::*;

    const RULE: ClassRule = ClassRule { strong_permille: 600, hysteresis_permille: 100 };

    fn miners(speeds: &[u64]) -> BTreeMap<MinerId, Rating> {
        let ids = (0u8..).map(|i| MinerId(Hash32([i; 32])));
        ids.zip(speeds.iter().map(|&s| Rating::calibrated(s))).collect()
    }

    fn classes(miners: &mut BTreeMap<MinerId, Rating>) -> Vec<Class> {
        assign(miners.iter_mut().map(|(id, r)| (*id, r)), RULE);
        miners.values().map(|r| r.class).collect()
    }

    #[test]
    fn five_fast_of_nine_are_strong() {
        use Class::{Strong, Weak};
        let mut nine = miners(&[10, 100, 10, 101, 102, 10, 103, 10, 104]);
        assert_eq!(classes(&mut nine), [Weak, Strong, Weak, Strong, Strong, Weak, Strong, Weak, Strong]);
        assert_eq!(classes(&mut miners(&[7])), [Strong], "a lone miner explores");
        assert_eq!(classes(&mut miners(&[])), []);
    }

    #[test]
    fn roles_change_only_beyond_the_hysteresis() {
        use Class::{Strong, Weak};
        let mut three = miners(&[100, 99, 98]);
        assert_eq!(classes(&mut three), [Strong, Strong, Weak]);
        let last = MinerId(Hash32([2; 32]));
        three.get_mut(&last).unwrap().speed_macs_s = 105;
        assert_eq!(classes(&mut three), [Strong, Strong, Weak], "6 % faster is not enough");
        three.get_mut(&last).unwrap().speed_macs_s = 120;
        assert_eq!(classes(&mut three), [Strong, Weak, Strong]);
        three.get_mut(&last).unwrap().speed_macs_s = 95;
        assert_eq!(classes(&mut three), [Strong, Weak, Strong], "and the way back is as long");
    }

    #[test]
    fn a_fast_miner_that_never_finishes_is_weak() {
        let mut three = miners(&[300, 100, 100]);
        let flaky = three.values_mut().next().unwrap();
        for _ in 0..20 {
            flaky.note_lease(false);
        }
        assert_eq!(classes(&mut three)[0], Class::Weak);
    }

    proptest! {
        #[test]
        fn the_quantile_is_exact_and_assigning_twice_changes_nothing(
            speeds in proptest::collection::vec(0u64..1000, 1..40),
        ) {
            let mut all = miners(&speeds);
            let first = classes(&mut all);
            let strong = first.iter().filter(|c| **c == Class::Strong).count();
            prop_assert_eq!(strong, ((speeds.len() * 6 + 5) / 10).max(1));
            prop_assert_eq!(classes(&mut all), first);
        }
    }
}
