//! FPGA bounds to the last LUT and the last image a second: `LUT <= bound and throughput > bound`.

use podl_consensus::rules::BlockError;
use podl_consensus::workload::{
    Architecture, Bounds, ConvLayer, FixedPoint, InputShape, Network, Space, WorkError, Workload,
};
use podl_nas::cost::{CLOCK_HZ, CostModel, evaluate, smallest_lut};
use podl_nas::data::{Dataset, encode_dataset, generate};

use crate::world::{IMAGES, OWNER, World, artefact, bad_artefact, layers, model, shard, spec, workload};

/// The verdict on a true claim for this model in a task with these bounds. What is true of it is found in the same task
/// without bounds, since a model over them has no score.
fn verdict(bytes: &[u8], workload: Workload, shard: &[u8], bounds: Bounds) -> Result<(), BlockError> {
    let free = Workload { bounds: Bounds { lut: 1 << 40, throughput: 1 }, ..workload.clone() };
    let (correct, mac_bits) = World::with_task(spec(), free, &[shard.to_vec()], |_, _| ()).truth(bytes);
    let mut w = World::with_task(spec(), Workload { bounds, ..workload }, &[shard.to_vec()], |_, _| ());
    let round = w.h.commit_claim(w.parent, OWNER, bytes.to_vec(), correct, mac_bits);
    w.judge(w.candidate(&[round]))
}

#[test]
fn the_lut_bound_may_be_met_exactly() {
    let architecture = Architecture { layers: layers() };
    let least = smallest_lut(CostModel::Corrected, &architecture, InputShape::CIFAR).unwrap();
    let at = |lut| verdict(&artefact(1), workload(), &shard(1), Bounds { lut, throughput: 1 });
    assert_eq!(at(least), Ok(()));
    assert_eq!(at(least - 1), bad_artefact(WorkError::OverLut { got: least, bound: least - 1 }));
}

#[test]
fn the_throughput_bound_must_be_exceeded() {
    // 20 x 20 positions of a 1 x 1 kernel, all channels at once: 400 cycles, a divisor of the clock.
    let shape = InputShape { channels: 1, height: 20, width: 20 };
    let layer = ConvLayer {
        kernel: [1, 1],
        filters: 4,
        stride: [1, 1],
        pool: 2,
        act: FixedPoint::new(1, 4),
        weight: FixedPoint::new(1, 4),
    };
    let architecture = Architecture { layers: vec![layer] };
    let small = Workload {
        space: Space::full(1),
        input: shape,
        input_table: workload().input_table[..1].to_vec(),
        ..workload()
    };
    let network = Network::new(&architecture, shape, 10, small.space.dense).unwrap();
    let bytes = model(network, 1).encode();
    let free = Bounds { lut: 100_000, throughput: 1 };
    let cycles = 400;
    let bound = CLOCK_HZ / cycles;
    assert_eq!(bound * cycles, CLOCK_HZ);
    let best = evaluate(CostModel::Corrected, &architecture, shape, Bounds { throughput: bound - 1, ..free });
    assert_eq!(best.unwrap().unwrap().cycles, cycles);

    let at = |throughput| verdict(&bytes, small.clone(), &cropped_shard(shape), Bounds { throughput, ..free });
    assert_eq!(at(bound - 1), Ok(()));
    assert_eq!(at(bound), bad_artefact(WorkError::UnderThroughput { got: bound, bound }));
}

/// Corners of generated images, red only.
fn cropped_shard(shape: InputShape) -> Vec<u8> {
    let full = generate(&[1; 32], IMAGES);
    let mut cropped = Dataset::new(shape, full.classes);
    let (height, width) = (usize::from(shape.height), usize::from(shape.width));
    for index in 0..full.len() {
        let red = &full.image(index)[..32 * 32];
        red.chunks(32).take(height).for_each(|row| cropped.images.extend_from_slice(&row[..width]));
        cropped.labels.push(full.labels[index]);
    }
    encode_dataset(&cropped)
}

#[test]
fn a_bound_that_no_mapping_meets_is_named() {
    let tight = Bounds { lut: 10, throughput: 1 };
    let over = verdict(&artefact(1), workload(), &shard(1), tight);
    let got = smallest_lut(CostModel::Corrected, &Architecture { layers: layers() }, InputShape::CIFAR).unwrap();
    assert_eq!(over, bad_artefact(WorkError::OverLut { got, bound: 10 }));
    let hurried = Bounds { lut: 100_000, throughput: 1_000_000 };
    let slow = verdict(&artefact(1), workload(), &shard(1), hurried);
    let unhurried = Bounds { throughput: 0, ..hurried };
    let best = evaluate(CostModel::Corrected, &Architecture { layers: layers() }, InputShape::CIFAR, unhurried);
    let got = CLOCK_HZ / best.unwrap().unwrap().cycles;
    assert_eq!(slow, bad_artefact(WorkError::UnderThroughput { got, bound: 1_000_000 }));
}
