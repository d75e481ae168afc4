//! Means with bootstrap intervals. Seeded, so that a study can be repeated to the digit.

use crate::rng::SeededRng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// 2.5 % of the resampled figures are below.
    pub low: f64,
    /// 2.5 % of the resampled figures are above.
    pub high: f64,
}

/// A figure of paired observations and its percentile interval over resampled pairs. `figure` is given the chosen
/// observations; each stands for one seed.
pub fn bootstrap<T>(observations: &[T], figure: impl Fn(&[&T]) -> f64) -> Estimate {
    let all: Vec<&T> = observations.iter().collect();
    let value = figure(&all);
    let mut rng = SeededRng::new(&(observations.len() as u64).to_le_bytes(), "bootstrap");
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<&T> = all.iter().filter_map(|_| all.get(rng.index(all.len())).copied()).collect();
            figure(&drawn)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures.get((share * (RESAMPLES - 1) as f64).round() as usize).copied().unwrap_or(value);
    Estimate { value, low: at(0.025), high: at(0.975) }
}

/// Mean of what `of` takes from each observation.
pub fn mean<T>(observations: &[&T], of: impl Fn(&T) -> f64) -> f64 {
    observations.iter().map(|o| of(o)).sum::<f64>() / observations.len().max(1) as f64
}

/// Variance of values around their mean, of a sample.
pub fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len().saturating_sub(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_cover_a_mean_as_often_as_they_say() {
        let mut rng = SeededRng::new(b"cover", "test");
        let mut covered = 0;
        for _ in 0..200 {
            let sample: Vec<f64> = (0..30).map(|_| rng.below(1000) as f64).collect();
            let estimate = bootstrap(&sample, |chosen| mean(chosen, |v| *v));
            covered += u32::from(estimate.low <= 499.5 && 499.5 <= estimate.high);
            assert!(estimate.low <= estimate.value && estimate.value <= estimate.high);
        }
        assert!((180..=200).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn variances_are_of_samples() {
        assert!((variance(&[1.0, 3.0]) - 2.0).abs() < 1e-12);
    }
}
