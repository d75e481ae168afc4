//! From sums to the next layer's input: max-pool, requantise, pack.
//!
//! Rounding and clamping never turn a greater sum into a smaller activation, so that the maximum of a window's sums
//! requantised once is the maximum of its activations.

use super::requantise::Requantise;
use super::simd::{CHUNK, Form, Job, Simd};

/// The sums of one panel, window by window, on their way into the next layer's input.
pub(super) struct Store<'a, T> {
    /// `[window][position][output]`, biases included; 32 bits wide where that is proven to be enough, 64 elsewhere.
    pub(super) sums: &'a [T],
    /// Sums of one position.
    pub(super) width: usize,
    /// Positions of a window.
    pub(super) window: usize,
    /// Outputs that exist.
    pub(super) outputs: usize,
    pub(super) requantise: Requantise,
    /// Form of the next layer's input.
    pub(super) form: Form,
    /// Where in the output each window's pixel starts.
    pub(super) targets: &'a [usize],
    /// Offset in a pixel of the panel's first output.
    pub(super) first: usize,
    pub(super) output: &'a mut [u8],
}

impl Job for Store<'_, i32> {
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        match self.form {
            Form::Bytes => self.store(S::bytes),
            Form::Halves => self.store(S::halves),
        }
    }
}

impl Store<'_, i32> {
    /// Stores all activations, a chunk of them in `BYTES`.
    #[inline(always)]
    fn store<const BYTES: usize>(&mut self, pack: impl Fn([i32; CHUNK]) -> [u8; BYTES]) {
        // Panels are whole chunks wide.
        let (sums, _) = self.sums.as_chunks::<CHUNK>();
        for chunk in 0..self.outputs / CHUNK {
            let mut at = chunk;
            for &target in self.targets {
                let bytes = pack(self.activations(sums, &mut at));
                self.output[target + self.first + chunk * BYTES..][..BYTES].copy_from_slice(&bytes);
            }
        }
        let rest = self.outputs % CHUNK * self.form.size();
        if rest > 0 {
            let mut at = self.outputs / CHUNK;
            let first = self.first + at * BYTES;
            for &target in self.targets {
                let bytes = pack(self.activations(sums, &mut at));
                let target = &mut self.output[target + first..][..rest];
                // The usual rest, as one move.
                if rest == BYTES / 2 {
                    target.copy_from_slice(&bytes[..BYTES / 2]);
                } else {
                    target.copy_from_slice(&bytes[..rest]);
                }
            }
        }
    }

    /// The activations of a window, whose sums start at chunk `at`, which moves on to the next window's.
    #[inline(always)]
    fn activations(&self, sums: &[[i32; CHUNK]], at: &mut usize) -> [i32; CHUNK] {
        let mut most = [i32::MIN; CHUNK];
        for _ in 0..self.window {
            for lane in 0..CHUNK {
                most[lane] = most[lane].max(sums[*at][lane]);
            }
            *at += self.width / CHUNK;
        }
        for value in &mut most {
            *value = self.requantise.narrow(*value);
        }
        most
    }
}

impl Store<'_, i64> {
    /// 64-bit sums are rare: plain code, for all instruction sets.
    pub(super) fn run(self) {
        for (sums, &target) in self.sums.chunks_exact(self.width * self.window).zip(self.targets) {
            for output in 0..self.outputs {
                let most = sums.iter().skip(output).step_by(self.width).max();
                let value = self.requantise.wide(most.copied().unwrap_or(0));
                let at = target + self.first + output * self.form.size();
                match self.form {
                    // The form is chosen only for activations that fit.
                    Form::Bytes => self.output[at] = value as u8,
                    Form::Halves => self.output[at..at + 2].copy_from_slice(&value.to_ne_bytes()),
                }
            }
        }
    }
}
