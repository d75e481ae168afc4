//! What happens when: a queue of happenings on virtual time.

use std::collections::BTreeMap;

/// Happenings by time; those of one instant in the order in which they were planned, so that a seed gives one trace.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    queue: BTreeMap<(u64, u64), T>,
    sequence: u64,
    now_ms: u64,
}

impl<T> Agenda<T> {
    pub fn new() -> Self {
        Self { queue: BTreeMap::new(), sequence: 0, now_ms: 0 }
    }

    /// The present.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Plans a happening.
    pub fn later(&mut self, in_ms: u64, happening: T) {
        self.at(self.now_ms.saturating_add(in_ms), happening);
    }

    /// Plans a happening at a time, or at once if that has passed.
    pub fn at(&mut self, at_ms: u64, happening: T) {
        self.sequence += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.sequence), happening);
    }

    /// The next happening; time moves on to it.
    pub fn next(&mut self) -> Option<T> {
        let ((at_ms, _), happening) = self.queue.pop_first()?;
        self.now_ms = at_ms;
        Some(happening)
    }
}
