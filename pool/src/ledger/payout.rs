//! Division of a reward by verified work, in integers.

use podl_chain_spec::Amount;

/// Divides `total` by weight with the largest remainder: every part is its exact share rounded down or up, and the
/// parts sum to `total`. All parts are 0 when no weight is positive. Equal remainders go to the earlier part.
pub fn divide(total: Amount, weights: &[u128]) -> Vec<Amount> {
    // Weights are scaled down together until products with any amount fit 128 bits: below 2^64 in sum.
    let sum_wide = weights.iter().try_fold(0u128, |sum, w| sum.checked_add(*w));
    let shift = sum_wide.map_or(64, |sum| (128 - sum.leading_zeros()).saturating_sub(64));
    let weights: Vec<u128> = weights.iter().map(|w| w >> shift).collect();
    let sum: u128 = weights.iter().sum();
    if sum == 0 {
        return vec![Amount::ZERO; weights.len()];
    }
    let mut parts: Vec<(u128, u128)> =
        weights.iter().map(|w| (u128::from(total.0) * w / sum, u128::from(total.0) * w % sum)).collect();
    let given: u128 = parts.iter().map(|(part, _)| part).sum();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(parts.get(i).map_or(0, |p| p.1)), i));
    // What rounding down left is less than one unit a part.
    let left = usize::try_from(u128::from(total.0) - given).unwrap_or(0);
    for &i in order.iter().take(left) {
        if let Some((part, _)) = parts.get_mut(i) {
            *part += 1;
        }
    }
    parts.into_iter().map(|(part, _)| Amount(u64::try_from(part).unwrap_or(u64::MAX))).collect()
}

/// So many hundredths of a percent of an amount, rounded down; more than all of it counts as all.
pub fn basis_points(amount: Amount, points: u16) -> Amount {
    let part = u128::from(amount.0) * u128::from(points.min(10_000)) / 10_000;
    Amount(u64::try_from(part).unwrap_or(u64::MAX))
}
