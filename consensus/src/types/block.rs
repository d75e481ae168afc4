//! Blocks: header, body, and what became of the round.

use podl_chain_spec::{AccountId, Hash32};
use serde::{Deserialize, Serialize};

use super::{BlockHash, Certificate, ClosingSet, Height, ModelRoot, SignedTransaction, SignedVote, TaskId};
use crate::hash::{Domain, hash_value};
use crate::signed::{Signable, Signed};

/// The key of a sealed test shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardKey(pub [u8; 32]);

/// The three kinds of block, in falling rank (docs/protocol.md, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeKind {
    /// A model was scored, on a task's shard or on the filler's.
    Scored,
    /// The publisher did not release a key.
    Void,
    /// Nobody's model could be scored.
    Idle,
}

/// What a block says about itself. Its hash names the block and is what the producer signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Genesis hash of the chain.
    pub chain: Hash32,
    /// One more than the parent's.
    pub height: Height,
    /// The block before.
    pub parent: BlockHash,
    /// Milliseconds since 1970 by the producer's clock; at least the parent's plus init and train time.
    pub time_ms: u64,
    /// Kind of the body's outcome.
    pub kind: OutcomeKind,
    /// View of the fallback that the producer proposes in; 0 for scored blocks.
    pub view: u32,
    /// The interval's task (for filler intervals the filler task of the parent).
    pub task: TaskId,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// Who made and signed the block.
    pub producer: AccountId,
    /// [`Body::root`].
    pub body_root: Hash32,
    /// Root of the state after the block.
    pub state_root: Hash32,
}

impl Header {
    /// Names the block.
    pub fn hash(&self) -> BlockHash {
        hash_value(Domain::Header, self)
    }
}

impl Signable for Header {
    const DOMAIN: Domain = Domain::Header;

    fn signer(&self) -> AccountId {
        self.producer
    }
}

/// A header with its producer's signature. The signature is not part of the block's hash.
pub type SignedHeader = Signed<Header>;

/// The opening of a commitment, with the claimed result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Root of the artefact.
    pub model_root: ModelRoot,
    /// Bytes of the artefact.
    pub artefact_bytes: u32,
    /// What hid the root in the commitment.
    pub salt: [u8; 32],
    /// Images of the shard that the model classifies correctly.
    pub correct: u32,
    /// `Network::mac_bits` of the model; fewer win ties.
    pub mac_bits: u64,
}

/// What became of the interval's round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The producer's model was scored.
    Scored {
        /// Closings of a majority, each listing the opened commitment.
        closings: ClosingSet,
        /// The winner's opening.
        opening: Opening,
        /// Key of the round's shard; none for filler.
        key: Option<ShardKey>,
    },
    /// No key came.
    Void {
        /// Closings of a majority; a majority of the seats lists at least one commitment.
        closings: ClosingSet,
    },
    /// Nobody won.
    Idle {
        /// Key of the round's shard if it is known: then the round is spent unwon.
        key: Option<ShardKey>,
    },
}

impl Outcome {
    /// Its kind.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Scored { .. } => OutcomeKind::Scored,
            Self::Void { .. } => OutcomeKind::Void,
            Self::Idle { .. } => OutcomeKind::Idle,
        }
    }

    /// The shard key that it reveals.
    pub fn key(&self) -> Option<&ShardKey> {
        match self {
            Self::Scored { key, .. } | Self::Idle { key } => key.as_ref(),
            Self::Void { .. } => None,
        }
    }
}

/// Everything of a block but its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Votes on the parent, sorted by seat, one per seat.
    pub votes: Vec<SignedVote>,
    /// Votes of a quorum on the highest ancestor above the parent state's justified height, if there is one.
    pub certificate: Option<Certificate>,
    /// What became of the round.
    pub outcome: Outcome,
    /// In the order in which they are executed.
    pub transactions: Vec<SignedTransaction>,
}

impl Body {
    /// Hash that stands in the header.
    pub fn root(&self) -> Hash32 {
        hash_value(Domain::Body, self)
    }
}

/// A whole block. A signed scored block is also the candidate of its miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Signed header.
    pub header: SignedHeader,
    /// Body.
    pub body: Body,
}

impl Block {
    /// Names the block.
    pub fn hash(&self) -> BlockHash {
        self.header.message.hash()
    }

    /// Its height.
    pub fn height(&self) -> Height {
        self.header.message.height
    }

    /// The block before.
    pub fn parent(&self) -> BlockHash {
        self.header.message.parent
    }
}
