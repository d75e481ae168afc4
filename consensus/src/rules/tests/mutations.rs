//! Hostile bytes: whatever is done to a valid block's encoding, it is refused without a panic, or is that block.

use crate::rules::Blame;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Fixture, fixture};
use crate::codec::{decode, encode};
use crate::rules::BlockError;
use crate::state::{StateDelta, StateKey, StateProof, verify_proof};
use crate::testkit::{FakeVerifier, account};
use crate::types::{Block, SignedTransaction};

struct Good {
    f: Fixture,
    blocks: Vec<Block>,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let mut f = fixture();
        let blocks = vec![f.scored(), f.void(), f.idle(true), f.certified()];
        Good { f, blocks }
    })
}

/// Damage to an encoding.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<Index>().prop_map(Damage::Cut),
        2 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => any::<Index>().prop_map(Damage::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Insert(at, more) => {
            let at = at.index(bytes.len());
            drop(bytes.splice(at..at, more.iter().copied()));
        }
        Damage::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Damage::Repeat(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.extend(piece);
        }
    }
}

/// Decodes damaged bytes; what decodes encodes to the same bytes.
fn survives<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes, 1 << 22).ok()?;
    assert_eq!(encode(&value), bytes, "two encodings of one value");
    Some(value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_blocks_are_refused(which in 0usize..4, damages in prop::collection::vec(damage(), 1..4)) {
        let good = good();
        let original = &good.blocks[which];
        let mut bytes = encode(original);
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        let Some(block) = survives::<Block>(&bytes) else { return Ok(()) };
        let verdict = good.f.h.chain.verify(block.clone()).and_then(|block| good.f.h.chain.prepare_import(block));
        match verdict {
            Ok(prepared) => {
                prop_assert_eq!(&block, original, "a second block passed");
                prepared.check_work(&good.f.h.blobs, &FakeVerifier).unwrap();
            }
            Err(error) => {
                prop_assert_ne!(&block, original);
                // A damaged copy under the good block's own name must not condemn the good block.
                prop_assert!(error.blame() != Blame::Producer || block.hash() != original.hash(), "{}", error);
                prop_assert!(!matches!(error, BlockError::State(_)), "{}", error);
            }
        }
    }

    #[test]
    fn damaged_transactions_deltas_and_proofs_never_panic(damages in prop::collection::vec(damage(), 1..4)) {
        let good = good();
        let chain = &good.f.h.chain;
        let spoil = |mut bytes: Vec<u8>| {
            damages.iter().for_each(|damage| apply(&mut bytes, damage));
            bytes
        };
        let transaction = &good.blocks[0].body.transactions[0];
        if let Some(other) = survives::<SignedTransaction>(&spoil(encode(transaction))) {
            let valid = other.verify(&chain.chain_hash()).is_ok();
            prop_assert_eq!(valid, other == *transaction);
        }
        let entry = chain.block(&good.f.parent).unwrap();
        if let Some(delta) = survives::<StateDelta>(&spoil(encode(&*entry.delta))) {
            let _ = delta.meta();
        }
        let key = StateKey::Account(account(4));
        let (value, proof) = chain.state(&good.f.parent).unwrap().prove(key).unwrap();
        if let Ok(other) = StateProof::from_bytes(&spoil(proof.to_bytes())) {
            let holds = verify_proof(entry.delta.root, key, value.as_deref(), &other).is_ok();
            prop_assert!(!holds || other == proof, "a damaged proof holds");
        }
    }
}
