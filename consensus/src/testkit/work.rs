//! A deterministic stand-in for artefacts, shards and their verifier.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::{Caps, ChainSpec};

use crate::hash::blob_root;
use crate::rules::BlobSource;
use crate::types::{BlobRef, BlobRoot};
use crate::workload::{Architecture, ConvLayer, FixedPoint, ModelFacts, Space, WorkError, WorkVerifier, Workload};

const ARTEFACT: &[u8; 4] = b"FAKE";
const SHARD: &[u8; 4] = b"SHRD";

/// An artefact that scores `correct` on every shard with so many images; `tag` makes it another one.
pub fn fake_artefact(correct: u32, mac_bits: u64, tag: u64) -> Vec<u8> {
    [ARTEFACT.as_slice(), &correct.to_le_bytes(), &mac_bits.to_le_bytes(), &tag.to_le_bytes()].concat()
}

/// A plaintext shard of so many images; `tag` makes it another one.
pub fn fake_shard(images: u32, tag: [u8; 32]) -> Vec<u8> {
    [SHARD.as_slice(), &images.to_le_bytes(), &tag].concat()
}

/// A workload that publishes on the chain: the filler's with fewer images.
pub fn small_workload(spec: &ChainSpec) -> Workload {
    Workload { shard_images: 50, space: Space::full(2), ..Workload::filler(spec) }
}

/// Judges the artefacts and shards of this module by what they say about themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeVerifier;

fn read(artefact: &[u8]) -> Result<(u32, u64), WorkError> {
    let expected = 24;
    let got = artefact.len() as u64;
    if got < expected {
        return Err(WorkError::Truncated { what: "the artefact", got, expected });
    }
    if got > expected {
        return Err(WorkError::TrailingBytes { what: "the artefact", extra: got - expected });
    }
    let (magic, rest) = artefact.split_at(4);
    if magic != ARTEFACT {
        return Err(WorkError::OutsideSpace { what: "not one of the testkit's artefacts".into() });
    }
    let (correct, rest) = rest.split_at(4);
    let correct = correct.try_into().map(u32::from_le_bytes).unwrap_or_default();
    Ok((correct, rest[..8].try_into().map(u64::from_le_bytes).unwrap_or_default()))
}

impl WorkVerifier for FakeVerifier {
    fn model_facts(&self, workload: &Workload, _: &Caps, artefact: &[u8]) -> Result<ModelFacts, WorkError> {
        let (_, mac_bits) = read(artefact)?;
        let architecture: Architecture =
            workload.space.largest_architecture().map_err(|e| WorkError::BadWorkload { what: e.to_string() })?;
        Ok(ModelFacts { architecture, mac_bits, macs: mac_bits, lut: 1, cycles: 1 })
    }

    fn parse_shard(&self, workload: &Workload, _: &Caps, shard: &[u8]) -> Result<u32, WorkError> {
        let malformed = |what: &str| WorkError::ShardMalformed { what: what.into() };
        let rest = shard.strip_prefix(SHARD).ok_or_else(|| malformed("not one of the testkit's shards"))?;
        let images = rest.first_chunk().copied().map(u32::from_le_bytes).ok_or_else(|| malformed("too short"))?;
        let expected = workload.shard_images;
        if images == expected { Ok(images) } else { Err(WorkError::ShardSize { got: images, expected }) }
    }

    fn score(&self, workload: &Workload, caps: &Caps, artefact: &[u8], shard: &[u8]) -> Result<u32, WorkError> {
        let images = self.parse_shard(workload, caps, shard)?;
        Ok(read(artefact)?.0.min(images))
    }

    fn filler_shard(&self, workload: &Workload, _: &Caps, seed: [u8; 32]) -> Result<Vec<u8>, WorkError> {
        Ok(fake_shard(workload.shard_images, seed))
    }
}

/// Blobs in memory.
#[derive(Clone, Debug, Default)]
pub struct Blobs(BTreeMap<BlobRoot, Arc<Vec<u8>>>);

impl Blobs {
    /// Adds bytes and names them.
    pub fn put(&mut self, bytes: Vec<u8>) -> BlobRef {
        let blob = BlobRef { root: blob_root(&bytes), bytes: bytes.len() as u64 };
        self.0.insert(blob.root, Arc::new(bytes));
        blob
    }

    /// Forgets a blob.
    pub fn remove(&mut self, root: &BlobRoot) {
        self.0.remove(root);
    }
}

impl BlobSource for Blobs {
    fn blob(&self, root: &BlobRoot) -> Option<Arc<Vec<u8>>> {
        self.0.get(root).cloned()
    }
}

/// The published network that cost models and peers are measured on: six layers of 36 filters of 3 x 3, each pooled.
pub fn golden_architecture() -> Architecture {
    let layer = ConvLayer {
        kernel: [3, 3],
        filters: 36,
        stride: [1, 1],
        pool: 2,
        act: FixedPoint::new(1, 4),
        weight: FixedPoint::new(1, 5),
    };
    Architecture { layers: vec![layer; 6] }
}
