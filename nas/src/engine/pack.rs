//! Weights in the order in which the inner loop reads them, and proofs that sums stay in their range.
//!
//! Activations lie channels last, so that the values under one row of the kernel are contiguous: a *run*. Runs are cut
//! into words of packed values; what is over in the last word of a run is multiplied by zero weights.

use super::simd::{Form, Isa, MOST_VECTORS};

/// A layer's weights `[output][channel][kernel row][kernel column]`.
#[derive(Clone, Copy)]
pub(super) struct Kernel<'a> {
    pub(super) weights: &'a [i16],
    pub(super) outputs: usize,
    pub(super) channels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Columns of the padded input.
    pub(super) padded_columns: usize,
}

/// What a layer's inputs may be.
#[derive(Clone, Copy)]
pub(super) struct Range {
    /// Greatest absolute value.
    pub(super) largest: i64,
    /// Whether values below 0 occur.
    pub(super) is_signed: bool,
}

/// Weights of some outputs, a few vectors wide.
#[derive(Debug)]
pub(super) struct Panel {
    /// The first output.
    pub(super) first: usize,
    /// Outputs that exist; the rest of the vectors is zeros.
    pub(super) outputs: usize,
    /// Outputs that there is room for.
    pub(super) width: usize,
    /// `[tap][vector][lane]`.
    pub(super) weights: Vec<i32>,
}

/// Weights as words: `[tap][output][value of the word]`, zeros where there is none.
pub(super) struct Words {
    form: Form,
    outputs: usize,
    values: Vec<i16>,
    /// Byte offset of each word from the first value under the kernel.
    pub(super) taps: Vec<u32>,
}

impl Words {
    /// Reorders the weights.
    pub(super) fn new(kernel: Kernel<'_>, form: Form) -> Self {
        let per_word = form.per_word();
        // Rows of a kernel as wide as the input follow each other without a gap.
        let rows_per_run = if kernel.columns == kernel.padded_columns { kernel.rows.max(1) } else { 1 };
        let run = rows_per_run * kernel.columns * kernel.channels;
        let runs = kernel.rows / rows_per_run;
        let row_bytes = kernel.padded_columns * kernel.channels * form.size();
        let run_words = run.div_ceil(per_word);
        let mut taps = Vec::with_capacity(runs * run_words);
        for index in 0..runs {
            for word in 0..run_words {
                // Inputs are a few megabytes at most.
                taps.push(u32::try_from(index * row_bytes + 4 * word).unwrap_or(u32::MAX));
            }
        }
        let mut values = vec![0; kernel.outputs * taps.len() * per_word];
        for output in 0..kernel.outputs {
            for row in 0..kernel.rows {
                let first_tap = row / rows_per_run * run_words;
                let mut at = row % rows_per_run * kernel.columns * kernel.channels;
                for column in 0..kernel.columns {
                    for channel in 0..kernel.channels {
                        let word = (first_tap + at / per_word) * kernel.outputs + output;
                        values[word * per_word + at % per_word] = kernel.at(output, channel, row, column);
                        at += 1;
                    }
                }
            }
        }
        Self { form, outputs: kernel.outputs, values, taps }
    }

    /// Ends of runs of taps whose partial sums surely stay in the range that the instruction set sums them in, as long
    /// as possible; every prefix of a run stays in it as well. `None` when a single word may leave it.
    ///
    /// Activations are not negative, so that a sum lies between those of the negative and of the positive weights alone.
    pub(super) fn segments(&self, isa: Isa, range: Range) -> Option<Vec<usize>> {
        let (group, limit) = isa.partial(self.form);
        let groups = self.form.per_word() / group;
        let mut bounds = vec![[0i64; 2]; self.outputs * groups];
        let mut products = bounds.clone();
        let mut ends = Vec::new();
        for tap in 0..self.taps.len() {
            self.products(tap, group, range, &mut products);
            let fits = |bound: &[i64; 2]| bound.iter().all(|&bound| bound <= limit);
            let is_over = bounds.iter().zip(&products).any(|(a, b)| !fits(&[a[0] + b[0], a[1] + b[1]]));
            if is_over {
                if !products.iter().all(fits) {
                    return None;
                }
                ends.push(tap);
                bounds.fill([0; 2]);
            }
            for (bound, product) in bounds.iter_mut().zip(&products) {
                *bound = [bound[0] + product[0], bound[1] + product[1]];
            }
        }
        ends.push(self.taps.len());
        Some(ends)
    }

    /// How far below and above 0 one tap may move each partial sum: `[output][group of the word]`.
    fn products(&self, tap: usize, group: usize, range: Range, products: &mut [[i64; 2]]) {
        let per_word = self.form.per_word();
        let values = &self.values[tap * self.outputs * per_word..][..self.outputs * per_word];
        for (values, product) in values.chunks_exact(group).zip(products) {
            *product = [0; 2];
            for &value in values {
                let most = i64::from(value.unsigned_abs()) * range.largest;
                if range.is_signed || value < 0 {
                    product[0] += most;
                }
                if range.is_signed || value > 0 {
                    product[1] += most;
                }
            }
        }
    }

    /// Panels that together have all outputs.
    pub(super) fn panels(&self, isa: Isa) -> Vec<Panel> {
        let mut panels = Vec::new();
        let mut first = 0;
        while first < self.outputs {
            let vectors = (self.outputs - first).div_ceil(isa.lanes());
            let width = isa.lanes() * vectors.min(MOST_VECTORS);
            panels.push(self.panel(first, width));
            first += width;
        }
        panels
    }

    fn panel(&self, first: usize, width: usize) -> Panel {
        let outputs = width.min(self.outputs - first);
        let per_word = self.form.per_word();
        let mut weights = vec![0; self.taps.len() * width];
        for (tap, weights) in weights.chunks_exact_mut(width).enumerate() {
            let values = &self.values[(tap * self.outputs + first) * per_word..];
            for (values, word) in values.chunks_exact(per_word).zip(&mut weights[..outputs]) {
                *word = self.form.word(values);
            }
        }
        Panel { first, outputs, width, weights }
    }
}

impl Kernel<'_> {
    fn at(&self, output: usize, channel: usize, row: usize, column: usize) -> i16 {
        self.weights[((output * self.channels + channel) * self.rows + row) * self.columns + column]
    }
}

impl Form {
    /// Packs weights. In the machine's own byte order, as activations are.
    fn word(self, values: &[i16]) -> i32 {
        let mut bytes = [0; 4];
        for (bytes, value) in bytes.chunks_exact_mut(self.size()).zip(values) {
            match self {
                // The form is chosen only for weights that fit.
                Self::Bytes => bytes[0] = *value as u8,
                Self::Halves => bytes.copy_from_slice(&value.to_ne_bytes()),
            }
        }
        i32::from_ne_bytes(bytes)
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
