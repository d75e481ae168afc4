//! The port through which the rules have artefacts and shards checked and scored.

use super::{Architecture, Workload};
use podl_chain_spec::Caps;

/// What a canonical, admissible artefact says about its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// The searched part of the network.
    pub architecture: Architecture,
    /// Multiply-accumulates x bits of one image (`Network::mac_bits`); fewer rank first among equals.
    pub mac_bits: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// LUTs of the chosen FPGA mapping.
    pub lut: u64,
    /// Clock cycles an image of the chosen FPGA mapping.
    pub cycles: u64,
}

/// Why an artefact or a shard was refused. Whoever sent it is to blame, but for [`WorkError::UnknownVersion`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// This node's code does not implement the version that the task names: update the node.
    #[error("{what} version {got} is not implemented here, this node has {expected}")]
    UnknownVersion {
        /// Engine, cost model or generator.
        what: &'static str,
        /// The task's version.
        got: u16,
        /// This node's version.
        expected: u16,
    },
    /// The bytes end too early.
    #[error("{what} is truncated: {got} bytes, expected at least {expected}")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Bytes there are.
        got: u64,
        /// Bytes the part needs.
        expected: u64,
    },
    /// Bytes follow the end.
    #[error("{what} has {extra} bytes after its end")]
    TrailingBytes {
        /// Artefact or shard.
        what: &'static str,
        /// How many.
        extra: u64,
    },
    /// The bytes are not the one encoding of what they say.
    #[error("not a canonical artefact: {what}")]
    NotCanonical {
        /// What is wrong.
        what: String,
    },
    /// A size is over the chain's cap.
    #[error("{what} is {got}, over the cap of {limit}")]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// The size.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// The network is not one of the task's search space.
    #[error("outside the search space: {what}")]
    OutsideSpace {
        /// Which setting, what it is and what the space allows.
        what: String,
    },
    /// No mapping of the network fits the task's LUT bound.
    #[error("over the LUT bound: needs at least {got}, bound {bound}")]
    OverLut {
        /// LUTs of the smallest mapping.
        got: u64,
        /// The task's bound.
        bound: u64,
    },
    /// No mapping within the LUT bound is fast enough.
    #[error("too slow: {got} images/s at best within the LUT bound, must be over {bound}")]
    UnderThroughput {
        /// Whole images a second of the fastest mapping found.
        got: u64,
        /// The task's bound.
        bound: u64,
    },
    /// Scoring the network on a shard would take too long.
    #[error("scoring takes {got} multiply-accumulates, over the cap of {limit}")]
    TooManyMacs {
        /// Multiply-accumulates of one image x images of a shard.
        got: u64,
        /// The cap of the chain.
        limit: u64,
    },
    /// The shard is not of the declared form.
    #[error("not a shard of the declared data set: {what}")]
    ShardMalformed {
        /// What is wrong, and where.
        what: String,
    },
    /// The shard holds another number of images than the task declared.
    #[error("the shard holds {got} images, the task declared {expected}")]
    ShardSize {
        /// Images in the shard.
        got: u32,
        /// Images declared.
        expected: u32,
    },
    /// The task itself cannot be worked on; rules refuse such tasks when they are published.
    #[error("the task's workload is not valid: {what}")]
    BadWorkload {
        /// What is wrong.
        what: String,
    },
}

/// Checks and scores work. Every method is a pure function of its arguments: same answer, bit for bit, on every node.
pub trait WorkVerifier: Send + Sync {
    /// Decodes an artefact and checks everything but its score: canonical form, caps, space, FPGA bounds, and that
    /// scoring it on a shard stays within `caps.score_macs`.
    ///
    /// # Errors
    /// [`WorkError`] for the first check that fails.
    fn model_facts(&self, workload: &Workload, caps: &Caps, artefact: &[u8]) -> Result<ModelFacts, WorkError>;

    /// Parses a plaintext shard strictly and returns its number of images, which is the declared one.
    ///
    /// # Errors
    /// [`WorkError`] when it is not a shard of the declared data set.
    fn parse_shard(&self, workload: &Workload, caps: &Caps, shard: &[u8]) -> Result<u32, WorkError>;

    /// Number of images of the shard that the network classifies correctly. Checks artefact and shard as the two
    /// methods above do.
    ///
    /// # Errors
    /// [`WorkError`] for the first check that fails.
    fn score(&self, workload: &Workload, caps: &Caps, artefact: &[u8], shard: &[u8]) -> Result<u32, WorkError>;

    /// The plaintext shard of `images` generated images for a filler workload (`Workload::filler`).
    ///
    /// # Errors
    /// [`WorkError::UnknownVersion`] when this node has another generator, [`WorkError::TooLarge`] over
    /// `caps.shard_bytes`.
    fn filler_shard(&self, workload: &Workload, caps: &Caps, seed: [u8; 32]) -> Result<Vec<u8>, WorkError>;
}
