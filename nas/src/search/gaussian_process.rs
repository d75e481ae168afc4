//! Gaussian process regression: what to expect of a point, and how far to trust that.
//!
//! After Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1, with a squared
//! exponential kernel over standardised inputs. Every sum has one order and `exp` and `sqrt` are those of `libm`, so that
//! all machines find the same: a journal goes on anywhere.

/// Least deviation of a column; constant columns are left where they are.
const LEAST_DEVIATION: f64 = 1e-9;

/// Standardised values beyond this count as this: far from all that was seen is far enough.
const MOST_DEVIATIONS: f64 = 4.0;

/// What a process assumes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assumptions {
    /// Squared inverse length of the kernel, over the mean of the squared differences of all columns.
    pub sharpness: f64,
    /// Variance of the noise, over that of the values.
    pub noise: f64,
}

/// A process that has seen some points.
#[derive(Debug)]
pub(super) struct GaussianProcess {
    sharpness: f64,
    columns: Vec<Column>,
    points: Vec<Vec<f64>>,
    /// Lower triangle L of the covariances K + noise = L Lt.
    factor: Vec<Vec<f64>>,
    /// (K + noise)^-1 (values - mean)
    weights: Vec<f64>,
    mean: f64,
    deviation: f64,
}

/// A prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prediction {
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// Mean and deviation of an input.
#[derive(Clone, Copy, Debug)]
struct Column {
    mean: f64,
    deviation: f64,
}

impl Column {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        Self { mean, deviation: libm::sqrt(variance).max(LEAST_DEVIATION) }
    }

    fn standardise(self, value: f64) -> f64 {
        ((value - self.mean) / self.deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    }
}

impl GaussianProcess {
    /// Fits rows of equal length, each with its value. Work grows with the cube of the rows. `None` without rows.
    pub(super) fn fit(rows: &[Vec<f64>], values: &[f64], assumptions: Assumptions) -> Option<Self> {
        let width = rows.first()?.len();
        let columns: Vec<Column> = (0..width).map(|at| Column::of(rows.iter().map(move |row| row[at]))).collect();
        let Column { mean, deviation } = Column::of(values.iter().copied());
        let mut process = Self {
            sharpness: assumptions.sharpness / width.max(1) as f64,
            points: Vec::new(),
            columns,
            factor: Vec::new(),
            weights: Vec::new(),
            mean,
            deviation,
        };
        process.points = rows.iter().map(|row| process.standardise(row)).collect();
        for (index, point) in process.points.iter().enumerate() {
            let covariances = process.points[..index].iter().map(|other| process.kernel(point, other)).collect();
            let mut row = solve_lower(&process.factor, covariances);
            let rest = 1.0 + assumptions.noise - row.iter().map(|value| value * value).sum::<f64>();
            row.push(libm::sqrt(rest.max(assumptions.noise * 0.5)));
            process.factor.push(row);
        }
        let standard = values.iter().map(|value| (value - mean) / deviation).collect();
        process.weights = solve_upper(&process.factor, solve_lower(&process.factor, standard));
        Some(process)
    }

    fn standardise(&self, row: &[f64]) -> Vec<f64> {
        row.iter().zip(&self.columns).map(|(&value, column)| column.standardise(value)).collect()
    }

    fn kernel(&self, a: &[f64], b: &[f64]) -> f64 {
        let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        libm::exp(-0.5 * self.sharpness * distance)
    }

    /// What to expect of a row.
    pub(super) fn predict(&self, row: &[f64]) -> Prediction {
        let row = self.standardise(row);
        let covariances: Vec<f64> = self.points.iter().map(|point| self.kernel(&row, point)).collect();
        let mean: f64 = covariances.iter().zip(&self.weights).map(|(covariance, weight)| covariance * weight).sum();
        let explained: f64 = solve_lower(&self.factor, covariances).iter().map(|value| value * value).sum();
        Prediction {
            mean: self.mean + self.deviation * mean,
            deviation: self.deviation * libm::sqrt((1.0 - explained).max(0.0)),
        }
    }
}

/// x of L x = b, where L has as many rows as b.
fn solve_lower(factor: &[Vec<f64>], mut b: Vec<f64>) -> Vec<f64> {
    for index in 0..b.len() {
        let row = &factor[index];
        let known: f64 = row[..index].iter().zip(&b).map(|(l, x)| l * x).sum();
        b[index] = (b[index] - known) / row[index];
    }
    b
}

/// x of Lt x = b.
fn solve_upper(factor: &[Vec<f64>], mut b: Vec<f64>) -> Vec<f64> {
    for index in (0..b.len()).rev() {
        b[index] /= factor[index][index];
        for (earlier, l) in (0..index).zip(&factor[index]) {
            b[earlier] -= l * b[index];
        }
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Random;

    const ASSUMPTIONS: Assumptions = Assumptions { sharpness: 1.0, noise: 1e-4 };

    #[test]
    fn it_passes_through_what_it_saw_and_trusts_that_most() {
        let rows: Vec<Vec<f64>> = (0..9).map(|x| vec![f64::from(x)]).collect();
        let values: Vec<f64> = (0..9).map(|x| libm::sin(f64::from(x) / 2.0)).collect();
        let process = GaussianProcess::fit(&rows, &values, ASSUMPTIONS).unwrap();
        for (row, value) in rows.iter().zip(&values) {
            let at = process.predict(row);
            assert!((at.mean - value).abs() < 0.02 && at.deviation < 0.05, "{row:?}: {at:?}, {value}");
        }
        let between = process.predict(&[3.5]);
        assert!((between.mean - libm::sin(1.75)).abs() < 0.05, "{between:?}");
        assert!(process.predict(&[30.0]).deviation > 5.0 * between.deviation);
    }

    #[test]
    fn two_points_by_hand() {
        // Standardised: x = -1, 1 and y = -1, 1; kernel between them exp(-0.5 * 4) = e^-2.
        let process =
            GaussianProcess::fit(&[vec![2.0], vec![4.0]], &[10.0, 30.0], Assumptions { sharpness: 1.0, noise: 0.5 });
        let at = process.unwrap().predict(&[4.0]);
        let (k, own) = (libm::exp(-2.0), 1.5);
        // weights solve [own k; k own] w = (-1, 1), so w = (-1, 1) / (own - k).
        assert!((at.mean - (20.0 + 10.0 * (1.0 - k) / (own - k))).abs() < 1e-9, "{at:?}");
        let explained = (own * (1.0 + k * k) - 2.0 * k * k) / (own * own - k * k);
        assert!((at.deviation - 10.0 * libm::sqrt(1.0 - explained)).abs() < 1e-9, "{at:?}");
    }

    #[test]
    fn equal_rows_constant_columns_and_no_rows_do_no_harm() {
        assert!(GaussianProcess::fit(&[], &[], ASSUMPTIONS).is_none());
        let rows = vec![vec![1.0, 5.0]; 20];
        let process = GaussianProcess::fit(&rows, &[3.0; 20], ASSUMPTIONS).unwrap();
        let at = process.predict(&[1.0, 5.0]);
        assert!((at.mean - 3.0).abs() < 1e-6 && at.deviation.is_finite());
    }

    #[test]
    fn it_learns_which_column_matters() {
        let mut random = Random::new("test", &[4; 32], 0);
        let mut row = || -> Vec<f64> { (0..6).map(|_| f64::from(random.below(9))).collect() };
        let rows: Vec<Vec<f64>> = (0..120).map(|_| row()).collect();
        let value = |row: &Vec<f64>| 3.0 * row[2] - row[4];
        let values: Vec<f64> = rows.iter().map(value).collect();
        let process = GaussianProcess::fit(&rows, &values, Assumptions { sharpness: 0.3, noise: 0.05 }).unwrap();
        let error: f64 =
            (0..50).map(|_| row()).map(|row| (process.predict(&row).mean - value(&row)).abs()).sum::<f64>();
        assert!(error / 50.0 < 2.0, "mean error {} of values with a deviation of 8", error / 50.0);
    }
}
