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
        let columns = transpose(&process.points, width);
        let covariances = process.points.iter().map(|point| process.kernels(point, &columns)).collect();
        process.factor = factorise(covariances, assumptions.noise);
        let standard = values.iter().map(|value| (value - mean) / deviation).collect();
        process.weights = solve_upper(&process.factor, solve_lower(&process.factor, standard));
        Some(process)
    }

    fn standardise(&self, row: &[f64]) -> Vec<f64> {
        row.iter().zip(&self.columns).map(|(&value, column)| column.standardise(value)).collect()
    }

    /// What to expect of each row. All are worked on side by side, so that the processor can take several at once; each
    /// sum keeps its order, so what a row gets does not depend on the others.
    pub(super) fn predict(&self, rows: &[Vec<f64>]) -> Vec<Prediction> {
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| self.standardise(row)).collect();
        let columns = transpose(&rows, self.columns.len());
        let covariances: Vec<Vec<f64>> = self.points.iter().map(|point| self.kernels(point, &columns)).collect();
        let mut means = vec![0.0; rows.len()];
        for (covariances, &weight) in covariances.iter().zip(&self.weights) {
            add_products(&mut means, covariances, weight);
        }
        let mut explained = vec![0.0; rows.len()];
        for solved in solve_lower_side_by_side(&self.factor, covariances) {
            explained.iter_mut().zip(&solved).for_each(|(sum, value)| *sum += value * value);
        }
        let predict = |(mean, explained): (&f64, &f64)| Prediction {
            mean: self.mean + self.deviation * mean,
            deviation: self.deviation * libm::sqrt((1.0 - explained).max(0.0)),
        };
        means.iter().zip(&explained).map(predict).collect()
    }

    /// The kernel between one point and the rows that `columns` hold.
    fn kernels(&self, point: &[f64], columns: &[Vec<f64>]) -> Vec<f64> {
        let mut distances = vec![0.0; columns.first().map_or(0, Vec::len)];
        for (column, b) in columns.iter().zip(point) {
            distances.iter_mut().zip(column).for_each(|(distance, a)| *distance += (a - b) * (a - b));
        }
        distances.iter().map(|distance| libm::exp(-0.5 * self.sharpness * distance)).collect()
    }
}

fn transpose(rows: &[Vec<f64>], width: usize) -> Vec<Vec<f64>> {
    (0..width).map(|at| rows.iter().map(|row| row[at]).collect()).collect()
}

/// The lower triangle L of K + noise = L Lt, by rows. Found column by column, each at once.
fn factorise(covariances: Vec<Vec<f64>>, noise: f64) -> Vec<Vec<f64>> {
    let size = covariances.len();
    let mut columns: Vec<Vec<f64>> = Vec::with_capacity(size);
    for (index, mut column) in covariances.into_iter().enumerate() {
        let mut known = vec![0.0; size];
        for earlier in &columns {
            add_products(&mut known[index..], &earlier[index..], earlier[index]);
        }
        let own = libm::sqrt((1.0 + noise - known[index]).max(noise * 0.5));
        column.iter_mut().zip(&known).for_each(|(value, known)| *value = (*value - known) / own);
        column[index] = own;
        columns.push(column);
    }
    (0..size).map(|row| columns[..=row].iter().map(|column| column[row]).collect()).collect()
}

/// sums += values x factor
fn add_products(sums: &mut [f64], values: &[f64], factor: f64) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * factor);
}

/// [`solve_lower`] for many right sides: row i of `b` holds their i-th elements.
fn solve_lower_side_by_side(factor: &[Vec<f64>], mut b: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut known = vec![0.0; b.first().map_or(0, Vec::len)];
    for index in 0..b.len() {
        let (solved, rest) = b.split_at_mut(index);
        let row = &factor[index];
        known.fill(0.0);
        for (x, &l) in solved.iter().zip(row) {
            add_products(&mut known, x, l);
        }
        rest[0].iter_mut().zip(&known).for_each(|(b, known)| *b = (*b - known) / row[index]);
    }
    b
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

    fn one(process: &GaussianProcess, row: &[f64]) -> Prediction {
        process.predict(&[row.to_vec()])[0]
    }

    #[test]
    fn a_row_gets_the_same_alone_and_among_others() {
        let mut random = Random::new("test", &[5; 32], 0);
        let mut rows = |count: u32| -> Vec<Vec<f64>> {
            (0..count).map(|_| (0..7).map(|_| f64::from(random.below(1000)) / 7.0).collect()).collect()
        };
        let (seen, asked) = (rows(40), rows(33));
        let values: Vec<f64> = seen.iter().map(|row| row[0] - row[3]).collect();
        let process = GaussianProcess::fit(&seen, &values, ASSUMPTIONS).unwrap();
        let together = process.predict(&asked);
        assert_eq!(together, asked.iter().map(|row| one(&process, row)).collect::<Vec<_>>());
        assert!(process.predict(&[]).is_empty());
    }

    #[test]
    fn it_passes_through_what_it_saw_and_trusts_that_most() {
        let rows: Vec<Vec<f64>> = (0..9).map(|x| vec![f64::from(x)]).collect();
        let values: Vec<f64> = (0..9).map(|x| libm::sin(f64::from(x) / 2.0)).collect();
        let process = GaussianProcess::fit(&rows, &values, ASSUMPTIONS).unwrap();
        for (row, value) in rows.iter().zip(&values) {
            let at = one(&process, row);
            assert!((at.mean - value).abs() < 0.02 && at.deviation < 0.05, "{row:?}: {at:?}, {value}");
        }
        let between = one(&process, &[3.5]);
        assert!((between.mean - libm::sin(1.75)).abs() < 0.05, "{between:?}");
        assert!(one(&process, &[30.0]).deviation > 5.0 * between.deviation);
    }

    #[test]
    fn two_points_by_hand() {
        // Standardised: x = -1, 1 and y = -1, 1; kernel between them exp(-0.5 * 4) = e^-2.
        let process =
            GaussianProcess::fit(&[vec![2.0], vec![4.0]], &[10.0, 30.0], Assumptions { sharpness: 1.0, noise: 0.5 });
        let at = one(&process.unwrap(), &[4.0]);
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
        let at = one(&process, &[1.0, 5.0]);
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
        let error: f64 = (0..50).map(|_| row()).map(|row| (one(&process, &row).mean - value(&row)).abs()).sum::<f64>();
        assert!(error / 50.0 < 2.0, "mean error {} of values with a deviation of 8", error / 50.0);
    }
}
