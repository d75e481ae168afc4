//! Vector instructions behind a safe face: the only module of this crate with `unsafe` code.
//!
//! Owns [`Isa`] (which instruction set this machine has), [`Lanes`] (16 floats at once) and the [`dispatch!`] macro
//! that compiles one kernel body for every instruction set. A body is ordinary generic code: it must be
//! `#[inline(always)]`, so that it is compiled inside the function that enables the instructions.
//!
//! # Correctness
//! All instruction sets give the same bits: a multiply-add is fused everywhere (in software where the machine has
//! none), a value of 16 lanes means 16 independent sums whatever the width of the registers, and [`Lanes::sum`] adds
//! them in one fixed tree.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Floats of one [`Lanes`] value.
pub const LANES: usize = 16;

/// An instruction set that this machine is known to have.
///
/// The field is private to this module, so that a value proves that detection succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The widest set of this machine.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every set of this machine, the widest first; the last needs nothing but the language.
    pub fn available() -> Vec<Self> {
        let mut sets = Vec::with_capacity(3);
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                sets.push(Self(Set::Avx512));
            }
            if avx2 {
                sets.push(Self(Set::Avx2));
            }
        }
        sets.push(Self(Set::Portable));
        sets
    }

    /// Name for logs.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2+fma",
            Set::Portable => "portable",
        }
    }

    /// Which set it is, for [`dispatch!`].
    pub(super) fn set(self) -> Set {
        self.0
    }
}

/// Sixteen floats and the few operations that the kernels need.
pub trait Lanes: Copy {
    /// Greatest panel height (rows of the left matrix kept in registers) that suits the register count: 12 or 4.
    const PANEL: usize;
    /// Reads sixteen floats.
    fn load(from: &[f32; LANES]) -> Self;
    /// Writes sixteen floats.
    fn store(self, to: &mut [f32; LANES]);
    /// The same value in every lane.
    fn splat(value: f32) -> Self;
    /// `self * factor + sum` with one rounding.
    fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// Sum of all lanes in a fixed tree: lane i with i+8, then i+4, i+2, i+1.
    fn sum(self) -> f32;
}

/// Lanes in an ordinary array.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANES]);

impl Lanes for Portable {
    const PANEL: usize = 4;

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], sum.0[i])))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let x = self.0;
        let eight: [f32; 8] = std::array::from_fn(|i| x[i] + x[i + 8]);
        let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// Lanes in two 256-bit registers. Only made by code that [`dispatch!`] compiles for AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256, __m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    const PANEL: usize = 4;

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: the reference covers 16 floats and unaligned loads need no more; AVX is on (see the type).
        unsafe { Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: the exclusive reference covers 16 floats; AVX is on (see the type).
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
        }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: registers only; AVX is on (see the type).
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: registers only; FMA is on (see the type).
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, sum.0), _mm256_fmadd_ps(self.1, factor.1, sum.1)) }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: registers only; AVX is on (see the type).
        unsafe { sum8(_mm256_add_ps(self.0, self.1)) }
    }
}

/// Sum of eight floats in the tree of [`Lanes::sum`].
///
/// # Safety
/// AVX must be on.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn sum8(eight: __m256) -> f32 {
    // SAFETY: registers only; the caller has AVX on.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// Lanes in one 512-bit register. Only made by code that [`dispatch!`] compiles for AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    const PANEL: usize = 12;

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: the reference covers 16 floats and unaligned loads need no more; AVX-512 is on (see the type).
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: the exclusive reference covers 16 floats; AVX-512 is on (see the type).
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: registers only; AVX-512 is on (see the type).
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: registers only; AVX-512 is on (see the type).
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, sum.0)) }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: registers only; AVX-512 is on, and with it AVX (see the type).
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(self.0);
            sum8(_mm256_add_ps(_mm512_castps512_ps256(self.0), high))
        }
    }
}

/// Makes a safe function that runs a kernel body compiled for the instruction set it is handed.
///
/// `dispatch!(pub fn name(a: A, b: B) = body);` needs `#[inline(always)] fn body<V: Lanes>(a: A, b: B)`.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::train::kernels::simd::Isa, $($arg: $ty),*) {
            use $crate::train::kernels::simd;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) {
                $body::<simd::Avx512>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) {
                $body::<simd::Avx2>($($arg),*)
            }
            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` with this set exists only where detection found every feature named above.
                simd::Set::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above, for AVX2 and FMA.
                simd::Set::Avx2 => unsafe { avx2($($arg),*) },
                simd::Set::Portable => $body::<simd::Portable>($($arg),*),
            }
        }
    };
}
pub(super) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    fn body<V: Lanes>(x: &[f32; LANES], y: &[f32; LANES], out: &mut [f32; LANES], sum: &mut f32) {
        let product = V::load(x).mul_add(V::load(y), V::splat(0.1));
        product.store(out);
        *sum = product.sum();
    }
    dispatch!(fn probe(x: &[f32; LANES], y: &[f32; LANES], out: &mut [f32; LANES], sum: &mut f32) = body);

    #[test]
    fn all_sets_give_the_same_bits() {
        let x: [f32; LANES] = std::array::from_fn(|i| 1.0 / (i as f32 + 3.0));
        let y: [f32; LANES] = std::array::from_fn(|i| 7.3 - i as f32 * 1.1);
        let expected: [f32; LANES] = std::array::from_fn(|i| x[i].mul_add(y[i], 0.1));
        let mut sums = Vec::new();
        for isa in Isa::available() {
            let (mut out, mut sum) = ([0.0; LANES], 0.0);
            probe(isa, &x, &y, &mut out, &mut sum);
            assert_eq!(out.map(f32::to_bits), expected.map(f32::to_bits), "{}", isa.name());
            sums.push(sum.to_bits());
        }
        assert!(sums.windows(2).all(|w| w[0] == w[1]));
    }
}
