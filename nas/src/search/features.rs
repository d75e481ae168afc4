//! What a forest sees of a network.

use podl_consensus::workload::{Architecture, InputShape, Setting};

/// Numbers that describe a network: its settings, and what follows from them that accuracies depend on. Without the
/// latter a model learns which settings one search happened to prefer, and fails on the next search.
///
/// Shape: for each layer the settings in the order of [`Setting::ALL`], bits of an activation, bits of a weight and
/// positions of its output (height x width after the pool); then the least over all layers of positions, bits and
/// their integer and fraction parts.
pub(crate) fn features(architecture: &Architecture, input: InputShape) -> Vec<f64> {
    let mut values = Vec::with_capacity(13 * architecture.layers.len() + 7);
    let mut least = [f64::INFINITY; 7];
    let [mut height, mut width] = [u32::from(input.height), u32::from(input.width)];
    for layer in &architecture.layers {
        values.extend(Setting::ALL.map(|setting| f64::from(setting.get(layer))));
        // A stride or pool of 0 is refused elsewhere; here it must only not divide.
        let shrink =
            |size: u32, stride: u8| size.div_ceil(u32::from(stride).max(1)).div_ceil(u32::from(layer.pool).max(1));
        [height, width] = [shrink(height, layer.stride[0]), shrink(width, layer.stride[1])];
        let (act, weight) = (layer.act, layer.weight);
        let derived = [act.total_bits(), weight.total_bits(), height * width].map(f64::from);
        values.extend(derived);
        let parts = [act.int_bits, act.frac_bits, weight.int_bits, weight.frac_bits].map(f64::from);
        for (least, value) in least.iter_mut().zip(derived.into_iter().chain(parts)) {
            *least = least.min(value);
        }
    }
    values.extend(least);
    values
}
