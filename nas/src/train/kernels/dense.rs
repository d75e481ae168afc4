//! What dense layers and the loss need beside matrix products.

use super::quant::{Activation, BLOCKED};
use super::simd::{Lanes, dispatch};

/// Adds the bias to one image's sums and applies the activation, in place. `marks` gets 0 where the gradient passes
/// and [`BLOCKED`] elsewhere.
pub fn activate_row(activation: Activation, bias: &[f32], sums: &mut [f32], marks: &mut [u8]) {
    for ((sum, bias), mark) in sums.iter_mut().zip(bias).zip(marks) {
        let (value, passes) = activation.apply(*sum + bias);
        (*sum, *mark) = (value, if passes { 0 } else { BLOCKED });
    }
}

/// Mean softmax cross-entropy of `labels` given row-major `logits`; `gradient` gets its derivative.
///
/// In double precision with `libm`, so that the same bits come out everywhere. NaN where the logits are not finite.
pub fn cross_entropy(logits: &[f32], labels: &[u16], classes: usize, gradient: &mut [f32]) -> f64 {
    let images = labels.len() as f64;
    let mut loss = 0.0;
    for ((logits, &label), gradient) in logits.chunks_exact(classes).zip(labels).zip(gradient.chunks_exact_mut(classes))
    {
        let greatest = logits.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(x.into()));
        let total: f64 = logits.iter().map(|&x| libm::exp(f64::from(x) - greatest)).sum();
        for (class, (to, &x)) in gradient.iter_mut().zip(logits).enumerate() {
            let probability = libm::exp(f64::from(x) - greatest) / total;
            let target = if class == usize::from(label) { 1.0 } else { 0.0 };
            *to = ((probability - target) / images) as f32;
        }
        loss += libm::log(total) + greatest - f64::from(logits[usize::from(label)]);
    }
    loss / images
}

/// Settings of one step of stochastic gradient descent.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Learning rate of this step.
    pub rate: f32,
    /// Nesterov momentum.
    pub momentum: f32,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f32,
}

dispatch!(
    /// One step: `v = momentum v + (g + decay p)`, `p -= rate (g + decay p + momentum v)`.
    pub fn sgd(step: SgdStep, parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32]) = sgd_body
);

#[inline(always)]
fn sgd_body<V: Lanes>(step: SgdStep, parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32]) {
    for ((p, v), g) in parameters.iter_mut().zip(velocity).zip(gradient) {
        let g = step.weight_decay.mul_add(*p, *g);
        *v = step.momentum.mul_add(*v, g);
        let direction = step.momentum.mul_add(*v, g);
        *p = (-step.rate).mul_add(direction, *p);
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::values;
    use super::super::simd::Isa;
    use super::*;

    #[test]
    fn cross_entropy_and_its_gradient() {
        let (logits, labels) = (values(1, 3 * 4), [0, 3, 2]);
        let mut gradient = [0.0; 12];
        let mut none = [0.0; 12];
        let loss = cross_entropy(&logits, &labels, 4, &mut gradient);
        assert!(loss > 0.5 && loss < 3.0);
        for i in 0..12 {
            let mut around = [logits.clone(), logits.clone()];
            around[0][i] += 1.0 / 1024.0;
            around[1][i] -= 1.0 / 1024.0;
            let [up, down] = around.map(|l| cross_entropy(&l, &labels, 4, &mut none));
            assert!(((up - down) * 512.0 - f64::from(gradient[i])).abs() < 1e-5);
        }
        // Equal logits: ln(classes).
        assert!((cross_entropy(&[7.0; 4], &[1], 4, &mut none) - 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn sgd_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            let step = SgdStep { rate: 0.5, momentum: 0.5, weight_decay: 0.25 };
            let (mut p, mut v) = ([4.0; 17], [2.0; 17]);
            sgd(isa, step, &mut p, &mut v, &[1.0; 17]);
            // g = 1 + 1 = 2; v = 1 + 2 = 3; p = 4 - 0.5 (2 + 1.5).
            assert_eq!((p, v), ([2.25; 17], [3.0; 17]));
        }
    }
}
