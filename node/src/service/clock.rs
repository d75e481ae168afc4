//! The node's two clocks. Neither reaches a validity rule.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic milliseconds since the node started: steers only what the node does and when.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock {
    /// Milliseconds since the start. Begins above zero, so that no deadline lies before time itself.
    pub fn now_ms(&self) -> u64 {
        1 + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// Milliseconds since 1970 by the computer's clock: what a producer writes into its header, and against which blocks too
/// far ahead are set aside.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
