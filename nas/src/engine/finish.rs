//! From sums to the next layer's input: max-pool, requantise, pack.
//!
//! Rounding and clamping never turn a greater sum into a smaller activation, so that the maximum of a window's sums
//! requantised once is the maximum of its activations.

use super::requantise::Requantise;
use super::simd::{CHUNK, Form, Job, Simd};

/// The sums of one panel, window by window, on their way into the next layer's input.
pub(super) struct Narrow<'a> {
    /// `[window][position][output]`, biases included.
    pub(super) sums: &'a [i32],
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

impl Job for Narrow<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        match self.form {
            Form::Bytes => self.store(S::bytes),
            Form::Halves => self.store(S::halves),
        }
    }
}

impl Narrow<'_> {
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

/// The same for 64-bit sums of one panel, which are rare: plain and slow.
pub(super) fn store_wide(
    sums: &[i64],
    [width, window, outputs]: [usize; 3],
    requantise: Requantise,
    form: Form,
    mut target: impl FnMut(usize) -> usize,
    output: &mut [u8],
) {
    for (index, sums) in sums.chunks_exact(width * window).enumerate() {
        for channel in 0..outputs {
            let most = sums.iter().skip(channel).step_by(width).max();
            let value = requantise.wide(most.copied().unwrap_or(0));
            let at = target(index) + channel * form.size();
            match form {
                Form::Bytes => output[at] = value as u8,
                Form::Halves => output[at..at + 2].copy_from_slice(&value.to_ne_bytes()),
            }
        }
    }
}
