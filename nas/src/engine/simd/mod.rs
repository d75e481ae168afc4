//! Vector instructions behind a safe face: the only module of the engine with `unsafe` code.
//!
//! Owns [`Isa`] (which instruction set this machine has), [`Job`] (work compiled once for each of them) and
//! [`Product`], the inner loop of the engine. Bodies of jobs are plain `for` and `while` loops in `#[inline(always)]`
//! functions: closures and iterator adapters are functions of their own, which the compiler does not build for the
//! instruction set unless it happens to inline them.
//!
//! # Correctness
//! Integer sums are exact in any order as long as no part of them leaves its number's range. `pack` proves that for
//! every layer, so that all instruction sets give the same numbers.
#![allow(unsafe_code)]

mod dot;
mod product;

pub(super) use product::Product;

use dot::Dot;

/// Most vectors of outputs that one panel of weights has: with six rows, they fill sixteen registers and need fewer
/// loads than products.
pub(super) const MOST_VECTORS: usize = 2;
/// Most outputs of one panel, on any machine.
pub(super) const MOST_WIDTH: usize = 16 * MOST_VECTORS;

/// Activations that are packed together.
pub(super) const CHUNK: usize = 8;

/// How activations and weights are packed into the 32-bit words that are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Four unsigned bytes times four signed bytes.
    Bytes,
    /// Two signed 16-bit numbers times two others.
    Halves,
}

impl Form {
    /// Bytes of one value.
    pub(super) fn size(self) -> usize {
        4 / self.per_word()
    }

    /// Values in a word.
    pub(super) fn per_word(self) -> usize {
        match self {
            Self::Bytes => 4,
            Self::Halves => 2,
        }
    }
}

/// An instruction set that this machine is known to have.
///
/// The field is private to this module, so that a value proves that detection succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// Work that is compiled once for each instruction set.
pub(super) trait Job {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self);
}

/// What an instruction set offers.
pub(super) trait Simd {
    /// Registers that tiles may fill.
    const REGISTERS: usize;
    /// Products of [`Form::Bytes`].
    type Bytes: Dot;
    /// Products of [`Form::Halves`].
    type Halves: Dot;

    /// Activations, which fit, as bytes.
    fn bytes(values: [i32; CHUNK]) -> [u8; CHUNK];

    /// Activations, which fit, as 16-bit numbers in the machine's byte order.
    fn halves(values: [i32; CHUNK]) -> [u8; 2 * CHUNK];
}

impl Isa {
    /// The best set of this machine.
    pub(super) fn detect() -> Self {
        Self::available()[0]
    }

    /// Every set of this machine, the best first; the last needs nothing but the language.
    pub(super) fn available() -> Vec<Self> {
        let mut sets = Vec::with_capacity(3);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                {
                    sets.push(Self(Set::Avx512Vnni));
                }
                sets.push(Self(Set::Avx2));
            }
        }
        sets.push(Self(Set::Portable));
        sets
    }

    /// Outputs in one vector.
    pub(super) fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => 16,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => 8,
            Set::Portable => 8,
        }
    }

    /// Values of one word that are summed into one partial sum, and the greatest absolute value which that may have.
    pub(super) fn partial(self, form: Form) -> (usize, i64) {
        match (self.0, form) {
            #[cfg(target_arch = "x86_64")]
            (Set::Avx2, Form::Bytes) => (2, i16::MAX.into()),
            _ => (form.per_word(), i32::MAX.into()),
        }
    }

    /// Runs a job compiled for this set.
    pub(super) fn run<J: Job>(self, job: J) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
        fn avx512_vnni<J: Job>(job: J) {
            job.run::<dot::Avx512Vnni>();
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn avx2<J: Job>(job: J) {
            job.run::<dot::Avx2>();
        }
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` with this set exists only where detection found every feature named above.
            Set::Avx512Vnni => unsafe { avx512_vnni(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, for AVX2.
            Set::Avx2 => unsafe { avx2(job) },
            Set::Portable => job.run::<dot::Portable>(),
        }
    }
}
