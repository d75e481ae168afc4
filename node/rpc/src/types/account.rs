//! Accounts, their history, transactions and state proofs as RPC shows them.

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::state::{Account, StateKey};
use podl_consensus::types::{BlockHash, Height, TaskId};
use serde::{Deserialize, Serialize};

use super::HexBytes;

/// Money that becomes free at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// First height of a block that can spend it.
    pub until: Height,
    /// How much.
    pub amount: Amount,
}

/// An account after the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Who.
    pub account: AccountId,
    /// Height of the state.
    pub height: Height,
    /// What the next block can spend.
    pub spendable: Amount,
    /// What is locked beyond the next block.
    pub locked: Amount,
    /// The locks, soonest first.
    pub locks: Vec<LockView>,
    /// Transactions sent so far, as the chain counts them.
    pub nonce: u64,
    /// Nonce of the next transaction, behind those that wait in the mempool.
    pub next_nonce: u64,
}

impl AccountView {
    /// The account in the state at `height`. `next_nonce` is the mempool's answer.
    pub fn new(id: AccountId, account: &Account, height: Height, next_nonce: u64) -> Self {
        let next = height.saturating_add(1);
        let locks = account.locked.iter().filter(|(until, _)| *until > next);
        Self {
            account: id,
            height,
            spendable: account.spendable(next),
            locked: account.still_locked(next),
            locks: locks.map(|&(until, amount)| LockView { until, amount }).collect(),
            nonce: account.nonce,
            next_nonce,
        }
    }
}

/// What changed an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// It sent a transfer.
    Sent,
    /// It received a transfer.
    Received,
    /// It paid its pool's miners.
    PaidOut,
    /// Its pool paid it.
    PoolPay,
    /// It published a task.
    Published,
    /// It cancelled a task.
    Cancelled,
    /// It produced a block.
    Produced,
    /// Some other transaction of its own.
    Other,
}

/// One line of an account's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Height of the block.
    pub height: Height,
    /// The block.
    pub block: BlockHash,
    /// What happened.
    pub kind: HistoryKind,
    /// The transaction, if it was one.
    pub tx: Option<Hash32>,
    /// How much moved, if money did.
    pub amount: Option<Amount>,
    /// The other side of a transfer or payment.
    pub other: Option<AccountId>,
    /// The fee, of a transaction of its own.
    pub fee: Option<Amount>,
    /// Whether the block is final.
    pub is_final: bool,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxState {
    /// Neither in the chain nor waiting here.
    Unknown,
    /// In the mempool.
    Waiting,
    /// In a block that is not final yet.
    Included,
    /// In a final block.
    Final,
}

/// Where a transaction stands, and in which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxStatus {
    /// The transaction.
    pub id: Hash32,
    /// Where it stands.
    pub state: TxState,
    /// Height of its block.
    pub height: Option<Height>,
    /// Its block.
    pub block: Option<BlockHash>,
}

/// What a state proof is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateSubject {
    /// Seats, finality, supply.
    Meta,
    /// Ids of the live tasks.
    LiveTasks,
    /// An account.
    Account(AccountId),
    /// What was published.
    TaskSpec(TaskId),
    /// Where a task stands.
    TaskStatus(TaskId),
}

impl From<StateSubject> for StateKey {
    fn from(subject: StateSubject) -> Self {
        match subject {
            StateSubject::Meta => Self::Meta,
            StateSubject::LiveTasks => Self::LiveTasks,
            StateSubject::Account(id) => Self::Account(id),
            StateSubject::TaskSpec(id) => Self::TaskSpec(id),
            StateSubject::TaskStatus(id) => Self::TaskStatus(id),
        }
    }
}

/// A value of the state with the proof that a block's state root commits to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateProofView {
    /// Height of the state.
    pub height: Height,
    /// The block whose header carries the root.
    pub block: BlockHash,
    /// The root.
    pub state_root: Hash32,
    /// Canonical bytes of the value; null when there is none.
    pub value: Option<HexBytes>,
    /// `StateProof::to_bytes`, for `podl_consensus::state::verify_proof`.
    pub proof: HexBytes,
}
