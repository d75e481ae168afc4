//! A workbench with a budget of multiply-accumulates a second: miners of known, different speeds on one machine, and
//! miners that leave room for other work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::types::BlobRef;

use super::{BenchError, Product, Workbench};
use crate::calibration::{self, CalibrationJob};
use crate::miner::TrainOrder;
use crate::types::{EvaluationPlan, Interval};

/// Training multiply-accumulates that a pool reckons with for a thousand of a calibration's.
const TRAINING_PERMILLE: u128 = 1200;
/// Most of the budget that a pause saves up.
const BURST: Duration = Duration::from_millis(500);
/// Longest wait without a look at whether the work is still wanted.
const NAP: Duration = Duration::from_millis(50);

/// Tokens that come at a steady rate.
#[derive(Debug)]
struct Bucket {
    macs_s: u64,
    /// Until when the work done so far has used up the budget.
    spent_until: Instant,
}

impl Bucket {
    fn new(macs_s: u64) -> Self {
        Self { macs_s: macs_s.max(1), spent_until: Instant::now() }
    }

    /// Takes tokens and waits until they have come. Returns early when the work is not wanted any more.
    fn take(&mut self, macs: u128, cancel: &AtomicBool) {
        let earliest = Instant::now().checked_sub(BURST).unwrap_or(self.spent_until);
        let nanoseconds = macs.saturating_mul(1_000_000_000) / u128::from(self.macs_s);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 4));
        self.spent_until = self.spent_until.max(earliest) + cost;
        loop {
            let left = self.spent_until.saturating_duration_since(Instant::now());
            if left.is_zero() || cancel.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

/// A workbench that does not exceed its budget.
pub struct Throttled<B> {
    inner: B,
    bucket: Bucket,
}

impl<B: Workbench> Throttled<B> {
    /// A bench that trains at most so many multiply-accumulates a second.
    pub fn new(inner: B, macs_s: u64) -> Self {
        Self { inner, bucket: Bucket::new(macs_s) }
    }
}

impl<B: Workbench> Workbench for Throttled<B> {
    fn calibrate(&mut self, job: &CalibrationJob) -> Option<Hash32> {
        let answer = self.inner.calibrate(job);
        let macs = u128::from(calibration::job_macs(job)) * TRAINING_PERMILLE / 1000;
        self.bucket.take(macs, &AtomicBool::new(false));
        answer
    }

    fn prepare(&mut self, interval: &Interval, plan: EvaluationPlan, blob: Option<&[u8]>) -> Result<(), BenchError> {
        self.inner.prepare(interval, plan, blob)
    }

    fn has_data(&self, interval: &Interval) -> bool {
        self.inner.has_data(interval)
    }

    fn holds(&self, blob: &BlobRef, end: Option<Hash32>) -> bool {
        self.inner.holds(blob, end)
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn train(
        &mut self,
        order: &TrainOrder,
        base: Option<&[u8]>,
        cancel: &Arc<AtomicBool>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Product, BenchError> {
        let (bucket, mut before) = (&mut self.bucket, 0u64);
        let mut paced = |images: u64| {
            let fresh = u128::from(images.saturating_sub(before)) * u128::from(order.image_macs);
            before = images;
            progress(images);
            bucket.take(fresh, cancel);
        };
        self.inner.train(order, base, cancel, &mut paced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_as_long_as_its_budget_says_and_pauses_save_little() {
        let mut bucket = Bucket::new(1_000_000);
        let never = AtomicBool::new(false);
        let start = Instant::now();
        (0..10).for_each(|_| bucket.take(20_000, &never));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(190), "{took:?}");
        // After a long pause half a second's worth goes at once, no more.
        bucket.spent_until = Instant::now().checked_sub(Duration::from_secs(60)).unwrap_or(start);
        let start = Instant::now();
        bucket.take(600_000, &never);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(90), "{took:?}");
        // Work that is not wanted any more is not waited for.
        bucket.take(1 << 40, &AtomicBool::new(true));
    }
}
