//! How fast a miner trains, learned from its own progress: by it a miner's line estimates when a lease will be done.

use crate::miner::Progress;
use crate::types::LeaseId;

/// After this long the weight of what was seen has fallen to 1/e.
const MEMORY_MS: f64 = 20_000.0;

/// A moving average of training multiply-accumulates a millisecond, over the time in which leases are worked on. It begins
/// with the speed that the pool has measured. For people only: the pool measures for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    macs_per_ms: Option<f64>,
    last: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at_ms: u64,
    lease: LeaseId,
    done_macs: u64,
}

impl Pace {
    /// Takes in how far a miner is at `now_ms` of a clock that never runs backward. `measured_macs_s` is what the pool
    /// says of it, 0 when it has not said anything.
    pub fn observe(&mut self, now_ms: u64, progress: Option<&Progress>, measured_macs_s: u64) {
        if self.macs_per_ms.is_none() && measured_macs_s > 0 {
            self.macs_per_ms = Some(measured_macs_s as f64 / 1000.0);
        }
        let before = self.last;
        let Some(&Progress { lease, done_macs, .. }) = progress else {
            self.last = None;
            return;
        };
        let seen = Seen { at_ms: now_ms, lease, done_macs };
        let Some(before) = before.filter(|before| before.lease == lease) else {
            self.last = Some(seen);
            return;
        };
        let passed_ms = now_ms.saturating_sub(before.at_ms) as f64;
        if passed_ms > 0.0 {
            // Weighted by time, so that it does not matter how often progress is reported.
            let rate = done_macs.saturating_sub(before.done_macs) as f64 / passed_ms;
            let weight = 1.0 - (-passed_ms / MEMORY_MS).exp();
            let average = self.macs_per_ms.unwrap_or(rate);
            self.macs_per_ms = Some(average + weight * (rate - average));
            self.last = Some(seen);
        }
    }

    /// Milliseconds until a lease is done: at this pace, or at the end of its time, whichever comes first.
    pub fn eta_ms(&self, progress: &Progress) -> u64 {
        let left_macs = progress.planned_macs.saturating_sub(progress.done_macs) as f64;
        let rate = self.macs_per_ms.filter(|rate| *rate > 0.0);
        // A float that is too large becomes the greatest integer.
        rate.map_or(progress.left_ms, |rate| ((left_macs / rate) as u64).min(progress.left_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lease: u64, done_macs: u64) -> Progress {
        Progress { lease: LeaseId(lease), done_macs, planned_macs: 1_000_000, left_ms: 100_000 }
    }

    #[test]
    fn it_begins_with_the_measured_speed_and_learns_the_real_one() {
        let mut pace = Pace::default();
        assert_eq!(pace.eta_ms(&at(1, 0)), 100_000, "nothing is known but the lease's end");
        pace.observe(0, Some(&at(1, 0)), 100_000);
        assert_eq!(pace.eta_ms(&at(1, 0)), 10_000);
        // In truth it is four times slower: 25 a millisecond.
        let mut before = 10_000;
        for second in 1..=5 {
            pace.observe(second * 1000, Some(&at(1, second * 25_000)), 100_000);
            let eta_ms = pace.eta_ms(&at(1, 0));
            assert!(eta_ms > before && eta_ms < 40_000, "{eta_ms} after {second} s");
            before = eta_ms;
        }
        for second in 6..=200 {
            pace.observe(second * 1000, Some(&at(1, second * 25_000)), 100_000);
        }
        assert!((39_000..=40_000).contains(&pace.eta_ms(&at(1, 0))), "{}", pace.eta_ms(&at(1, 0)));
        assert!((19_500..=20_000).contains(&pace.eta_ms(&at(1, 500_000))), "half done");
        assert_eq!(pace.eta_ms(&Progress { left_ms: 7000, ..at(1, 0) }), 7000, "its time ends first");
        assert_eq!(pace.eta_ms(&at(1, 2_000_000)), 0, "more than was planned");
    }

    #[test]
    fn it_matters_neither_how_often_one_looks_nor_what_lies_between_leases() {
        let (mut often, mut seldom) = (Pace::default(), Pace::default());
        for ms in 0..=10_000 {
            let progress = at(1, ms * 40);
            often.observe(ms, Some(&progress), 100_000);
            if ms % 2500 == 0 {
                seldom.observe(ms, Some(&progress), 100_000);
            }
        }
        let (a, b) = (often.eta_ms(&at(1, 0)), seldom.eta_ms(&at(1, 0)));
        assert!(a.abs_diff(b) < 10, "{a} and {b}");
        // Progress that is told twice in a millisecond, an hour of idleness, a new lease that begins at nothing.
        often.observe(10_000, Some(&at(1, 900_000)), 100_000);
        often.observe(3_610_000, None, 100_000);
        often.observe(3_620_000, Some(&at(2, 0)), 100_000);
        assert_eq!(often.eta_ms(&at(1, 0)), a);
    }
}
