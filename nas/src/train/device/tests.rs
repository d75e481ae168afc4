//! The device's network against the kernels, both on the CPU.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};

use super::super::child::Child;
use super::super::config::Precision;
use super::super::export::quantised_model;
use super::super::initial::normal;
use super::super::kernels::dense::SgdStep;
use super::super::kernels::quant::{Activation, WeightQuantiser};
use super::super::learner::{CpuLearner, Learner};
use super::super::{ThreadPool, TrainDevice, TrainError};
use super::child::DeviceChild;
use super::grid::Grid;
use crate::data::Random;

const CLASSES: u16 = 5;
const IMAGES: usize = 6;

/// A random network of one to three convolutions over everything that the space has, on a small odd image.
fn random_network(random: &mut Random) -> Network {
    let mut pick = |list: &[u8]| list[random.u32() as usize % list.len()];
    let kernels = [1, 3, 5, 7, 9];
    let count = pick(&[1, 2, 3]);
    let layers = (0..count)
        .map(|_| {
            let format =
                |int: u8, frac: u8| if int + frac == 0 { FixedPoint::new(1, 0) } else { FixedPoint::new(int, frac) };
            ConvLayer {
                kernel: [pick(&kernels), pick(&kernels)],
                filters: pick(&[1, 2, 3, 5]).into(),
                stride: [pick(&[1, 2, 3, 4, 5]), pick(&[1, 2, 3, 4, 5])],
                pool: pick(&[1, 2]),
                act: format(pick(&[0, 1, 2, 3]), pick(&[0, 1, 2, 3, 4, 5, 6])),
                weight: format(pick(&[0, 1, 2, 3, 4]), pick(&[0, 1, 2, 3, 4, 5, 6])),
            }
        })
        .collect();
    let input = InputShape { channels: 2, height: pick(&[5, 8, 11, 13]), width: pick(&[5, 7, 12, 13]) };
    let dense = DenseConfig { width: 7, ..DenseConfig::default() };
    Network::new(&Architecture { layers }, input, CLASSES, dense).unwrap()
}

/// Images as the input table gives them: multiples of 1/256.
fn images(input: InputShape, seed: u8) -> Tensor {
    let values: Vec<f32> = normal(&[seed; 32], 1, IMAGES * input.values(), 1.0);
    let values: Vec<f32> = values.iter().map(|v| (v * 256.0).round() / 256.0).collect();
    let shape = (IMAGES, usize::from(input.channels), usize::from(input.height), usize::from(input.width));
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn labels() -> Vec<u16> {
    (0..IMAGES as u16).map(|image| image * 7 % CLASSES).collect()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Root of the summed squares of the difference, relative to those of `expected`.
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (floats(found), floats(expected));
    assert_eq!(found.len(), expected.len());
    let square = |value: f32| f64::from(value).powi(2);
    let difference: f64 = found.iter().zip(&expected).map(|(a, b)| square(a - b)).sum();
    (difference / expected.iter().map(|&v| square(v)).sum::<f64>().max(1e-12)).sqrt()
}

/// Both networks with the same parameters: random weights, and biases that are not 0.
fn pair(network: &Network, precision: Precision, seed: u8) -> (Child, DeviceChild) {
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let kernels = Child::new(network, precision, &[seed; 32], pool).unwrap();
    let device = DeviceChild::new(network, precision, &[seed; 32], Device::Cpu).unwrap();
    for (index, (ours, theirs)) in (2..).zip(device.vars().into_iter().zip(kernels.vars())) {
        assert_eq!(floats(ours), floats(theirs), "initial parameters");
        if ours.rank() == 1 {
            let values = normal(&[seed; 32], index, ours.elem_count(), 0.3);
            let values = Tensor::from_vec(values, ours.shape(), &Device::Cpu).unwrap();
            ours.set(&values).unwrap();
            theirs.set(&values).unwrap();
        }
    }
    (kernels, device)
}

#[test]
fn loss_and_gradients_are_those_of_the_kernels() {
    let mut random = Random::new("podl test device networks", &[1; 32], 0);
    let mut not_zero = 0;
    for case in 0..120u8 {
        let network = random_network(&mut random);
        let precision = if case % 3 == 2 { Precision::Float } else { Precision::Quantised };
        let (kernels, device) = pair(&network, precision, case);
        let images = images(network.input, case);
        let expected = kernels.loss_and_gradients(&images, labels()).unwrap();
        let found = device.loss_and_gradients(&images, &labels()).unwrap();
        let told = format!("case {case} {precision:?} {network:?}");
        assert!((found.loss - expected.loss).abs() <= 1e-5 * expected.loss.abs(), "{told}");
        assert!(distance(&device.logits(&images).unwrap(), &kernels.forward(&images).unwrap()) < 1e-5, "{told}");
        assert_eq!(found.gradients.len(), expected.gradients.len());
        for (index, (found, expected)) in found.gradients.iter().zip(&expected.gradients).enumerate() {
            assert_eq!(found.dims(), expected.dims(), "{told}");
            assert!(distance(found, expected) < 1e-4, "variable {index}, {told}");
            not_zero += usize::from(floats(expected).iter().any(|&g| g != 0.0));
        }
    }
    // Coarse formats starve some networks of gradients; most must have them, or nothing was compared.
    assert!(not_zero > 400, "{not_zero} variables with gradients");
}

#[test]
fn steps_are_those_of_the_kernels() {
    let mut random = Random::new("podl test device networks", &[2; 32], 0);
    for case in 0..12u8 {
        let network = random_network(&mut random);
        let pool = Arc::new(ThreadPool::new(1).unwrap());
        // In floating point nothing jumps, so that small differences stay small.
        let mut kernels = CpuLearner::new(&network, Precision::Float, &[case; 32], pool).unwrap();
        let mut device = DeviceChild::new(&network, Precision::Float, &[case; 32], Device::Cpu).unwrap();
        let step = SgdStep { rate: 0.02, momentum: 0.9, weight_decay: 5e-4 };
        for batch in 0..4 {
            let images = images(network.input, batch);
            let expected = kernels.train_batch(&images, labels(), step).unwrap();
            let found = device.train_batch(&images, labels(), step).unwrap();
            assert!((found - expected).abs() <= 1e-4 * expected.abs(), "case {case} batch {batch} {found} {expected}");
        }
        for (found, expected) in device.vars().into_iter().zip(kernels.vars()) {
            assert!(distance(found, expected) < 1e-4, "case {case}");
        }
    }
}

#[test]
fn quantised_training_learns_and_makes_a_model() {
    let mut random = Random::new("podl test device networks", &[3; 32], 0);
    let mut network = random_network(&mut random);
    let layers = network.convs.iter().map(|conv| ConvLayer {
        act: FixedPoint::new(2, 6),
        weight: FixedPoint::new(2, 6),
        filters: 8,
        stride: [1, 1],
        ..conv.layer
    });
    let architecture = Architecture { layers: layers.collect() };
    network = Network::new(&architecture, network.input, CLASSES, network.dense).unwrap();
    let mut device = DeviceChild::new(&network, Precision::Quantised, &[4; 32], Device::Cpu).unwrap();
    let images = images(network.input, 9);
    let step = SgdStep { rate: 0.02, momentum: 0.9, weight_decay: 5e-4 };
    let losses: Vec<f32> = (0..40).map(|_| device.train_batch(&images, labels(), step).unwrap()).collect();
    assert!(losses[39] < losses[0] / 4.0, "{losses:?}");
    // The integer model holds what the network computes with.
    let model = quantised_model(&network, &device.vars()).unwrap();
    let (grid, vars) = (Grid::weights(network.convs[0].layer.weight), device.vars());
    let used = floats(&grid.quantise(vars[0].as_tensor()).unwrap().0);
    let integers = model.layers()[0].weights.iter().map(|&q| f32::from(q) / 64.0);
    assert_eq!(used, integers.collect::<Vec<f32>>());
}

#[test]
#[allow(clippy::float_cmp)] // the very bits are what is tested
fn quantisers_are_those_of_the_kernels_for_every_format() {
    for int in 0..=4 {
        for frac in 0..=6 {
            if int + frac == 0 {
                continue;
            }
            let format = FixedPoint::new(int, frac);
            // Every tie and its neighbours, and far beyond the range.
            let ties = (-4096..4096).map(|n| n as f32 / 256.0);
            let values: Vec<f32> =
                ties.flat_map(|v| [v, v.next_up(), v.next_down()]).chain([1e9, -1e9, 3e38, -3e38]).collect();
            let tensor = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
            let (found, inside) = Grid::weights(format).quantise(&tensor).unwrap();
            let quantiser = WeightQuantiser::new(format);
            let scale = 2f32.powi(-i32::from(frac));
            let expected: Vec<f32> = values.iter().map(|&v| quantiser.integer(v) as f32 * scale).collect();
            assert_eq!(floats(&found), expected, "{format:?}");
            let (low, high) = format.signed_range();
            let within = |&v: &f32| u8::from(v >= low as f32 * scale && v <= high as f32 * scale);
            assert_eq!(inside.to_vec1::<u8>().unwrap(), values.iter().map(within).collect::<Vec<u8>>());
            let (found, inside) = Grid::activations(format).quantise(&tensor).unwrap();
            let expected = values.iter().map(|&v| Activation::Quantised(format).apply(v));
            let (expected, passes): (Vec<f32>, Vec<bool>) = expected.unzip();
            assert_eq!(floats(&found), expected, "{format:?}");
            assert_eq!(inside.to_vec1::<u8>().unwrap(), passes.into_iter().map(u8::from).collect::<Vec<u8>>());
        }
    }
}

#[test]
fn devices_by_name() {
    for (text, device) in [("cpu", TrainDevice::Cpu), ("cuda", TrainDevice::Cuda(0)), ("cuda:3", TrainDevice::Cuda(3))]
    {
        assert_eq!(text.parse::<TrainDevice>().unwrap(), device);
        assert_eq!(device.to_string().parse::<TrainDevice>().unwrap(), device);
    }
    for bad in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
        assert!(bad.parse::<TrainDevice>().is_err(), "{bad}");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn without_the_feature_cuda_says_what_to_do() {
    let mut random = Random::new("podl test device networks", &[4; 32], 0);
    let network = random_network(&mut random);
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let refused = TrainDevice::Cuda(0).learner(&network, Precision::Quantised, &[0; 32], &pool);
    let Err(TrainError::Device(text)) = refused else { panic!("no CUDA here") };
    assert!(
        text.contains("--features podl-node/cuda") && text.contains("--device cpu") && !text.contains('\n'),
        "{text}"
    );
}
