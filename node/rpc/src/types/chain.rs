//! Blocks and seats as RPC shows them.

use std::fmt;
use std::str::FromStr;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::state::{Checkpoint, Meta};
use podl_consensus::types::{Block, BlockHash, Height, ModelRoot, Outcome, OutcomeKind, SignedTransaction, TaskId};
use podl_consensus::types::{ClosingSet, TransactionKind};
use serde::{Deserialize, Serialize};

use super::HexBytes;

/// A block by number or by name: a JSON number is a height on the node's chain, a text is a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BlockId {
    /// On the chain of the node's head.
    Height(Height),
    /// Any block that the node knows.
    Hash(BlockHash),
}

impl FromStr for BlockId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(height) = text.parse() {
            return Ok(Self::Height(height));
        }
        text.parse().map(Self::Hash).map_err(|_| format!("expected a height or a block hash, got {text:?}"))
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Height(height) => height.fmt(f),
            Self::Hash(hash) => hash.fmt(f),
        }
    }
}

/// A block by height and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

impl From<Checkpoint> for CheckpointView {
    fn from(point: Checkpoint) -> Self {
        Self { height: point.height, hash: point.block }
    }
}

/// The score of a block's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreView {
    /// Names the artefact; `blob_get` serves it.
    pub model_root: ModelRoot,
    /// Bytes of the artefact.
    pub artefact_bytes: u32,
    /// Images of the shard that it classifies correctly.
    pub correct: u32,
    /// Images of the shard.
    pub images: u32,
    /// Multiply-accumulates x bits of one image; fewer win ties.
    pub mac_bits: u64,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionView {
    /// Names it.
    pub id: Hash32,
    /// Who sent it.
    pub sender: AccountId,
    /// How many of the sender came before.
    pub nonce: u64,
    /// What it paid.
    pub fee: Amount,
    /// `transfer`, `batch_payout`, `publish`, `cancel`, `evidence` or `leave_seat`.
    pub kind: String,
    /// To whom, of a transfer.
    pub to: Option<AccountId>,
    /// The sum that it moves, of a transfer or a payout.
    pub amount: Option<Amount>,
    /// The task that it publishes or cancels.
    pub task: Option<TaskId>,
}

impl From<&SignedTransaction> for TransactionView {
    fn from(signed: &SignedTransaction) -> Self {
        let t = &signed.message;
        let mut view = Self {
            id: t.id(),
            sender: t.sender,
            nonce: t.nonce,
            fee: t.fee,
            kind: String::new(),
            to: None,
            amount: None,
            task: t.task_id(),
        };
        let kind = match &t.kind {
            TransactionKind::Transfer(payment) => {
                (view.to, view.amount) = (Some(payment.to), Some(payment.amount));
                "transfer"
            }
            TransactionKind::BatchPayout(batch) => {
                let sum = batch.payments.iter().try_fold(Amount::ZERO, |sum, p| sum.checked_add(p.amount));
                view.amount = sum;
                "batch_payout"
            }
            TransactionKind::Publish(_) => "publish",
            TransactionKind::Cancel(task) => {
                view.task = Some(*task);
                "cancel"
            }
            TransactionKind::Evidence(_) => "evidence",
            TransactionKind::LeaveSeat => "leave_seat",
        };
        view.kind = kind.into();
        view
    }
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockView {
    /// Its number.
    pub height: Height,
    /// Its name.
    pub hash: BlockHash,
    /// The block before.
    pub parent: BlockHash,
    /// Milliseconds since 1970 by the producer's clock.
    pub time_ms: u64,
    /// `scored`, `void` or `idle`.
    pub kind: OutcomeKind,
    /// Whether the interval worked on filler data, not on a published task.
    pub is_filler: bool,
    /// View of the fallback; 0 for scored blocks.
    pub view: u32,
    /// The interval's task.
    pub task: TaskId,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// Who made it.
    pub producer: AccountId,
    /// Root of the state after it.
    pub state_root: Hash32,
    /// Of a scored block.
    pub score: Option<ScoreView>,
    /// Commitments that its closings list.
    pub commitments: u32,
    /// Closings that it carries.
    pub closings: u32,
    /// Votes on its parent that it carries.
    pub votes: u32,
    /// Whether it carries a certificate.
    pub has_certificate: bool,
    /// Encoded bytes.
    pub bytes: u32,
    /// Whether it is final.
    pub is_final: bool,
    /// What it executed.
    pub transactions: Vec<TransactionView>,
}

impl BlockView {
    /// The view of a block. `shard_images` are those of its interval's workload; `is_filler` whether that was the
    /// filler; `is_final` what the node's last final block says.
    pub fn new(block: &Block, shard_images: u32, is_filler: bool, is_final: bool) -> Self {
        let header = &block.header.message;
        let (score, closings) = outcome(&block.body.outcome, shard_images);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            height: header.height,
            hash: block.hash(),
            parent: header.parent,
            time_ms: header.time_ms,
            kind: header.kind,
            is_filler,
            view: header.view,
            task: header.task,
            round: header.round,
            producer: header.producer,
            state_root: header.state_root,
            score,
            commitments: closings.map_or(0, |set| count(set.union.len())),
            closings: closings.map_or(0, |set| count(set.closings.len())),
            votes: count(block.body.votes.len()),
            has_certificate: block.body.certificate.is_some(),
            bytes: count(podl_consensus::codec::encode(block).len()),
            is_final,
            transactions: block.body.transactions.iter().map(TransactionView::from).collect(),
        }
    }
}

fn outcome(outcome: &Outcome, images: u32) -> (Option<ScoreView>, Option<&ClosingSet>) {
    match outcome {
        Outcome::Scored { closings, opening, .. } => {
            let score = ScoreView {
                model_root: opening.model_root,
                artefact_bytes: opening.artefact_bytes,
                correct: opening.correct,
                images,
                mac_bits: opening.mac_bits,
            };
            (Some(score), Some(closings))
        }
        Outcome::Void { closings } => (None, Some(closings)),
        Outcome::Idle { .. } => (None, None),
    }
}

/// A block's canonical bytes, for export and for nodes that check for themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawBlock {
    /// Its number.
    pub height: Height,
    /// Its name.
    pub hash: BlockHash,
    /// Canonical encoding, hexadecimal.
    pub bytes: HexBytes,
}

/// A place among the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatView {
    /// Who holds it.
    pub account: AccountId,
    /// What is locked for it.
    pub bond: Amount,
    /// Height of the block whose finality gave it; 0 for genesis seats.
    pub since: Height,
    /// Highest height whose block carried a vote of it.
    pub last_vote: Height,
}

/// Seats, finality and money after the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatsView {
    /// Height of the state.
    pub height: Height,
    /// Highest justified block.
    pub justified: CheckpointView,
    /// Highest final block.
    pub finalised: CheckpointView,
    /// Today's seats, oldest first.
    pub seats: Vec<SeatView>,
    /// Accounts of the set before.
    pub previous: Vec<AccountId>,
    /// All money there is.
    pub supply: Amount,
    /// All money ever made after genesis.
    pub minted: Amount,
    /// All money ever burned.
    pub burned: Amount,
}

impl From<&Meta> for SeatsView {
    fn from(meta: &Meta) -> Self {
        let seat = |s: &podl_consensus::state::Seat| SeatView {
            account: s.account,
            bond: s.bond,
            since: s.since,
            last_vote: s.last_vote,
        };
        Self {
            height: meta.height,
            justified: meta.justified.into(),
            finalised: meta.finalised.into(),
            seats: meta.seats.current.iter().map(seat).collect(),
            previous: meta.seats.previous.clone(),
            supply: meta.supply,
            minted: meta.minted,
            burned: meta.burned,
        }
    }
}
