//! Loss.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{floats, tensor};
use crate::train::kernels::dense;
use crate::train::threads::lock;

/// Mean softmax cross-entropy of a batch of logits.
pub struct CrossEntropyOp {
    labels: Vec<u16>,
    gradient: Mutex<Vec<f32>>,
}

impl CrossEntropyOp {
    /// The loss against these labels.
    pub fn new(labels: Vec<u16>) -> Self {
        Self { labels, gradient: Mutex::default() }
    }
}

impl CustomOp1 for CrossEntropyOp {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = floats(storage, layout)?;
        let mut gradient = vec![0.0; logits.len()];
        let classes = logits.len() / self.labels.len().max(1);
        let loss = dense::cross_entropy(logits, &self.labels, classes, &mut gradient);
        *lock(&self.gradient) = gradient;
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let factor = gradient.to_scalar::<f32>()?;
        let values = lock(&self.gradient).iter().map(|g| g * factor).collect();
        Ok(Some(tensor(values, logits)?))
    }
}
