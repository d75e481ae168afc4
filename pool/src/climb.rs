//! Hill climbing inside a part of a space: where to start, and one step.

use podl_consensus::workload::{Architecture, Bounds, ConvLayer, FixedPoint, InputShape, Workload};
use podl_nas::cost::{self, CostModel};

use crate::partition::{Axis, Subspace};
use crate::rng::SeededRng;

/// Whether the task's FPGA bounds admit a network.
pub fn is_feasible(workload: &Workload, architecture: &Architecture) -> bool {
    let Workload { input, bounds, .. } = workload;
    feasible_within(architecture, *input, *bounds)
}

fn feasible_within(architecture: &Architecture, input: InputShape, bounds: Bounds) -> bool {
    matches!(cost::evaluate(CostModel::Corrected, architecture, input, bounds), Ok(Some(_)))
}

/// Networks that learn fast on small images, best guess first, for any number of layers: 3x3 kernels, halving the
/// image while it is larger than 4 pixels, few filters where the image is large. They need not lie in a space;
/// [`Subspace::project`] moves them in.
pub fn starting_points(layers: u8, input: InputShape) -> Vec<Architecture> {
    // First filters, later filters, kernel of the first layer, stride of the first layer.
    let shapes = [(24, 36, 3, 1), (36, 64, 3, 2), (36, 36, 3, 1), (24, 64, 5, 2), (12, 36, 3, 1)];
    shapes.map(|(first, later, kernel, stride)| starting_point(layers, input, first, later, kernel, stride)).to_vec()
}

fn starting_point(layers: u8, input: InputShape, first: u16, later: u16, kernel: u8, stride: u8) -> Architecture {
    let mut side = input.height.max(input.width);
    let mut list = Vec::with_capacity(layers.into());
    for index in 0..layers {
        let is_first = index == 0;
        let stride = if is_first { stride } else { 1 };
        side = side.div_ceil(stride);
        let pool = if side > 4 { 2 } else { 1 };
        side = side.div_ceil(pool);
        list.push(ConvLayer {
            kernel: if is_first { [kernel; 2] } else { [3; 2] },
            filters: if is_first { first } else { later },
            stride: [stride; 2],
            pool,
            act: FixedPoint::new(2, 5),
            weight: FixedPoint::new(1, 6),
        });
    }
    Architecture { layers: list }
}

/// One step: a setting of a layer moves to the next higher or lower value that the part allows. `None` when no setting
/// has a second value.
pub fn step(part: &Subspace, from: &Architecture, rng: &mut SeededRng) -> Option<Architecture> {
    let mut moves = Vec::new();
    for (layer, setting) in (0u8..).zip(&from.layers) {
        for axis in Axis::ALL {
            let values = part.values(layer, axis);
            let now = axis.get(setting);
            let above = values.iter().copied().filter(|&v| v > now).min();
            let below = values.iter().copied().filter(|&v| v < now).max();
            moves.extend([above, below].into_iter().flatten().map(|value| (layer, axis, value)));
        }
    }
    let (layer, axis, value) = *moves.get(rng.index(moves.len()))?;
    let mut next = from.clone();
    axis.set(next.layers.get_mut(usize::from(layer))?, value);
    part.contains(&next).then_some(next)
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::Space;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn starting_points_lie_in_the_paper_space_and_are_feasible_on_both_chains() {
        for (layers, throughput) in [(4, 1000), (6, 1000)] {
            let bounds = Bounds { lut: 100_000, throughput };
            let whole = Subspace::whole(Space::full(layers));
            for point in starting_points(layers, InputShape::CIFAR) {
                assert!(whole.contains(&point), "{point:?}");
                assert!(feasible_within(&point, InputShape::CIFAR, bounds), "{point:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn steps_change_one_setting_and_stay_inside(seed: u64) {
            let part = Subspace::whole(Space::full(3)).cut(1, Axis::KernelWidth, &[3, 9]);
            let mut rng = SeededRng::new(&seed.to_le_bytes(), "test");
            let from = part.draw(&mut rng).unwrap();
            if let Some(next) = step(&part, &from, &mut rng) {
                prop_assert!(part.contains(&next));
                let layers = from.layers.iter().zip(&next.layers);
                let changed: usize =
                    layers.map(|(a, b)| Axis::ALL.iter().filter(|x| x.get(a) != x.get(b)).count()).sum();
                prop_assert_eq!(changed, 1);
            }
        }
    }
}
