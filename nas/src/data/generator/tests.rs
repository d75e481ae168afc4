use super::*;

#[test]
fn the_pixels_are_pinned() {
    let data = generate(&[0; 32], 64);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&data.images);
    data.labels.iter().for_each(|label| {
        hasher.update(&label.to_le_bytes());
    });
    // Changes with any pixel: then GENERATOR_VERSION must change too, or chains fork.
    assert_eq!(hasher.finalize().to_hex().as_str(), include_str!("../../../tests/golden/generator_v1.txt").trim());
}

#[test]
fn images_depend_on_seed_and_index_alone() {
    let long = generate(&[1; 32], 20);
    assert_eq!(generate(&[1; 32], 7), long.head(7));
    assert_ne!(generate(&[2; 32], 20), long);
    assert_ne!(long.image(0), long.image(1));
}

#[test]
fn classes_are_all_there_and_balanced() {
    let data = generate(&[3; 32], 2_000);
    let mut counts = [0; 10];
    data.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    assert!(counts.iter().all(|count| (140..260).contains(count)), "{counts:?}");
}

/// Nearest class mean on raw pixels and on colour histograms finds the leaning hues (chance is 0.1) but not the classes.
#[test]
fn simple_statistics_do_not_tell_the_classes() {
    let (train, test) = (generate(&[4; 32], 3_000), generate(&[5; 32], 1_000));
    let histogram = |image: &[u8]| -> Vec<i64> {
        let mut bins = vec![0; 24];
        for (channel, plane) in image.chunks(1024).enumerate() {
            plane.iter().for_each(|&v| bins[channel * 8 + usize::from(v / 32)] += 1);
        }
        bins
    };
    let pixels = |image: &[u8]| -> Vec<i64> { image.iter().map(|&v| v.into()).collect() };
    for features in [&histogram as &dyn Fn(&[u8]) -> Vec<i64>, &pixels] {
        let correct = nearest_mean(&train, &test, features);
        assert!((120..330).contains(&correct), "{correct} of 1000 by a simple statistic");
    }
}

fn nearest_mean(train: &Dataset, test: &Dataset, features: &dyn Fn(&[u8]) -> Vec<i64>) -> usize {
    let width = features(train.image(0)).len();
    let (mut sums, mut counts) = (vec![vec![0i64; width]; 10], vec![0i64; 10]);
    for index in 0..train.len() {
        let class = usize::from(train.labels[index]);
        counts[class] += 1;
        sums[class].iter_mut().zip(features(train.image(index))).for_each(|(sum, value)| *sum += value);
    }
    let distance = |class: usize, image: &[i64]| -> i64 {
        image.iter().zip(&sums[class]).map(|(value, sum)| (value - sum / counts[class]).pow(2)).sum()
    };
    (0..test.len())
        .filter(|&index| {
            let image = features(test.image(index));
            (0..10).min_by_key(|&class| distance(class, &image)) == Some(usize::from(test.labels[index]))
        })
        .count()
}
