//! Transactions: what accounts ask of the chain.

use podl_chain_spec::{AccountId, Amount, Hash32};
use serde::{Deserialize, Serialize};

use super::{BlobRoot, Closing, SignedHeader, SignedVote, TaskId};
use crate::hash::{Domain, hash_value};
use crate::signed::{Signable, Signed};
use crate::workload::Workload;

/// A blob by root and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// BLAKE3 of the bytes.
    pub root: BlobRoot,
    /// How many bytes.
    pub bytes: u64,
}

/// A sealed test shard: one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRef {
    /// The encrypted shard, as it travels.
    pub sealed: BlobRef,
    /// Hash of its key, so that a key can be checked before the blob is there.
    pub key_hash: Hash32,
    /// BLAKE3 of the plaintext: a cipher alone does not commit to its key.
    pub plain_root: BlobRoot,
}

/// A NAS task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishTask {
    /// For people, 1 to 64 printable characters.
    pub name: String,
    /// What is searched and how it is judged.
    pub workload: Workload,
    /// Training and search-validation images.
    pub data: BlobRef,
    /// Images of the training part; with the space it makes the difficulty.
    pub train_images: u32,
    /// Epochs that the publisher reckons with; enters the difficulty.
    pub epochs: u16,
    /// One sealed shard for each round, in order.
    pub shards: Vec<ShardRef>,
    /// What each round pays.
    pub reward: Amount,
    /// At least one round's reward; burned when a key is withheld.
    pub bond: Amount,
    /// By how many images a later winner must beat the baseline.
    pub min_gain: u32,
    /// A model that the first round must beat, if the publisher has one.
    pub baseline: Option<BlobRef>,
}

/// One payment of a transfer or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// To whom.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
}

/// A pool's payout to its miners in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPayment {
    /// The block whose reward is shared.
    pub block: Hash32,
    /// Merkle root of the share list behind the amounts.
    pub shares_root: Hash32,
    /// Sorted by account, distinct.
    pub payments: Vec<Payment>,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionKind {
    /// Moves money to one account.
    Transfer(Payment),
    /// Moves money to many accounts.
    BatchPayout(BatchPayment),
    /// Posts a task; escrows all rewards and the bond.
    Publish(Box<PublishTask>),
    /// Withdraws a task of the sender's from the next height on; unspent rewards and the bond return.
    Cancel(TaskId),
    /// Proves that a seat signed two messages that exclude each other.
    Evidence(Box<Evidence>),
    /// Gives the sender's seat back.
    LeaveSeat,
}

/// Two signed messages of one key that exclude each other (docs/protocol.md, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Two votes at one height, or one that surrounds the other.
    Votes(SignedVote, SignedVote),
    /// Two different closings on one parent.
    Closings(Signed<Closing>, Signed<Closing>),
    /// Two blocks on one parent.
    Blocks(Box<(SignedHeader, SignedHeader)>),
}

/// One account's order to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Who signs and pays.
    pub sender: AccountId,
    /// How many transactions of the sender came before.
    pub nonce: u64,
    /// Paid to the producer of the block.
    pub fee: Amount,
    /// What it does.
    pub kind: TransactionKind,
}

impl Signable for Transaction {
    const DOMAIN: Domain = Domain::Transaction;

    fn signer(&self) -> AccountId {
        self.sender
    }
}

impl Transaction {
    /// Names the transaction. The signature is not part of it, so it cannot be changed by re-signing.
    pub fn id(&self) -> Hash32 {
        hash_value(Domain::Transaction, self)
    }

    /// Id of the task that it publishes, if it does.
    pub fn task_id(&self) -> Option<TaskId> {
        matches!(self.kind, TransactionKind::Publish(_)).then(|| hash_value(Domain::Task, self))
    }
}

/// A transaction with its sender's signature.
pub type SignedTransaction = Signed<Transaction>;
