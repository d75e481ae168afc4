//! Threads that a node cannot do without: should one panic, the core hears of it and the node stops with an error, so that
//! whoever runs it (an operator, a service manager) finds a node that ended instead of one that looks alive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use super::input::{CoreHandle, Input};

/// Starts a thread whose panic ends the node. Returning is no fault: that is how threads stop.
pub(super) fn spawn(
    name: &'static str,
    core: CoreHandle,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        // Nothing of the thread is used again.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            report(&core, name, said(panic.as_ref()));
        }
    })
}

/// Tells the core that something it needs has ended. Blocks while the core's queue is full.
pub(super) fn report(core: &CoreHandle, name: &'static str, reason: String) {
    // The core says it; one that is gone has stopped already, and this is part of it.
    let _ = core.send(Input::ThreadEnded { name, reason });
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_panic_reaches_the_core_and_an_end_does_not() {
        let (queue, inputs) = sync_channel(4);
        let core = CoreHandle { queue };
        spawn("podl-test", core.clone(), || {}).unwrap().join().unwrap();
        assert!(inputs.try_recv().is_err());
        spawn("podl-test", core, || panic!("found at {}", 7)).unwrap().join().unwrap();
        let Ok(Input::ThreadEnded { name: "podl-test", reason }) = inputs.try_recv() else {
            panic!("nothing was said")
        };
        assert_eq!(reason, "found at 7");
    }
}
