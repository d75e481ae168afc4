//! Networks that are known to train fast: where a miner's search starts.
//!
//! All were measured on 10,000 training and 2,500 test images of CIFAR-10 (accuracy of the integer model, one seed; CPU
//! seconds of one core of an AMD EPYC with AVX-512, busy with other work, too; cosine schedule, warm-up of 20 batches)
//! and map within 1e5 LUT at far more than 1,000 images/s:
//!
//! | network | MMACs | batch, rate | images/s a core | accuracy by epoch, the plan ending with the last |
//! |---|---|---|---|---|
//! | pyramid | 2.0 | 32, 0.02 | 3,200 | **.42** (3.1 s) |
//! | | | | | .40 **.47** (6.3 s) |
//! | | | | | .39 .46 .51 **.53** (12.7 s) |
//! | pyramid | | 16, 0.01 | 2,300 | .42 **.50** (8.7 s) |
//! | pyramid, 1+4 and 1+5 bits | | 64, 0.03 | 3,450 | .39 .43 (5.8 s); .39 .44 .47 (8.6 s); ten epochs .57 (29 s) |
//! | pyramid-stem | 1.9 | 32, 0.02 | 3,300 | .35 .46 **.47** (9.1 s) |
//! | the same, 1+4 and 1+5 bits | | 64, 0.02 | 3,600 | .36 .41 .47 .49 .51 .54 .55 **.56** (22 s) |
//! | pyramid-wide | 2.7 | 128, 0.02 | 2,900 | .39 .42 .47 .50 .53 .53 (21 s) |
//! | strided | 3.0 | 128, 0.04 | 2,250 | .35 .41 .45 .48 .49 .50 (27 s) |
//! | strided-deep | 4.0 | 128, 0.02 | 1,700 | .36 .43 .45 .47 .48 .49 (34 s) |
//! | golden | 5.0 | 128, 0.02 | 1,400 | .31 .38 .43 .45 (28 s) |

use podl_consensus::workload::{Architecture, ConvLayer, FixedPoint};

use super::SearchBox;

/// A network to start from, with the training that suits it.
#[derive(Clone, Debug, PartialEq)]
pub struct StartingPoint {
    /// The network.
    pub architecture: Architecture,
    /// Learning rate, with a cosine schedule over the epochs that fit.
    pub learning_rate: f32,
    /// Images of a batch.
    pub batch: usize,
}

/// (kernel, filters, stride, pool) of one layer, square.
type Layer = (u8, u16, u8, u8);

/// Few filters while images are large, more after every pool; the deepest layers only mix channels.
const PYRAMID: [Layer; 6] = [(3, 12, 1, 2), (3, 24, 1, 2), (3, 36, 1, 2), (3, 64, 1, 1), (1, 64, 1, 1), (1, 64, 1, 2)];

/// A larger, strided first kernel: slower to start, better in the end.
const PYRAMID_STEM: [Layer; 6] =
    [(5, 12, 2, 1), (3, 24, 1, 2), (3, 36, 1, 2), (3, 64, 1, 1), (1, 64, 1, 1), (1, 64, 1, 2)];

const PYRAMID_WIDE: [Layer; 6] =
    [(3, 12, 1, 2), (3, 24, 1, 2), (3, 64, 1, 2), (3, 64, 1, 1), (1, 64, 1, 1), (1, 64, 1, 2)];

/// Strides instead of pools where images are large.
const STRIDED: [Layer; 6] = [(5, 24, 2, 1), (3, 36, 2, 1), (3, 64, 1, 2), (1, 64, 1, 1), (3, 64, 1, 2), (1, 64, 1, 1)];

const STRIDED_DEEP: [Layer; 6] =
    [(3, 24, 2, 1), (3, 36, 2, 1), (3, 36, 1, 1), (3, 64, 1, 2), (3, 64, 1, 1), (3, 64, 1, 2)];

/// The golden network of the FPGA cost model.
const GOLDEN: [Layer; 6] = [(3, 36, 1, 2); 6];

/// (activation, weight) formats: the golden network's, and a wider pair that learns faster.
type Formats = (FixedPoint, FixedPoint);

const NARROW: Formats = (FixedPoint::new(1, 4), FixedPoint::new(1, 5));

const WIDE: Formats = (FixedPoint::new(2, 4), FixedPoint::new(1, 6));

/// Layers, formats, batch, learning rate; the best in a short time first.
const POINTS: [([Layer; 6], Formats, usize, f32); 6] = [
    (PYRAMID, WIDE, 32, 0.02),
    (PYRAMID_STEM, WIDE, 32, 0.02),
    (PYRAMID_WIDE, NARROW, 128, 0.02),
    (STRIDED, WIDE, 128, 0.04),
    (STRIDED_DEEP, NARROW, 128, 0.02),
    (GOLDEN, NARROW, 128, 0.02),
];

fn architecture(layers: &[Layer], (act, weight): Formats) -> Architecture {
    let layer = |&(kernel, filters, stride, pool): &Layer| ConvLayer {
        kernel: [kernel; 2],
        filters,
        stride: [stride; 2],
        pool,
        act,
        weight,
    };
    Architecture { layers: layers.iter().map(layer).collect() }
}

/// The starting points of a box, the best first. Those inside it come as they are; the others as the nearest network
/// of the box, behind them.
pub fn starting_points(search_box: &SearchBox) -> Vec<StartingPoint> {
    let all = POINTS.map(|(layers, formats, batch, learning_rate)| StartingPoint {
        architecture: architecture(&layers, formats),
        learning_rate,
        batch,
    });
    let (inside, outside): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| search_box.contains(&p.architecture));
    let mut points: Vec<StartingPoint> = Vec::new();
    for mut point in inside.into_iter().chain(outside) {
        point.architecture = search_box.project(&point.architecture);
        if points.iter().all(|known| known.architecture != point.architecture) {
            points.push(point);
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::{Bounds, InputShape, Space};

    use super::*;
    use crate::cost::{CostModel, evaluate};

    #[test]
    fn the_full_space_holds_them_all_within_the_bounds() {
        let points = starting_points(&SearchBox::from_space(&Space::full(6)).unwrap());
        assert_eq!(points.len(), 6);
        for point in points {
            let bounds = Bounds { lut: 100_000, throughput: 1000 };
            let cost = evaluate(CostModel::Corrected, &point.architecture, InputShape::CIFAR, bounds).unwrap();
            assert!(cost.is_some(), "{:?}", point.architecture);
        }
    }
}
