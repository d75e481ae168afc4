//! The Pareto front: networks that no other one beats in accuracy without taking more LUTs.

use std::cmp::Reverse;

/// Indices of the (LUTs, reward) that no other dominates, by ascending LUTs. One dominates another when it is as good
/// in both and better in one; equal ones are all on the front or all off it.
pub(super) fn front(points: &[(u64, u32)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&index| (points[index].0, Reverse(points[index].1)));
    let mut front: Vec<usize> = Vec::new();
    for index in order {
        let last = front.last().map(|&last| points[last]);
        if last.is_none_or(|last| points[index].1 > last.1 || points[index] == last) {
            front.push(index);
        }
    }
    front
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_front_by_hand() {
        //            on          dominated   on          equal to it  fewer, worse  same LUTs   same reward
        let points = [(100, 10), (120, 9), (200, 30), (200, 30), (50, 2), (200, 20), (300, 30)];
        assert_eq!(front(&points), [4, 0, 2, 3]);
        assert_eq!(front(&[]), [0; 0]);
        assert_eq!(front(&[(7, 0)]), [0]);
    }

    proptest! {
        #[test]
        fn the_front_is_what_nothing_dominates(points in prop::collection::vec((0u64..12, 0u32..12), 0..40)) {
            let dominates = |a: (u64, u32), b: (u64, u32)| a.0 <= b.0 && a.1 >= b.1 && a != b;
            let mut expected: Vec<usize> = (0..points.len())
                .filter(|&i| !points.iter().any(|&other| dominates(other, points[i])))
                .collect();
            let found = front(&points);
            prop_assert!(found.windows(2).all(|pair| points[pair[0]].0 <= points[pair[1]].0));
            let mut sorted = found;
            sorted.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(sorted, expected);
        }
    }
}
