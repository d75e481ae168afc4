//! What nodes say to each other: gossip topics and the sync protocol, in canonical bytes with limits.

use crate::sync::Status;
use podl_chain_spec::ChainSpec;
use podl_consensus::codec::{self, CodecError};
use podl_consensus::signed::Signed;
use podl_consensus::types::{
    Block, BlockHash, Commitment, Height, ListedClosing, ShardKey, SignedTransaction, SignedVote, TaskId,
};
use serde::{Deserialize, Serialize};

/// Bytes of an encoded commitment at most: three hashes, an account, a round, a signature.
const COMMITMENT_BYTES: usize = 256;
/// Bytes of an encoded vote at most: hashes of the block and of four tasks, heights, an account, a signature.
const VOTE_BYTES: usize = 512;
/// Bytes of an encoded sync request at most.
pub const SYNC_REQUEST_BYTES: usize = 128;

/// A gossip topic: one kind of message each, so that a flood of one kind cannot hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Transactions.
    Transactions,
    /// Miners' commitments.
    Commitments,
    /// Seats' closings with their lists.
    Closings,
    /// Released shard keys.
    Keys,
    /// Seats' votes.
    Votes,
    /// Candidates and fallback blocks.
    Blocks,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 6] =
        [Self::Transactions, Self::Commitments, Self::Closings, Self::Keys, Self::Votes, Self::Blocks];

    /// Its name on the network, without the chain's prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Commitments => "commitments",
            Self::Closings => "closings",
            Self::Keys => "keys",
            Self::Votes => "votes",
            Self::Blocks => "blocks",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Most bytes of a message on it.
    pub fn limit_bytes(self, spec: &ChainSpec) -> usize {
        match self {
            Self::Transactions => spec.limits.transaction_bytes as usize,
            Self::Commitments => COMMITMENT_BYTES,
            Self::Closings => COMMITMENT_BYTES * (spec.limits.list_cap as usize + 1),
            Self::Keys => 128,
            Self::Votes => VOTE_BYTES,
            Self::Blocks => spec.limits.block_bytes as usize,
        }
    }
}

/// The key of a test shard, as anyone may relay it: the chain holds its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRelease {
    /// Whose shard.
    pub task: TaskId,
    /// Which round's.
    pub round: u32,
    /// The key.
    pub key: ShardKey,
}

/// A message on one of the topics.
#[derive(Clone, Debug)]
pub enum Gossip {
    /// On [`Topic::Transactions`].
    Transaction(SignedTransaction),
    /// On [`Topic::Commitments`].
    Commitment(Signed<Commitment>),
    /// On [`Topic::Closings`].
    Closing(ListedClosing),
    /// On [`Topic::Keys`].
    Key(KeyRelease),
    /// On [`Topic::Votes`].
    Vote(SignedVote),
    /// On [`Topic::Blocks`].
    Block(Box<Block>),
}

impl Gossip {
    /// Its topic.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Transaction(_) => Topic::Transactions,
            Self::Commitment(_) => Topic::Commitments,
            Self::Closing(_) => Topic::Closings,
            Self::Key(_) => Topic::Keys,
            Self::Vote(_) => Topic::Votes,
            Self::Block(_) => Topic::Blocks,
        }
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Transaction(m) => codec::encode(m),
            Self::Commitment(m) => codec::encode(m),
            Self::Closing(m) => codec::encode(m),
            Self::Key(m) => codec::encode(m),
            Self::Vote(m) => codec::encode(m),
            Self::Block(m) => codec::encode(m),
        }
    }

    /// The message that `bytes` are on `topic`.
    ///
    /// # Errors
    /// [`CodecError`]: too long for the topic, malformed or not canonical; the sender is to blame.
    pub fn decode(topic: Topic, bytes: &[u8], spec: &ChainSpec) -> Result<Self, CodecError> {
        let limit = topic.limit_bytes(spec);
        Ok(match topic {
            Topic::Transactions => Self::Transaction(codec::decode(bytes, limit)?),
            Topic::Commitments => Self::Commitment(codec::decode(bytes, limit)?),
            Topic::Closings => Self::Closing(codec::decode(bytes, limit)?),
            Topic::Keys => Self::Key(codec::decode(bytes, limit)?),
            Topic::Votes => Self::Vote(codec::decode(bytes, limit)?),
            Topic::Blocks => Self::Block(Box::new(codec::decode(bytes, limit)?)),
        })
    }
}

/// What a node asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncRequest {
    /// Where are you? Carries the asker's own place, so that one round trip tells both.
    Status(Status),
    /// Blocks of your head's chain from a height on.
    Range {
        /// First height.
        from: Height,
        /// At most so many.
        count: u32,
    },
    /// One block.
    Block(BlockHash),
    /// What was said in the interval on this parent: gossip reaches only those who listened at the time.
    Interval(BlockHash),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncResponse {
    /// To [`SyncRequest::Status`].
    Status(Status),
    /// To [`SyncRequest::Range`] and [`SyncRequest::Block`]; none when unknown.
    Blocks(Vec<Block>),
    /// To [`SyncRequest::Interval`].
    Interval(Box<IntervalMessages>),
}

/// The messages of an interval that a node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalMessages {
    /// Commitments on the parent.
    pub commitments: Vec<Signed<Commitment>>,
    /// Closings on the parent, with their lists.
    pub closings: Vec<ListedClosing>,
    /// The shard's key, if it is known.
    pub key: Option<KeyRelease>,
    /// Votes on the parent and on blocks above it.
    pub votes: Vec<SignedVote>,
    /// Blocks on the parent, candidates among them.
    pub blocks: Vec<BlockHash>,
}

/// Votes in an answer at most: those of two full seat sets at some heights.
const ANSWER_VOTES: usize = 2_048;
/// Hashes of blocks in an answer at most.
const ANSWER_BLOCKS: usize = 64;

impl IntervalMessages {
    /// Whether these are no more than a node can hold of one interval.
    pub fn is_bounded(&self, spec: &ChainSpec) -> bool {
        self.commitments.len() <= spec.limits.list_cap as usize
            && self.closings.len() <= usize::from(spec.seats.window)
            && self.votes.len() <= ANSWER_VOTES
            && self.blocks.len() <= ANSWER_BLOCKS
    }

    /// Drops what does not fit an answer: of votes the oldest, which are the first to be in blocks.
    pub fn bound(&mut self, spec: &ChainSpec) {
        self.commitments.truncate(spec.limits.list_cap as usize);
        self.closings.truncate(usize::from(spec.seats.window));
        self.blocks.truncate(ANSWER_BLOCKS);
        self.votes.sort_by_key(|vote| std::cmp::Reverse(vote.message.height));
        self.votes.truncate(ANSWER_VOTES);
        let limit = sync_response_bytes(spec) - 1024;
        while codec::encode(self).len() > limit {
            // Closings carry whole lists, and each comes again by gossip.
            if self.closings.pop().is_none() {
                self.votes.truncate(self.votes.len() / 2);
            }
        }
    }
}

/// Most bytes of an encoded sync response: a full block, or a range that stops before this.
pub fn sync_response_bytes(spec: &ChainSpec) -> usize {
    2 * spec.limits.block_bytes as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use podl_chain_spec::{AccountId, Hash32};
    use podl_consensus::signed::Signature;
    use podl_consensus::types::Vote;

    #[test]
    fn the_largest_vote_fits_and_a_longer_one_is_refused() {
        let spec = ChainSpec::load("dev").unwrap();
        let message = Vote {
            height: u64::MAX,
            block: Hash32([255; 32]),
            justified: u64::MAX,
            ready: vec![Hash32([255; 32]); podl_consensus::types::READY_CAP],
            seat: AccountId([255; 32]),
        };
        let vote = Signed { message, signature: Signature([255; 64]) };
        let bytes = Gossip::Vote(vote.clone()).encode();
        assert!(matches!(Gossip::decode(Topic::Votes, &bytes, &spec), Ok(Gossip::Vote(v)) if v == vote));
        let long = vec![0; VOTE_BYTES + 1];
        assert!(matches!(Gossip::decode(Topic::Votes, &long, &spec), Err(CodecError::TooLong { .. })));
        assert!(Gossip::decode(Topic::Blocks, &bytes, &spec).is_err());
    }

    #[test]
    fn topics_are_found_by_name() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_name(topic.name()), Some(topic));
        }
        assert_eq!(Topic::from_name("gossip"), None);
    }
}
