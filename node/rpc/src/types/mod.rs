//! What the methods take and give: plain data. Amounts are integers in the smallest unit, times milliseconds, hashes
//! hexadecimal text, accounts bech32m addresses.

mod account;
mod chain;
mod interval;
mod node;
mod pool;
mod supply;
mod task;

pub use account::{AccountView, HistoryEntry, HistoryKind, LockView, StateProofView, StateSubject, TxState, TxStatus};
pub use chain::{BlockId, BlockView, CheckpointView, RawBlock, ScoreView, SeatView, SeatsView, TransactionView};
pub use interval::{CandidateView, IntervalPhase, IntervalStatus};
pub use node::{NodeStatus, PeerInfo};
pub use pool::{
    PayView, PayoutView, PoolCoverageView, PoolLuckView, PoolMinerView, PoolStatus, PoolWorkView, ShareListView,
    ShareProofView, ShareRowView,
};
pub use supply::SupplyView;
pub use task::{BlobChunk, ModelEntry, PublishReply, PublishRequest, RoundWinner, TaskDetail, TaskSummary};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most entries of one list answer.
pub const LIST_LIMIT: u32 = 1000;
/// Most bytes of one blob chunk.
pub const CHUNK_BYTES: u32 = 1 << 20;
/// Longest wait of `chain_wait`, in milliseconds.
pub const WAIT_LIMIT_MS: u64 = 30_000;

/// Bytes that stand as hexadecimal text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(&text).map(Self).map_err(|e| de::Error::custom(format!("expected hexadecimal bytes: {e}")))
    }
}
