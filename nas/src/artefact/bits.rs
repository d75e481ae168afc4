//! Signed values of 1 to 16 bits packed into bytes, lowest bit first.

/// Appends values to a byte vector; one tensor a writer.
pub(super) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    pending: u32,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, pending: 0, pending_bits: 0 }
    }

    /// Appends the lowest `bits` (1 to 16) of `value`.
    pub(super) fn put(&mut self, value: i16, bits: u32) {
        let mask = (1u32 << bits) - 1;
        self.pending |= (u32::from(value.cast_unsigned()) & mask) << self.pending_bits;
        self.pending_bits += bits;
        while self.pending_bits >= 8 {
            self.bytes.push((self.pending & 0xff) as u8);
            self.pending >>= 8;
            self.pending_bits -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        if self.pending_bits > 0 {
            self.bytes.push((self.pending & 0xff) as u8);
        }
    }
}

/// Unpacks `count` values of `bits` (1 to 16) each from exactly the bytes they fill; `None` when the bytes are too
/// few or too many, or when the bits after the last value are not zero.
pub(super) fn unpack(bytes: &[u8], count: usize, bits: u32) -> Option<Vec<i16>> {
    let total_bits = (count as u64).checked_mul(bits.into())?;
    if bytes.len() as u64 != total_bits.div_ceil(8) {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    let (mut pending, mut pending_bits) = (0u32, 0);
    let mut rest = bytes.iter();
    while values.len() < count {
        while pending_bits < bits {
            pending |= u32::from(*rest.next()?) << pending_bits;
            pending_bits += 8;
        }
        // Shifting the value to the top and back extends its sign.
        let low = (pending & 0xffff) as u16;
        values.push((low << (16 - bits)).cast_signed() >> (16 - bits));
        pending >>= bits;
        pending_bits -= bits;
    }
    (pending == 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(values: &[i16], bits: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        values.iter().for_each(|&value| writer.put(value, bits));
        writer.finish();
        bytes
    }

    proptest! {
        #[test]
        fn round_trips(raw in proptest::collection::vec(any::<i16>(), 0..40), bits in 1u32..=16) {
            let values: Vec<i16> = raw.iter().map(|v| (v << (16 - bits)) >> (16 - bits)).collect();
            prop_assert_eq!(unpack(&pack(&values, bits), values.len(), bits), Some(values));
        }

        /// Every byte string that unpacks is the packing of what it unpacks to.
        #[test]
        fn unpacks_only_what_packing_makes(
            bytes in proptest::collection::vec(any::<u8>(), 0..8), count in 0usize..20, bits in 1u32..=16,
        ) {
            if let Some(values) = unpack(&bytes, count, bits) {
                prop_assert_eq!(pack(&values, bits), bytes);
            }
        }
    }

    #[test]
    fn by_hand() {
        assert_eq!(pack(&[1, -1, 2], 3), [0b1011_1001, 0b0]);
        assert_eq!(unpack(&[0b1011_1001, 0b0], 3, 3), Some(vec![1, -1, 2]));
        assert_eq!(unpack(&[0b1011_1001, 0b10], 3, 3), None);
        assert_eq!(unpack(&[0b1011_1001], 3, 3), None);
        assert_eq!(unpack(&[0b1011_1001, 0, 0], 3, 3), None);
    }
}
