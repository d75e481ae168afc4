//! Deterministic numbers for consensus-critical data: the BLAKE3 stream of a context, a seed and an index.

/// A stream of random numbers that is the same on every machine.
pub struct Random {
    stream: blake3::OutputReader,
    buffer: [u8; 512],
    used: usize,
}

impl Random {
    /// The stream of that domain, seed and index.
    pub fn new(domain: &'static str, seed: &[u8; 32], index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(domain);
        hasher.update(seed);
        hasher.update(&index.to_le_bytes());
        Self { stream: hasher.finalize_xof(), buffer: [0; 512], used: 512 }
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        if self.used == self.buffer.len() {
            self.stream.fill(&mut self.buffer);
            self.used = 0;
        }
        let byte = self.buffer[self.used];
        self.used += 1;
        byte
    }

    /// The next four bytes as a number.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A number below `limit` (at least 1), all equally likely.
    pub fn below(&mut self, limit: u32) -> u32 {
        let limit = limit.max(1);
        // Draws beyond the last whole multiple of the limit would favour small numbers.
        let whole = u64::from(limit) * ((1u64 << 32) / u64::from(limit));
        loop {
            let draw = self.u32();
            if u64::from(draw) < whole {
                return draw % limit;
            }
        }
    }

    /// A number from `low` to `high`, both included; `high` must not be below `low`.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        low + i32::try_from(self.below(high.abs_diff(low) + 1)).unwrap_or(0)
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // Data sets hold far fewer than 2^32 images.
            let other = self.below(u32::try_from(last + 1).unwrap_or(u32::MAX)) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_domain_seed_and_index() {
        let first = |domain, seed: u8, index| Random::new(domain, &[seed; 32], index).u32();
        let draws = [first("a", 0, 0), first("b", 0, 0), first("a", 1, 0), first("a", 0, 1)];
        for (i, one) in draws.iter().enumerate() {
            assert!(draws[i + 1..].iter().all(|other| other != one));
        }
        assert_eq!(first("a", 0, 0), first("a", 0, 0));
    }

    #[test]
    fn shuffles_are_permutations() {
        let mut items: Vec<u32> = (0..1000).collect();
        Random::new("shuffle test", &[3; 32], 0).shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new("bounds test", &[9; 32], 0);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[usize::try_from(random.between(-3, 3) + 3).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
