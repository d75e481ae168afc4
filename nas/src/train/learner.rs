//! A network that learns, whatever it runs on.

use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor, Var};
use podl_consensus::workload::Network;

use super::child::Child;
use super::config::Precision;
use super::kernels::dense::SgdStep;
use super::ops::SgdOp;
use super::threads::{ThreadPool, lock};

/// Parameters with their optimiser.
pub trait Learner: Send + Sync {
    /// One step on a batch of images (NCHW, on the CPU) and their classes. Returns the mean loss before the step;
    /// where that is not finite, nothing is learnt.
    fn train_batch(&mut self, images: &Tensor, labels: Vec<u16>, step: SgdStep) -> Result<f32>;

    /// Logits (images x classes) of images (NCHW, on the CPU).
    fn logits(&self, images: &Tensor) -> Result<Tensor>;

    /// All variables, layer by layer, weights first.
    fn vars(&self) -> Vec<&Var>;

    /// Momentum of each variable.
    fn velocity(&self) -> Result<Vec<Vec<f32>>>;

    /// Replaces the momentum of each variable; lengths must fit.
    fn set_velocity(&mut self, velocity: &[Vec<f32>]) -> Result<()>;
}

/// Training with the kernels of this crate.
pub struct CpuLearner {
    child: Child,
    velocity: Vec<Mutex<Vec<f32>>>,
    pool: Arc<ThreadPool>,
}

impl CpuLearner {
    /// A fresh network.
    pub fn new(network: &Network, precision: Precision, seed: &[u8; 32], pool: Arc<ThreadPool>) -> Result<Self> {
        let child = Child::new(network, precision, seed, pool.clone())?;
        let velocity = child.vars().map(|var| Mutex::new(vec![0.0; var.elem_count()])).collect();
        Ok(Self { child, velocity, pool })
    }
}

impl Learner for CpuLearner {
    fn train_batch(&mut self, images: &Tensor, labels: Vec<u16>, step: SgdStep) -> Result<f32> {
        let result = self.child.loss_and_gradients(images, labels)?;
        for ((var, velocity), gradient) in self.child.vars().zip(&self.velocity).zip(&result.gradients) {
            var.inplace_op2(gradient, &SgdOp { pool: &self.pool, step, velocity })?;
        }
        Ok(result.loss)
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.child.forward(images)
    }

    fn vars(&self) -> Vec<&Var> {
        self.child.vars().collect()
    }
    fn velocity(&self) -> Result<Vec<Vec<f32>>> {
        Ok(self.velocity.iter().map(|velocity| lock(velocity).clone()).collect())
    }

    fn set_velocity(&mut self, velocity: &[Vec<f32>]) -> Result<()> {
        for (own, velocity) in self.velocity.iter().zip(velocity) {
            lock(own).clone_from(velocity);
        }
        Ok(())
    }
}
