//! Figures of a pool for people.

use podl_chain_spec::AccountId;

use crate::ledger::Luck;
use crate::manager::{AuditCounts, Manager, MinerRecord, UnitCounts};
use crate::partition::{Count, Scheme, Subspace, union_cardinality};
use crate::protocol;
use crate::types::MinerId;

/// Most parts of a space whose union is counted; disjoint boxes are never more.
const MOST_PARTS: usize = 81;

/// A miner as the pool page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerOverview {
    /// The miner.
    pub id: MinerId,
    /// Whom it has paid.
    pub account: AccountId,
    /// Whether it was heard of lately.
    pub online: bool,
    /// Whether it works on a lease.
    pub working: bool,
    /// Its standing.
    pub standing: protocol::Standing,
}

/// What a pool page and `podl pool status` show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOverview {
    /// All miners that the pool knows.
    pub miners: Vec<MinerOverview>,
    /// Leases worked on.
    pub running_leases: usize,
    /// Results that wait to be checked.
    pub pending_evaluations: usize,
    /// The pool's best confirmed count, and on how many images.
    pub best: Option<(u32, u32)>,
    /// Commitments of this interval.
    pub commitments: usize,
    /// What became of the networks that were leased.
    pub units: UnitCounts,
    /// Work of all in the pay window.
    pub window_macs: u128,
    /// Replays of training since the pool began.
    pub audits: AuditCounts,
    /// How often it has won lately.
    pub luck: Luck,
    /// How the current task's space is cut.
    pub partition: Scheme,
    /// How much of the current task's space it has looked at; none before the first interval.
    pub coverage: Option<Coverage>,
}

/// How much of a task's space a pool has looked at, in networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// All that the space's lists allow, whatever the task's bounds admit of them.
    pub space: Count,
    /// Those in the parts that are searched now; none when there are too many parts to count their union.
    pub searched: Option<Count>,
    /// Those whose training was begun. In filler intervals, whose data change, of this interval alone.
    pub begun: u64,
}

impl Coverage {
    /// Exact counts; the union takes milliseconds, so they are not made under the manager's lock.
    pub(super) fn new((space, searched, begun): (Subspace, Vec<Subspace>, usize)) -> Self {
        Self {
            space: space.cardinality(),
            searched: (searched.len() <= MOST_PARTS).then(|| union_cardinality(&searched)),
            begun: begun as u64,
        }
    }
}

impl PoolOverview {
    /// All but the coverage, which takes longer to count.
    pub(super) fn of(manager: &Manager) -> Self {
        let images = manager.search().map_or(0, |s| s.plan.rank_images());
        PoolOverview {
            miners: manager.miners().iter().map(|(id, m)| miner_overview(manager, *id, m)).collect(),
            running_leases: manager.leases().running(),
            pending_evaluations: manager.pending_evaluations(),
            best: manager.elites().first().map(|e| (e.count, images)),
            commitments: manager.search().map_or(0, |s| s.committed.len()),
            units: manager.unit_counts(),
            window_macs: manager.ledger().window_total(manager.params().pay),
            audits: manager.audit_counts(),
            luck: manager.ledger().luck(),
            partition: manager.partition(),
            coverage: None,
        }
    }
}

fn miner_overview(manager: &Manager, id: MinerId, record: &MinerRecord) -> MinerOverview {
    MinerOverview {
        id,
        account: record.account,
        online: record.online,
        working: record.lease.is_some(),
        standing: manager.standing(&id),
    }
}
