//! Vectors of 32-bit words, each lane a sum of products: the instructions that [`Product`](super::Product) is made of.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{CHUNK, Simd};

/// A vector of partial sums, of weights or of one activation word in every lane.
///
/// Products add up in partial sums, which are folded into 32-bit totals before they can leave their range.
pub(in crate::engine) trait Dot: Copy {
    /// Words of the vector.
    const LANES: usize;

    /// No sum yet.
    fn zero() -> Self;

    /// The same word in every lane.
    fn splat(word: i32) -> Self;

    /// Reads a vector.
    ///
    /// # Safety
    /// `from` must be good for reading [`Dot::LANES`] words.
    unsafe fn load(from: *const i32) -> Self;

    /// Writes a vector.
    ///
    /// # Safety
    /// `to` must be good for writing [`Dot::LANES`] words.
    unsafe fn store(self, to: *mut i32);

    /// These partial sums plus, in every lane, the products of the values packed in the words.
    fn plus_products(self, activations: Self, weights: Self) -> Self;

    /// These totals plus partial sums.
    fn plus_partial(self, partial: Self) -> Self;
}

/// Plain code for every processor.
pub(in crate::engine) enum Portable {}

impl Simd for Portable {
    const REGISTERS: usize = 0;
    type Bytes = PortableDot<4>;
    type Halves = PortableDot<2>;

    #[inline(always)]
    fn bytes(values: [i32; CHUNK]) -> [u8; CHUNK] {
        values.map(|value| value as u8)
    }

    #[inline(always)]
    fn halves(values: [i32; CHUNK]) -> [u8; 2 * CHUNK] {
        let mut bytes = [0; 2 * CHUNK];
        for (bytes, value) in bytes.chunks_exact_mut(2).zip(values) {
            bytes.copy_from_slice(&(value as u16).to_ne_bytes());
        }
        bytes
    }
}

/// Eight lanes in an ordinary array, `VALUES` numbers a word.
#[derive(Clone, Copy)]
pub(in crate::engine) struct PortableDot<const VALUES: usize>([i32; 8]);

impl<const VALUES: usize> Dot for PortableDot<VALUES> {
    const LANES: usize = 8;

    #[inline(always)]
    fn zero() -> Self {
        Self([0; 8])
    }

    #[inline(always)]
    fn splat(word: i32) -> Self {
        Self([word; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: the caller's promise; an array of words is aligned as they are.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        // SAFETY: the caller's promise; an array of words is aligned as they are.
        unsafe { *to.cast() = self.0 }
    }

    #[inline(always)]
    fn plus_products(mut self, activations: Self, weights: Self) -> Self {
        for lane in 0..8 {
            let (x, w) = (activations.0[lane].to_ne_bytes(), weights.0[lane].to_ne_bytes());
            let mut sum = self.0[lane];
            if VALUES == 4 {
                for i in 0..4 {
                    sum = sum.wrapping_add(i32::from(x[i]) * i32::from(w[i].cast_signed()));
                }
            } else {
                for i in [0, 2] {
                    let [x, w] = [x, w].map(|word| i32::from(i16::from_ne_bytes([word[i], word[i + 1]])));
                    sum = sum.wrapping_add(x * w);
                }
            }
            self.0[lane] = sum;
        }
        self
    }

    #[inline(always)]
    fn plus_partial(mut self, partial: Self) -> Self {
        for lane in 0..8 {
            self.0[lane] = self.0[lane].wrapping_add(partial.0[lane]);
        }
        self
    }
}

/// AVX2. Partial sums of bytes are 16 bits wide, two a lane.
#[cfg(target_arch = "x86_64")]
pub(in crate::engine) enum Avx2 {}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    const REGISTERS: usize = 16;
    type Bytes = Avx2Bytes;
    type Halves = Avx2Halves;

    #[inline(always)]
    fn bytes(values: [i32; CHUNK]) -> [u8; CHUNK] {
        // SAFETY: as for `halves`; the pack is of registers only.
        let packed = unsafe { _mm_cvtsi128_si64(_mm_packus_epi16(narrowed(values), _mm_setzero_si128())) };
        packed.to_ne_bytes()
    }

    #[inline(always)]
    fn halves(values: [i32; CHUNK]) -> [u8; 2 * CHUNK] {
        let mut bytes = [0; 2 * CHUNK];
        // SAFETY: AVX2 is on, since only `Isa::run` runs jobs for this set; the array covers the 16 bytes written.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), narrowed(values)) };
        bytes
    }
}

/// Values of at most 15 bits as 16-bit numbers.
///
/// # Safety
/// AVX2 must be on.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn narrowed(values: [i32; CHUNK]) -> __m128i {
    // SAFETY: the array covers the 32 bytes read, and unaligned loads need no more; the caller has AVX2 on.
    unsafe {
        let values = _mm256_loadu_si256(values.as_ptr().cast());
        _mm_packus_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256::<1>(values))
    }
}

/// AVX-512 with its instructions for byte products.
#[cfg(target_arch = "x86_64")]
pub(in crate::engine) enum Avx512Vnni {}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512Vnni {
    const REGISTERS: usize = 32;
    type Bytes = VnniBytes;
    type Halves = VnniHalves;

    #[inline(always)]
    fn bytes(values: [i32; CHUNK]) -> [u8; CHUNK] {
        Avx2::bytes(values)
    }

    #[inline(always)]
    fn halves(values: [i32; CHUNK]) -> [u8; 2 * CHUNK] {
        Avx2::halves(values)
    }
}

/// Makes a [`Dot`] of a register type. Its values are only made by code that [`Isa::run`](super::Isa::run) compiles for
/// the instruction set, which is why every call of an instruction is safe.
#[cfg(target_arch = "x86_64")]
macro_rules! dot {
    ($(#[$doc:meta])* $name:ident($register:ty, $lanes:literal): $zero:ident, $splat:ident, $load:ident, $store:ident,
     |$sum:ident, $x:ident, $w:ident| $products:expr, |$total:ident, $partial:ident| $fold:expr) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        #[derive(Clone, Copy)]
        pub(in crate::engine) struct $name($register);

        #[cfg(target_arch = "x86_64")]
        impl Dot for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            fn zero() -> Self {
                // SAFETY: registers only; the instruction set is on (see the macro).
                Self(unsafe { $zero() })
            }

            #[inline(always)]
            fn splat(word: i32) -> Self {
                // SAFETY: registers only; the instruction set is on (see the macro).
                Self(unsafe { $splat(word) })
            }

            #[inline(always)]
            unsafe fn load(from: *const i32) -> Self {
                // SAFETY: the caller's promise, and unaligned loads need no more; the instruction set is on.
                Self(unsafe { $load(from.cast()) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut i32) {
                // SAFETY: the caller's promise, and unaligned stores need no more; the instruction set is on.
                unsafe { $store(to.cast(), self.0) }
            }

            #[inline(always)]
            fn plus_products(self, activations: Self, weights: Self) -> Self {
                let ($sum, $x, $w) = (self.0, activations.0, weights.0);
                // SAFETY: registers only; the instruction set is on (see the macro).
                Self(unsafe { $products })
            }

            #[inline(always)]
            fn plus_partial(self, partial: Self) -> Self {
                let ($total, $partial) = (self.0, partial.0);
                // SAFETY: registers only; the instruction set is on (see the macro).
                Self(unsafe { $fold })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
dot!(
    /// Pairs of byte products, summed in 16 bits: `pack` proves that nothing saturates.
    Avx2Bytes(__m256i, 8): _mm256_setzero_si256, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
    |sum, x, w| _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, w)),
    |total, partial| _mm256_add_epi32(total, _mm256_madd_epi16(partial, _mm256_set1_epi16(1)))
);

#[cfg(target_arch = "x86_64")]
dot!(
    /// Pairs of 16-bit products, summed in 32 bits.
    Avx2Halves(__m256i, 8): _mm256_setzero_si256, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
    |sum, x, w| _mm256_add_epi32(sum, _mm256_madd_epi16(x, w)),
    |total, partial| _mm256_add_epi32(total, partial)
);

#[cfg(target_arch = "x86_64")]
dot!(
    /// Four byte products, summed in 32 bits.
    VnniBytes(__m512i, 16): _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    |sum, x, w| _mm512_dpbusd_epi32(sum, x, w),
    |total, partial| _mm512_add_epi32(total, partial)
);

#[cfg(target_arch = "x86_64")]
dot!(
    /// Pairs of 16-bit products, summed in 32 bits.
    VnniHalves(__m512i, 16): _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    |sum, x, w| _mm512_dpwssd_epi32(sum, x, w),
    |total, partial| _mm512_add_epi32(total, partial)
);
