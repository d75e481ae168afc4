use proptest::prelude::*;

use super::*;
use crate::engine::simd::Product;
use crate::testing::next;

/// A dense kernel of one row: `[output][channel]`.
fn dense(weights: &[i16], outputs: usize) -> Kernel<'_> {
    Kernel { weights, outputs, channels: weights.len() / outputs, rows: 1, columns: 1, padded_columns: 1 }
}

/// Sums of that kernel for rows of activations, with the form's packing and segments; `None` if the form is refused.
fn sums(isa: Isa, form: Form, kernel: Kernel<'_>, range: Range, rows: &[Vec<i16>]) -> Option<Vec<Vec<i32>>> {
    let words = Words::new(kernel, form);
    let segments = words.segments(isa, range)?;
    let mut input = Vec::new();
    let mut positions = Vec::new();
    for row in rows {
        positions.push(input.len());
        for value in row {
            match form {
                Form::Bytes => input.push(u8::try_from(*value).unwrap()),
                Form::Halves => input.extend(value.to_ne_bytes()),
            }
        }
    }
    input.extend([255; 4]);
    let mut all = vec![Vec::new(); rows.len()];
    for panel in words.panels(isa) {
        let mut sums = vec![7; rows.len() * panel.width];
        isa.run(Product {
            form,
            input: &input,
            positions: &positions,
            taps: &words.taps,
            segments: &segments,
            weights: &panel.weights,
            biases: &vec![-3; panel.width],
            sums: &mut sums,
        });
        for (all, sums) in all.iter_mut().zip(sums.chunks(panel.width)) {
            all.extend(sums[..panel.outputs].iter().map(|sum| sum + 3));
        }
    }
    Some(all)
}

fn plain(kernel: Kernel<'_>, rows: &[Vec<i16>]) -> Vec<Vec<i32>> {
    let products =
        |row: &[i16], weights: &[i16]| row.iter().zip(weights).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
    rows.iter()
        .map(|row| kernel.weights.chunks(kernel.channels).map(|weights| products(row, weights)).collect())
        .collect()
}

proptest! {
    /// Every instruction set and form gives the plain sums: any number of positions, outputs and taps, runs that end
    /// within a word, and activations at their extremes.
    #[test]
    fn sums_are_exact(
        seed in any::<u64>(), positions in 1usize..30, outputs in 1usize..70, channels in 1usize..80,
        most_weight in 1u64..=128, largest in 1i16..=255, is_extreme in any::<bool>(),
    ) {
        let mut state = seed;
        let mut below = |limit: u64| i16::try_from(next(&mut state) % limit).unwrap();
        let weight = i16::try_from(most_weight).unwrap();
        let weights: Vec<i16> = (0..outputs * channels)
            .map(|_| if is_extreme { [-weight, weight - 1][usize::from(below(2) == 0)] } else { below(2 * most_weight) - weight })
            .collect();
        let span = u64::try_from(largest).unwrap();
        let rows: Vec<Vec<i16>> = (0..positions)
            .map(|_| (0..channels).map(|_| if is_extreme { largest * below(2) } else { below(span + 1) }).collect())
            .collect();
        let kernel = dense(&weights, outputs);
        let range = Range { largest: largest.into(), is_signed: false };
        for isa in Isa::available() {
            for form in [Form::Bytes, Form::Halves] {
                if let Some(sums) = sums(isa, form, kernel, range, &rows) {
                    prop_assert_eq!(sums, plain(kernel, &rows), "{:?} {:?}", isa, form);
                }
            }
        }
    }
}

/// Sums of byte products that reach 16 bits' greatest number exactly are summed at once, one more is not.
#[test]
fn segments_end_at_the_bound() {
    for sign in [1, -1] {
        // 7 x 4,681 = 32,767, on the first two values of each word.
        let mut weights = vec![0i16; 4 * 20];
        for word in 0..18 {
            weights[4 * word] = 127 * sign;
            weights[4 * word + 1] = 127 * sign;
        }
        weights[4 * 18] = (4_681 - 36 * 127) * sign;
        let range = Range { largest: 7, is_signed: false };
        let rows = vec![vec![7; weights.len()]; 9];
        for isa in Isa::available() {
            let one = sums(isa, Form::Bytes, dense(&weights, 1), range, &rows).unwrap();
            assert_eq!(one, plain(dense(&weights, 1), &rows), "{isa:?}");
            assert_eq!(one[0][0], i32::from(sign) * 32_767);
            assert_eq!(Words::new(dense(&weights, 1), Form::Bytes).segments(isa, range).unwrap(), [20]);
            let mut more = weights.clone();
            more[4 * 19 + 1] = sign;
            let two = sums(isa, Form::Bytes, dense(&more, 1), range, &rows).unwrap();
            assert_eq!(two, plain(dense(&more, 1), &rows), "{isa:?}");
            let is_16_bits = isa.partial(Form::Bytes).1 == i64::from(i16::MAX);
            let segments = Words::new(dense(&more, 1), Form::Bytes).segments(isa, range).unwrap();
            assert_eq!(segments, if is_16_bits { vec![19, 20] } else { vec![20] });
        }
    }
}

/// Weights of both signs bound a sum by the greater side alone.
#[test]
fn signs_are_bounded_apart() {
    let weights = [[127, 0, 0, 0], [-127, 0, 0, 0]].concat();
    for isa in Isa::available() {
        let segments = |largest, is_signed| {
            Words::new(dense(&weights, 1), Form::Bytes).segments(isa, Range { largest, is_signed }).unwrap()
        };
        assert_eq!(segments(255, false), [2]);
        let is_16_bits = isa.partial(Form::Bytes).1 == i64::from(i16::MAX);
        assert_eq!(segments(255, true), if is_16_bits { vec![1, 2] } else { vec![2] });
    }
}

/// One pair of byte products may already leave 16 bits: then there are no segments.
#[test]
fn a_pair_beyond_16_bits_is_refused() {
    let range = Range { largest: 255, is_signed: false };
    for isa in Isa::available() {
        let is_16_bits = isa.partial(Form::Bytes).1 == i64::from(i16::MAX);
        let has_segments =
            |weights: [i16; 4]| Words::new(dense(&weights, 1), Form::Bytes).segments(isa, range).is_some();
        // 128 x 255 = 32,640, 129 x 255 = 32,895.
        assert!(has_segments([0, 0, 127, 1]));
        assert!(has_segments([0, 0, -128, 127]));
        assert_eq!(has_segments([0, 0, 127, 2]), !is_16_bits);
        assert_eq!(has_segments([-128, -1, 0, 0]), !is_16_bits);
    }
}
