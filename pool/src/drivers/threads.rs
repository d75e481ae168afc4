//! Threads that must run as long as their owner does, and jobs that take no thread with them.
//!
//! A thread that panics ends without a word, and its owner would hand out work that nobody does any more. So every job is
//! run contained, and whoever owns threads can be asked whether all of them still run.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// Threads by name.
#[derive(Default)]
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts a thread.
    ///
    /// # Errors
    /// What the system says when it cannot be started.
    pub fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.0.push(Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Whether all of them still run.
    ///
    /// # Errors
    /// The names of those that have ended, in words.
    pub fn health(&self) -> Result<(), String> {
        let ended = self.0.iter().filter(|thread| thread.is_finished());
        let names: Vec<&str> = ended.map(|thread| thread.thread().name().unwrap_or_default()).collect();
        if names.is_empty() { Ok(()) } else { Err(format!("threads that have ended: {}", names.join(", "))) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for all of them.
    pub fn join(&mut self) {
        for thread in self.0.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "a thread of the pool has panicked");
            }
        }
    }
}

/// Runs a job. A panic in it is logged with what the job was, and is the job's alone.
///
/// # Errors
/// What the job was and why it panicked, in words.
///
/// # Correctness
/// What the job was changing may be half changed then: the caller must have nothing in reach of it that matters, or set it
/// right.
pub(super) fn contain<T>(what: impl FnOnce() -> String, job: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(job)).map_err(|cause| {
        let (what, reason) = (what(), words(cause.as_ref()));
        tracing::error!(%what, %reason, "a job of the pool has panicked; this is a fault of podl's, please report it");
        format!("{what} has panicked: {reason}")
    })
}

/// What a panic says of itself.
fn words(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().copied().or_else(|| cause.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a reason").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_panic_is_told_of_in_words() {
        let what = || "job 7".to_owned();
        assert_eq!(contain(what, || 3), Ok(3));
        assert_eq!(contain(what, || -> u8 { panic!("no {}", "way") }), Err("job 7 has panicked: no way".into()));
        assert_eq!(contain(what, || -> u8 { panic!("plain") }), Err("job 7 has panicked: plain".into()));
        let number = || -> u8 { std::panic::panic_any(5) };
        assert_eq!(contain(what, number), Err("job 7 has panicked: without a reason".into()));
    }

    #[test]
    fn threads_that_have_ended_are_named() {
        let mut threads = Threads::default();
        let (open, wait) = channel::<()>();
        threads.start("stays", move || assert!(wait.recv().is_err())).unwrap();
        assert_eq!(threads.health(), Ok(()));
        threads.start("returns", || ()).unwrap();
        threads.start("panics", || panic!("on purpose")).unwrap();
        let all = "threads that have ended: returns, panics";
        while threads.health() != Err(all.into()) {
            std::thread::yield_now();
        }
        drop(open);
        threads.join();
        assert_eq!(threads.health(), Ok(()), "there are none");
    }
}
