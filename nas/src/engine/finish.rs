//! From sums to the next layer's input: max-pool, requantise, pack.
//!
//! Rounding and clamping never turn a greater sum into a smaller activation, so that the maximum of a window's sums
//! requantised once is the maximum of its activations.

use super::requantise::Requantise;
use super::simd::{Form, Job, Simd};

/// Outputs handled together.
const CHUNK: usize = 8;

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
        match self.form {
            Form::Bytes => self.store::<1>(),
            Form::Halves => self.store::<2>(),
        }
    }
}

impl Narrow<'_> {
    /// Stores activations of `SIZE` bytes.
    #[inline(always)]
    fn store<const SIZE: usize>(self) {
        let length = self.width * self.window;
        for index in 0..self.targets.len() {
            let window = &self.sums[index * length..][..length];
            let target = &mut self.output[self.targets[index] + self.first..][..self.outputs * SIZE];
            let mut from = 0;
            while from < self.outputs {
                let mut most = chunk(&window[from..]);
                for position in 1..self.window {
                    let sums = chunk(&window[position * self.width + from..]);
                    for lane in 0..CHUNK {
                        most[lane] = most[lane].max(sums[lane]);
                    }
                }
                for value in &mut most {
                    *value = self.requantise.narrow(*value);
                }
                write::<SIZE>(&most, &mut target[from * SIZE..]);
                from += CHUNK;
            }
        }
    }
}

/// The first sums of a slice; panels are whole chunks wide.
#[inline(always)]
fn chunk(sums: &[i32]) -> [i32; CHUNK] {
    let mut chunk = [0; CHUNK];
    chunk.copy_from_slice(&sums[..CHUNK]);
    chunk
}

/// Writes as many values as there is room for.
#[inline(always)]
fn write<const SIZE: usize>(values: &[i32; CHUNK], target: &mut [u8]) {
    let mut bytes = [[0; SIZE]; CHUNK];
    for lane in 0..CHUNK {
        // Activations have at most 14 bits, and 8 where a byte is stored.
        if SIZE == 1 {
            bytes[lane][0] = values[lane] as u8;
        } else {
            bytes[lane].copy_from_slice(&(values[lane] as u16).to_ne_bytes());
        }
    }
    let bytes = bytes.as_flattened();
    if target.len() >= CHUNK * SIZE {
        target[..CHUNK * SIZE].copy_from_slice(bytes);
    } else if target.len() == CHUNK / 2 * SIZE {
        // The usual rest, as one move.
        target.copy_from_slice(&bytes[..CHUNK / 2 * SIZE]);
    } else {
        for byte in 0..target.len() {
            target[byte] = bytes[byte];
        }
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
