//! A random forest that stands in for training.

use podl_consensus::workload::{Architecture, InputShape};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::Record;

use crate::search::MOST_REWARD;
use crate::search::features::features;

/// Trees of the forest; more change the cross-validated figures by less than their own spread.
const TREES: usize = 60;

/// Fewest records in a leaf, which smooths over the noise of single trainings.
const LEAF_RECORDS: usize = 3;

/// Images that the logged networks were trained on.
const INPUT: InputShape = InputShape::CIFAR;

/// Why there is no surrogate or no prediction.
#[derive(Debug, thiserror::Error)]
pub enum SurrogateError {
    /// Too little to learn from.
    #[error("{got} feasible records, expected at least {expected}")]
    TooFew {
        /// Records there are.
        got: usize,
        /// Records needed.
        expected: usize,
    },
    /// A network of another depth than the records.
    #[error("a network of {got} layers, the records have {expected}")]
    Depth {
        /// Layers of the network.
        got: usize,
        /// Layers of the records.
        expected: usize,
    },
    /// The forest refused.
    #[error("random forest: {0}")]
    Forest(#[from] Failed),
}

type Forest = RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

/// A model of accuracy, fitted to records. Records and seed determine it.
#[derive(Debug)]
pub struct Surrogate {
    forest: Forest,
    layers: usize,
}

impl Surrogate {
    /// Fits feasible records; what is infeasible is for the cost model to say.
    ///
    /// # Errors
    /// [`SurrogateError::TooFew`], [`SurrogateError::Depth`] when records differ in depth.
    pub fn fit(records: &[&Record], seed: u64) -> Result<Self, SurrogateError> {
        let trained: Vec<&Record> = records.iter().copied().filter(|record| record.is_feasible).collect();
        let expected = 2 * LEAF_RECORDS;
        let Some(first) = trained.first().filter(|_| trained.len() >= expected) else {
            return Err(SurrogateError::TooFew { got: trained.len(), expected });
        };
        let layers = first.architecture.layers.len();
        let rows = trained.iter().map(|record| row(&record.architecture, layers)).collect::<Result<Vec<_>, _>>()?;
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(TREES)
            .with_min_samples_leaf(LEAF_RECORDS)
            .with_m(rows[0].len() / 3)
            .with_seed(seed);
        let accuracies: Vec<f64> = trained.iter().map(|record| record.accuracy).collect();
        let forest = Forest::fit(&DenseMatrix::from_2d_vec(&rows)?, &accuracies, parameters)?;
        Ok(Self { forest, layers })
    }

    /// Accuracies of networks, 0 to 1.
    ///
    /// # Errors
    /// [`SurrogateError::Depth`].
    pub fn accuracies(&self, networks: &[&Architecture]) -> Result<Vec<f64>, SurrogateError> {
        if networks.is_empty() {
            return Ok(Vec::new());
        }
        let rows = networks.iter().map(|network| row(network, self.layers)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.forest.predict(&DenseMatrix::from_2d_vec(&rows)?)?)
    }

    /// Reward of a network, in millionths.
    ///
    /// # Errors
    /// [`SurrogateError::Depth`].
    pub fn reward(&self, network: &Architecture) -> Result<u32, SurrogateError> {
        let accuracy = self.accuracies(&[network])?.first().copied().unwrap_or(0.0);
        // A mean of accuracies is one.
        Ok((accuracy * f64::from(MOST_REWARD)).round() as u32)
    }
}

fn row(network: &Architecture, layers: usize) -> Result<Vec<f64>, SurrogateError> {
    if network.layers.len() != layers {
        return Err(SurrogateError::Depth { got: network.layers.len(), expected: layers });
    }
    Ok(features(network, INPUT))
}
