//! A small node that keeps what it is told in memory, for tests over real sockets.

#![allow(dead_code, reason = "every test file uses some of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonrpsee::core::async_trait;
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::hash::blob_root;
use podl_consensus::state::TaskPhase;
use podl_consensus::types::{BlobRef, Height, OutcomeKind, TaskId};
use podl_consensus::workload::{Bounds, InputShape, Space};
use podl_rpc::server::{Probe, RpcLimits, Server, serve};
use podl_rpc::types::*;
use podl_rpc::{AdminApiServer, ApiError, ApiErrorKind, NodeApiServer, Token};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub fn hash(byte: u8) -> Hash32 {
    Hash32([byte; 32])
}

/// The well-known accounts of the dev chain.
pub fn account(index: usize) -> AccountId {
    ChainSpec::load("dev").unwrap().genesis.accounts[index].account
}

fn row() -> ShareRowView {
    ShareRowView {
        miner: hash(0x11),
        account: account(4),
        macs: 1_800_000_000_000,
        points: 0,
        bonus: Amount(891_000),
        amount: Amount(17_820_000),
    }
}

/// What a call changed.
#[derive(Debug, Default)]
pub struct Ledger {
    pub sent: Vec<(AccountId, Amount)>,
    pub published: Vec<PublishRequest>,
    pub cancelled: Vec<TaskId>,
    pub submitted: Vec<Vec<u8>>,
    pub connected: Vec<String>,
    pub is_stopped: bool,
}

#[derive(Clone)]
pub struct SmallNode {
    pub head: watch::Sender<Height>,
    pub blobs: Arc<BTreeMap<Hash32, Vec<u8>>>,
    pub ledger: Arc<Mutex<Ledger>>,
}

impl SmallNode {
    pub fn new() -> Self {
        let blob: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut blobs = BTreeMap::from([(blob_root(&blob), blob)]);
        blobs.insert(blob_root(b"model"), b"model".to_vec());
        // What a node with a bad disk would serve.
        blobs.insert(hash(0xbb), b"other bytes".to_vec());
        let blobs = Arc::new(blobs);
        Self { head: watch::Sender::new(17), blobs, ledger: Arc::default() }
    }

    fn block(&self, height: Height) -> Result<BlockView, ApiError> {
        let head = *self.head.borrow();
        if height > head {
            return Err(ApiError::new(
                ApiErrorKind::NotFound,
                format!("there is no block {height} yet, the head is {head}"),
            ));
        }
        Ok(BlockView {
            height,
            hash: hash(17),
            parent: hash(16),
            time_ms: 1_790_000_170_000,
            kind: OutcomeKind::Scored,
            is_filler: false,
            view: 0,
            task: hash(5),
            round: 2,
            producer: account(1),
            state_root: hash(0x51),
            score: Some(ScoreView {
                model_root: blob_root(b"model"),
                artefact_bytes: 5,
                correct: 231,
                images: 500,
                mac_bits: 147_000_000,
            }),
            commitments: 4,
            closings: 3,
            votes: 4,
            has_certificate: false,
            bytes: 4711,
            is_final: height + 2 <= head,
            transactions: vec![TransactionView {
                id: hash(7),
                sender: account(8),
                nonce: 3,
                fee: Amount(2200),
                kind: "transfer".into(),
                to: Some(account(7)),
                amount: Some(Amount(12_500_000)),
                task: None,
            }],
        })
    }
}

fn summary() -> TaskSummary {
    TaskSummary {
        id: hash(5),
        name: "birds".into(),
        publisher: account(7),
        phase: TaskPhase::Active,
        rounds: 5,
        next_round: 3,
        reward: Amount(40_000_000),
        difficulty: 1_234_567_890,
        published: 9,
        ready: 4,
        last_winner: Some(RoundWinner {
            model_root: blob_root(b"model"),
            artefact_bytes: 5,
            owner: account(1),
            round: 2,
            correct: 231,
        }),
    }
}

#[async_trait]
impl NodeApiServer for SmallNode {
    async fn node_status(&self) -> Result<NodeStatus, ApiError> {
        let head = *self.head.borrow();
        Ok(NodeStatus {
            version: "0.1.0".into(),
            commit: "0123456789ab".into(),
            chain_name: "dev".into(),
            chain: ChainSpec::load("dev").unwrap().genesis_hash(),
            peer_id: "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/9743".into()],
            account: Some(account(0)),
            is_seat: true,
            is_mining: false,
            is_pool_manager: true,
            head: CheckpointView { height: head, hash: hash(17) },
            finalised: CheckpointView { height: head - 2, hash: hash(15) },
            is_syncing: false,
            network_height: head,
            peers: 3,
            mempool_transactions: 1,
            uptime_ms: 170_000,
            disk_free_bytes: 64 << 30,
        })
    }

    async fn node_peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        Ok(vec![PeerInfo {
            peer_id: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".into(),
            address: "/ip4/10.0.0.7/udp/9743/quic-v1".into(),
            agent: "podl/0.1.0".into(),
            is_outbound: true,
            height: Some(17),
            points: 20,
            connected_ms: 60_000,
        }])
    }

    async fn chain_spec(&self) -> Result<ChainSpec, ApiError> {
        ChainSpec::load("dev").map_err(|e| ApiError::new(ApiErrorKind::Internal, e.to_string()))
    }

    async fn chain_tip(&self) -> Result<BlockView, ApiError> {
        let head = *self.head.borrow();
        self.block(head)
    }

    async fn chain_block(&self, block: BlockId) -> Result<BlockView, ApiError> {
        match block {
            BlockId::Height(height) => self.block(height),
            BlockId::Hash(other) if other == hash(17) => self.block(17),
            BlockId::Hash(other) => {
                Err(ApiError::new(ApiErrorKind::NotFound, format!("there is no block {other} here")))
            }
        }
    }

    async fn chain_raw_block(&self, block: BlockId) -> Result<RawBlock, ApiError> {
        let view = self.chain_block(block).await?;
        Ok(RawBlock { height: view.height, hash: view.hash, bytes: HexBytes(vec![0xc0, 0xde]) })
    }

    async fn chain_wait(&self, height: Height, timeout_ms: u64) -> Result<Option<BlockView>, ApiError> {
        let mut head = self.head.subscribe();
        let limit = Duration::from_millis(timeout_ms.min(WAIT_LIMIT_MS));
        match tokio::time::timeout(limit, head.wait_for(|head| *head >= height)).await {
            Ok(Ok(_)) => self.block(height).map(Some),
            _ => Ok(None),
        }
    }

    async fn chain_seats(&self) -> Result<SeatsView, ApiError> {
        let seat = SeatView { account: account(0), bond: Amount(50_000_000), since: 0, last_vote: 16 };
        Ok(SeatsView {
            height: 17,
            justified: CheckpointView { height: 16, hash: hash(16) },
            finalised: CheckpointView { height: 15, hash: hash(15) },
            seats: vec![seat],
            previous: vec![account(0)],
            supply: Amount(2_007_200_000_000),
            minted: Amount(34_000_000),
            burned: Amount(34_000_000),
        })
    }

    async fn chain_supply(&self) -> Result<SupplyView, ApiError> {
        Ok(SupplyView {
            height: 15,
            block: hash(15),
            supply: Amount(2_007_200_000_000),
            genesis: Amount(2_007_200_000_000),
            minted: Amount(30_000_000),
            burned: Amount(30_000_000),
            accounts: 12,
            spendable: Amount(2_006_720_000_000),
            locked: Amount(120_000_000),
            seat_bonds: Amount(200_000_000),
            tasks: 1,
            escrow: Amount(120_000_000),
            task_bonds: Amount(40_000_000),
            total: Amount(2_007_200_000_000),
            adds_up: true,
        })
    }

    async fn chain_state_proof(&self, subject: StateSubject) -> Result<StateProofView, ApiError> {
        let value = matches!(subject, StateSubject::Account(_)).then(|| HexBytes(vec![1, 2, 3]));
        let (block, state_root, proof) = (hash(17), hash(0x51), HexBytes(vec![4, 5, 6]));
        Ok(StateProofView { height: 17, block, state_root, value, proof })
    }

    async fn account_get(&self, account: AccountId) -> Result<AccountView, ApiError> {
        let locks = vec![LockView { until: 117, amount: Amount(32_000_000) }];
        let (spendable, locked) = (Amount(1_000_000_000), Amount(32_000_000));
        Ok(AccountView { account, height: 17, spendable, locked, locks, nonce: 3, next_nonce: 4 })
    }

    async fn account_history(
        &self,
        _: AccountId,
        before: Option<Height>,
        limit: u32,
    ) -> Result<Vec<HistoryEntry>, ApiError> {
        if limit > LIST_LIMIT {
            return Err(ApiError::invalid(format!("limit is {limit}, at most {LIST_LIMIT} are served")));
        }
        let entry = HistoryEntry {
            height: 17,
            block: hash(17),
            kind: HistoryKind::Sent,
            tx: Some(hash(7)),
            amount: Some(Amount(12_500_000)),
            other: Some(account(7)),
            fee: Some(Amount(2200)),
            is_final: false,
        };
        Ok(if before.is_none_or(|before| before > 17) { vec![entry] } else { Vec::new() })
    }

    async fn tx_submit(&self, transaction: HexBytes) -> Result<Hash32, ApiError> {
        if transaction.0.is_empty() {
            return Err(ApiError::new(ApiErrorKind::Rejected, "the transaction is malformed: no bytes"));
        }
        self.ledger.lock().unwrap().submitted.push(transaction.0);
        Ok(hash(7))
    }

    async fn tx_status(&self, id: Hash32) -> Result<TxStatus, ApiError> {
        Ok(TxStatus { id, state: TxState::Included, height: Some(17), block: Some(hash(17)) })
    }

    async fn task_list(&self, _: bool, _: u32) -> Result<Vec<TaskSummary>, ApiError> {
        Ok(vec![summary()])
    }

    async fn task_get(&self, id: TaskId) -> Result<TaskDetail, ApiError> {
        Ok(TaskDetail {
            summary: TaskSummary { id, ..summary() },
            space: Space::preset("S9", 6).unwrap(),
            bounds: Bounds { lut: 100_000, throughput: 1000 },
            input: InputShape::CIFAR,
            classes: 10,
            shard_images: 500,
            train_images: 9000,
            epochs: 3,
            data: BlobRef { root: hash(0xda), bytes: 30_730_019 },
            escrow: Amount(120_000_000),
            bond: Amount(40_000_000),
            min_gain: 1,
            opened: 10,
        })
    }

    async fn model_list(&self, _: Option<TaskId>, _: u32) -> Result<Vec<ModelEntry>, ApiError> {
        Ok(vec![ModelEntry {
            model_root: blob_root(b"model"),
            artefact_bytes: 5,
            owner: account(1),
            task: hash(5),
            task_name: "birds".into(),
            round: 2,
            height: 17,
            block: hash(17),
            correct: 231,
            images: 500,
            is_final: false,
        }])
    }

    async fn blob_get(&self, root: Hash32, offset: u64, bytes: u32) -> Result<BlobChunk, ApiError> {
        let missing = || ApiError::new(ApiErrorKind::NotFound, format!("the blob {root} is not here"));
        let blob = self.blobs.get(&root).ok_or_else(missing)?;
        let start = usize::try_from(offset).unwrap().min(blob.len());
        let end = (start + bytes.min(CHUNK_BYTES) as usize).min(blob.len());
        let bytes = HexBytes(blob[start..end].to_vec());
        Ok(BlobChunk { root, total_bytes: blob.len() as u64, offset, bytes })
    }

    async fn interval_status(&self) -> Result<IntervalStatus, ApiError> {
        Ok(IntervalStatus {
            height: 18,
            parent: hash(17),
            task: hash(5),
            task_name: "birds".into(),
            round: 3,
            shard_images: 500,
            phase: IntervalPhase::Reveal,
            elapsed_ms: 11_400,
            remaining_ms: Some(1600),
            previous_reveal_ms: Some(412),
            commitments: 5,
            closings: 4,
            has_key: true,
            candidates: vec![CandidateView {
                block: hash(18),
                owner: account(2),
                model_root: hash(0x3d),
                claimed: 240,
                is_verified: true,
            }],
            votes: 0,
            seats: 4,
        })
    }

    async fn pool_status(&self) -> Result<PoolStatus, ApiError> {
        Ok(PoolStatus {
            urls: vec!["/ip4/10.0.0.1/tcp/9743/p2p/12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2".into()],
            account: account(0),
            fee_basis_points: 100,
            pay: PayView::Pplns { window: 4, finder_basis_points: 500 },
            window_macs: 4_365_276_000_000,
            partition: "disjoint".into(),
            best_correct: Some(480),
            holdout_images: 1000,
            commitments: 1,
            running_leases: 1,
            work: PoolWorkView {
                begun: 61,
                done: 58,
                taken_over: 2,
                backed_up: 1,
                audits_passed: 14,
                ..PoolWorkView::default()
            },
            coverage: Some(PoolCoverageView {
                space_networks: "268599008592779114357666015625000000000000".into(),
                searched_networks: Some("268599008592779114357666015625000000000000".into()),
                begun_networks: 61,
                begun_share: 2.271e-40,
            }),
            luck: PoolLuckView { won_intervals: 9, worked_intervals: 21 },
            miners: vec![PoolMinerView {
                peer_id: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".into(),
                account: account(4),
                class: "strong".into(),
                state: "online".into(),
                verified_macs_per_second: 21_000_000_000,
                window_macs: 1_800_000_000_000,
                share_ppm: 412_345,
                kept_back_macs: 0,
                pending: Amount(3_100_000),
                paid: Amount(41_000_000),
                next_payment: Some(Amount(4_082_000)),
                leases: 1,
                accepted: 42,
                refused: 0,
                audits_passed: 12,
                audits_failed: 0,
                own_networks_taken_over: 0,
                own_networks_backed_up: 1,
                networks_taken_over: 2,
                networks_backed_up: 0,
            }],
        })
    }

    async fn pool_payouts(&self, _: u32) -> Result<Vec<PayoutView>, ApiError> {
        Ok(vec![PayoutView {
            block: hash(17),
            height: 17,
            tx: Some(hash(0x7a)),
            is_final: true,
            shares_root: hash(0x5a),
            reward: Amount(18_000_000),
            fee: Amount(180_000),
            payments: vec![(account(4), 1_800_000_000_000, Amount(17_820_000))],
        }])
    }

    async fn pool_shares(&self, block: Hash32) -> Result<ShareListView, ApiError> {
        Ok(ShareListView {
            block,
            height: 17,
            reward: Amount(18_000_000),
            fee_basis_points: 100,
            pay: PayView::Pplns { window: 4, finder_basis_points: 500 },
            model: Some(blob_root(b"model")),
            finder: Some(hash(0x11)),
            fee: Amount(180_000),
            shares_root: hash(0x5a),
            rows: vec![row()],
        })
    }

    async fn pool_share_proofs(&self, _: Hash32, _: AccountId) -> Result<Vec<ShareProofView>, ApiError> {
        Ok(vec![ShareProofView { row: row(), steps: vec![(hash(0x5b), true)] }])
    }
}

#[async_trait]
impl AdminApiServer for SmallNode {
    async fn admin_publish_task(&self, request: PublishRequest) -> Result<PublishReply, ApiError> {
        self.ledger.lock().unwrap().published.push(request);
        Ok(PublishReply {
            task: hash(5),
            tx: hash(9),
            cost: Amount(240_041_230),
            key_file: "/home/alice/podl/keys/task.keys".into(),
            backup_file: "/home/alice/task.keys.backup".into(),
        })
    }

    async fn admin_cancel_task(&self, id: TaskId) -> Result<Hash32, ApiError> {
        self.ledger.lock().unwrap().cancelled.push(id);
        Ok(hash(8))
    }

    async fn admin_send(&self, to: AccountId, amount: Amount, _: Option<Amount>) -> Result<Hash32, ApiError> {
        self.ledger.lock().unwrap().sent.push((to, amount));
        Ok(hash(7))
    }

    async fn admin_connect(&self, address: String) -> Result<(), ApiError> {
        self.ledger.lock().unwrap().connected.push(address);
        Ok(())
    }

    async fn admin_shutdown(&self) -> Result<(), ApiError> {
        self.ledger.lock().unwrap().is_stopped = true;
        Ok(())
    }
}

/// Healthy; ready once the head has a height.
pub struct SmallProbe(pub watch::Receiver<Height>);

impl Probe for SmallProbe {
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if *self.0.borrow() > 0 { Ok(()) } else { Err("catching up: at height 0 of 17".into()) }
    }
}

/// A served node.
pub struct Served {
    pub node: SmallNode,
    pub server: Server,
    pub token: Token,
    pub addr: SocketAddr,
    _folder: tempfile::TempDir,
}

pub async fn start(limits: RpcLimits) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::open_or_create(folder.path()).unwrap();
    let node = SmallNode::new();
    let mut registry = Registry::default();
    let blocks = Counter::<u64>::default();
    blocks.inc_by(17);
    registry.register("podl_blocks", "Blocks imported", blocks);
    let probe = Arc::new(SmallProbe(node.head.subscribe()));
    let admin = Some((node.clone(), token.clone()));
    let any = "127.0.0.1:0".parse().unwrap();
    let server = serve(any, limits, node.clone(), admin, probe, Arc::new(registry)).await.unwrap();
    let addr = server.addr();
    Served { node, server, token, addr, _folder: folder }
}
