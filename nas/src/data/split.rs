//! Cutting data into what a task publishes: training images, search-validation images and sealed test shards.

use super::{DataError, Dataset, Random, Source};

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitPlan {
    /// Training images held back from training to compare candidates on.
    pub validation_images: usize,
    /// Number of test shards, one a round.
    pub shards: usize,
    /// Images of each shard.
    pub shard_images: usize,
    /// Seed of the shuffles.
    pub seed: [u8; 32],
}

/// The parts of a task's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What networks are trained on.
    pub train: Dataset,
    /// What candidates are compared on while searching.
    pub validation: Dataset,
    /// What rounds are scored on; secret until their round.
    pub shards: Vec<Dataset>,
}

/// Cuts a source: validation and training images from its training part, shards without overlap from its test part.
/// Same source and plan, same split.
///
/// # Errors
/// [`DataError::TooFew`] when a part has too few images. At least one training image must remain.
pub fn split(source: &Source, plan: &SplitPlan) -> Result<Split, DataError> {
    let (train_images, test_images) = (source.train.len(), source.test.len());
    if train_images <= plan.validation_images {
        let expected = plan.validation_images.saturating_add(1);
        return Err(DataError::TooFew { what: "training", got: train_images, expected });
    }
    let expected = plan.shards.saturating_mul(plan.shard_images);
    if test_images < expected {
        return Err(DataError::TooFew { what: "test", got: test_images, expected });
    }
    let train_order = shuffled(train_images, "podl v1 split training data", &plan.seed);
    let test_order = shuffled(test_images, "podl v1 split test data", &plan.seed);
    let (validation, train) = train_order.split_at(plan.validation_images);
    let shards = test_order.chunks_exact(plan.shard_images.max(1)).take(plan.shards);
    Ok(Split {
        train: source.train.select(train.iter().copied()),
        validation: source.train.select(validation.iter().copied()),
        shards: shards.map(|indices| source.test.select(indices.iter().copied())).collect(),
    })
}

fn shuffled(count: usize, domain: &'static str, seed: &[u8; 32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    Random::new(domain, seed, 0).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::InputShape;

    use super::*;

    /// One-pixel images whose pixel tells them apart.
    fn source(train: u8, test: u8) -> Source {
        let shape = InputShape { channels: 1, height: 1, width: 1 };
        let part = |pixels: Vec<u8>| {
            let labels = pixels.iter().map(|&p| u16::from(p % 2)).collect();
            Dataset { shape, classes: 2, images: pixels, labels }
        };
        Source::numbered(part((0..train).collect()), part((100..100 + test).collect()))
    }

    #[test]
    fn parts_do_not_overlap_and_lose_nothing() {
        let plan = SplitPlan { validation_images: 10, shards: 3, shard_images: 7, seed: [5; 32] };
        let cut = split(&source(50, 22), &plan).unwrap();
        assert_eq!((cut.train.len(), cut.validation.len(), cut.shards.len()), (40, 10, 3));
        let mut train = [cut.train.images.clone(), cut.validation.images.clone()].concat();
        assert_ne!(train, (0..50).collect::<Vec<_>>());
        train.sort_unstable();
        assert_eq!(train, (0..50).collect::<Vec<_>>());
        let mut test: Vec<u8> = cut.shards.iter().flat_map(|shard| shard.images.clone()).collect();
        test.sort_unstable();
        test.dedup();
        assert_eq!(test.len(), 21);
        for shard in &cut.shards {
            assert!(shard.images.iter().zip(&shard.labels).all(|(&pixel, &label)| label == u16::from(pixel % 2)));
        }
        assert_eq!(split(&source(50, 22), &plan).unwrap(), cut);
        assert_ne!(split(&source(50, 22), &SplitPlan { seed: [6; 32], ..plan }).unwrap(), cut);
    }

    #[test]
    fn too_few_images_are_refused() {
        let plan = SplitPlan { validation_images: 50, shards: 3, shard_images: 7, seed: [5; 32] };
        let text = split(&source(50, 22), &plan).unwrap_err().to_string();
        assert_eq!(text, "too few training images: 50, the split needs 51");
        let text = split(&source(51, 20), &plan).unwrap_err().to_string();
        assert_eq!(text, "too few test images: 20, the split needs 21");
    }
}
