//! LUTs of the arithmetic: multipliers and truncators.

use super::CostModel;

/// LUTs of a multiplier of `a` x `b` bits with `1 <= a <= b <= 14`: row `a - 1` starts at column `b = a`.
const MULTIPLIER: [&[u64]; 14] = [
    &[1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    &[4, 11, 14, 17, 20, 23, 26, 29, 32, 35, 38, 41, 44],
    &[17, 21, 26, 32, 36, 41, 46, 51, 56, 61, 66, 71],
    &[29, 34, 39, 44, 49, 54, 59, 64, 69, 74, 79],
    &[41, 47, 53, 59, 65, 73, 79, 85, 91, 97],
    &[58, 65, 72, 79, 86, 93, 100, 107, 114],
    &[74, 82, 92, 100, 108, 116, 124, 132],
    &[95, 104, 113, 122, 131, MULTIPLIER_8X13_PUBLISHED, 149],
    &[118, 128, 138, 148, 158, 168],
    &[140, 152, 163, 174, 185],
    &[167, 179, 191, 204],
    &[195, 208, 221],
    &[224, 238],
    &[255],
];

/// The published entry for 8 x 13 bits, between 131 and 149: a digit is missing.
const MULTIPLIER_8X13_PUBLISHED: u64 = 42;
/// What the row's steps of 9 say it should be.
const MULTIPLIER_8X13_MENDED: u64 = 140;

fn entry(a: u32, b: u32) -> u64 {
    let row = a.checked_sub(1).and_then(|row| MULTIPLIER.get(row as usize));
    row.and_then(|row| row.get(b.checked_sub(a)? as usize)).copied().unwrap_or(0)
}

/// LUTs of one multiplier of an activation by a weight of these bits (total bits of the activation in the corrected
/// model, integer bits in the published one).
pub(super) fn multiplier_lut(model: CostModel, activation_bits: u32, weight_bits: u32) -> u64 {
    match model {
        // The published program reads a triangular table on one side only, so that wide x narrow costs nothing.
        CostModel::Naqs => entry(activation_bits, weight_bits),
        CostModel::Corrected => {
            let (narrow, wide) = (activation_bits.min(weight_bits), activation_bits.max(weight_bits));
            if (narrow, wide) == (8, 13) { MULTIPLIER_8X13_MENDED } else { entry(narrow, wide) }
        }
    }
}

/// LUTs of one truncator from the accumulator's format to the output's: `int` and `frac` are the wider of both, and
/// the differences what is cut on either side.
pub(super) fn truncator_lut(int: u32, frac: u32, int_difference: u32, frac_difference: u32) -> u64 {
    if int < 3 || frac < 2 {
        return 0;
    }
    let corner = int_difference == int - 1 && frac_difference == frac - 1;
    let cut = u32::from(int_difference > 1) + frac_difference + u32::from(corner);
    // The cut never exceeds the size for differences that formats can have; saturating keeps hostile input harmless.
    u64::from((int + frac - 2).saturating_sub(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplier_rows_end_at_14_bits() {
        for a in 1..=14 {
            assert_ne!(entry(a, 14), 0);
            assert_eq!(entry(a, 15), 0);
            assert_eq!(entry(a, a - 1), 0);
        }
        assert_eq!(entry(0, 5), 0);
    }

    #[test]
    fn variants_differ_where_the_published_table_slips() {
        assert_eq!(multiplier_lut(CostModel::Naqs, 8, 13), 42);
        assert_eq!(multiplier_lut(CostModel::Corrected, 8, 13), 140);
        assert_eq!(multiplier_lut(CostModel::Corrected, 13, 8), 140);
        assert_eq!(multiplier_lut(CostModel::Naqs, 5, 3), 0);
        assert_eq!(multiplier_lut(CostModel::Corrected, 5, 3), 26);
    }

    #[test]
    fn truncators_by_hand() {
        assert_eq!(truncator_lut(2, 9, 0, 0), 0);
        assert_eq!(truncator_lut(9, 1, 0, 0), 0);
        assert_eq!(truncator_lut(3, 2, 0, 0), 3);
        assert_eq!(truncator_lut(5, 4, 1, 2), 5);
        assert_eq!(truncator_lut(5, 4, 2, 2), 4);
        assert_eq!(truncator_lut(5, 4, 4, 3), 2);
    }
}
