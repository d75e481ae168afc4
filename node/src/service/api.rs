//! The RPC methods of a running node, as questions to its core.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jsonrpsee::core::async_trait;
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::codec;
use podl_consensus::rules::transaction::least_fee_of;
use podl_consensus::types::{
    BlobRoot, Block, BlockHash, Height, Payment, SignedTransaction, TaskId, Transaction, TransactionKind,
};
use podl_nas::data::{DataError, DatasetSpec};
use podl_network::NetworkHandle;
use podl_rpc::types::{
    AccountView, BlobChunk, BlockId, BlockView, CHUNK_BYTES, HexBytes, HistoryEntry, HistoryKind, IntervalStatus,
    LIST_LIMIT, ModelEntry, NodeStatus, PayoutView, PeerInfo, PoolStatus, PublishReply, PublishRequest, RawBlock,
    SeatsView, ShareListView, ShareProofView, StateProofView, StateSubject, SupplyView, TaskDetail, TaskSummary,
    TxStatus, WAIT_LIMIT_MS,
};
use podl_rpc::{AdminApiServer, ApiError, ApiErrorKind, NodeApiServer};
use tokio::sync::oneshot;

use super::clock::Clock;
use super::core::{Core, ReadError, SendError};
use super::input::{CoreHandle, Stopped};
use super::metrics::Gauge;
use super::publisher::KEYS_FOLDER;
use super::supply::SupplyAudits;
use crate::publish::{Publication, PublishError, Recipe, prepare};
use crate::shard_keys;
use crate::wallet::Wallet;

/// What the pool answers, where this node manages one.
#[async_trait]
pub trait PoolApi: Send + Sync + 'static {
    /// How it fares.
    async fn status(&self) -> PoolStatus;
    /// Its metrics.
    fn gauges(&self) -> Vec<Gauge>;
    /// Its payouts, newest first.
    async fn payouts(&self, limit: usize) -> Vec<PayoutView>;
    /// The share list of a block that it won.
    async fn shares(&self, block: BlockHash) -> Option<ShareListView>;
    /// An account's rows of it with proofs.
    async fn share_proofs(&self, block: BlockHash, account: AccountId) -> Option<Vec<ShareProofView>>;
}

/// Everything that the methods need.
pub struct Shared {
    pub(super) core: CoreHandle,
    pub(super) network: NetworkHandle,
    pub(super) spec: Arc<ChainSpec>,
    pub(super) wallet: Option<Wallet>,
    pub(super) data_dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) is_mining: bool,
    pub(super) pool: OnceLock<Arc<dyn PoolApi>>,
    pub(super) supply: SupplyAudits,
}

/// The methods. Cheap to clone.
#[derive(Clone)]
pub struct Api(pub(super) Arc<Shared>);

fn stopping(_: Stopped) -> ApiError {
    ApiError::new(ApiErrorKind::NotReady, "the node is stopping")
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ApiErrorKind::Internal, error.to_string())
}

fn not_found(what: &str) -> ApiError {
    ApiError::new(ApiErrorKind::NotFound, format!("there is no such {what} here"))
}

fn rejected(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ApiErrorKind::Rejected, error.to_string())
}

impl Api {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.0.core.ask(question).await.map_err(stopping)
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.ask(question).await?.map_err(internal)
    }

    fn wallet(&self) -> Result<&Wallet, ApiError> {
        let none =
            || ApiError::new(ApiErrorKind::Unavailable, "this node runs without a wallet; start it with --wallet");
        self.0.wallet.as_ref().ok_or_else(none)
    }

    fn pool(&self) -> Result<&Arc<dyn PoolApi>, ApiError> {
        let none =
            || ApiError::new(ApiErrorKind::Unavailable, "this node manages no pool; start it with --pool-manager");
        self.0.pool.get().ok_or_else(none)
    }

    /// Signs a transaction of the node's account with its next nonce, and submits it.
    async fn send(&self, kind: TransactionKind, fee: Option<Amount>) -> Result<(SignedTransaction, Hash32), ApiError> {
        self.wallet()?;
        self.ask(move |core| core.send(kind, fee)).await?.map_err(|error| match error {
            SendError::Core(error) => internal(error),
            error => rejected(error),
        })
    }
}

fn raw(block: &Block) -> RawBlock {
    RawBlock { height: block.height(), hash: block.hash(), bytes: HexBytes(codec::encode(block)) }
}

#[async_trait]
impl NodeApiServer for Api {
    async fn node_status(&self) -> Result<NodeStatus, ApiError> {
        let shared = &self.0;
        let account = shared.wallet.as_ref().map(Wallet::account);
        let peers = shared.network.peers().await.map_err(internal)?.len();
        let free = podl_storage::free_disk_bytes(&shared.data_dir).unwrap_or(0);
        let (uptime_ms, peer_id) = (shared.clock.now_ms(), shared.network.peer_id().to_string());
        let (is_mining, is_pool_manager) = (shared.is_mining, shared.pool.get().is_some());
        self.ask(move |core| NodeStatus {
            version: crate::VERSION.into(),
            commit: crate::COMMIT.into(),
            chain_name: core.spec().name.clone(),
            chain: core.spec().genesis_hash(),
            peer_id,
            listen: core.listen_addresses().to_vec(),
            account,
            is_seat: account.is_some_and(|a| core.head_meta().is_some_and(|m| m.seats.is_seat(&a))),
            is_mining,
            is_pool_manager,
            head: core.head().into(),
            finalised: core.finalised().into(),
            is_syncing: core.is_syncing(),
            network_height: core.network_height(),
            peers: u32::try_from(peers).unwrap_or(u32::MAX),
            mempool_transactions: u32::try_from(core.waiting_transactions()).unwrap_or(u32::MAX),
            uptime_ms,
            disk_free_bytes: free,
        })
        .await
    }

    async fn node_peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        let peers = self.0.network.peers().await.map_err(internal)?;
        let heights = self.ask(|core| core.peer_heights()).await?;
        let info = |p: podl_network::PeerInfo| PeerInfo {
            peer_id: p.peer.to_string(),
            address: p.address.to_string(),
            agent: p.agent,
            is_outbound: p.outbound,
            height: heights.get(&p.peer).copied(),
            points: p.points,
            connected_ms: u64::try_from(p.connected.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(peers.into_iter().map(info).collect())
    }

    async fn chain_spec(&self) -> Result<ChainSpec, ApiError> {
        Ok(self.0.spec.as_ref().clone())
    }

    async fn chain_tip(&self) -> Result<BlockView, ApiError> {
        let tip = self.read(|core| {
            let hash = core.head().block;
            Ok(core.find_block(BlockId::Hash(hash))?.map(|block| core.block_view(&block)))
        });
        tip.await?.ok_or_else(|| ApiError::new(ApiErrorKind::NotFound, "the chain has no block after genesis yet"))
    }

    async fn chain_block(&self, id: BlockId) -> Result<BlockView, ApiError> {
        let found = self.read(move |core| Ok(core.find_block(id)?.map(|block| core.block_view(&block)))).await?;
        found.ok_or_else(|| not_found("block"))
    }

    async fn chain_raw_block(&self, id: BlockId) -> Result<RawBlock, ApiError> {
        let found = self.read(move |core| core.find_block(id)).await?;
        found.as_ref().map(raw).ok_or_else(|| not_found("block"))
    }

    async fn chain_wait(&self, height: Height, timeout_ms: u64) -> Result<Option<BlockView>, ApiError> {
        let (answer, answered) = oneshot::channel();
        let timeout_ms = timeout_ms.min(WAIT_LIMIT_MS);
        self.ask(move |core| core.wait_for(height, timeout_ms, answer)).await?;
        // A waiter that expired is dropped with its sender.
        Ok(answered.await.ok().flatten())
    }

    async fn chain_seats(&self) -> Result<SeatsView, ApiError> {
        let meta = self.ask(|core| core.head_meta()).await?;
        meta.as_ref().map(SeatsView::from).ok_or_else(|| internal("the head has no state"))
    }

    async fn chain_supply(&self) -> Result<SupplyView, ApiError> {
        self.0.supply.latest().await.map_err(internal)
    }

    async fn chain_state_proof(&self, subject: StateSubject) -> Result<StateProofView, ApiError> {
        self.read(move |core| core.prove(subject)).await?.ok_or_else(|| internal("the head has no state"))
    }

    async fn account_get(&self, account: AccountId) -> Result<AccountView, ApiError> {
        self.read(move |core| core.account(&account)).await
    }

    async fn account_history(
        &self,
        account: AccountId,
        before: Option<Height>,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, ApiError> {
        let limit = limit.min(LIST_LIMIT) as usize;
        self.read(move |core| history(core, &account, before.unwrap_or(Height::MAX), limit)).await
    }

    async fn tx_submit(&self, transaction: HexBytes) -> Result<Hash32, ApiError> {
        let limit = self.0.spec.limits.transaction_bytes as usize;
        let signed = codec::decode(&transaction.0, limit).map_err(|e| ApiError::invalid(e.to_string()))?;
        self.ask(move |core| core.submit(signed)).await?.map_err(rejected)
    }

    async fn tx_status(&self, id: Hash32) -> Result<TxStatus, ApiError> {
        self.read(move |core| core.transaction(&id)).await
    }

    async fn task_list(&self, all: bool, limit: u32) -> Result<Vec<TaskSummary>, ApiError> {
        let limit = limit.min(LIST_LIMIT) as usize;
        let tasks = self.read(move |core| if all { core.all_tasks(limit) } else { core.live_tasks() }).await?;
        Ok(tasks.iter().take(limit).map(|(id, spec, status)| TaskSummary::new(*id, spec, status)).collect())
    }

    async fn task_get(&self, id: TaskId) -> Result<TaskDetail, ApiError> {
        let task = self.read(move |core| core.task(&id)).await?;
        task.map(|(id, spec, status)| TaskDetail::new(id, &spec, &status)).ok_or_else(|| not_found("task"))
    }

    async fn model_list(&self, task: Option<TaskId>, limit: u32) -> Result<Vec<ModelEntry>, ApiError> {
        let limit = limit.min(LIST_LIMIT) as usize;
        self.read(move |core| core.models(task, limit)).await
    }

    async fn blob_get(&self, root: BlobRoot, offset: u64, bytes: u32) -> Result<BlobChunk, ApiError> {
        let store = self.0.network.blobs().clone();
        let read = tokio::task::spawn_blocking(move || store.get(&root)).await.map_err(internal)?;
        let blob = read.map_err(|_| not_found("blob"))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(blob.len());
        let end = start.saturating_add(bytes.min(CHUNK_BYTES) as usize).min(blob.len());
        let total_bytes = blob.len() as u64;
        Ok(BlobChunk { root, total_bytes, offset, bytes: HexBytes(blob[start..end].to_vec()) })
    }

    async fn interval_status(&self) -> Result<IntervalStatus, ApiError> {
        let status = self.read(|core| core.interval_status()).await?;
        status.ok_or_else(|| ApiError::new(ApiErrorKind::NotReady, "the node has not reached an interval yet"))
    }

    async fn pool_status(&self) -> Result<PoolStatus, ApiError> {
        Ok(self.pool()?.status().await)
    }

    async fn pool_payouts(&self, limit: u32) -> Result<Vec<PayoutView>, ApiError> {
        Ok(self.pool()?.payouts(limit.min(LIST_LIMIT) as usize).await)
    }

    async fn pool_shares(&self, block: BlockHash) -> Result<ShareListView, ApiError> {
        self.pool()?.shares(block).await.ok_or_else(|| not_found("share list"))
    }

    async fn pool_share_proofs(&self, block: BlockHash, account: AccountId) -> Result<Vec<ShareProofView>, ApiError> {
        self.pool()?.share_proofs(block, account).await.ok_or_else(|| not_found("share list"))
    }
}

/// History of an account: blocks above the final one first, then the rows of final blocks.
fn history(core: &Core, account: &AccountId, before: Height, limit: usize) -> Result<Vec<HistoryEntry>, ReadError> {
    let mut rows = Vec::new();
    for (hash, block) in core.recent_blocks().iter().filter(|(_, block)| block.height() < before) {
        let own = podl_storage::history_of(hash, block).into_iter().filter(|(who, _)| who == account);
        let entries: Vec<HistoryEntry> = own.map(|(_, row)| entry(&row, false)).collect();
        rows.extend(entries.into_iter().rev());
    }
    let left = limit.saturating_sub(rows.len());
    rows.extend(core.database().history(account, before, left)?.iter().map(|row| entry(row, true)));
    rows.truncate(limit);
    Ok(rows)
}

fn entry(row: &podl_storage::HistoryEntry, is_final: bool) -> HistoryEntry {
    use podl_storage::HistoryKind as Kind;
    let kind = match row.kind {
        Kind::Sent => HistoryKind::Sent,
        Kind::Received => HistoryKind::Received,
        Kind::PaidOut => HistoryKind::PaidOut,
        Kind::PoolPay => HistoryKind::PoolPay,
        Kind::Published => HistoryKind::Published,
        Kind::Cancelled => HistoryKind::Cancelled,
        Kind::Produced => HistoryKind::Produced,
        Kind::Other => HistoryKind::Other,
    };
    HistoryEntry {
        height: row.height,
        block: row.block,
        kind,
        tx: row.transaction,
        amount: row.amount,
        other: row.other,
        fee: row.fee,
        is_final,
    }
}

#[async_trait]
impl AdminApiServer for Api {
    async fn admin_publish_task(&self, request: PublishRequest) -> Result<PublishReply, ApiError> {
        let wallet = self.wallet()?.clone();
        let (spec, recipe) = (self.0.spec.clone(), Recipe::from(&request));
        let dataset: DatasetSpec = request.dataset.parse().map_err(|e: DataError| ApiError::invalid(e.to_string()))?;
        // Reading, cutting, hashing and sealing a data set takes seconds.
        let made = tokio::task::spawn_blocking(move || prepare(&dataset.load()?, &recipe, &spec)).await;
        let publication = made.map_err(internal)?.map_err(|e: PublishError| ApiError::invalid(e.to_string()))?;
        self.store_blobs(&publication).await?;
        let kind = TransactionKind::Publish(Box::new(publication.task.clone()));
        self.publish(&wallet, publication, kind, request.backup).await
    }

    async fn admin_cancel_task(&self, id: TaskId) -> Result<Hash32, ApiError> {
        Ok(self.send(TransactionKind::Cancel(id), None).await?.1)
    }

    async fn admin_send(&self, to: AccountId, amount: Amount, fee: Option<Amount>) -> Result<Hash32, ApiError> {
        Ok(self.send(TransactionKind::Transfer(Payment { to, amount }), fee).await?.1)
    }

    async fn admin_connect(&self, address: String) -> Result<(), ApiError> {
        let address =
            address.parse().map_err(|e| ApiError::invalid(format!("{address:?} is not a multiaddress: {e}")))?;
        self.0.network.dial(address).await.map(drop).map_err(rejected)
    }

    async fn admin_shutdown(&self) -> Result<(), ApiError> {
        tracing::info!("stop asked over RPC");
        let core = self.0.core.clone();
        // The queue may be full; the answer must not wait for it.
        tokio::task::spawn_blocking(move || core.stop());
        Ok(())
    }
}

impl Api {
    async fn store_blobs(&self, publication: &Publication) -> Result<(), ApiError> {
        let store = self.0.network.blobs().clone();
        let blobs: Vec<Vec<u8>> = publication.sealed.iter().chain([&publication.data]).cloned().collect();
        let stored = tokio::task::spawn_blocking(move || blobs.iter().try_for_each(|b| store.insert(b).map(drop)));
        stored.await.map_err(internal)?.map_err(internal)
    }

    /// Keys on disk in two copies first; then the transaction.
    async fn publish(
        &self,
        wallet: &Wallet,
        publication: Publication,
        kind: TransactionKind,
        backup: Option<PathBuf>,
    ) -> Result<PublishReply, ApiError> {
        let sender = wallet.account();
        let nonce = self.read(move |core| core.account(&sender)).await?.next_nonce;
        let mut message = Transaction { sender, nonce, fee: Amount::ZERO, kind };
        message.fee = least_fee_of(&self.0.spec, &message);
        let task = message.task_id().ok_or_else(|| internal("not a publication"))?;
        let folder = self.0.data_dir.join(KEYS_FOLDER);
        std::fs::create_dir_all(&folder).map_err(internal)?;
        let key_file = folder.join(format!("{task}.keys"));
        let backup_file = backup.unwrap_or_else(|| self.0.data_dir.join(format!("{task}.keys.backup")));
        let chain = self.0.spec.genesis_hash();
        shard_keys::create(&key_file, wallet, chain, task, &publication.keys).map_err(internal)?;
        shard_keys::create(&backup_file, wallet, chain, task, &publication.keys).map_err(internal)?;
        let fee = message.fee;
        let signed = wallet.sign(message, &chain);
        let keys = publication.keys;
        let submitted = self
            .ask(move |core| {
                core.add_task_keys(task, keys);
                core.submit(signed)
            })
            .await?;
        let tx = submitted.map_err(|error| {
            // Nothing was published: the files would only confuse.
            for file in [&key_file, &backup_file] {
                let _ = std::fs::remove_file(file);
            }
            rejected(error)
        })?;
        let t = &publication.task;
        let rewards = t.reward.checked_mul(t.shards.len() as u64).and_then(|r| r.checked_add(t.bond));
        let cost = rewards.and_then(|r| r.checked_add(fee)).ok_or_else(|| internal("the cost overflows"))?;
        Ok(PublishReply { task, tx, cost, key_file, backup_file })
    }
}
