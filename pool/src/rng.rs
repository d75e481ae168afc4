//! Seeded randomness: the same seed gives the same draws on every machine, and a restored state goes on where it was.

use serde::{Deserialize, Serialize};

/// A counter-mode generator over keyed BLAKE3. Slow for bulk data, ample for scheduling decisions, and its whole state
/// is a key and a counter, so it can be journaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeededRng {
    key: [u8; 32],
    counter: u64,
}

impl SeededRng {
    /// A generator for one purpose; different labels under one seed draw independently.
    pub fn new(seed: &[u8], label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 pool randomness");
        hasher.update(&(label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
        hasher.update(seed);
        Self { key: *hasher.finalize().as_bytes(), counter: 0 }
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let block = self.next_bytes();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&block[..8]);
        u64::from_le_bytes(bytes)
    }

    /// The next 32 uniform bytes.
    pub fn next_bytes(&mut self) -> [u8; 32] {
        let block = blake3::keyed_hash(&self.key, &self.counter.to_le_bytes());
        self.counter = self.counter.wrapping_add(1);
        *block.as_bytes()
    }

    /// A number below `bound` (0 when `bound` is 0). Its bias is under `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        // The high half of a 64 x 64 bit product is below `bound`.
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// An index below `len`, which must not be 0 for the index to be usable.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_by_seed_and_differ_by_label() {
        let draw = |label| {
            let mut rng = SeededRng::new(b"seed", label);
            (0..8).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw("a"), draw("a"));
        assert_ne!(draw("a"), draw("b"));
    }

    #[test]
    fn a_restored_generator_goes_on_where_it_was() {
        let mut rng = SeededRng::new(b"seed", "a");
        rng.next_u64();
        let mut restored: SeededRng = postcard::from_bytes(&postcard::to_stdvec(&rng).unwrap()).unwrap();
        assert_eq!(rng.next_u64(), restored.next_u64());
    }

    #[test]
    fn every_value_below_a_bound_comes_up() {
        let mut rng = SeededRng::new(b"seed", "bound");
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] += 1;
        }
        assert!(seen.iter().all(|&n| (120..=280).contains(&n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }
}
