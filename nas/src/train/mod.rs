//! Quantisation-aware training of child networks, through candle with operations of our own.
//!
//! Stock candle cannot train this search space (convolutions with different strides, asymmetric padding and non-square
//! kernels, exact max-pool gradients, seeded weights, momentum), so every step of the network is a custom operation
//! with forward and backward over candle's tensors and variables. [`Trainer`] owns one network in training.
//! [`TrainDevice`] names where: the kernels run on the CPU; `device/` has the same network in candle's own tensor
//! operations, for CUDA.
//!
//! # Correctness
//! On the CPU, same network, data, settings and seed give the same artefact bytes, whatever the number of threads and the vector
//! width: batches are cut into a fixed number of parts whose gradients are added in order, every sum has one order,
//! multiply-adds are fused, random streams are our own and exp, ln, cos come from `libm`.

mod checkpoint;
mod child;
mod config;
mod costs;
mod device;
mod export;
mod import;
mod initial;
pub mod kernels;
mod learner;
mod memory;
mod ops;
mod outcome;
pub mod split;
mod state;
#[cfg(test)]
mod tests;
mod threads;
mod trainer;

pub use checkpoint::{Checkpoint, DamagedCheckpoint};
pub use config::{Precision, Schedule, TrainConfig};
pub use costs::TrainingCosts;
pub use device::TrainDevice;
pub use memory::{available_bytes, training_bytes};
pub use outcome::{Outcome, TrainJob, train_child};
pub use threads::ThreadPool;
pub use trainer::{EpochReport, Progress, TrainError, Trainer};
