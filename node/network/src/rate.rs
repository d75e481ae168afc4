//! Token buckets: how much somebody may do at once, and in the long run.

use std::time::{Duration, Instant};

/// A bucket that fills with time up to a burst.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_s: u64,
    burst: u64,
    /// Thousandths of a token, so that slow rates fill evenly.
    milli: u64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket. A rate of 0 means no limit.
    pub(crate) fn new(per_s: u64, burst: u64, now: Instant) -> Self {
        Self { per_s, burst, milli: burst.saturating_mul(1000), filled_at: now }
    }

    /// Takes `tokens`, or says how long until they are there.
    pub(crate) fn take(&mut self, tokens: u64, now: Instant) -> Result<(), Duration> {
        if self.per_s == 0 {
            return Ok(());
        }
        let elapsed_ms = u64::try_from(now.saturating_duration_since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms > 0 {
            let full = self.burst.saturating_mul(1000);
            self.milli = self.milli.saturating_add(elapsed_ms.saturating_mul(self.per_s)).min(full);
            self.filled_at = now;
        }
        // More than the burst would never be there: it may then go into a full bucket.
        let wanted = tokens.min(self.burst).saturating_mul(1000);
        if self.milli >= wanted {
            self.milli -= wanted;
            return Ok(());
        }
        Err(Duration::from_millis((wanted - self.milli).div_ceil(self.per_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        for _ in 0..3 {
            assert!(bucket.take(1, start).is_ok());
        }
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(100)));
        assert!(bucket.take(1, start + Duration::from_millis(99)).is_err());
        assert!(bucket.take(1, start + Duration::from_millis(100)).is_ok());
        assert!(bucket.take(3, start + Duration::from_secs(60)).is_ok());
        assert!(bucket.take(1, start + Duration::from_secs(60)).is_err());
    }

    #[test]
    fn no_rate_is_no_limit() {
        let now = Instant::now();
        let mut bucket = Bucket::new(0, 0, now);
        assert!((0..1000).all(|_| bucket.take(u64::MAX, now).is_ok()));
    }
}
