//! How the cores of a machine are best shared out among networks in training.

use std::sync::Arc;
use std::time::{Duration, Instant};

use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};

use super::{ThreadPool, TrainConfig, TrainError, Trainer};
use crate::data::{Dataset, generate, input_table};

/// How much faster more networks at once must be, in hundredths: each of them takes longer, which is worth something
/// only where it brings more in all.
const WORTH_PERCENT: f64 = 103.0;
/// Images of the trial: a few batches.
const IMAGES: usize = 256;

/// So many networks at once, each on so many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Networks in training at once.
    pub children: usize,
    /// Threads of each.
    pub threads: usize,
}

/// A split with the speed that it was measured at.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The split.
    pub split: Split,
    /// Images a second, of all networks together.
    pub images_per_second: f64,
}

/// Whole splits of so many threads, the fewest networks first.
pub fn splits(threads: usize) -> impl Iterator<Item = Split> {
    let threads = threads.max(1);
    (1..=threads).filter(move |n| threads.is_multiple_of(*n)).map(move |n| Split { children: n, threads: threads / n })
}

/// Trains a network of the usual size under every split of so many threads, for at least `time` each.
///
/// # Errors
/// [`TrainError`] when threads cannot be started.
pub fn measure(threads: usize, time: Duration) -> Result<Vec<Measured>, TrainError> {
    let data = generate(&[0; 32], IMAGES as u32);
    splits(threads)
        .map(|split| Ok(Measured { split, images_per_second: images_per_second(split, &data, time)? }))
        .collect()
}

/// The fastest of them; fewer networks at once where that is as good as equal.
pub fn fastest(measured: &[Measured]) -> Option<Split> {
    let mut best: Option<Measured> = None;
    for &candidate in measured {
        let better = best.is_none_or(|b| candidate.images_per_second * 100.0 > b.images_per_second * WORTH_PERCENT);
        best = if better { Some(candidate) } else { best };
    }
    best.map(|best| best.split)
}

fn images_per_second(split: Split, data: &Dataset, time: Duration) -> Result<f64, TrainError> {
    let trainers = (0..split.children).map(|_| trainer(split.threads, data)).collect::<Result<Vec<_>, _>>()?;
    let speeds: Vec<_> = std::thread::scope(|scope| {
        let runs = trainers.into_iter().map(|trainer| scope.spawn(move || run(trainer, data, time)));
        runs.collect::<Vec<_>>().into_iter().map(|run| run.join()).collect()
    });
    // A thread that panicked trained nothing.
    speeds.into_iter().map(|speed| speed.unwrap_or(Ok(0.0))).sum()
}

fn trainer(threads: usize, data: &Dataset) -> Result<Trainer, TrainError> {
    let format = FixedPoint::new(1, 4);
    let layer = ConvLayer { kernel: [3, 3], filters: 36, stride: [1, 1], pool: 2, act: format, weight: format };
    let architecture = Architecture { layers: vec![layer; 5] };
    let network = Network::new(&architecture, InputShape::CIFAR, data.classes, DenseConfig::default())
        .map_err(|e| TrainError::Config(e.to_string()))?;
    let config = TrainConfig { batch: 64, ..TrainConfig::default() };
    Trainer::new(network, &input_table(data), config, [0; 32], Arc::new(ThreadPool::new(threads)?))
}

/// Images a second of one network, without its first pass.
fn run(mut trainer: Trainer, data: &Dataset, time: Duration) -> Result<f64, TrainError> {
    trainer.run_epoch(data, &mut |_| ())?;
    let (start, mut images) = (Instant::now(), 0);
    while start.elapsed() < time {
        images += trainer.run_epoch(data, &mut |_| ())?.images;
    }
    Ok(images as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_use_all_threads() {
        let of = |threads| splits(threads).map(|s| (s.children, s.threads)).collect::<Vec<_>>();
        assert_eq!(of(0), [(1, 1)]);
        assert_eq!(of(2), [(1, 2), (2, 1)]);
        assert_eq!(of(6), [(1, 6), (2, 3), (3, 2), (6, 1)]);
    }

    #[test]
    fn more_networks_at_once_must_be_worth_it() {
        let at = |children, images_per_second| Measured {
            split: Split { children, threads: 4 / children },
            images_per_second,
        };
        assert_eq!(fastest(&[]), None);
        assert_eq!(fastest(&[at(1, 100.0), at(2, 102.0), at(4, 90.0)]).unwrap().children, 1);
        assert_eq!(fastest(&[at(1, 100.0), at(2, 110.0), at(4, 112.0)]).unwrap().children, 2);
        assert_eq!(fastest(&[at(1, 100.0), at(2, 102.0), at(4, 104.0)]).unwrap().children, 4);
    }

    #[test]
    fn a_measurement_has_every_split_and_a_speed() {
        let measured = measure(2, Duration::from_millis(1)).unwrap();
        assert_eq!(measured.len(), 2);
        assert!(measured.iter().all(|m| m.images_per_second > 0.0));
    }
}
