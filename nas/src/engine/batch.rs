//! Evaluation of a batch of images, layer by layer.
//!
//! Positions of all images of the batch follow each other, so that layers with few positions fill tiles as well.

use super::Engine;
use super::finish::Store;
use super::layer::{Finish, Layer};
use super::pack::Panel;
use super::simd::{Isa, MOST_WIDTH, Product};

/// Positions whose sums are computed before they are stored: a multiple of the tiles' heights, and few enough for the
/// sums to stay in the first-level cache.
const BLOCK: usize = 96;
/// Bytes after an input, because the last word of a kernel may reach over its last value.
const SLACK: usize = 4;

/// Buffers that one thread reuses from batch to batch.
pub(super) struct Scratch {
    /// For each layer its padded input, `[image][row][column][channel]`. Only the inside is ever written, so the
    /// padding stays zero.
    inputs: Vec<Vec<u8>>,
    /// Outputs of the last layer, `[image][class]`.
    logits: Vec<i64>,
    block: Block,
}

/// Some positions of a layer and their sums.
#[derive(Default)]
struct Block {
    /// Offset in the input of each position.
    positions: Vec<usize>,
    /// Offset in the next input of each window's pixel.
    targets: Vec<usize>,
    /// Sums of one panel, `[position][output]`.
    sums: Vec<i32>,
    /// The same where 32 bits are too few.
    wide: Vec<i64>,
}

impl Scratch {
    pub(super) fn new(layers: &[Layer], images: usize) -> Self {
        Self {
            inputs: layers.iter().map(|layer| vec![0; layer.image_bytes() * images + SLACK]).collect(),
            logits: vec![0; layers.last().map_or(0, |layer| layer.outputs * images)],
            block: Block::default(),
        }
    }
}

/// Classifies at most a batch of images.
pub(super) fn classify_batch(engine: &Engine, scratch: &mut Scratch, images: &[u8], classes: &mut [u16]) {
    fill_input(engine, &mut scratch.inputs[0], images);
    for (index, layer) in engine.layers.iter().enumerate() {
        let (before, after) = scratch.inputs.split_at_mut(index + 1);
        let next = engine.layers.get(index + 1).zip(after.first_mut());
        let mut work = Work { isa: engine.isa, layer, input: &before[index], block: &mut scratch.block };
        work.run(classes.len(), next, &mut scratch.logits);
    }
    let outputs = engine.layers.last().map_or(1, |layer| layer.outputs);
    for (logits, class) in scratch.logits.chunks_exact(outputs).zip(classes) {
        let best = (0..outputs).rev().max_by_key(|&class| logits[class]);
        *class = best.and_then(|class| u16::try_from(class).ok()).unwrap_or(0);
    }
}

/// Looks the bytes up in the task's table.
fn fill_input(engine: &Engine, input: &mut [u8], images: &[u8]) {
    let layer = &engine.layers[0];
    let (rows, columns) = (layer.rows.input, layer.columns.input);
    let targets = input.chunks_exact_mut(layer.image_bytes());
    for (image, target) in images.chunks_exact(engine.input.values()).zip(targets) {
        for (channel, (plane, table)) in image.chunks_exact(rows * columns).zip(&engine.table).enumerate() {
            // Tables of another length are refused at the start.
            let Some(table) = table.first_chunk::<256>() else { continue };
            for (row, bytes) in plane.chunks_exact(columns).enumerate() {
                let start = layer.offset(row + layer.rows.pad_low, layer.columns.pad_low);
                let (values, _) = target[start..].as_chunks_mut::<2>();
                let values = values[channel..].iter_mut().step_by(layer.channels);
                for (&byte, value) in bytes.iter().zip(values) {
                    *value = table[usize::from(byte)].to_ne_bytes();
                }
            }
        }
    }
}

/// One layer over a batch.
struct Work<'a> {
    isa: Isa,
    layer: &'a Layer,
    input: &'a [u8],
    block: &'a mut Block,
}

impl Work<'_> {
    /// Evaluates the layer into the next one's input, or into logits when it is the last.
    fn run(&mut self, images: usize, mut next: Option<(&Layer, &mut Vec<u8>)>, logits: &mut [i64]) {
        let windows = images * self.layer.positions.len() / self.layer.window();
        let per_block = (BLOCK / self.layer.window()).max(1);
        let mut first = 0;
        while first < windows {
            let count = per_block.min(windows - first);
            self.list(first, count, next.as_ref().map(|(layer, _)| *layer));
            for panel in &self.layer.panels {
                self.sums(panel);
                match (self.layer.finish, &mut next) {
                    (Finish::Activations(_), Some((layer, output))) => self.store(panel, layer, output),
                    _ => self.store_logits(panel, &mut logits[first * self.layer.outputs..]),
                }
            }
            first += count;
        }
    }

    /// Lists the positions of `count` windows from `first` on, and where their results go.
    fn list(&mut self, first: usize, count: usize, next: Option<&Layer>) {
        let (layer, window) = (self.layer, self.layer.window());
        let per_image = layer.positions.len() / window;
        let Block { positions, targets, .. } = &mut *self.block;
        positions.clear();
        targets.clear();
        let (mut first, end) = (first, first + count);
        while first < end {
            let (image, index) = (first / per_image, first % per_image);
            let count = (end - first).min(per_image - index);
            let base = image * layer.image_bytes();
            let part = &layer.positions[index * window..(index + count) * window];
            positions.extend(part.iter().map(|position| base + position));
            if let Some(next) = next {
                let base = image * next.image_bytes();
                targets.extend(layer.targets[index..index + count].iter().map(|target| base + target));
            }
            first += count;
        }
    }

    /// Sums of a panel at the block's positions, biases included, in 32 or 64 bits.
    fn sums(&mut self, panel: &Panel) {
        let length = self.block.positions.len() * panel.width;
        self.block.sums.resize(length, 0);
        let biases = &self.layer.biases[panel.first..][..panel.width];
        if self.layer.is_narrow {
            let mut narrow = [0; MOST_WIDTH];
            for (narrow, &bias) in narrow.iter_mut().zip(biases) {
                // The proof of narrowness covers the bias.
                *narrow = bias as i32;
            }
            self.multiply(panel, 0..self.layer.taps.len(), &self.layer.segments, &narrow[..panel.width]);
            return;
        }
        self.block.wide.clear();
        for _ in 0..self.block.positions.len() {
            self.block.wide.extend_from_slice(biases);
        }
        let mut start = 0;
        for &end in &self.layer.segments {
            self.multiply(panel, start..end, &[end - start], &[0; MOST_WIDTH][..panel.width]);
            for (wide, &sum) in self.block.wide.iter_mut().zip(&self.block.sums) {
                *wide = wide.wrapping_add(sum.into());
            }
            start = end;
        }
    }

    /// 32-bit sums over some taps.
    fn multiply(&mut self, panel: &Panel, taps: std::ops::Range<usize>, segments: &[usize], biases: &[i32]) {
        self.isa.run(Product {
            form: self.layer.form,
            input: self.input,
            positions: &self.block.positions,
            taps: &self.layer.taps[taps.clone()],
            segments,
            weights: &panel.weights[taps.start * panel.width..taps.end * panel.width],
            biases,
            sums: &mut self.block.sums,
        });
    }

    /// Pools and requantises a panel's sums into the next layer's input.
    fn store(&self, panel: &Panel, next: &Layer, output: &mut [u8]) {
        let Finish::Activations(requantise) = self.layer.finish else { return };
        let (form, first, window) = (next.form, panel.first * next.form.size(), self.layer.window());
        let Block { targets, sums, wide, .. } = &*self.block;
        let Panel { width, outputs, .. } = *panel;
        if self.layer.is_narrow {
            self.isa.run(Store { sums, width, window, outputs, requantise, form, targets, first, output });
        } else {
            Store { sums: wide, width, window, outputs, requantise, form, targets, first, output }.run();
        }
    }

    /// Keeps a panel's sums as they are.
    fn store_logits(&self, panel: &Panel, logits: &mut [i64]) {
        for image in 0..self.block.positions.len() {
            let target = &mut logits[image * self.layer.outputs + panel.first..][..panel.outputs];
            for (output, logit) in target.iter_mut().enumerate() {
                let at = image * panel.width + output;
                *logit = if self.layer.is_narrow { self.block.sums[at].into() } else { self.block.wide[at] };
            }
        }
    }
}
