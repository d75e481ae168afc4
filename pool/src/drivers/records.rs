//! What a journal holds, as bytes, wherever they are kept: a node's in files, a simulation's in memory.
//!
//! A snapshot is the form of both as a `u32`, then the postcard of (number of the last event in it, manager). Records are `[length u32][first 8 bytes of
//! BLAKE3][postcard of (number, time, event)]`. Reading stops at the first record that is cut short or does not match its
//! hash: a write that a crash interrupted. Events that are in the snapshot are passed over, so that a crash between
//! writing one and emptying the events repeats none.
//!
//! An event that the machine panics at is left out, as it was when it came: or what one message could do to a manager once
//! it would do again at every start.

use std::collections::BTreeSet;

use super::threads::contain;
use crate::manager::{Event, Manager};

/// Most bytes of a record; events are small, intervals some kilobytes.
const RECORD_BYTES: usize = 1 << 20;

/// Form of snapshots and of what events mean. Another one for every change of the manager's state, its events, its messages'
/// version, or of what it makes of an event: the events of a manager that was killed must be replayed as they happened.
const FORM: u32 = 6;

/// Most events of a journal that are left out. A journal that has more is not of this machine.
const MOST_LEFT_OUT: usize = 8;

/// Why there is no manager in a journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// Written by other code.
    #[error("another version of podl wrote it")]
    Form,
    /// Broken.
    #[error(transparent)]
    Bytes(#[from] postcard::Error),
    /// The machine panics at too many of its events.
    #[error("more than {MOST_LEFT_OUT} of its events cannot be repeated, the last of them {event}")]
    Events {
        /// Number of the last one.
        event: u64,
    },
}

/// What a snapshot and the events since give.
pub(crate) struct Restored {
    /// The manager. It wants [`Manager::resume`].
    pub manager: Manager,
    /// Number of its last event.
    pub number: u64,
    /// Bytes of whole records; what follows was cut short.
    pub kept: usize,
}

/// A manager after the event of this number.
pub(crate) fn snapshot(number: u64, manager: &Manager) -> postcard::Result<Vec<u8>> {
    let state = postcard::to_stdvec(&(number, manager))?;
    Ok([&FORM.to_le_bytes()[..], &state].concat())
}

/// An event. One that would not be read back is an error now, or all that follow it would be lost.
pub(crate) fn record(number: u64, now_ms: u64, event: &Event) -> postcard::Result<Vec<u8>> {
    let body = postcard::to_stdvec(&(number, now_ms, event))?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= RECORD_BYTES);
    let length = length.ok_or(postcard::Error::SerializeBufferFull)?;
    let mut record = Vec::with_capacity(body.len() + 12);
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&blake3::hash(&body).as_bytes()[..8]);
    record.extend_from_slice(&body);
    Ok(record)
}

/// The manager of a snapshot, once it has been told again of the events since.
pub(crate) fn restore(snapshot: &[u8], events: &[u8]) -> Result<Restored, RestoreError> {
    let state = snapshot.strip_prefix(&FORM.to_le_bytes()).ok_or(RestoreError::Form)?;
    let mut left_out = BTreeSet::new();
    loop {
        let (number, manager): (u64, Manager) = postcard::from_bytes(state)?;
        match repeat(number, manager, events, &left_out) {
            Ok(restored) => return Ok(restored),
            // What it had changed by then is not to be gone on with.
            Err(event) if left_out.len() < MOST_LEFT_OUT => left_out.insert(event),
            Err(event) => return Err(RestoreError::Events { event }),
        };
    }
}

/// Tells a manager of the events since the one of that number.
///
/// # Errors
/// The number of an event that it panics at.
fn repeat(mut number: u64, mut manager: Manager, events: &[u8], left_out: &BTreeSet<u64>) -> Result<Restored, u64> {
    let mut rest = events;
    while let Some((at, now_ms, event)) = next_record(&mut rest) {
        if at <= number {
            continue;
        }
        number = at;
        if !left_out.contains(&at) {
            // What it wanted done then was done then, or is asked for again by `resume`.
            contain(|| format!("event {at} of the pool's journal"), || manager.handle(now_ms, event))
                .map_err(|_| at)?;
        }
    }
    Ok(Restored { manager, number, kept: events.len() - rest.len() })
}

fn next_record(rest: &mut &[u8]) -> Option<(u64, u64, Event)> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (hash, tail) = tail.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|&n| n <= RECORD_BYTES)?;
    let body = tail.get(..length)?;
    if blake3::hash(body).as_bytes()[..8] != *hash {
        return None;
    }
    let record = postcard::from_bytes(body).ok()?;
    *rest = &tail[length..];
    Some(record)
}
