//! Networks that are known to train fast: where a miner's search starts.

use podl_consensus::workload::{Architecture, ConvLayer, FixedPoint};

use super::SearchBox;

/// A network to start from, with the training that suits it.
#[derive(Clone, Debug, PartialEq)]
pub struct StartingPoint {
    /// The network.
    pub architecture: Architecture,
    /// Learning rate (with a cosine schedule over the epochs that fit).
    pub learning_rate: f32,
}

/// (kernel, filters, stride, pool) of one layer; activations 1+4 bits, weights 1+5.
type Row = ([u8; 2], u16, [u8; 2], u8);

/// The golden network of the FPGA cost model: 4.9 million MACs, good accuracy after many epochs.
const GOLDEN: [Row; 6] = [([3, 3], 36, [1, 1], 2); 6];

fn architecture(rows: &[Row]) -> Architecture {
    let (act, weight) = (FixedPoint::new(1, 4), FixedPoint::new(1, 5));
    let layer = |&(kernel, filters, stride, pool): &Row| ConvLayer { kernel, filters, stride, pool, act, weight };
    Architecture { layers: rows.iter().map(layer).collect() }
}

/// The starting points of a box, fastest first. Those inside it come as they are; the others as the nearest network
/// of the box, behind them.
pub fn starting_points(search_box: &SearchBox) -> Vec<StartingPoint> {
    let all = [(&GOLDEN, 0.01)].map(|(rows, learning_rate)| (architecture(rows), learning_rate));
    let (inside, outside): (Vec<_>, Vec<_>) = all.into_iter().partition(|(a, _)| search_box.contains(a));
    let mut points: Vec<StartingPoint> = Vec::new();
    for (architecture, learning_rate) in inside.into_iter().chain(outside) {
        let architecture = search_box.project(&architecture);
        if points.iter().all(|point| point.architecture != architecture) {
            points.push(StartingPoint { architecture, learning_rate });
        }
    }
    points
}
