//! The state that blocks change, and the authenticated tree over it.

mod meta;

pub use meta::{Checkpoint, Meta, Seat, SeatSets, majority, quorum};
