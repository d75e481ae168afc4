//! What a study says: a figure with its interval, beside its goal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::statistics::Estimate;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// At most this far from 0.
    Within(f64),
    /// Its whole interval above 0.
    Above0,
    /// Its whole interval below 0.
    Below0,
    /// None; the figure is there for comparison.
    None,
}

/// One figure of a study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Of which scenario.
    pub scenario: &'static str,
    /// What is measured.
    pub measure: String,
    /// The figure.
    pub value: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What it should be; null where it is only for comparison.
    pub goal: Option<f64>,
    /// Whether it is.
    pub met: Option<bool>,
    /// Seeds behind it.
    pub seeds: u64,
}

impl Measure {
    /// A figure and whether it meets its goal.
    pub fn new(scenario: &'static str, measure: impl Into<String>, estimate: Estimate, goal: Goal, seeds: u64) -> Self {
        let Estimate { value, low, high } = estimate;
        let (goal, met) = match goal {
            Goal::AtLeast(goal) => (Some(goal), Some(value >= goal)),
            Goal::AtMost(goal) => (Some(goal), Some(value <= goal)),
            Goal::Within(goal) => (Some(goal), Some(value.abs() <= goal)),
            Goal::Above0 => (Some(0.0), Some(low > 0.0)),
            Goal::Below0 => (Some(0.0), Some(high < 0.0)),
            Goal::None => (None, None),
        };
        Self { scenario, measure: measure.into(), value, low, high, goal, met, seeds }
    }
}

/// Runs `of` for every seed on all processors. The results are in the order of the seeds, whatever the order in which
/// they were found.
pub fn for_each_seed<T: Send>(seeds: u64, of: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let result = of(seed);
                    if let Ok(mut found) = found.lock() {
                        found.push((seed, result));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|(seed, _)| *seed);
    found.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_figure_or_by_interval() {
        let estimate = Estimate { value: 1.0, low: -0.5, high: 2.0 };
        let met = |goal| Measure::new("x", "y", estimate, goal, 3).met;
        assert_eq!(met(Goal::AtLeast(1.0)), Some(true));
        assert_eq!(met(Goal::AtMost(0.9)), Some(false));
        assert_eq!(met(Goal::Within(1.5)), Some(true));
        assert_eq!(met(Goal::Above0), Some(false), "its interval reaches below");
        assert_eq!(met(Goal::None), None);
    }

    #[test]
    fn seeds_come_back_in_order() {
        assert_eq!(for_each_seed(50, |seed| seed * 2), (0..50).map(|s| s * 2).collect::<Vec<_>>());
    }
}
