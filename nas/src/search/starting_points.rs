//! Networks that are known to train fast: where a miner's search starts.
//!
//! All were measured on 10,000 training and 2,500 test images of CIFAR-10 (accuracy of the integer model, one seed, one
//! core of an AMD EPYC with AVX-512 that others used too; cosine schedule, rate 0.02, warm-up 20 batches) and map within
//! 1e5 LUT at 1,000 images/s and much more:
//!
//! | network | MMACs | images/s a core | accuracy by epoch (of the planned ones) |
//! |---|---|---|---|
//! | pyramid | 2.0 | 3,300-3,800 | .37 .44 .48 .51 .52 **.53** (6 planned, batch 64; 18 s) |
//! | the same | | | .39 .44 **.47** (3 planned, rate 0.03; 8.6 s) and .39 **.43** (2 planned; 5.8 s) |
//! | pyramid-stem | 1.9 | 3,600 | .36 .41 .47 .49 .51 .54 .55 **.56** (8 planned, batch 64; 22 s) |
//! | pyramid-wide | 2.7 | 2,900 | .39 .42 .47 .50 .53 .53 (6 planned; 21 s) |
//! | strided | 3.0 | 2,200 | .35 .44 .45 .47 .48 .49 (6 planned; 27 s) |
//! | strided-deep | 4.0 | 1,700 | .36 .43 .45 .47 .48 .49 (6 planned; 34 s) |
//! | golden | 5.0 | 1,400 | .31 .38 .43 .45 (4 planned; 28 s) |

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

fn architecture(layers: &[Layer]) -> Architecture {
    let (act, weight) = (FixedPoint::new(1, 4), FixedPoint::new(1, 5));
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
    let all =
        [(PYRAMID, 64), (PYRAMID_STEM, 64), (PYRAMID_WIDE, 128), (STRIDED, 128), (STRIDED_DEEP, 128), (GOLDEN, 128)];
    let all = all.map(|(layers, batch)| (architecture(&layers), batch));
    let (inside, outside): (Vec<_>, Vec<_>) = all.into_iter().partition(|(a, _)| search_box.contains(a));
    let mut points: Vec<StartingPoint> = Vec::new();
    for (architecture, batch) in inside.into_iter().chain(outside) {
        let architecture = search_box.project(&architecture);
        if points.iter().all(|point| point.architecture != architecture) {
            points.push(StartingPoint { architecture, learning_rate: 0.02, batch });
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
