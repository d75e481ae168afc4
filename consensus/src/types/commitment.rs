//! Commitments: a miner binds itself to an artefact before the test shard is known.

use podl_chain_spec::{AccountId, Hash32};
use serde::{Deserialize, Serialize};

use super::{BlockHash, ModelRoot, TaskId};
use crate::hash::{Domain, hash_value};
use crate::signed::Signable;

/// Opaque id of a commitment: hides the model root behind a salt until it is opened.
pub type CommitmentId = Hash32;

/// Owner and parent stand inside, so that it can be neither stolen nor replayed (docs/protocol.md, section 3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Commitment {
    /// The block that the interval builds on.
    pub parent: BlockHash,
    /// The interval's task, or the filler task of that parent.
    pub task: TaskId,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// Who signs, pays the fee, and produces the block when it wins.
    pub owner: AccountId,
    /// [`commitment_id`] of the artefact.
    pub id: CommitmentId,
}

impl Signable for Commitment {
    const DOMAIN: Domain = Domain::Commitment;

    fn signer(&self) -> AccountId {
        self.owner
    }
}

impl Commitment {
    /// Hash of the commitment without its signature; lists are sorted by it.
    pub fn hash(&self) -> Hash32 {
        hash_value(Domain::Commitment, self)
    }
}

/// The id that commits `owner` to an artefact in one interval on one chain.
pub fn commitment_id(
    chain: &Hash32,
    parent: &BlockHash,
    task: &TaskId,
    round: u32,
    owner: &AccountId,
    model_root: &ModelRoot,
    salt: &[u8; 32],
) -> CommitmentId {
    hash_value(Domain::CommitmentId, &(chain, parent, task, round, owner, model_root, salt))
}
