//! Vector instructions. With its callers `gemm::tiles` and `peak`, the only training code that is `unsafe`; everything
//! else sees a safe face.
//!
//! Owns [`Isa`] (which instruction set this machine has), [`Lanes`] (one vector of floats), [`tile`] (the inner loop of
//! every matrix product) and the [`dispatch!`] macro that compiles one kernel body for every instruction set. A body is
//! ordinary generic code: it must be `#[inline(always)]`, so that it is compiled inside the function that enables the
//! instructions.
//!
//! # Correctness
//! All instruction sets give the same bits: a multiply-add is fused everywhere (in software where the machine has
//! none), and a vector is so many independent sums, whatever its width: no sum runs across lanes.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Columns of a matrix come in groups of that many floats, the smallest vector.
pub const GROUP: usize = 8;

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

    /// Groups that one vector holds.
    pub(super) fn vector_groups(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => Avx512::GROUPS,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => Avx2::GROUPS,
            Set::Portable => Portable::GROUPS,
        }
    }
}

/// One vector of floats and the few operations that the inner loop needs.
///
/// # Safety
/// Values of the x86 types may only be made in functions that [`dispatch!`] compiles for their instruction set.
pub trait Lanes: Copy {
    /// Groups of [`GROUP`] floats in a vector.
    const GROUPS: usize;
    /// A vector of one group, on the same machine.
    type Half: Lanes;

    /// Zeros.
    fn zero() -> Self;

    /// The float behind the pointer in every lane.
    ///
    /// # Safety
    /// The pointer must be good for reading one float.
    unsafe fn splat(from: *const f32) -> Self;

    /// Reads as many floats as the vector has lanes.
    ///
    /// # Safety
    /// The pointer must be good for reading them; it need not be aligned.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes all lanes.
    ///
    /// # Safety
    /// The pointer must be good for writing them; it need not be aligned.
    unsafe fn store(self, to: *mut f32);

    /// `self * factor + sum` with one rounding.
    fn mul_add(self, factor: Self, sum: Self) -> Self;
}

/// Lanes in an ordinary array.
#[derive(Clone, Copy)]
pub struct Portable([f32; GROUP]);

impl Lanes for Portable {
    const GROUPS: usize = 1;
    type Half = Self;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; GROUP])
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self([unsafe { *from }; GROUP])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; an array of floats has the alignment of a float.
        Self(unsafe { *from.cast::<[f32; GROUP]>() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; an array of floats has the alignment of a float.
        unsafe { *to.cast::<[f32; GROUP]>() = self.0 }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        let mut out = sum.0;
        for i in 0..GROUP {
            out[i] = self.0[i].mul_add(factor.0[i], out[i]);
        }
        Self(out)
    }
}

/// Lanes in a 256-bit register. Only made by code that [`dispatch!`] compiles for AVX2 or more.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    const GROUPS: usize = 1;
    type Half = Self;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: registers only; AVX is on (see the type).
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's; AVX is on (see the type).
        Self(unsafe { _mm256_broadcast_ss(&*from) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; AVX is on (see the type).
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; AVX is on (see the type).
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: registers only; FMA is on (see the type).
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
    }
}

/// Lanes in a 512-bit register. Only made by code that [`dispatch!`] compiles for AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    const GROUPS: usize = 2;
    type Half = Avx2;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: registers only; AVX-512 is on (see the type).
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's; AVX-512 is on (see the type).
        Self(unsafe { _mm512_set1_ps(*from) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; AVX-512 is on (see the type).
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; AVX-512 is on (see the type).
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: registers only; AVX-512 is on (see the type).
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }
}

/// Some columns of a product: what [`tile`] reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Left values.
    pub left: &'a [f32],
    /// Offset of every factor of a row from the row's start.
    pub depth: &'a [u32],
    /// Right values, from the first of these columns in the first row of `depth`.
    pub right: &'a [f32],
    /// Floats from one row of `right` to the next.
    pub stride: usize,
    /// Whether the sums go on from what `out` holds, or start at 0.
    pub resume: bool,
}

/// `ROWS` rows by `VECTORS` vectors of a product, all sums in registers: row `r` of `out` begins at `places[r]` and
/// gets the sum over k of `left[starts[r] + depth[k]] * right[k * stride ..]`, k first to last. Only the first `real`
/// rows are written.
///
/// # Safety
/// With W = VECTORS x floats of a vector: every `starts[r]` plus every value of `depth` is less than the length of
/// `left`; `right` holds `(depth.len() - 1) * stride + W` floats, unless `depth` is empty; every `places[r] + W` is at
/// most the length of `out`.
#[inline(always)]
pub(super) unsafe fn tile<V: Lanes, const ROWS: usize, const VECTORS: usize>(
    columns: Columns<'_>,
    starts: [usize; ROWS],
    out: &mut [f32],
    places: [usize; ROWS],
    real: usize,
) {
    let lanes = V::GROUPS * GROUP;
    // Loops over the sums have constant bounds only: an index that is not constant would keep them in memory.
    let mut sums = [[V::zero(); VECTORS]; ROWS];
    // SAFETY: every pointer stays within the bounds that the caller vouches for.
    unsafe {
        if columns.resume {
            for r in 0..ROWS {
                for v in 0..VECTORS {
                    sums[r][v] = V::load(out.as_ptr().add(places[r] + v * lanes));
                }
            }
        }
        let mut rows = [columns.left.as_ptr(); ROWS];
        for r in 0..ROWS {
            rows[r] = rows[r].add(starts[r]);
        }
        let mut row = columns.right.as_ptr();
        let depth = columns.depth.as_ptr_range();
        let mut next = depth.start;
        while next != depth.end {
            let offset = *next;
            next = next.add(1);
            let mut right = [V::zero(); VECTORS];
            for v in 0..VECTORS {
                right[v] = V::load(row.add(v * lanes));
            }
            for r in 0..ROWS {
                let left = V::splat(rows[r].add(offset as usize));
                for v in 0..VECTORS {
                    sums[r][v] = left.mul_add(right[v], sums[r][v]);
                }
            }
            // The last step may leave the allocation, where the address is not used.
            row = row.wrapping_add(columns.stride);
        }
        for r in 0..ROWS {
            if r < real {
                for v in 0..VECTORS {
                    sums[r][v].store(out.as_mut_ptr().add(places[r] + v * lanes));
                }
            }
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
