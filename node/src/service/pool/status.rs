//! What RPC shows of the pool.

use std::sync::Arc;

use jsonrpsee::core::async_trait;
use libp2p::PeerId;
use podl_chain_spec::AccountId;
use podl_consensus::types::BlockHash;
use podl_pool::drivers::{Coverage, ManagerDriver, MinerOverview, PoolOverview};
use podl_pool::ledger::ShareList;
use podl_pool::manager::PoolParams;
use podl_pool::partition::Count;
use podl_pool::types::{Class, MinerId};
use podl_rpc::types::{
    PayoutView, PoolCoverageView, PoolLuckView, PoolMinerView, PoolStatus, PoolWorkView, ShareListView, ShareProofView,
};

use crate::service::api::PoolApi;
use crate::service::input::CoreHandle;
use crate::service::metrics::{Gauge, Value};
use crate::shares;

/// States of a miner: working, without a lease, gone.
const ONLINE: &str = "online";
const IDLE: &str = "idle";
const OFFLINE: &str = "offline";

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
            partition: overview.partition.name().into(),
            best_correct: overview.best.map(|(correct, _)| correct),
            holdout_images: overview.best.map_or(0, |(_, images)| images),
            commitments: u32::try_from(overview.commitments).unwrap_or(u32::MAX),
            running_leases: u32::try_from(overview.running_leases).unwrap_or(u32::MAX),
            work: work_view(&overview),
            coverage: overview.coverage.as_ref().map(coverage_view),
            luck: PoolLuckView { won_intervals: overview.luck.won, worked_intervals: overview.luck.intervals },
            miners: overview.miners.iter().map(|miner| miner_view(miner, &overview)).collect(),
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        gauges(&self.manager.overview())
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

/// Metrics of the whole pool; its miners are no labels, since everybody can join.
fn gauges(overview: &PoolOverview) -> Vec<Gauge> {
    let PoolWorkView { begun, done, dropped, taken_over, backed_up, audits_passed, audits_failed } =
        work_view(overview);
    let miners = |name: &str| overview.miners.iter().filter(|miner| state(miner) == name).count() as u64;
    let kept_back = overview.miners.iter().map(|miner| miner.standing.kept_back_macs);
    let coverage = overview.coverage.as_ref();
    let counts = [
        ("podl_pool_miners", "Miners that are online", miners(ONLINE) + miners(IDLE)),
        ("podl_pool_miners_idle", "Miners that are online without a lease", miners(IDLE)),
        ("podl_pool_miners_offline", "Miners that have left or fallen silent", miners(OFFLINE)),
        ("podl_pool_leases", "Leases under way", overview.running_leases as u64),
        ("podl_pool_checks_waiting", "Results that wait to be checked", overview.pending_evaluations as u64),
        ("podl_pool_networks_begun", "Networks whose training was begun", begun),
        ("podl_pool_networks_done", "Networks trained as far as they should be", done),
        ("podl_pool_networks_dropped", "Networks that lost miners left and nobody finished", dropped),
        ("podl_pool_takeovers", "Networks taken over from miners that were lost", taken_over),
        ("podl_pool_backups", "Networks trained by a second miner", backed_up),
        ("podl_pool_audits_passed", "Trainings replayed and found as handed in", audits_passed),
        ("podl_pool_audits_failed", "Trainings replayed and found different", audits_failed),
        (
            "podl_pool_kept_back_macs",
            "Verified multiply-accumulates that wait for a first audit",
            kept_back.fold(0, u64::saturating_add),
        ),
        ("podl_pool_luck_won_intervals", "Of the last intervals with work, those won", overview.luck.won.into()),
        ("podl_pool_luck_worked_intervals", "The last intervals with work, at most 64", overview.luck.intervals.into()),
        (
            "podl_pool_coverage_networks",
            "Networks of the current task's space whose training was begun",
            coverage.map_or(0, |coverage| coverage.begun),
        ),
    ];
    let share = coverage.map_or(0.0, begun_share);
    let ratio = ("podl_pool_coverage_ratio", "The same as a part of the space", Value::Ratio(share));
    counts.into_iter().map(|(name, help, count)| (name, help, Value::Count(count))).chain([ratio]).collect()
}

fn coverage_view(coverage: &Coverage) -> PoolCoverageView {
    PoolCoverageView {
        space_networks: coverage.space.to_string(),
        searched_networks: coverage.searched.as_ref().map(Count::to_string),
        begun_networks: coverage.begun,
        begun_share: begun_share(coverage),
    }
}

fn begun_share(coverage: &Coverage) -> f64 {
    Count::from(u128::from(coverage.begun)).share_of(&coverage.space)
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

/// State of a miner as it is shown.
fn state(miner: &MinerOverview) -> &'static str {
    match (miner.online, miner.working) {
        (true, true) => ONLINE,
        (true, false) => IDLE,
        (false, _) => OFFLINE,
    }
}

fn miner_view(miner: &MinerOverview, overview: &PoolOverview) -> PoolMinerView {
    let standing = &miner.standing;
    let class = match standing.class {
        Class::Strong => "strong",
        Class::Weak => "weak",
    };
    let share = u128::from(standing.window_macs) * 1_000_000;
    PoolMinerView {
        peer_id: peer_id(&miner.id),
        account: miner.account,
        class: class.into(),
        state: state(miner).into(),
        verified_macs_per_second: standing.speed_macs_s,
        window_macs: standing.window_macs,
        share_ppm: share.checked_div(overview.window_macs).and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(0),
        kept_back_macs: standing.kept_back_macs,
        pending: standing.pending,
        paid: standing.paid,
        next_payment: standing.next_payment,
        leases: u32::from(miner.working),
        accepted: standing.accepted.into(),
        refused: standing.rejected.into(),
        audits_passed: standing.audits.passed,
        audits_failed: standing.audits.failed,
        own_networks_taken_over: standing.backups.own_taken_over,
        own_networks_backed_up: standing.backups.own_backed_up,
        networks_taken_over: standing.backups.taken_over,
        networks_backed_up: standing.backups.backed_up,
    }
}

/// The peer id of a miner; the node's own miner has its account's.
fn peer_id(miner: &MinerId) -> String {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(miner.0.as_bytes());
    key.map_or_else(|_| miner.0.to_string(), |key| libp2p::identity::PublicKey::from(key).to_peer_id().to_string())
}

#[cfg(test)]
mod tests {
    use podl_pool::ledger::Luck;
    use podl_pool::protocol::Standing;

    use super::*;

    fn overview() -> PoolOverview {
        let miner = |online, working, kept_back_macs| MinerOverview {
            id: MinerId(podl_chain_spec::Hash32([1; 32])),
            account: AccountId::default(),
            online,
            working,
            standing: Standing { kept_back_macs, ..Standing::default() },
        };
        PoolOverview {
            miners: vec![miner(true, true, 5), miner(true, false, 0), miner(false, false, 7), miner(false, false, 0)],
            luck: Luck { won: 3, intervals: 20 },
            coverage: Some(Coverage { space: Count::from(1 << 100), searched: None, begun: 61 }),
            ..PoolOverview::default()
        }
    }

    #[test]
    fn metrics_say_how_the_pool_fares_without_a_label_for_a_miner() {
        let told = gauges(&overview());
        let value = |name: &str| told.iter().find(|(told, ..)| *told == name).map(|(.., value)| *value).unwrap();
        for (name, count) in [
            ("podl_pool_miners", 2),
            ("podl_pool_miners_idle", 1),
            ("podl_pool_miners_offline", 2),
            ("podl_pool_kept_back_macs", 12),
            ("podl_pool_luck_won_intervals", 3),
            ("podl_pool_luck_worked_intervals", 20),
            ("podl_pool_coverage_networks", 61),
        ] {
            assert_eq!(value(name), Value::Count(count), "{name}");
        }
        let Value::Ratio(share) = value("podl_pool_coverage_ratio") else { panic!("no ratio") };
        let exact = 61.0 / (1u128 << 100) as f64;
        assert!((share / exact - 1.0).abs() < 1e-9, "{share}");
        assert_eq!(gauges(&PoolOverview::default()).len(), told.len());
    }

    #[test]
    fn coverage_is_exact_whatever_its_size() {
        let view = coverage_view(overview().coverage.as_ref().unwrap());
        assert_eq!((view.space_networks, view.begun_networks), ((1u128 << 100).to_string(), 61));
        assert_eq!(view.searched_networks, None);
    }
}
