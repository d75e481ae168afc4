//! Whole trainings on small data.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};

use super::kernels::simd::Isa;
use super::{
    Precision, Progress, Schedule, ThreadPool, TrainConfig, TrainError, TrainJob, Trainer, train_child, training_bytes,
};
use crate::data::{Dataset, generate, input_table};
use crate::engine::Engine;

fn layer(kernel: [u8; 2], filters: u16, stride: [u8; 2], pool: u8) -> ConvLayer {
    ConvLayer { kernel, filters, stride, pool, act: FixedPoint::new(1, 4), weight: FixedPoint::new(1, 5) }
}

fn network() -> Network {
    let layers = vec![layer([3, 5], 12, [2, 1], 2), layer([5, 3], 8, [1, 2], 1), layer([1, 1], 13, [1, 1], 2)];
    let dense = DenseConfig { width: 40, ..DenseConfig::default() };
    Network::new(&Architecture { layers }, InputShape::CIFAR, 10, dense).unwrap()
}

fn trainer(data: &Dataset, config: &TrainConfig, seed: u8, threads: usize) -> Trainer {
    let pool = Arc::new(ThreadPool::new(threads).unwrap());
    Trainer::new(network(), &input_table(data), config.clone(), [seed; 32], pool).unwrap()
}

fn small_config() -> TrainConfig {
    TrainConfig { epochs: 4, batch: 50, learning_rate: 0.02, schedule: Schedule::Cosine, ..TrainConfig::default() }
}

fn epochs(trainer: &mut Trainer, data: &Dataset, count: usize) -> Vec<f32> {
    (0..count).map(|_| trainer.run_epoch(data, &mut |_| ()).unwrap().loss).collect()
}

#[test]
fn artefact_bytes_do_not_depend_on_threads_but_on_the_seed() {
    let data = generate(&[3; 32], 230);
    let train = |seed, threads| {
        let mut trainer = trainer(&data, &small_config(), seed, threads);
        epochs(&mut trainer, &data, 2);
        trainer.quantised_model().unwrap().encode()
    };
    let one = train(1, 1);
    assert_eq!(one, train(1, 2));
    assert_eq!(one, train(1, 3));
    assert_ne!(one, train(2, 2));
}

/// Audits replay training on other machines, so the bytes may depend neither on the processor nor change unnoticed.
#[test]
fn trained_bits_do_not_depend_on_the_instruction_set() {
    let data = generate(&[3; 32], 100);
    for isa in Isa::available() {
        let pool = Arc::new(ThreadPool::with_isa(2, isa).unwrap());
        let mut trainer = Trainer::new(network(), &input_table(&data), small_config(), [1; 32], pool).unwrap();
        epochs(&mut trainer, &data, 2);
        // The floats as they are: their last bits would not show in the integer model.
        let mut hasher = blake3::Hasher::new();
        for var in trainer.vars() {
            for value in var.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
                hasher.update(&value.to_bits().to_le_bytes());
            }
        }
        let hex = hasher.finalize().to_hex();
        assert_eq!(&hex[..16], "38f90edf8c2f1114", "{}", isa.name());
    }
}

#[test]
fn the_loss_falls_and_the_engine_agrees() {
    let data = generate(&[4; 32], 400);
    let mut trainer = trainer(&data, &TrainConfig { epochs: 12, ..small_config() }, 7, 2);
    let losses = epochs(&mut trainer, &data, 12);
    assert!(losses[11] < losses[0] * 0.8, "{losses:?}");
    let model = trainer.quantised_model().unwrap();
    let engine = Engine::new(&model, &input_table(&data)).unwrap();
    // All sums of this network are exact in 32-bit floats, so not one class may differ.
    assert_eq!(engine.classify(&data.images, 2).unwrap(), trainer.classify(&data).unwrap());
}

#[test]
fn float_training_is_quantised_on_export() {
    let data = generate(&[5; 32], 200);
    let config = TrainConfig { precision: Precision::Float, ..small_config() };
    let mut trainer = trainer(&data, &config, 1, 2);
    let losses = epochs(&mut trainer, &data, 4);
    assert!(losses[3] < losses[0]);
    let model = trainer.quantised_model().unwrap();
    assert_eq!(model.layers().len(), 5);
    let classes = trainer.classify(&data).unwrap();
    assert!(classes.iter().any(|&c| c != classes[0]));
}

#[test]
fn a_raised_flag_ends_the_epoch_after_one_batch() {
    let data = generate(&[6; 32], 500);
    let mut trainer = trainer(&data, &small_config(), 1, 1);
    let flag = trainer.cancel_flag();
    let mut seen = 0;
    let mut progress = |p: Progress| {
        seen = p.batches;
        assert_eq!((p.of, p.epoch), (10, 0));
        flag.store(p.batches == 3, Ordering::Relaxed);
    };
    assert!(matches!(trainer.run_epoch(&data, &mut progress), Err(TrainError::Cancelled)));
    assert_eq!(seen, 3);
}

#[test]
fn a_job_gives_what_its_trainer_gives() {
    let data = generate(&[9; 32], 200);
    let (network, table, config) = (network(), input_table(&data), small_config());
    let pool = Arc::new(ThreadPool::new(2).unwrap());
    let job = TrainJob { network: &network, input_table: &table, data: &data, config: &config, seed: [5; 32] };
    let mut batches = 0;
    let outcome = train_child(&job, &pool, &Arc::default(), &mut |_| batches += 1).unwrap();
    assert_eq!(batches, 16);
    assert!(outcome.images_per_second > 0.0 && outcome.loss.is_finite());
    let mut trainer = trainer(&data, &config, 5, 1);
    epochs(&mut trainer, &data, 4);
    assert_eq!(outcome.model, trainer.quantised_model().unwrap());
}

#[test]
fn the_memory_estimate_covers_the_parameters_and_grows_with_the_batch() {
    let network = network();
    let [small, large] = [10, 1000].map(|batch| training_bytes(&network, batch, 2));
    assert!(small > network.parameters() * 4 * 4);
    assert!(large > 20 * (small - network.parameters() * 28) / 10, "{small} {large}");
}

#[test]
fn unfit_data_and_settings_are_refused() {
    let data = generate(&[7; 32], 60);
    let mut small = trainer(&data, &TrainConfig::default(), 1, 1);
    let error = small.run_epoch(&data, &mut |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::TooFewImages { got: 60, batch: 128 }));
    let other = Dataset { shape: InputShape { channels: 1, height: 32, width: 32 }, ..data.head(0) };
    assert!(matches!(small.run_epoch(&other, &mut |_| ()), Err(TrainError::Shape { .. })));
    let config = TrainConfig { learning_rate: 1e6, ..small_config() };
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let refused = Trainer::new(network(), &input_table(&data), config, [0; 32], pool.clone());
    assert!(matches!(refused, Err(TrainError::Config(_))));
    let refused = Trainer::new(network(), &[vec![0; 256]], small_config(), [0; 32], pool);
    assert!(matches!(refused, Err(TrainError::InputTable { .. })));
}

#[test]
fn divergence_is_an_error_not_a_model() {
    let data = generate(&[8; 32], 300);
    let config = TrainConfig { learning_rate: 90.0, precision: Precision::Float, ..small_config() };
    let mut trainer = trainer(&data, &config, 1, 1);
    let mut outcome = Ok(());
    for _ in 0..4 {
        outcome = trainer.run_epoch(&data, &mut |_| ()).map(|_| ());
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(TrainError::Diverged { .. })), "{outcome:?}");
}
