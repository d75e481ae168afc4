//! What a miner's line shows.

use std::collections::BTreeMap;

use super::pace::Pace;
use crate::miner::{Miner, Stage};
use crate::protocol::{Refusal, Standing};

/// How a miner is doing. Times are counted from when the status was made, at most a second ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerStatus {
    /// Where it is with its pool.
    pub stage: Stage,
    /// Its lease.
    pub lease: Option<LeaseStatus>,
    /// Its standing.
    pub standing: Option<Standing>,
    /// What part the pool's best model classifies correctly, in thousandths.
    pub best_permille: Option<u16>,
    /// The last refusal, until there is work again; its text says what to do.
    pub refusal: Option<Refusal>,
    /// All refusals since it was started.
    pub refusals: BTreeMap<Refusal, RefusalStatus>,
    /// Why it is without its pool, and since when.
    pub offline: Option<OfflineStatus>,
}

/// How far a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Share that is done, in thousandths.
    pub done_permille: u64,
    /// When it will be done, by the miner's pace so far and the lease's end.
    pub eta_ms: u64,
}

/// Refusals of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalStatus {
    /// How many.
    pub count: u32,
    /// How long ago the last one was.
    pub ago_ms: u64,
}

/// A miner without its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineStatus {
    /// For how long.
    pub for_ms: u64,
    /// Why.
    pub reason: String,
    /// Until the pool is tried again; none while it is being tried.
    pub retry_ms: Option<u64>,
}

impl MinerStatus {
    /// A machine's status at `now_ms` of its clock, with the pace that it has shown.
    pub(super) fn new(machine: &Miner, pace: &Pace, now_ms: u64) -> Self {
        let lease = machine
            .progress()
            .map(|progress| LeaseStatus { done_permille: progress.done_permille(), eta_ms: pace.eta_ms(&progress) });
        let refusals = machine.refusals().iter().map(|(refusal, tally)| {
            let ago_ms = now_ms.saturating_sub(tally.last_ms);
            (*refusal, RefusalStatus { count: tally.count, ago_ms })
        });
        let offline = machine.offline().map(|offline| OfflineStatus {
            for_ms: now_ms.saturating_sub(offline.since_ms),
            reason: offline.reason,
            retry_ms: offline.retry_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms)),
        });
        Self {
            stage: machine.stage(),
            lease,
            standing: machine.standing().cloned(),
            best_permille: machine.best_permille(),
            refusal: machine.last_refusal(),
            refusals: refusals.collect(),
            offline,
        }
    }
}
