//! The methods. Doc comments here are for implementers; docs/rpc.md is for callers.

use jsonrpsee::proc_macros::rpc;
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::types::{BlobRoot, BlockHash, Height, TaskId};

use crate::ApiError;
use crate::types::{
    AccountView, BlobChunk, BlockId, BlockView, HexBytes, HistoryEntry, IntervalStatus, ModelEntry, NodeStatus,
    PayoutView, PeerInfo, PoolStatus, PublishReply, PublishRequest, RawBlock, SeatsView, ShareListView, ShareProofView,
    StateProofView, StateSubject, SupplyView, TaskDetail, TaskSummary, TxStatus,
};

/// What anyone who reaches the node may ask. No method changes anything but the mempool.
#[rpc(server, client)]
pub trait NodeApi {
    /// What the node is and how it fares.
    #[method(name = "node_status")]
    async fn node_status(&self) -> Result<NodeStatus, ApiError>;

    /// Connected peers.
    #[method(name = "node_peers")]
    async fn node_peers(&self) -> Result<Vec<PeerInfo>, ApiError>;

    /// The chain's specification.
    #[method(name = "chain_spec")]
    async fn chain_spec(&self) -> Result<ChainSpec, ApiError>;

    /// The head.
    #[method(name = "chain_tip")]
    async fn chain_tip(&self) -> Result<BlockView, ApiError>;

    /// A block; `NotFound` if the node does not know it.
    #[method(name = "chain_block")]
    async fn chain_block(&self, block: BlockId) -> Result<BlockView, ApiError>;

    /// A block's canonical bytes.
    #[method(name = "chain_raw_block")]
    async fn chain_raw_block(&self, block: BlockId) -> Result<RawBlock, ApiError>;

    /// Answers as soon as the head's height is at least `height`, with the block of the head's chain at that height;
    /// null when `timeout_ms` (at most `WAIT_LIMIT_MS`) passed before.
    #[method(name = "chain_wait")]
    async fn chain_wait(&self, height: Height, timeout_ms: u64) -> Result<Option<BlockView>, ApiError>;

    /// Seats, finality and supply after the head.
    #[method(name = "chain_seats")]
    async fn chain_seats(&self) -> Result<SeatsView, ApiError>;

    /// A recount of all money in the last final state. Slow on a chain of many accounts; one runs at a time.
    #[method(name = "chain_supply")]
    async fn chain_supply(&self) -> Result<SupplyView, ApiError>;

    /// A value of the head's state with its proof.
    #[method(name = "chain_state_proof")]
    async fn chain_state_proof(&self, subject: StateSubject) -> Result<StateProofView, ApiError>;

    /// An account after the head. One that never was is empty.
    #[method(name = "account_get")]
    async fn account_get(&self, account: AccountId) -> Result<AccountView, ApiError>;

    /// What changed an account, newest first: at most `limit` entries of blocks below height `before` (null: from
    /// the head on).
    #[method(name = "account_history")]
    async fn account_history(
        &self,
        account: AccountId,
        before: Option<Height>,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, ApiError>;

    /// Takes a signed transaction (canonical bytes) and passes it on.
    #[method(name = "tx_submit")]
    async fn tx_submit(&self, transaction: HexBytes) -> Result<Hash32, ApiError>;

    /// Where a transaction stands.
    #[method(name = "tx_status")]
    async fn tx_status(&self, id: Hash32) -> Result<TxStatus, ApiError>;

    /// Tasks: those that are pending, open or active, or with `all` also those that ended (newest first, at most
    /// `limit`).
    #[method(name = "task_list")]
    async fn task_list(&self, all: bool, limit: u32) -> Result<Vec<TaskSummary>, ApiError>;

    /// A task.
    #[method(name = "task_get")]
    async fn task_get(&self, id: TaskId) -> Result<TaskDetail, ApiError>;

    /// Models that won blocks, newest first, of one task or (null) of all.
    #[method(name = "model_list")]
    async fn model_list(&self, task: Option<TaskId>, limit: u32) -> Result<Vec<ModelEntry>, ApiError>;

    /// At most `bytes` (and at most `CHUNK_BYTES`) of a blob that the node holds.
    #[method(name = "blob_get")]
    async fn blob_get(&self, root: BlobRoot, offset: u64, bytes: u32) -> Result<BlobChunk, ApiError>;

    /// The interval under way.
    #[method(name = "interval_status")]
    async fn interval_status(&self) -> Result<IntervalStatus, ApiError>;

    /// The pool that this node manages; `Unavailable` if it manages none.
    #[method(name = "pool_status")]
    async fn pool_status(&self) -> Result<PoolStatus, ApiError>;

    /// Payouts of this node's pool, newest first.
    #[method(name = "pool_payouts")]
    async fn pool_payouts(&self, limit: u32) -> Result<Vec<PayoutView>, ApiError>;

    /// The share list of a block that this node's pool won.
    #[method(name = "pool_shares")]
    async fn pool_shares(&self, block: BlockHash) -> Result<ShareListView, ApiError>;

    /// An account's rows of that list with their Merkle proofs.
    #[method(name = "pool_share_proofs")]
    async fn pool_share_proofs(&self, block: BlockHash, account: AccountId) -> Result<Vec<ShareProofView>, ApiError>;
}

/// What only the operator may: it spends the wallet's money or stops the node. Served on `/admin` to callers on the
/// same machine that carry the token.
#[rpc(server, client)]
pub trait AdminApi {
    /// Cuts, seals and publishes a data set; keeps its keys and releases them round by round.
    #[method(name = "admin_publish_task")]
    async fn admin_publish_task(&self, request: PublishRequest) -> Result<PublishReply, ApiError>;

    /// Withdraws a task of the node's account.
    #[method(name = "admin_cancel_task")]
    async fn admin_cancel_task(&self, id: TaskId) -> Result<Hash32, ApiError>;

    /// Sends money from the node's account; null takes the least fee.
    #[method(name = "admin_send")]
    async fn admin_send(&self, to: AccountId, amount: Amount, fee: Option<Amount>) -> Result<Hash32, ApiError>;

    /// Connects to a peer: a multiaddress that ends in `/p2p/PEER-ID`.
    #[method(name = "admin_connect")]
    async fn admin_connect(&self, address: String) -> Result<(), ApiError>;

    /// Stops the node cleanly. Answers before it is down.
    #[method(name = "admin_shutdown")]
    async fn admin_shutdown(&self) -> Result<(), ApiError>;
}
