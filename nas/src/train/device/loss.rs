//! Loss.

use candle_core::{DType, Result, Tensor};

/// Mean softmax cross-entropy of logits (classes x images), and its gradient. In double precision, as the kernel.
pub fn cross_entropy(logits: &Tensor, labels: &[u16]) -> Result<(f32, Tensor)> {
    let (classes, images) = logits.dims2()?;
    let mut target = vec![0.0f64; classes * images];
    for (image, &label) in labels.iter().enumerate() {
        target[usize::from(label) * images + image] = 1.0;
    }
    let target = Tensor::from_vec(target, (classes, images), logits.device())?;
    let wide = logits.to_dtype(DType::F64)?;
    let shifted = wide.broadcast_sub(&wide.max_keepdim(0)?)?;
    let powers = shifted.exp()?;
    let totals = powers.sum_keepdim(0)?;
    let mean = 1.0 / images as f64;
    let of_label = (&shifted * &target)?.sum_keepdim(0)?;
    let loss = ((totals.log()? - of_label)?.sum_all()? * mean)?.to_scalar::<f64>()?;
    let gradient = ((powers.broadcast_div(&totals)? - target)? * mean)?.to_dtype(DType::F32)?;
    Ok((loss as f32, gradient))
}
