//! What RPC shows of the pool.

use std::sync::Arc;

use jsonrpsee::core::async_trait;
use libp2p::PeerId;
use podl_chain_spec::AccountId;
use podl_consensus::types::BlockHash;
use podl_pool::drivers::{ManagerDriver, MinerOverview, PoolOverview};
use podl_pool::ledger::ShareList;
use podl_pool::manager::PoolParams;
use podl_pool::types::{Class, MinerId};
use podl_rpc::types::{PayoutView, PoolMinerView, PoolStatus, PoolWorkView, ShareListView, ShareProofView};

use crate::service::api::PoolApi;
use crate::service::input::CoreHandle;
use crate::shares;

/// Reads the pool for RPC.
pub struct PoolReader {
    pub(super) manager: Arc<ManagerDriver>,
    pub(super) peer_id: PeerId,
    pub(super) core: CoreHandle,
    pub(super) account: AccountId,
    pub(super) params: PoolParams,
}

#[async_trait]
impl PoolApi for PoolReader {
    async fn status(&self) -> PoolStatus {
        let listen = self.core.ask(|core| core.listen_addresses().to_vec()).await.unwrap_or_default();
        let overview = self.manager.overview();
        PoolStatus {
            urls: listen.iter().map(|address| format!("{address}/p2p/{}", self.peer_id)).collect(),
            account: self.account,
            fee_basis_points: self.params.fee_basis_points.into(),
            pay: shares::pay_view(self.params.pay),
            window_macs: u64::try_from(overview.window_macs).unwrap_or(u64::MAX),
            partition: format!("{:?}", self.params.scheme).to_lowercase(),
            best_correct: overview.best.map(|(correct, _)| correct),
            holdout_images: overview.best.map_or(0, |(_, images)| images),
            commitments: u32::try_from(overview.commitments).unwrap_or(u32::MAX),
            running_leases: u32::try_from(overview.running_leases).unwrap_or(u32::MAX),
            work: work_view(&overview),
            miners: overview.miners.iter().map(|miner| miner_view(miner, &overview)).collect(),
        }
    }

    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let overview = self.manager.overview();
        let PoolWorkView { begun, done, dropped, taken_over, backed_up, audits_passed, audits_failed } =
            work_view(&overview);
        let online = overview.miners.iter().filter(|miner| miner.online).count();
        vec![
            ("podl_pool_miners", "Miners that are online", online as u64),
            ("podl_pool_leases", "Leases under way", overview.running_leases as u64),
            ("podl_pool_checks_waiting", "Results that wait to be checked", overview.pending_evaluations as u64),
            ("podl_pool_networks_begun", "Networks whose training was begun", begun),
            ("podl_pool_networks_done", "Networks trained as far as they should be", done),
            ("podl_pool_networks_dropped", "Networks that lost miners left and nobody finished", dropped),
            ("podl_pool_takeovers", "Networks taken over from miners that were lost", taken_over),
            ("podl_pool_backups", "Networks trained by a second miner", backed_up),
            ("podl_pool_audits_passed", "Trainings replayed and found as handed in", audits_passed),
            ("podl_pool_audits_failed", "Trainings replayed and found different", audits_failed),
        ]
    }

    async fn payouts(&self, limit: usize) -> Vec<PayoutView> {
        self.core.ask(move |core| core.payouts(limit)).await.unwrap_or_default()
    }

    async fn shares(&self, block: BlockHash) -> Option<ShareListView> {
        Some(shares::view(&self.list(block).await?))
    }

    async fn share_proofs(&self, block: BlockHash, account: AccountId) -> Option<Vec<ShareProofView>> {
        Some(shares::proofs(&self.list(block).await?, &account))
    }
}

impl PoolReader {
    /// A share list: the core keeps those of payouts longer, the manager has those of blocks that are not final too.
    async fn list(&self, block: BlockHash) -> Option<ShareList> {
        let kept = self.core.ask(move |core| core.share_list(&block)).await.ok().flatten();
        kept.or_else(|| self.manager.share_list(&block))
    }
}

fn work_view(overview: &PoolOverview) -> PoolWorkView {
    let (units, audits) = (overview.units, overview.audits);
    PoolWorkView {
        begun: units.begun,
        done: units.done,
        dropped: units.dropped,
        taken_over: units.taken_over,
        backed_up: units.backed_up,
        audits_passed: audits.passed,
        audits_failed: audits.failed,
    }
}

fn miner_view(miner: &MinerOverview, overview: &PoolOverview) -> PoolMinerView {
    let standing = &miner.standing;
    let state = match (miner.online, miner.working) {
        (true, true) => "online",
        (true, false) => "idle",
        (false, _) => "offline",
    };
    let class = match standing.class {
        Class::Strong => "strong",
        Class::Weak => "weak",
    };
    let share = u128::from(standing.window_macs) * 1_000_000;
    PoolMinerView {
        peer_id: peer_id(&miner.id),
        account: miner.account,
        class: class.into(),
        state: state.into(),
        verified_macs_per_second: standing.speed_macs_s,
        window_macs: standing.window_macs,
        share_ppm: share.checked_div(overview.window_macs).and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(0),
        pending: standing.pending,
        leases: u32::from(miner.working),
        accepted: standing.accepted.into(),
        refused: standing.rejected.into(),
    }
}

/// The peer id of a miner; the node's own miner has its account's.
fn peer_id(miner: &MinerId) -> String {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(miner.0.as_bytes());
    key.map_or_else(|_| miner.0.to_string(), |key| libp2p::identity::PublicKey::from(key).to_peer_id().to_string())
}
