//! Training on candle's devices: the same network in candle's tensor operations only.
//!
//! The kernels of this crate run on the CPU. Here, every step is made of operations that candle has for CUDA too, so
//! that one code runs on both and the tests compare it, on the CPU, with the kernels. Backward is written out as well,
//! since candle's gradients of convolution, max-pool and rounding are wrong or missing; all of it gathers
//! (`index_select`), nothing is scattered.
//!
//! Tensors lie as channels x positions x images: windows then are runs of whole images, and their indices do not
//! depend on the batch.
//!
//! # Correctness
//! A device sums in an order of its own. Results are close to the kernels', not equal bit for bit, and may differ from
//! run to run, so nothing that is audited by training again may come from here.

mod child;
mod grid;
mod layer;
mod loss;
#[cfg(test)]
mod tests;
mod windows;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use candle_core::Device;
use podl_consensus::workload::Network;

use super::config::Precision;
use super::learner::{CpuLearner, Learner};
use super::threads::ThreadPool;
use super::trainer::TrainError;

/// What training runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainDevice {
    /// The kernels of this crate: same seed, same bits.
    #[default]
    Cpu,
    /// The NVIDIA card of that number, through candle; not reproducible bit for bit. Needs the feature `cuda`.
    Cuda(usize),
}

impl TrainDevice {
    /// Whether this program can train there at all; says nothing about the machine.
    ///
    /// # Errors
    /// [`TrainError::Device`] for CUDA in a program that was built without it.
    pub fn check(self) -> Result<(), TrainError> {
        if matches!(self, Self::Cuda(_)) && !cfg!(feature = "cuda") {
            let text = "this podl was built without CUDA; build it with `cargo build --release --workspace --bins \
                        --features podl-node/cuda` (needs the CUDA toolkit), or use --device cpu";
            return Err(TrainError::Device(text.into()));
        }
        Ok(())
    }

    /// A fresh network on this device.
    pub(super) fn learner(
        self,
        network: &Network,
        precision: Precision,
        seed: &[u8; 32],
        pool: &Arc<ThreadPool>,
    ) -> Result<Box<dyn Learner>, TrainError> {
        self.check()?;
        match self {
            Self::Cpu => Ok(Box::new(CpuLearner::new(network, precision, seed, pool.clone())?)),
            Self::Cuda(number) => {
                let device = Device::new_cuda(number)
                    .map_err(|error| TrainError::Device(format!("cannot use the device {self}: {error}")))?;
                Ok(Box::new(child::DeviceChild::new(network, precision, seed, device)?))
            }
        }
    }
}

impl FromStr for TrainDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |n: &str| n.parse().map_err(|_| format!("{n:?} is no number of a card"));
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", n)) => number(n).map(Self::Cuda),
            _ => Err("expected cpu, cuda or cuda:N".into()),
        }
    }
}

impl fmt::Display for TrainDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}
