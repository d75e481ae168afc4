//! How soon each strategy finds what: the same driver, cache and cost filter, with a surrogate instead of training.

use podl_consensus::workload::{Architecture, Bounds, InputShape};
use rayon::prelude::*;

use super::surrogate::{Surrogate, SurrogateError};
use crate::cost::{CostModel, evaluate};
use crate::search::{Filter, MOST_REWARD, Rungs, Search, SearchBox, SearchConfig, SearchError, StrategyKind};

/// Evaluations after which the best is noted.
pub const BUDGETS: [u64; 4] = [50, 100, 200, 400];

/// Why a study ended early.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// The surrogate cannot judge a network.
    #[error(transparent)]
    Surrogate(#[from] SurrogateError),
    /// The search failed for another reason than that it found nothing new.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// What is searched.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The space.
    pub search_box: SearchBox,
    /// Bounds of the cost filter; what is outside costs no evaluation.
    pub bounds: Bounds,
    /// Networks that every strategy tries first.
    pub starts: Vec<Architecture>,
    /// Seeds, each a search of its own.
    pub seeds: u64,
}

/// Best accuracies of one strategy.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// For each of [`BUDGETS`] the mean over the seeds.
    pub mean: [f64; 4],
    /// Standard errors of these means.
    pub standard_error: [f64; 4],
    /// Searches that found nothing new before their last evaluation; their best then stands.
    pub exhausted: u64,
}

/// Runs one strategy with every seed.
///
/// # Errors
/// [`StudyError`].
pub fn study(kind: StrategyKind, setup: &Setup, surrogate: &Surrogate) -> Result<Curve, StudyError> {
    let runs = (0..setup.seeds)
        .into_par_iter()
        .map(|seed| one_search(kind, setup, surrogate, seed))
        .collect::<Result<Vec<_>, _>>()?;
    let count = runs.len().max(1) as f64;
    let mean: [f64; 4] = std::array::from_fn(|at| runs.iter().map(|run| run.0[at]).sum::<f64>() / count);
    let standard_error = std::array::from_fn(|at| {
        let squares: f64 = runs.iter().map(|run| (run.0[at] - mean[at]).powi(2)).sum();
        (squares / (count - 1.0).max(1.0) / count).sqrt()
    });
    let exhausted = runs.iter().map(|run| u64::from(run.1)).sum();
    Ok(Curve { mean, standard_error, exhausted })
}

/// Best accuracy at every budget, and whether the search found nothing new before the last.
fn one_search(
    kind: StrategyKind,
    setup: &Setup,
    surrogate: &Surrogate,
    seed: u64,
) -> Result<([f64; 4], bool), StudyError> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let (search_box, starts) = (setup.search_box.clone(), setup.starts.clone());
    // The logged networks were trained to the end.
    let rungs = Rungs::one(1);
    let config = SearchConfig { strategy: kind, search_box, seed: bytes, starts, rungs, chance: 0 };
    let mut search = Search::open(config, within(setup.bounds), None)?;
    let mut best = [0.0; 4];
    for (at, &budget) in BUDGETS.iter().enumerate() {
        while search.episodes() < budget {
            let job = match search.next() {
                Ok(job) => job,
                Err(SearchError::Exhausted { .. }) => {
                    best[at..].fill(accuracy(&search));
                    return Ok((best, true));
                }
                Err(error) => return Err(error.into()),
            };
            let reward = surrogate.reward(&job.architecture)?;
            search.record(&job, reward, serde_json::Value::Null)?;
        }
        best[at] = accuracy(&search);
    }
    Ok((best, false))
}

fn accuracy(search: &Search) -> f64 {
    search.best().map_or(0.0, |(_, reward)| f64::from(reward) / f64::from(MOST_REWARD))
}

fn within(bounds: Bounds) -> Filter {
    Box::new(move |network| matches!(evaluate(CostModel::Corrected, network, InputShape::CIFAR, bounds), Ok(Some(_))))
}
