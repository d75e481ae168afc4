//! Evaluation of a batch of images, layer by layer.
//!
//! Hot loops are plain `for` loops in `#[inline(always)]` functions: closures and iterator adapters are functions of
//! their own, which the compiler does not build for the kernel's instruction set unless it happens to inline them.

use super::Engine;
use super::kernel::{COLUMNS, Job, MacKernel, PanelRow, ROWS, STEP, Sums, pair, run_best};
use super::layer::{Finish, Layer};
use super::pool::store;
use super::requantise::Requantise;

/// Rows this short are gathered position by position, longer ones copied.
const SHORT_ROW: usize = 8;

/// Buffers that one thread reuses from batch to batch.
pub(super) struct Scratch {
    /// For each layer its padded input, `[image][channel pair][row][column]`. Only the inside is ever written, so the
    /// padding stays zero.
    inputs: Vec<Vec<i32>>,
    /// Activations before pooling, `[output][image of the group][row][column]`.
    unpooled: Vec<i16>,
    /// Outputs of the last layer, `[class][image]`.
    logits: Vec<i64>,
    panel: Vec<PanelRow>,
    /// Offset in the input of each position of a panel.
    starts: Vec<usize>,
}

impl Scratch {
    pub(super) fn new(layers: &[Layer], images: usize) -> Self {
        let unpooled = |layer: &Layer| layer.outputs * layer.positions() * layer.group_images;
        Self {
            inputs: layers.iter().map(|layer| vec![0; layer.image_words() * images]).collect(),
            unpooled: vec![0; layers.iter().map(unpooled).max().unwrap_or(0)],
            logits: vec![0; layers.last().map_or(0, |layer| layer.outputs * images)],
            panel: vec![[0; COLUMNS]; layers.iter().map(Layer::taps).max().unwrap_or(0)],
            starts: Vec::with_capacity(COLUMNS),
        }
    }
}

/// Classifies at most a batch of images.
pub(super) fn classify_batch(engine: &Engine, scratch: &mut Scratch, images: &[u8], classes: &mut [u16]) {
    fill_input(engine, &mut scratch.inputs[0], images);
    run_best(Layers { layers: &engine.layers, scratch, images: classes.len() });
    let count = classes.len();
    let outputs = engine.layers.last().map_or(0, |layer| layer.outputs);
    for (image, class) in classes.iter_mut().enumerate() {
        let best = (0..outputs).rev().max_by_key(|&class| scratch.logits[class * count + image]);
        *class = best.and_then(|class| u16::try_from(class).ok()).unwrap_or(0);
    }
}

/// Looks the bytes up in the task's table, two channels a word.
fn fill_input(engine: &Engine, input: &mut [i32], images: &[u8]) {
    let layer = &engine.layers[0];
    let (rows, columns) = (layer.rows, layer.columns);
    let plane = rows.input * columns.input;
    let padded_plane = rows.padded * columns.padded;
    let zeros = vec![0; 256];
    let targets = input.chunks_exact_mut(layer.image_words());
    for (image, target) in images.chunks_exact(engine.input.values()).zip(targets) {
        for (index, target) in target.chunks_exact_mut(padded_plane).enumerate() {
            let low_table = &engine.table[2 * index];
            let high_table = engine.table.get(2 * index + 1).unwrap_or(&zeros);
            let low = &image[2 * index * plane..][..plane];
            // Without a second channel its table is all zeros, whatever the byte.
            let high = image.get((2 * index + 1) * plane..).and_then(|rest| rest.get(..plane)).unwrap_or(low);
            for row in 0..rows.input {
                let at = (row + rows.pad_low) * columns.padded + columns.pad_low;
                for (column, word) in target[at..at + columns.input].iter_mut().enumerate() {
                    let byte = row * columns.input + column;
                    *word = pair(low_table[usize::from(low[byte])], high_table[usize::from(high[byte])]);
                }
            }
        }
    }
}

/// All layers over a batch.
struct Layers<'a> {
    layers: &'a [Layer],
    scratch: &'a mut Scratch,
    images: usize,
}

impl Job for Layers<'_> {
    #[inline(always)]
    fn run<K: MacKernel>(self, kernel: K) {
        let Scratch { inputs, unpooled, logits, panel, starts } = self.scratch;
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, after) = inputs.split_at_mut(index + 1);
            let input = &before[index];
            let mut first = 0;
            while first < self.images {
                let images = layer.group_images.min(self.images - first);
                let input = &input[first * layer.image_words()..][..images * layer.image_words()];
                let mut work = Work { kernel, layer, input, images, panel, starts };
                match (layer.finish, after.first_mut(), self.layers.get(index + 1)) {
                    (Finish::Activations(requantise), Some(output), Some(next)) => {
                        let (is_narrow, positions) = (layer.is_narrow, images * layer.positions());
                        work.run(&mut Activations { requantise, is_narrow, positions, values: unpooled });
                        store(layer, next, unpooled, images, &mut output[first * next.image_words()..]);
                    }
                    _ => work.run(&mut Logits { first_image: first, images: self.images, values: logits }),
                }
                first += images;
            }
        }
    }
}

/// One layer over a group of images.
struct Work<'a, K> {
    kernel: K,
    layer: &'a Layer,
    input: &'a [i32],
    images: usize,
    panel: &'a mut [PanelRow],
    starts: &'a mut Vec<usize>,
}

impl<K: MacKernel> Work<'_, K> {
    /// Sums of all outputs at all positions of the group, handed to the sink panel by panel.
    #[inline(always)]
    fn run(&mut self, sink: &mut impl Sink) {
        let layer = self.layer;
        let taps = layer.taps();
        let positions = self.images * layer.positions();
        let mut sums: Sums = [[0; COLUMNS]; ROWS];
        let mut first = 0;
        while first < positions {
            let count = COLUMNS.min(positions - first);
            fill_panel(layer, self.input, first, count, self.starts, &mut self.panel[..taps]);
            let columns = count.next_multiple_of(STEP);
            for (group, weights) in layer.weights.chunks_exact(taps).enumerate() {
                let outputs = group * ROWS..((group + 1) * ROWS).min(layer.outputs);
                if taps <= layer.safe_taps {
                    self.kernel.tile(weights, &self.panel[..taps], columns, &mut sums);
                    for (output, sums) in outputs.zip(&sums) {
                        sink.narrow(output, first, layer.biases[output], &sums[..count]);
                    }
                } else {
                    let wide = self.wide_sums(weights, columns, &mut sums);
                    for (output, sums) in outputs.zip(&wide) {
                        sink.wide(output, first, layer.biases[output], &sums[..count]);
                    }
                }
            }
            first += count;
        }
    }

    /// Sums over more taps than 32 bits hold: piece by piece into 64 bits.
    #[inline(always)]
    fn wide_sums(&self, weights: &[[i32; ROWS]], columns: usize, sums: &mut Sums) -> [[i64; COLUMNS]; ROWS] {
        let mut wide = [[0i64; COLUMNS]; ROWS];
        let pieces = weights.chunks(self.layer.safe_taps).zip(self.panel.chunks(self.layer.safe_taps));
        for (weights, panel) in pieces {
            self.kernel.tile(weights, panel, columns, sums);
            for (wide, sums) in wide.iter_mut().zip(sums.iter()) {
                for (wide, &sum) in wide.iter_mut().zip(&sums[..columns]) {
                    *wide = wide.wrapping_add(sum.into());
                }
            }
        }
        wide
    }
}

/// Where the sums of a layer go. A trait rather than a closure, because closures are not compiled for the kernel's
/// instruction set.
trait Sink {
    /// Sums of one output at positions from `first` on, without the bias.
    fn narrow(&mut self, output: usize, first: usize, bias: i64, sums: &[i32]);

    /// The same for sums that need 64 bits.
    fn wide(&mut self, output: usize, first: usize, bias: i64, sums: &[i64]);
}

/// Activations before pooling, `[output][position]`.
struct Activations<'a> {
    requantise: Requantise,
    is_narrow: bool,
    positions: usize,
    values: &'a mut [i16],
}

impl Sink for Activations<'_> {
    #[inline(always)]
    fn narrow(&mut self, output: usize, first: usize, bias: i64, sums: &[i32]) {
        let target = &mut self.values[output * self.positions + first..][..sums.len()];
        if self.is_narrow {
            // The proof of narrowness covers the bias.
            self.requantise.narrow_row(sums, bias as i32, target);
        } else {
            for (value, &sum) in target.iter_mut().zip(sums) {
                *value = self.requantise.wide(i64::from(sum).wrapping_add(bias));
            }
        }
    }

    #[inline(always)]
    fn wide(&mut self, output: usize, first: usize, bias: i64, sums: &[i64]) {
        let target = &mut self.values[output * self.positions + first..][..sums.len()];
        for (value, &sum) in target.iter_mut().zip(sums) {
            *value = self.requantise.wide(sum.wrapping_add(bias));
        }
    }
}

/// Outputs of the last layer, `[class][image]`.
struct Logits<'a> {
    first_image: usize,
    images: usize,
    values: &'a mut [i64],
}

impl Sink for Logits<'_> {
    #[inline(always)]
    fn narrow(&mut self, output: usize, first: usize, bias: i64, sums: &[i32]) {
        let target = &mut self.values[output * self.images + self.first_image + first..];
        for (value, &sum) in target.iter_mut().zip(sums) {
            *value = i64::from(sum).wrapping_add(bias);
        }
    }

    #[inline(always)]
    fn wide(&mut self, output: usize, first: usize, bias: i64, sums: &[i64]) {
        let target = &mut self.values[output * self.images + self.first_image + first..];
        for (value, &sum) in target.iter_mut().zip(sums) {
            *value = sum.wrapping_add(bias);
        }
    }
}

/// Gathers for each tap the input pairs of `count` positions from `first` on.
#[inline(always)]
fn fill_panel(
    layer: &Layer,
    input: &[i32],
    first: usize,
    count: usize,
    starts: &mut Vec<usize>,
    panel: &mut [PanelRow],
) {
    let (rows, columns) = (layer.rows, layer.columns);
    let plane = rows.padded * columns.padded;
    starts.clear();
    let (mut image, rest) = (first / layer.positions(), first % layer.positions());
    let (mut row, mut column) = (rest / columns.output, rest % columns.output);
    for _ in 0..count {
        starts.push(image * layer.image_words() + row * rows.stride * columns.padded + column * columns.stride);
        column += 1;
        if column == columns.output {
            (row, column) = (row + 1, 0);
        }
        if row == rows.output {
            (image, row) = (image + 1, 0);
        }
    }
    let is_copied = columns.stride == 1 && columns.output >= SHORT_ROW;
    let mut taps = panel.iter_mut();
    for channel in 0..layer.in_pairs {
        for ky in 0..rows.kernel {
            let row_start = channel * plane + ky * columns.padded;
            for (kx, target) in taps.by_ref().take(columns.kernel).enumerate() {
                let source = &input[row_start + kx..];
                if is_copied {
                    copy_rows(columns.output, source, first, starts, target);
                } else {
                    for (word, &start) in target.iter_mut().zip(starts.iter()) {
                        *word = source[start];
                    }
                }
            }
        }
    }
}

/// Fills a panel row from whole stretches of output rows, whose inputs lie side by side.
#[inline(always)]
fn copy_rows(width: usize, source: &[i32], first: usize, starts: &[usize], target: &mut PanelRow) {
    let mut at = 0;
    while at < starts.len() {
        let stretch = (width - (first + at) % width).min(starts.len() - at);
        let (from, to) = (&source[starts[at]..][..stretch], &mut target[at..at + stretch]);
        // The usual widths as vector moves: a call for each would take longer than the copy.
        match stretch {
            64 => copy_vectors::<64>(from, to),
            32 => copy_vectors::<32>(from, to),
            16 => copy_vectors::<16>(from, to),
            8 => copy_vectors::<8>(from, to),
            _ => to.copy_from_slice(from),
        }
        at += stretch;
    }
}

/// Copies `N` words, the length of both.
#[inline(always)]
fn copy_vectors<const N: usize>(from: &[i32], to: &mut [i32]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
}
