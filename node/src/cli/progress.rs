//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Least time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one piece of long work.
pub(super) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    length: u64,
    last_line: Instant,
}

impl Progress {
    /// Begins; nothing is shown for work that ends at once.
    pub(super) fn new(what: &str, length: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
            ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        if let Some(bar) = &bar {
            bar.set_message(what.to_owned());
        }
        Self { what: what.into(), bar, length, last_line: Instant::now() }
    }

    /// Where it stands, with a few words of detail.
    pub(super) fn set(&mut self, done: u64, length: u64, detail: &str) {
        if let Some(bar) = &self.bar {
            if length != self.length {
                bar.set_length(length);
            }
            bar.set_position(done);
            bar.set_message(format!("{} {detail}", self.what).trim_end().to_owned());
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let percent = done.saturating_mul(100).checked_div(length).unwrap_or(100);
            // Progress that nobody can see is no reason to stop the work.
            let _ = writeln!(std::io::stderr(), "{}: {percent} % ({done} of {length}) {detail}", self.what);
        }
        self.length = length;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
