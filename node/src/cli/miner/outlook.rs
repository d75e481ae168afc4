//! What a miner may expect to be paid. Estimates for people: the books are the pool's, in integers.

use podl_chain_spec::Amount;
use podl_pool::protocol::Standing;

use super::super::output::grouped;

/// Smallest units of a PODL.
const UNITS: u64 = 1_000_000;

/// Between what amounts, in the smallest unit, the intervals to come will likely pay a miner for the work that it has in the
/// pay window; none while it is not known what a block would pay.
///
/// Each piece of work takes part in as many intervals as the window has. In each of those `n` the pool wins or does not; its
/// chance follows from its luck, `p = (won + 1) / (worked + 2)` (Laplace's rule of succession), and wins count as binomial. The
/// band is `n p` wins and two standard deviations `sqrt(n p (1 - p))` to either side, within 0 and `n`, times what a block
/// won now would pay.
pub(super) fn band(standing: &Standing) -> Option<(u64, u64)> {
    let payment = standing.next_payment?.0 as f64;
    let n = f64::from(standing.window_intervals);
    // A pool that tells nonsense, more wins than intervals, wins always.
    let p = ((f64::from(standing.luck.won) + 1.0) / (f64::from(standing.luck.intervals) + 2.0)).min(1.0);
    let (wins, two_deviations) = (n * p, 2.0 * (n * p * (1.0 - p)).sqrt());
    let units = |wins: f64| (wins.clamp(0.0, n) * payment).round() as u64;
    Some((units(wins - two_deviations), units(wins + two_deviations)))
}

/// An amount in PODL with the digits that people read.
pub(super) fn podl(units: u64) -> String {
    match units {
        0 => "0".into(),
        // Three digits of less than a PODL, down to its smallest part; two decimals of more.
        1..1000 => Amount(units).to_string(),
        1000..UNITS => {
            let step = 10u64.pow(units.ilog10() - 2);
            Amount(units / step * step).to_string()
        }
        _ if units < 1000 * UNITS => Amount(units / 10_000 * 10_000).to_string(),
        _ => grouped(units / UNITS),
    }
}

#[cfg(test)]
mod tests {
    use podl_pool::ledger::Luck;

    use super::*;

    fn standing(won: u32, intervals: u32, window_intervals: u16) -> Standing {
        let luck = Luck { won, intervals };
        Standing { next_payment: Some(Amount(1_000_000)), luck, window_intervals, ..Standing::default() }
    }

    #[test]
    fn the_band_is_two_deviations_of_the_wins_to_come() {
        assert_eq!(band(&Standing::default()), None, "no block was won yet");
        // p = 1/2: two wins of four, and a deviation of one.
        assert_eq!(band(&standing(31, 62, 4)), Some((0, 4_000_000)));
        // p = 1/4, sixteen intervals: four wins, and a deviation of the square root of three.
        assert_eq!(band(&standing(15, 62, 16)), Some((535_898, 7_464_102)));
        // One win of one proves little.
        let (low, high) = band(&standing(1, 1, 4)).unwrap();
        assert!(low < 1_000_000 && high == 4_000_000, "{low} to {high}");
        let (low, high) = band(&standing(64, 64, 4)).unwrap();
        assert!(low > 3_000_000 && high == 4_000_000, "{low} to {high}: always won");
        let (low, high) = band(&standing(0, 64, 4)).unwrap();
        assert!(low == 0 && high < 1_000_000, "{low} to {high}: never");
        let most = Standing { next_payment: Some(Amount(u64::MAX)), ..standing(u32::MAX, 0, u16::MAX) };
        assert_eq!(band(&most), Some((u64::MAX, u64::MAX)), "nonsense");
    }

    #[test]
    fn amounts_have_few_digits() {
        for (units, text) in [
            (0, "0"),
            (12, "0.000012"),
            (512_345, "0.512"),
            (62_295, "0.0622"),
            (1_254_999, "1.25"),
            (999_990_000, "999.99"),
            (1_234_567_890_000, "1,234,567"),
        ] {
            assert_eq!(podl(units), text);
        }
    }
}
