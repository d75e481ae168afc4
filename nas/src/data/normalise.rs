//! Per-channel normalisation as integer tables.

use super::Dataset;

/// For each channel the input values, with 8 fraction bits, of the bytes 0 to 255: `(byte - mean) / deviation`, rounded
/// half to even, of the set's own mean and standard deviation (exact: no float takes part). A constant channel becomes
/// zeros.
///
/// The table belongs to the task, so that every node feeds every model the same values.
pub fn input_table(data: &Dataset) -> Vec<Vec<i16>> {
    histograms(data).iter().map(channel_table).collect()
}

/// How often each byte occurs, for each channel.
fn histograms(data: &Dataset) -> Vec<[u64; 256]> {
    let channels = usize::from(data.shape.channels);
    let plane = usize::from(data.shape.height) * usize::from(data.shape.width);
    let mut histograms = vec![[0u64; 256]; channels];
    if plane > 0 {
        for (index, pixels) in data.images.chunks_exact(plane).enumerate() {
            let histogram = &mut histograms[index % channels];
            pixels.iter().for_each(|&byte| histogram[usize::from(byte)] += 1);
        }
    }
    histograms
}

/// Mean and deviation of a channel's bytes, in steps of 0 to 255, as people quote them. The table does not come from
/// these rounded numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelStatistics {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// Mean and deviation of each channel of a set; zeros for a set without images.
pub fn channel_statistics(data: &Dataset) -> Vec<ChannelStatistics> {
    let of = |histogram: &[u64; 256]| {
        let (count, sum, squares) = moments(histogram);
        let pixels = count.max(1) as f64;
        let spread = count * squares - sum * sum;
        ChannelStatistics { mean: sum as f64 / pixels, deviation: (spread as f64).sqrt() / pixels }
    };
    histograms(data).iter().map(of).collect()
}

/// Number of pixels, sum of their bytes and of the bytes' squares.
fn moments(histogram: &[u64; 256]) -> (u128, u128, u128) {
    let (mut count, mut sum, mut squares) = (0u128, 0u128, 0u128);
    for (byte, &pixels) in (0u128..).zip(histogram) {
        let pixels = u128::from(pixels);
        count += pixels;
        sum += byte * pixels;
        squares += byte * byte * pixels;
    }
    (count, sum, squares)
}

fn channel_table(histogram: &[u64; 256]) -> Vec<i16> {
    let (count, sum, squares) = moments(histogram);
    // With n pixels: value = (byte - sum/n) / (sqrt(n * squares - sum^2) / n) = (n * byte - sum) / sqrt(spread).
    let spread = count * squares - sum * sum;
    (0u128..256).map(|byte| scaled(count * byte, sum, spread)).collect()
}

/// `256 * (high - low) / sqrt(spread)`, rounded half to even and clamped to 16 bits.
fn scaled(high: u128, low: u128, spread: u128) -> i16 {
    if spread == 0 {
        return 0;
    }
    let twice = 512 * high.abs_diff(low);
    // floor(2 |value|): its parity says on which side of a half the value lies.
    let halves = (twice * twice / spread).isqrt();
    let is_tie = halves * halves * spread == twice * twice;
    let mut rounded = halves / 2;
    if halves % 2 == 1 && (!is_tie || rounded % 2 == 1) {
        rounded += 1;
    }
    let magnitude = i16::try_from(rounded).unwrap_or(i16::MAX);
    if high < low { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::InputShape;

    use super::*;

    fn table(pixels: &[u8]) -> Vec<i16> {
        let width = u8::try_from(pixels.len()).unwrap();
        let shape = InputShape { channels: 1, height: 1, width };
        input_table(&Dataset { shape, classes: 2, images: pixels.to_vec(), labels: vec![0] }).remove(0)
    }

    #[test]
    fn by_hand() {
        // Mean 100, deviation 2.
        let values = table(&[98, 102]);
        assert_eq!((values[100], values[102], values[98], values[101]), (0, 256, -256, 128));
        // Mean 128, deviation 512 is impossible for bytes; deviation 64 gives steps of 4.
        let values = table(&[64, 192]);
        assert_eq!((values[0], values[128], values[255]), (-512, 0, 508));
        // A constant channel has no deviation.
        assert!(table(&[7, 7]).iter().all(|&v| v == 0));
    }

    #[test]
    fn agrees_with_floats_away_from_ties() {
        let pixels: Vec<u8> = (0..200u32).map(|i| (i * i % 251) as u8).collect();
        let n = pixels.len() as f64;
        let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
        let deviation = (pixels.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / n).sqrt();
        for (byte, value) in table(&pixels).into_iter().enumerate() {
            let exact = 256.0 * (byte as f64 - mean) / deviation;
            assert!((f64::from(value) - exact).abs() <= 0.5 + 1e-9, "{byte}: {value} for {exact}");
        }
    }

    #[test]
    fn ties_go_to_even() {
        // 256 * a / sqrt(b): 256 * 1 / 512 = 0.5 and 256 * 3 / 512 = 1.5.
        assert_eq!((scaled(1, 0, 512 * 512), scaled(3, 0, 512 * 512), scaled(0, 3, 512 * 512)), (0, 2, -2));
        assert_eq!(scaled(1 << 40, 0, 1), i16::MAX);
    }

    #[test]
    fn channels_are_apart() {
        let shape = InputShape { channels: 2, height: 1, width: 2 };
        let data = Dataset { shape, classes: 2, images: vec![98, 102, 64, 192], labels: vec![0] };
        let tables = input_table(&data);
        assert_eq!((tables[0][102], tables[1][192]), (256, 256));
    }

    #[test]
    fn statistics_by_hand() {
        let shape = InputShape { channels: 2, height: 1, width: 2 };
        let data = Dataset { shape, classes: 2, images: vec![98, 102, 64, 192], labels: vec![0] };
        let expected = [(100.0, 2.0), (128.0, 64.0)].map(|(mean, deviation)| ChannelStatistics { mean, deviation });
        assert_eq!(channel_statistics(&data), expected);
        let none = ChannelStatistics { mean: 0.0, deviation: 0.0 };
        assert_eq!(channel_statistics(&Dataset::new(shape, 2)), [none; 2]);
    }
}
