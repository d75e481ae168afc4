//! The bounded threads that training runs on, never the process' global pool.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kernels::conv::Scratch;
use super::kernels::simd::Isa;

/// Parts that a batch is cut into. Gradients are summed within a part, then over the parts in order; the number is
/// fixed, so that sums do not depend on the number of threads.
pub const PARTS: usize = 16;

/// Threads for training. Everything a trainer computes runs on them.
pub struct ThreadPool {
    pool: rayon::ThreadPool,
    scratch: Vec<Mutex<Scratch>>,
    partial_sums: Mutex<Vec<f32>>,
    isa: Isa,
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads()).field("isa", &self.isa.name()).finish()
    }
}

impl ThreadPool {
    /// `threads` threads (0 counts as 1).
    ///
    /// # Errors
    /// What the system says when threads cannot be started.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::with_start_hook(threads, |_| ())
    }

    /// Like [`ThreadPool::new`]; `hook` runs first on every thread with its index, for example to lower its priority.
    ///
    /// # Errors
    /// What the system says when threads cannot be started.
    pub fn with_start_hook(
        threads: usize,
        hook: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("train-{index}"))
            .start_handler(hook)
            .build()?;
        let scratch = (0..threads).map(|_| Mutex::default()).collect();
        Ok(Self { pool, scratch, partial_sums: Mutex::default(), isa: Isa::detect() })
    }

    /// A pool whose kernels use that instruction set.
    #[cfg(test)]
    pub(super) fn with_isa(threads: usize, isa: Isa) -> Result<Self, rayon::ThreadPoolBuildError> {
        Ok(Self { isa, ..Self::new(threads)? })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool's threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// The instruction set of the kernels.
    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// The calling thread's scratch memory. Only parts of a batch take it and none waits for another while holding
    /// it, so a pool thread never finds its own taken.
    pub(super) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        let index = self.pool.current_thread_index().unwrap_or(0);
        lock(&self.scratch[index])
    }

    /// Memory for the partial sums of a batch.
    pub(super) fn partial_sums(&self) -> MutexGuard<'_, Vec<f32>> {
        lock(&self.partial_sums)
    }
}

/// Locks memory whose contents do not outlive a use, so that a panic elsewhere leaves nothing broken in it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
