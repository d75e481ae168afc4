//! Miners that come and go by plan, against one that stays: pay for each multiply-accumulate over many intervals of a
//! pool that wins at random. The same plan against pay since the last win shows that the measurement can see hopping.

use super::*;
use crate::rng::SeededRng;

/// Many enough that chance moves pay for a unit of work by about half a percent.
const INTERVALS: u64 = 400_000;
/// Work of the hopper in an interval that it works in; each of three steady miners does ten times as much.
const WORK: u64 = 1_000_000;
/// Work of the network, in units of [`WORK`]: the pool wins with its part of it, a quarter.
const NETWORK: u64 = 120;

/// When the hopper works: the interval's number, and intervals since the last win.
type Plan = fn(u64, u64) -> bool;

/// Reward for a million units of work, of the steady miners and of the hopper.
struct Pay {
    steady: u64,
    hopper: u64,
}

impl Pay {
    /// What the hopper has for its work in thousandths of what the steady miners have.
    fn permille(&self) -> u64 {
        self.hopper * 1000 / self.steady
    }
}

/// Steady miners and one that hops; `share` shares a won block's reward by its own rule.
fn simulate(plan: Plan, share: impl Fn(&mut Ledger, u64) -> Vec<(MinerId, u64)>, scheme: PayScheme) -> Pay {
    let mut rng = SeededRng::new(b"hopping", "pool");
    let mut ledger = Ledger::default();
    let (mut since, mut paid, mut worked) = (0, [0u64; 2], [0u64; 2]);
    for height in 1..=INTERVALS {
        ledger.begin(height, scheme);
        for steady in 1..=3 {
            ledger.credit(miner(steady), account(steady), 10 * WORK);
        }
        let hops = u64::from(plan(height, since));
        if hops > 0 {
            ledger.credit(miner(99), account(99), WORK);
        }
        worked[0] += 30;
        worked[1] += hops;
        since += 1;
        if rng.below(NETWORK) < 30 + hops {
            since = 0;
            for (who, amount) in share(&mut ledger, height) {
                paid[usize::from(who == miner(99))] += amount;
            }
        }
    }
    Pay { steady: paid[0] / worked[0], hopper: paid[1] / worked[1] }
}

fn windowed(scheme: PayScheme) -> impl Fn(&mut Ledger, u64) -> Vec<(MinerId, u64)> {
    move |ledger, height| {
        let name = Hash32(*blake3::hash(&height.to_le_bytes()).as_bytes());
        let won = WonBlock { block: name, height, reward: Amount(31_000_000), model: None };
        ledger.close(&won, PayTerms { fee_basis_points: 0, scheme });
        let list = ledger.settle(&name).unwrap();
        list.rows.iter().map(|row| (row.miner, row.amount.0)).collect()
    }
}

/// Pay by work since the last win, as pools had it before they were hopped.
fn since_last_win(ledger: &mut Ledger, height: u64) -> Vec<(MinerId, u64)> {
    let sums = ledger.intervals.sums(height, u16::MAX);
    let macs: Vec<u128> = sums.values().map(|work| work.macs.into()).collect();
    let parts = divide(Amount(31_000_000), &macs);
    *ledger = Ledger::default();
    sums.into_keys().zip(parts.into_iter().map(|part| part.0)).collect()
}

const EVERY_OTHER: Plan = |height, _| height.is_multiple_of(2);
const AFTER_A_WIN: Plan = |_, since| since == 0;
const LONG_AFTER_A_WIN: Plan = |_, since| since >= 4;

#[test]
fn hopping_gains_nothing_in_a_window_of_intervals() {
    for window in [1, 4, 8] {
        let scheme = PayScheme::Pplns { window, finder_basis_points: 0 };
        for (name, plan) in [("every other", EVERY_OTHER), ("after", AFTER_A_WIN), ("long after", LONG_AFTER_A_WIN)] {
            let permille = simulate(plan, windowed(scheme), scheme).permille();
            assert!((980..=1020).contains(&permille), "window {window}, {name}: {permille}");
        }
    }
}

#[test]
fn the_same_measurement_sees_hopping_where_it_pays() {
    // Kept for ever by the widest window, so that only wins empty it.
    let widest = PayScheme::Pplns { window: MOST_WINDOW, finder_basis_points: 0 };
    let gain = simulate(AFTER_A_WIN, since_last_win, widest).permille();
    assert!(gain > 1100, "{gain}");
}
