//! Optimiser.

use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};
use rayon::prelude::*;

use super::floats;
use crate::train::kernels::dense::{SgdStep, sgd};
use crate::train::threads::{ThreadPool, lock};

/// Parameters that one task updates.
const CHUNK: usize = 16 * 1024;

/// One step of stochastic gradient descent, in place on (parameters, gradient). candle's own optimiser has no
/// momentum.
pub struct SgdOp<'a> {
    pub pool: &'a ThreadPool,
    pub step: SgdStep,
    /// Momentum of these parameters, as many values.
    pub velocity: &'a Mutex<Vec<f32>>,
}

impl InplaceOp2 for SgdOp<'_> {
    fn name(&self) -> &'static str {
        "sgd-nesterov"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let gradient = floats(s2, l2)?;
        let (CpuStorage::F32(parameters), Some((start, end))) = (s1, l1.contiguous_offsets()) else {
            candle_core::bail!("parameters must be contiguous 32-bit floats");
        };
        let parameters = &mut parameters[start..end];
        let mut velocity = lock(self.velocity);
        let velocity = velocity.as_mut_slice();
        let isa = self.pool.isa();
        self.pool.install(|| {
            let state = parameters.par_chunks_mut(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
            state.zip(gradient.par_chunks(CHUNK)).for_each(|((p, v), g)| sgd(isa, self.step, p, v, g));
        });
        Ok(())
    }
}
