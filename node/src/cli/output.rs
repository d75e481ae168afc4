//! Results on standard output.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

pub(super) use crate::numbers::grouped;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    json: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// A result: the object, or the text that says the same.
    pub(super) fn record<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { self.line(serde_json::to_string(value)?) } else { self.line(text()) }
    }

    /// Text for people only; with `--json` nothing.
    pub(super) fn note(&self, text: impl Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { self.line(text) }
    }

    /// A line as it is.
    pub(super) fn line(&self, text: impl Display) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        // Flushed line by line, so that a program behind a pipe sees each result when it is there.
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Into::into)
    }
}

/// Whether the reader of standard output went away, which is how `head` ends a command.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
