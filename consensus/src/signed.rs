//! Signed messages: what is signed, by whom, for which chain.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use podl_chain_spec::{AccountId, Hash32};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::hash::Domain;

/// A message that one account signs.
pub trait Signable: Serialize + Sized {
    /// Keeps signatures over different kinds of message apart.
    const DOMAIN: Domain;

    /// Whose signature makes it count.
    fn signer(&self) -> AccountId;

    /// The hash that is signed: domain, chain and the message's canonical bytes.
    fn signing_hash(&self, chain: &Hash32) -> Hash32 {
        let mut hasher = blake3::Hasher::new_derive_key(Self::DOMAIN.context());
        hasher.update(chain.as_bytes());
        hasher.update(&codec::encode(self));
        Hash32(*hasher.finalize().as_bytes())
    }
}

/// An ed25519 signature in its fixed 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sig:{}", hex::encode(&self.0[..4]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&hex::encode(self.0));
        }
        // serde's derives stop at arrays of 32, so the wire form is two halves.
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&self.0[..32]);
        s.copy_from_slice(&self.0[32..]);
        (r, s).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = [0; 64];
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        } else {
            let (r, s) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
            bytes[..32].copy_from_slice(&r);
            bytes[32..].copy_from_slice(&s);
        }
        Ok(Self(bytes))
    }
}

/// A message with its signer's signature, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<T> {
    /// What is signed.
    pub message: T,
    /// By [`Signable::signer`].
    pub signature: Signature,
}

/// A signature that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature of {signer:?} is not valid")]
pub struct BadSignature {
    /// Whose signature was expected.
    pub signer: AccountId,
}

impl<T: Signable> Signed<T> {
    /// Signs `message`; the key must be that of its signer, which callers hold by construction.
    pub fn new(message: T, chain: &Hash32, key: &SigningKey) -> Self {
        let hash = message.signing_hash(chain);
        debug_assert_eq!(account_of(key), message.signer(), "signed with another key");
        Self { signature: Signature(key.sign(hash.as_bytes()).to_bytes()), message }
    }

    /// Checks the signature with `verify_strict`: small-order keys and non-canonical points are refused, so all
    /// nodes agree on every input.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, chain: &Hash32) -> Result<(), BadSignature> {
        let signer = self.message.signer();
        let bad = BadSignature { signer };
        let key = VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| bad)?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(self.message.signing_hash(chain).as_bytes(), &signature).map_err(|_| bad)
    }
}

/// The account of a signing key.
pub fn account_of(key: &SigningKey) -> AccountId {
    AccountId(key.verifying_key().to_bytes())
}
