//! Max-pooling, and the layout of the next layer's input.

use super::kernel::pair;
use super::layer::Layer;

/// Longest row of activations: the widest input that fits its byte.
const LONGEST_ROW: usize = 256;

/// Pools the group's activations (`[output][image][row][column]`) and writes them, two channels a word, into the next
/// layer's padded input (`[image][channel pair][row][column]`).
#[inline(always)]
pub(super) fn store(layer: &Layer, next: &Layer, unpooled: &[i16], images: usize, output: &mut [i32]) {
    let positions = layer.positions();
    let (rows, columns) = (next.rows, next.columns);
    let plane = rows.padded * columns.padded;
    let mut low_row = [0; LONGEST_ROW];
    let mut high_row = [0; LONGEST_ROW];
    let width = layer.columns.pooled;
    for image in 0..images {
        for channel in 0..next.in_pairs {
            let target = &mut output[(image * next.in_pairs + channel) * plane..][..plane];
            let low = &unpooled[(2 * channel * images + image) * positions..][..positions];
            let has_high = 2 * channel + 1 < layer.outputs;
            for row in 0..layer.rows.pooled {
                pool_row(layer, row, low, &mut low_row[..width]);
                if has_high {
                    let high = &unpooled[((2 * channel + 1) * images + image) * positions..][..positions];
                    pool_row(layer, row, high, &mut high_row[..width]);
                }
                let at = (row + rows.pad_low) * columns.padded + columns.pad_low;
                let words = target[at..at + width].iter_mut();
                for (word, (&low, &high)) in words.zip(low_row.iter().zip(&high_row)) {
                    *word = pair(low, high);
                }
            }
        }
    }
}

/// One pooled row of one channel.
#[inline(always)]
fn pool_row(layer: &Layer, row: usize, map: &[i16], target: &mut [i16]) {
    let width = layer.columns.output;
    if layer.pool == 1 {
        target.copy_from_slice(&map[row * width..][..width]);
        return;
    }
    // SAME_UPPER: windows may stick out at either end.
    let [row_low, column_low] = [layer.rows, layer.columns].map(|axis| (axis.pooled * layer.pool - axis.output) / 2);
    let first = (row * layer.pool).saturating_sub(row_low);
    let last = ((row + 1) * layer.pool - row_low).min(layer.rows.output);
    let mut most = [0; LONGEST_ROW];
    let most = &mut most[..width];
    most.copy_from_slice(&map[first * width..][..width]);
    for y in first + 1..last {
        for (most, &value) in most.iter_mut().zip(&map[y * width..][..width]) {
            *most = (*most).max(value);
        }
    }
    if layer.pool == 2 && width.is_multiple_of(2) {
        let (pairs, _) = most.as_chunks::<2>();
        for (target, [left, right]) in target.iter_mut().zip(pairs) {
            *target = (*left).max(*right);
        }
        return;
    }
    for (column, target) in target.iter_mut().enumerate() {
        let left = (column * layer.pool).saturating_sub(column_low);
        let right = ((column + 1) * layer.pool - column_low).min(width);
        // Activations are at least 0, so that 0 is neutral.
        *target = 0;
        for &value in &most[left..right] {
            *target = (*target).max(value);
        }
    }
}
