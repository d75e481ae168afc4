//! Slow, plain versions of the kernels, which the tests compare with.

/// `n` repeatable values between -1 and 1.
pub fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / ((1u64 << 23) as f32) - 1.0
    };
    (0..n).map(|_| next()).collect()
}

use podl_consensus::workload::{Architecture, ConvLayer, ConvShape, DenseConfig, FixedPoint, InputShape, Network};

/// Shape of one layer on a channels x height x width input.
pub fn conv_shape(
    input: [u8; 3],
    kernel: [u8; 2],
    filters: u16,
    stride: [u8; 2],
    pool: u8,
    format: FixedPoint,
) -> ConvShape {
    let layer = ConvLayer { kernel, filters, stride, pool, act: format, weight: format };
    let input = InputShape { channels: input[0], height: input[1], width: input[2] };
    let architecture = Architecture { layers: vec![layer] };
    Network::new(&architecture, input, 10, DenseConfig::default()).unwrap().convs.remove(0)
}

/// One output of the layer before activation, in double precision: image is C x H x W.
pub fn conv_sum(shape: &ConvShape, image: &[f32], weights: &[f32], filter: usize, oy: i64, ox: i64) -> f64 {
    taps(shape, filter, oy, ox).map(|(w, x)| f64::from(weights[w]) * f64::from(image[x])).sum()
}

/// (weight index, input index) of every product of one output.
pub fn taps(shape: &ConvShape, filter: usize, oy: i64, ox: i64) -> impl Iterator<Item = (usize, usize)> {
    let [kh, kw] = shape.layer.kernel.map(i64::from);
    let [sh, sw] = shape.layer.stride.map(i64::from);
    let (h, w) = (i64::from(shape.rows.input), i64::from(shape.columns.input));
    let (top, left) = (i64::from(shape.rows.pad_low), i64::from(shape.columns.pad_low));
    let channels = i64::from(shape.in_channels);
    (0..channels * kh * kw).filter_map(move |k| {
        let (c, ky, kx) = (k / (kh * kw), k / kw % kh, k % kw);
        let (y, x) = (oy * sh + ky - top, ox * sw + kx - left);
        let inside = (0..h).contains(&y) && (0..w).contains(&x);
        inside.then_some((filter * (channels * kh * kw) as usize + k as usize, ((c * h + y) * w + x) as usize))
    })
}
