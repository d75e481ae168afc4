//! A closable queue of jobs for worker threads, with a lane for what cannot wait.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct Lanes<T> {
    urgent: VecDeque<T>,
    normal: VecDeque<T>,
    closed: bool,
}

/// The queue. What bounds it is the manager's own limit on evaluations under way.
pub(super) struct JobQueue<T> {
    lanes: Mutex<Lanes<T>>,
    ready: Condvar,
}

impl<T> JobQueue<T> {
    pub fn new() -> Self {
        let lanes = Lanes { urgent: VecDeque::new(), normal: VecDeque::new(), closed: false };
        Self { lanes: Mutex::new(lanes), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        // A panic while holding it leaves whole lanes behind.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, job: T, urgent: bool) {
        let mut lanes = self.lock();
        if urgent { &mut lanes.urgent } else { &mut lanes.normal }.push_back(job);
        self.ready.notify_one();
    }

    /// Waits for a job; none when the queue was closed.
    pub fn pop(&self) -> Option<T> {
        let mut lanes = self.lock();
        loop {
            if lanes.closed {
                return None;
            }
            if let Some(job) = lanes.urgent.pop_front().or_else(|| lanes.normal.pop_front()) {
                return Some(job);
            }
            lanes = self.ready.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}
