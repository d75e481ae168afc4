//! Replays of training for the manager, on a thread of their own at the lowest priority.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podl_chain_spec::Caps;

use crate::manager::{AuditOrder, Verdict};
use crate::types::Interval;

/// Niceness of the thread, that of training: votes and blocks come first, but new miners' pay waits for it.
pub(super) const NICENESS: i32 = 10;

/// What a replay needs, as far as the manager has it.
#[cfg_attr(not(feature = "miner"), expect(dead_code, reason = "nothing is replayed"))]
pub(super) struct Material {
    /// The interval under work.
    pub interval: Option<Interval>,
    /// The data of a published task.
    pub blob: Option<Arc<Vec<u8>>>,
    /// The artefact or state that the training began from.
    pub start: Option<Arc<Vec<u8>>>,
}

/// Stands in where no trainer is built in.
#[cfg(not(feature = "miner"))]
pub(super) struct Auditor;

#[cfg(not(feature = "miner"))]
impl Auditor {
    pub fn new(_: Caps, _: Arc<AtomicBool>) -> Self {
        Self
    }

    pub fn audit(&mut self, _: &AuditOrder, _: &Material) -> Verdict {
        Verdict::Undecided("this manager was built without a trainer".into())
    }
}

#[cfg(feature = "miner")]
pub(super) use with_trainer::Auditor;

#[cfg(feature = "miner")]
mod with_trainer {
    use podl_chain_spec::Hash32;
    use podl_consensus::hash::blob_root;
    use podl_consensus::types::TaskId;
    use podl_nas::data::Dataset;
    use podl_nas::train::ThreadPool;

    use super::super::IntervalData;
    use super::super::lower_priority;
    use super::super::replay::{Origin, Run, RunError};
    use super::*;
    use crate::manager::StartFrom;
    use crate::types::DataSource;

    /// Replays trainings one after the other.
    pub struct Auditor {
        caps: Caps,
        cancel: Arc<AtomicBool>,
        bench: Option<Bench>,
    }

    /// Threads and data, made with the first replay of an interval.
    struct Bench {
        of: (TaskId, DataSource),
        train: Dataset,
        pool: Arc<ThreadPool>,
    }

    impl Auditor {
        /// An auditor whose replay ends after its current batch when the flag is raised.
        pub fn new(caps: Caps, cancel: Arc<AtomicBool>) -> Self {
            Self { caps, cancel, bench: None }
        }

        /// Trains again and compares, first the start, so that a false one costs no training.
        pub fn audit(&mut self, order: &AuditOrder, material: &Material) -> Verdict {
            match self.replay(order, material) {
                Ok(verdict) => verdict,
                Err(RunError::Impossible(reason)) => Verdict::Different(reason),
                Err(RunError::Here(reason)) => Verdict::Undecided(reason),
            }
        }

        fn replay(&mut self, order: &AuditOrder, material: &Material) -> Result<Verdict, RunError> {
            let here = |reason: &str| RunError::Here(reason.into());
            let interval = material.interval.as_ref().filter(|i| (i.task, &i.data) == (order.task, &order.data));
            let interval = interval.ok_or_else(|| here("the interval is over"))?;
            let origin = match (order.from, &material.start) {
                (StartFrom::Seed, _) => Origin::Seed,
                (StartFrom::Artefact(_), Some(bytes)) => Origin::Artefact(bytes),
                (StartFrom::State(_), Some(bytes)) => Origin::State(bytes),
                (_, None) => return Err(here("what the training began from is gone")),
            };
            self.make_ready(interval, material.blob.as_ref())?;
            let bench = self.bench.as_ref().ok_or_else(|| here("no data"))?;
            let work = (&interval.workload, &self.caps);
            let mut run = Run::new(&order.recipe, origin, &bench.train, work, &bench.pool)?;
            run.set_cancel_flag(self.cancel.clone());
            let differs = |what: &str, got: Hash32, expected: Hash32| {
                Ok(Verdict::Different(format!("{what} {}, the replay has {}", got.short(), expected.short())))
            };
            let start = blob_root(&run.state()?);
            if start != order.states.start {
                return differs("starts at", order.states.start, start);
            }
            while run.images() < order.images && run.slice()? {}
            if run.images() != order.images {
                return Ok(Verdict::Different(format!("{} images, the replay has {}", order.images, run.images())));
            }
            let end = blob_root(&run.state()?);
            if end != order.states.end {
                return differs("ends at", order.states.end, end);
            }
            let root = Hash32(run.model()?.root());
            if root != order.artefact {
                return differs("is the model", order.artefact, root);
            }
            Ok(Verdict::Same)
        }

        fn make_ready(&mut self, interval: &Interval, blob: Option<&Arc<Vec<u8>>>) -> Result<(), RunError> {
            let of = (interval.task, interval.data.clone());
            if self.bench.as_ref().is_some_and(|b| b.of == of) {
                return Ok(());
            }
            // The data before go first: two intervals' are not held at once.
            let pool = self.bench.take().map(|b| b.pool);
            let pool = match pool {
                Some(pool) => pool,
                None => Arc::new(
                    ThreadPool::with_start_hook(1, |_| lower_priority(NICENESS))
                        .map_err(|e| RunError::Here(e.to_string()))?,
                ),
            };
            let blob = blob.map(|b| b.as_slice());
            let data = IntervalData::load(interval, blob, &self.caps).map_err(|e| RunError::Here(e.to_string()))?;
            self.bench = Some(Bench { of, train: data.train, pool });
            Ok(())
        }
    }
}
