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
    fn run<S: Simd>(self) {
        let length = self.width * self.window;
        let bytes = self.outputs * self.form.size();
        for (window, &target) in self.sums.chunks_exact(length).zip(self.targets) {
            let target = &mut self.output[target + self.first..][..bytes];
            match self.form {
                Form::Bytes => store(window, self.width, self.requantise, target, S::bytes),
                Form::Halves => store(window, self.width, self.requantise, target, S::halves),
            }
        }
    }
}

/// Stores the activations of one window, each of `SIZE / 8` bytes, as many as there is room for.
#[inline(always)]
fn store<const SIZE: usize>(
    sums: &[i32],
    width: usize,
    requantise: Requantise,
    target: &mut [u8],
    pack: impl Fn([i32; CHUNK]) -> [u8; SIZE],
) {
    let (chunks, rest) = target.as_chunks_mut::<SIZE>();
    let mut from = 0;
    for chunk in chunks {
        *chunk = pack(activations(&sums[from..], width, requantise));
        from += CHUNK;
    }
    if !rest.is_empty() {
        let bytes = pack(activations(&sums[from..], width, requantise));
        if rest.len() == SIZE / 2 {
            // The usual rest, as one move.
            rest.copy_from_slice(&bytes[..SIZE / 2]);
        } else {
            for (to, byte) in rest.iter_mut().zip(bytes) {
                *to = byte;
            }
        }
    }
}

/// The activations of the first outputs of a window.
#[inline(always)]
fn activations(sums: &[i32], width: usize, requantise: Requantise) -> [i32; CHUNK] {
    let mut most = [i32::MIN; CHUNK];
    for sums in sums.chunks(width) {
        // Panels are whole chunks wide.
        if let Some(sums) = sums.first_chunk::<CHUNK>() {
            for lane in 0..CHUNK {
                most[lane] = most[lane].max(sums[lane]);
            }
        }
    }
    for value in &mut most {
        *value = requantise.narrow(*value);
    }
    most
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
