//! Primitive values that every crate shares: hashes, account ids, amounts.

use std::fmt;
use std::str::FromStr;

use bech32::{Bech32m, Hrp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Human-readable part of every address.
pub const ADDRESS_PREFIX: &str = "podl";

/// Smallest units in one PODL.
pub const UNITS_PER_PODL: u64 = 1_000_000;

/// Why a textual primitive was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrimitiveError {
    /// A hash is 64 hexadecimal digits.
    #[error("expected 64 hexadecimal digits, got {0:?}")]
    Hash(String),
    /// An address is bech32m with the prefix `podl` over 32 bytes.
    #[error("expected an address like podl1…, got {got:?}: {reason}")]
    Address {
        /// What was given.
        got: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An amount is a decimal number of PODL with at most six decimals.
    #[error("expected an amount such as 12 or 0.25 (at most 6 decimals), got {0:?}")]
    Amount(String),
}

/// A BLAKE3 hash: 32 bytes, hexadecimal in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// The all-zero hash, used where a field has no meaning for a kind of block.
    pub const ZERO: Self = Self([0; 32]);

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for logs.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

impl FromStr for Hash32 {
    type Err = PrimitiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| PrimitiveError::Hash(text.into()))?;
        Ok(Self(bytes))
    }
}

/// An account: its 32-byte ed25519 public key. In text a bech32m address, so that a typing slip is noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AccountId(pub [u8; 32]);

impl AccountId {
    /// The bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The last six characters of the address, for logs.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 6..].to_owned()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode::<Bech32m>(Hrp::parse_unchecked(ADDRESS_PREFIX), &self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…{}", self.short())
    }
}

impl FromStr for AccountId {
    type Err = PrimitiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: String| PrimitiveError::Address { got: text.into(), reason };
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text)
            .map_err(|e| refuse(format!("{e}; was a character mistyped?")))?;
        if checked.hrp() != Hrp::parse_unchecked(ADDRESS_PREFIX) {
            return Err(refuse(format!("the prefix is not {ADDRESS_PREFIX}")));
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let got = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| refuse(format!("{got} bytes instead of 32")))?))
    }
}

/// An amount of money in the smallest unit. All arithmetic on it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Sum, or `None` on overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Difference, or `None` when `other` is greater.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Product, or `None` on overflow.
    #[must_use]
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// `percent` hundredths of it, rounded down; exact for every amount.
    #[must_use]
    pub fn percent(self, percent: u8) -> Self {
        let share = u128::from(self.0) * u128::from(percent.min(100)) / 100;
        Self(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / UNITS_PER_PODL, self.0 % UNITS_PER_PODL);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{part:06}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Amount {
    type Err = PrimitiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || PrimitiveError::Amount(text.into());
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || part.len() > 6
            || !digits(whole)
            || !digits(part)
            || (text.contains('.') && part.is_empty())
        {
            return Err(refuse());
        }
        let whole: u64 = whole.parse().map_err(|_| refuse())?;
        let part: u64 = format!("{part:0<6}").parse().map_err(|_| refuse())?;
        whole.checked_mul(UNITS_PER_PODL).and_then(|units| units.checked_add(part)).map(Self).ok_or_else(refuse)
    }
}

/// Text in human-readable formats, 32 raw bytes in binary ones.
macro_rules! serde_bytes_or_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

serde_bytes_or_text!(Hash32);
serde_bytes_or_text!(AccountId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_round_trips_and_notices_a_slip() {
        let id = AccountId([7; 32]);
        let text = id.to_string();
        assert!(text.starts_with("podl1"));
        assert_eq!(text.parse::<AccountId>().unwrap(), id);
        let slip: String = text
            .chars()
            .rev()
            .enumerate()
            .map(|(i, c)| if i == 3 { if c == 'q' { 'p' } else { 'q' } } else { c })
            .collect();
        let slip: String = slip.chars().rev().collect();
        assert!(slip.parse::<AccountId>().is_err());
        let foreign = bech32::encode::<Bech32m>(Hrp::parse_unchecked("bc"), &id.0).unwrap();
        assert!(foreign.parse::<AccountId>().unwrap_err().to_string().contains("prefix"));
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        for (text, units) in
            [("12", 12_000_000), ("0.25", 250_000), ("0.000001", 1), ("18446744073709.551615", u64::MAX)]
        {
            assert_eq!(text.parse::<Amount>().unwrap(), Amount(units));
            assert_eq!(Amount(units).to_string(), text);
        }
        for bad in ["", ".", "1.", ".5", "-1", "1e6", "0.0000001", "18446744073709.551616", "1,5"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn percent_never_overflows() {
        assert_eq!(Amount(u64::MAX).percent(100), Amount(u64::MAX));
        assert_eq!(Amount(9).percent(20), Amount(1));
    }
}
