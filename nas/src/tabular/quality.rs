//! How good a surrogate is on records it has not seen.

use rayon::prelude::*;

use super::Record;
use super::surrogate::{Surrogate, SurrogateError};
use crate::data::Random;

const DOMAIN: &str = "podl tabular folds v1";

/// How records are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folds {
    /// Whole runs in turn: what a search in unknown parts of the space meets.
    ByRun,
    /// That many folds of shuffled records. Networks of one run are near copies of each other, so this flatters.
    Shuffled(usize),
}

/// Quality of predictions for held-out records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Spearman's rank correlation over all records, each predicted while held out.
    pub rank_correlation: f64,
    /// Mean over the folds of their own rank correlations.
    pub mean_fold_rank_correlation: f64,
    /// Mean absolute error of the accuracy.
    pub mean_absolute_error: f64,
    /// Records predicted.
    pub records: usize,
    /// Folds.
    pub folds: usize,
}

/// Fits on all folds but one and predicts that one, in turn. The seed shuffles and grows the forests.
///
/// # Errors
/// [`SurrogateError`] when what is left of the records is too little.
pub fn cross_validate(records: &[Record], folds: Folds, seed: u64) -> Result<Quality, SurrogateError> {
    let trained: Vec<&Record> = records.iter().filter(|record| record.is_feasible).collect();
    let fold_of = assign(&trained, folds, seed);
    let count = fold_of.iter().max().map_or(0, |last| last + 1);
    let predicted = (0..count)
        .into_par_iter()
        .map(|fold| {
            let part = |held_out: bool| {
                let chosen = trained.iter().zip(&fold_of).filter(move |(_, of)| (**of == fold) == held_out);
                chosen.map(|(record, _)| *record).collect::<Vec<&Record>>()
            };
            let tested = part(true);
            let networks: Vec<_> = tested.iter().map(|record| &record.architecture).collect();
            let predicted = Surrogate::fit(&part(false), seed)?.accuracies(&networks)?;
            Ok(tested.iter().map(|record| record.accuracy).zip(predicted).collect())
        })
        .collect::<Result<Vec<Vec<(f64, f64)>>, SurrogateError>>()?;
    Ok(judge(&predicted))
}

/// The fold of each record.
fn assign(records: &[&Record], folds: Folds, seed: u64) -> Vec<usize> {
    match folds {
        Folds::ByRun => {
            let mut runs: Vec<&str> = records.iter().map(|record| record.run.as_str()).collect();
            runs.sort_unstable();
            runs.dedup();
            records.iter().map(|record| runs.binary_search(&record.run.as_str()).unwrap_or(0)).collect()
        }
        Folds::Shuffled(count) => {
            let mut fold_of: Vec<usize> = (0..records.len()).map(|index| index % count.max(1)).collect();
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            Random::new(DOMAIN, &bytes, 0).shuffle(&mut fold_of);
            fold_of
        }
    }
}

/// (recorded, predicted) accuracies of each fold.
fn judge(folds: &[Vec<(f64, f64)>]) -> Quality {
    let all: Vec<(f64, f64)> = folds.iter().flatten().copied().collect();
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count.max(1) as f64;
    Quality {
        rank_correlation: rank_correlation(&all),
        mean_fold_rank_correlation: mean(&mut folds.iter().map(|fold| rank_correlation(fold)), folds.len()),
        mean_absolute_error: mean(&mut all.iter().map(|(recorded, predicted)| (recorded - predicted).abs()), all.len()),
        records: all.len(),
        folds: folds.len(),
    }
}

/// Spearman's rank correlation of pairs: Pearson's of the ranks, equal values sharing their mean rank. 0 where one
/// side does not vary.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let left = ranks(pairs.iter().map(|pair| pair.0));
    let right = ranks(pairs.iter().map(|pair| pair.1));
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let spread = (product(&left, &left) * product(&right, &right)).sqrt();
    if spread > 0.0 { product(&left, &right) / spread } else { 0.0 }
}

/// Rank of each value, from 0.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.enumerate().map(|(index, value)| (value, index)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; order.len()];
    let mut from = 0;
    for equal in order.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let shared = from as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|&(_, index)| ranks[index] = shared);
        from += equal.len();
    }
    ranks
}
