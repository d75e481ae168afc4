//! Domain-separated hashing: no two kinds of thing can share a hash or a signature.

use podl_chain_spec::Hash32;
use serde::Serialize;

use crate::codec;

/// What a hash or a signature is over. The text is the BLAKE3 key-derivation context and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Block header; its hash names the block.
    Header,
    /// Block body.
    Body,
    /// A miner's commitment to an artefact.
    Commitment,
    /// The opaque id inside a commitment.
    CommitmentId,
    /// A seat's closing.
    Closing,
    /// The sorted list of commitments under a closing.
    CommitmentList,
    /// A seat's vote.
    Vote,
    /// A transaction; its hash is its id.
    Transaction,
    /// A published task; its hash is its id.
    Task,
    /// The key of a test shard.
    ShardKey,
    /// The key stream of a sealed test shard.
    ShardStream,
    /// The seed of the filler data set.
    FillerSeed,
    /// The identity of a filler task.
    FillerTask,
    /// Keys of the authenticated state tree.
    StateKey,
    /// Draws lots between equally good siblings.
    RankTie,
}

impl Domain {
    /// The key-derivation context.
    pub const fn context(self) -> &'static str {
        match self {
            Self::Header => "podl v1 block header",
            Self::Body => "podl v1 block body",
            Self::Commitment => "podl v1 commitment",
            Self::CommitmentId => "podl v1 commitment id",
            Self::Closing => "podl v1 closing",
            Self::CommitmentList => "podl v1 commitment list",
            Self::Vote => "podl v1 vote",
            Self::Transaction => "podl v1 transaction",
            Self::Task => "podl v1 task",
            Self::ShardKey => "podl v1 shard key",
            Self::ShardStream => "podl v1 shard stream",
            Self::FillerSeed => "podl v1 filler seed",
            Self::FillerTask => "podl v1 filler task",
            Self::StateKey => "podl v1 state key",
            Self::RankTie => "podl v1 rank tie",
        }
    }
}

/// Hash of raw bytes under a domain.
pub fn hash_bytes(domain: Domain, bytes: &[u8]) -> Hash32 {
    let mut hasher = blake3::Hasher::new_derive_key(domain.context());
    hasher.update(bytes);
    Hash32(*hasher.finalize().as_bytes())
}

/// Hash of a value's canonical bytes under a domain.
pub fn hash_value<T: Serialize>(domain: Domain, value: &T) -> Hash32 {
    hash_bytes(domain, &codec::encode(value))
}

/// Root of a blob: its plain BLAKE3 hash, so that verified chunk transfer can use it. Blobs therefore have no domain.
pub fn blob_root(bytes: &[u8]) -> Hash32 {
    Hash32(*blake3::hash(bytes).as_bytes())
}
