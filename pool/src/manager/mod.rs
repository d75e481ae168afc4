//! The manager: takes the interval's task, splits the space, leases work, checks results, commits early and often,
//! pays. Of what it committed to, the node shows the best.
//!
//! A pure machine: [`Manager::handle`] takes an event and the time and returns effects. All of its state is plain data,
//! so a snapshot and the events since restore it ([`Manager::resume`] asks again for what was under way).
//!
//! # Correctness
//! `now_ms` is the caller's clock. It may jump forward, and across a restart it must not run backward; a smaller value
//! than before counts as the earlier one.

mod ask;
mod assign;
mod audit;
mod commit;
mod event;
mod explore;
mod miners;
mod outlook;
mod params;
mod proposals;
mod search;
mod shares;
#[cfg(test)]
mod tests;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use podl_chain_spec::{Amount, Hash32};
use podl_consensus::types::{BlobRef, BlockHash, ModelRoot};
use serde::{Deserialize, Serialize};

pub use audit::{AuditCounts, AuditOrder, AuditRule, StartFrom, Verdict};
pub use event::{Ask, Effect, Event, Outcome};
pub use miners::{Calibration, MinerRecord};
pub use params::{CANDIDATE_PASSES, PoolParams};
pub use proposals::Proposals;
pub use search::{Committed, Memories, Search, TaskMemory, architecture_name};
pub use units::{Unit, UnitCounts};

use audit::Audits;

use crate::classes;
use crate::lease::{Done, LeaseBook, LeaseState, Running};
use crate::ledger::Ledger;
use crate::partition::{Scheme, Subspace};
use crate::rng::SeededRng;
use crate::types::{Elite, EvaluationPlan, Interval, JobId, Lease, LeaseId, MinerId, Share};

/// An evaluation under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Job {
    /// The interval it belongs to.
    parent: BlockHash,
    artefact: BlobRef,
    asked_ms: u64,
    kind: JobKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum JobKind {
    /// A miner's claim.
    Share {
        miner: MinerId,
        share: Box<Share>,
        /// Training multiply-accumulates that it stands for.
        macs: u64,
        /// The unit it belongs to, and how far that is with it.
        unit: u64,
        done: Done,
    },
    /// A model of an earlier filler interval, on this one's data.
    Recheck(Box<Elite>),
}

/// A pool manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    params: PoolParams,
    seed: [u8; 32],
    rng: SeededRng,
    now_ms: u64,
    miners: BTreeMap<MinerId, MinerRecord>,
    border_macs_s: u64,
    search: Option<Search>,
    memories: Memories,
    leases: LeaseBook,
    jobs: BTreeMap<JobId, Job>,
    audits: Audits,
    ledger: Ledger,
    next_lease: u64,
    next_job: u64,
    next_unit: u64,
    unit_counts: UnitCounts,
    /// Spread of the leading miners' bests, and whether it last grew (paper: sigma of the high-reward miners).
    leaders_spread: u64,
    leaders_drift: bool,
    /// Running mean of the time from asking for an evaluation to its result.
    evaluation_ms: u64,
}

impl Manager {
    /// A manager without miners. `seed` decides every draw and names the secret images; it must stay secret.
    pub fn new(params: PoolParams, seed: [u8; 32]) -> Self {
        Self {
            params,
            seed,
            rng: SeededRng::new(&seed, "manager"),
            now_ms: 0,
            miners: BTreeMap::new(),
            border_macs_s: 0,
            search: None,
            memories: Memories::default(),
            leases: LeaseBook::default(),
            jobs: BTreeMap::new(),
            audits: Audits::default(),
            ledger: Ledger::default(),
            next_lease: 1,
            next_job: 1,
            next_unit: 1,
            unit_counts: UnitCounts::default(),
            leaders_spread: 0,
            leaders_drift: false,
            evaluation_ms: 300,
        }
    }

    /// Takes in an event that happens at `now_ms`.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.audits.pass(now_ms.saturating_sub(self.now_ms));
        self.now_ms = self.now_ms.max(now_ms);
        self.advance();
        match event {
            Event::IntervalStarted { interval, plan, deadline_ms } => {
                self.start_interval(*interval, plan, deadline_ms, &mut effects);
            }
            Event::IntervalEnded { parent } => self.end_interval(&parent),
            Event::Asked { miner, ask } => self.asked(miner, ask, &mut effects),
            Event::CalibrationChecked { miner, job, correct } => self.calibration_checked(&miner, job, correct),
            Event::Evaluated { job, outcome } => self.evaluated(job, outcome, &mut effects),
            Event::StateArrived { miner, root } => self.state_arrived(&miner, root),
            Event::Audited { audit, verdict } => self.audited(audit, &verdict),
            Event::CommitFailed { parent, root } => self.commit_failed(&parent, &root),
            Event::BlockWon(won) => self.ledger.close(&won, self.params.pay_terms()),
            Event::BlockFinal { block } => self.settle(&block, &mut effects),
            Event::BlockLost { block } => {
                self.ledger.reopen(&block);
            }
            Event::Tick => {}
        }
        self.commit_if_due(&mut effects);
        self.start_audit(&mut effects);
        effects
    }

    /// Goes on after a restart at `now_ms`, and asks again for everything that was under way; `has_state` says which states
    /// for audits are still there. That the manager was not
    /// there to be told of progress is nobody's fault but its own.
    pub fn resume(&mut self, now_ms: u64, has_state: impl Fn(&Hash32) -> bool) -> Vec<Effect> {
        self.leases.put_off(now_ms.saturating_sub(self.now_ms));
        self.now_ms = self.now_ms.max(now_ms);
        self.audits.restart(has_state, &self.params);
        let jobs = self.jobs.iter().map(|(job, j)| Effect::Evaluate { job: *job, artefact: j.artefact });
        let checks = self.miners.iter().filter_map(|(miner, m)| match m.calibration {
            Calibration::Checking { job, digest } => Some(Effect::CheckCalibration { miner: *miner, job, digest }),
            _ => None,
        });
        let audits = self.audits.running();
        let audits = audits.map(|(audit, order)| Effect::Audit { audit, order: Box::new(order.clone()) });
        jobs.chain(checks).chain(audits).collect()
    }

    /// When something will be due although no event comes; [`Event::Tick`] is wanted then.
    pub fn next_wake_ms(&self) -> Option<u64> {
        let lease = self.leases.next_expiry_ms(self.params.heartbeat);
        let commits = self.search.as_ref().filter(|s| s.open).map(|s| self.next_commit_ms(s));
        [lease, commits, self.audits.next_wake_ms(self.now_ms)]
            .into_iter()
            .flatten()
            .filter(|&at| at > self.now_ms)
            .min()
    }

    /// Goes on under other parameters, after a restart with another configuration. Blocks won before keep their terms, and
    /// searches begun before their parts: what was learned in those is worth more than another cut.
    pub fn set_params(&mut self, params: PoolParams) {
        self.params = params;
    }

    /// Parameters.
    pub fn params(&self) -> &PoolParams {
        &self.params
    }

    /// Miners by id.
    pub fn miners(&self) -> &BTreeMap<MinerId, MinerRecord> {
        &self.miners
    }

    /// The books.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The current interval's search.
    pub fn search(&self) -> Option<&Search> {
        self.search.as_ref()
    }

    /// Confirmed models of the current task, best first.
    pub fn elites(&self) -> &[Elite] {
        self.memories.current().map_or(&[], |m| &m.elites)
    }

    /// Leases.
    pub fn leases(&self) -> &LeaseBook {
        &self.leases
    }

    /// What became of the networks that were leased.
    pub fn unit_counts(&self) -> UnitCounts {
        self.unit_counts
    }

    /// Networks of the current task that are to be trained further.
    pub fn units(&self) -> &[Unit] {
        self.memories.current().map_or(&[], |m| &m.units)
    }

    /// The search of the current task.
    pub fn proposals(&self) -> Option<&Proposals> {
        self.memories.current()?.proposals.as_deref()
    }

    /// How the current task's space is cut: a search that has begun keeps its parts, whatever is configured meanwhile.
    pub fn partition(&self) -> Scheme {
        self.proposals().map_or(self.params.scheme, |proposals| proposals.scheme)
    }

    /// The space of the current task, the parts of it that are searched (none before the first lease), and how many of its
    /// networks were begun, as far as they are remembered.
    pub fn explored(&self) -> Option<(Subspace, Vec<Subspace>, usize)> {
        let space = self.search.as_ref()?.interval.workload.space.clone();
        let parts = self.proposals().map(|proposals| &proposals.parts);
        let active = parts.into_iter().flat_map(|parts| parts.active().iter().filter_map(|&at| parts.boxes().get(at)));
        let searched = active.map(|part| part.subspace.clone()).collect();
        Some((Subspace::whole(space), searched, self.memories.current()?.trained.len()))
    }

    /// Evaluations under way.
    pub fn pending_evaluations(&self) -> usize {
        self.jobs.len()
    }

    /// The interval on whose data an evaluation was asked for.
    pub fn evaluation_parent(&self, job: JobId) -> Option<BlockHash> {
        self.jobs.get(&job).map(|job| job.parent)
    }

    /// What a miner claims that the artefact which an evaluation is of counts.
    pub fn evaluation_claim(&self, job: JobId) -> Option<u32> {
        match &self.jobs.get(&job)?.kind {
            JobKind::Share { share, .. } => Some(share.correct),
            JobKind::Recheck(_) => None,
        }
    }

    /// Whether results of an interval are still evaluated.
    pub fn evaluates_in(&self, parent: &BlockHash) -> bool {
        self.jobs.values().any(|job| job.parent == *parent)
    }

    /// Seed of the draw of secret images; the driver needs it, nobody else may.
    pub fn secret_seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Artefacts that must be kept: elites, commitments, and what waits to be evaluated or replayed.
    pub fn pinned(&self) -> BTreeSet<ModelRoot> {
        let committed = self.search.iter().flat_map(|s| s.committed.iter().map(|c| c.artefact.root));
        let waiting = self.jobs.values().map(|j| j.artefact.root).chain(self.audits.artefacts());
        self.memories.roots().chain(committed).chain(waiting).collect()
    }

    /// What is due by time alone: lost and ended leases.
    fn advance(&mut self) {
        for (id, lost) in self.leases.expire(self.now_ms, self.params.heartbeat) {
            self.lease_over(id, lost);
        }
        for lease in self.leases.prune(self.now_ms, self.params.grace_ms) {
            self.note_speed(&lease);
        }
        self.expire_audits();
        if let Some(search) = &mut self.search {
            search.open &= self.now_ms < search.deadline_ms;
        }
    }

    fn start_interval(
        &mut self,
        interval: Interval,
        plan: EvaluationPlan,
        deadline_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.search.as_ref().is_some_and(|s| s.open && s.parent() == interval.parent) {
            return;
        }
        self.end_leases();
        self.ledger.begin(interval.height, self.params.pay);
        let before = self.search.as_ref().map(|s| &s.interval);
        let is_same =
            |b: &Interval| (b.task, &b.data, &b.workload) == (interval.task, &interval.data, &interval.workload);
        if !before.is_some_and(is_same) {
            self.audits.begin_other_data(before.map(|b| &b.data));
        }
        let memory = self.memories.recall(Search::memory_key(&interval));
        // Counts of a filler interval mean nothing on the next one's data.
        let stale = if interval.is_filler() { std::mem::take(&mut memory.elites) } else { Vec::new() };
        if interval.is_filler() {
            memory.forget_trained();
        }
        let phase_ms = deadline_ms.saturating_sub(self.now_ms);
        let parent = interval.parent;
        self.search = Some(Search {
            interval,
            plan,
            started_ms: self.now_ms,
            deadline_ms,
            open: true,
            explore_until_ms: self.now_ms + phase_ms.saturating_mul(self.params.explore_permille) / 1000,
            committed: Vec::new(),
            attempts: 0,
        });
        for elite in stale.into_iter().take(3) {
            let artefact = elite.artefact;
            self.ask_evaluation(
                Job { parent, artefact, asked_ms: 0, kind: JobKind::Recheck(Box::new(elite)) },
                effects,
            );
        }
        self.assign_classes();
    }

    fn end_interval(&mut self, parent: &BlockHash) {
        if let Some(search) = self.search.as_mut().filter(|s| s.parent() == *parent && s.open) {
            search.open = false;
            self.end_leases();
        }
    }

    /// The phase is over: running leases end without blame.
    fn end_leases(&mut self) {
        self.end_units();
        for (_, miner) in self.leases.end_all(self.now_ms) {
            if let Some(record) = self.miners.get_mut(&miner) {
                record.lease = None;
            }
        }
    }

    /// A lease ended, by its miner, its deadline or silence. What was not worked off goes to another miner.
    fn lease_over(&mut self, id: LeaseId, lost: bool) {
        let now_ms = self.now_ms;
        let Some(running) = self.leases.get_mut(id) else { return };
        if running.state == LeaseState::Running {
            running.state = LeaseState::Ended { at_ms: now_ms };
        }
        let worked = running.shared_macs > 0;
        self.release_units(id, lost);
        let Some(running) = self.leases.get(id) else { return };
        let Some(record) = self.miners.get_mut(&running.miner) else { return };
        record.lease = record.lease.filter(|lease| *lease != id);
        record.online &= !lost;
        record.rating.note_lease(worked && !lost);
        let elapsed_ms = now_ms.saturating_sub(running.issued_ms);
        let had_its_time = !lost && elapsed_ms >= running.lease.wall_ms;
        if is_telling(running.shared_macs, had_its_time, &running.lease) {
            let next = crate::lease::next_rate(record.rate_macs_s, running.shared_macs, elapsed_ms);
            // Claims alone cannot make leases grow without end.
            record.rate_macs_s = next.min(record.calibrated_macs_s.saturating_mul(4)).max(1);
        }
    }

    /// A lease takes no more shares: its verified work tells the miner's speed.
    fn note_speed(&mut self, lease: &Running) {
        let ended_ms = match lease.state {
            LeaseState::Ended { at_ms } | LeaseState::Lost { at_ms } => at_ms,
            LeaseState::Running => return,
        };
        let elapsed_ms = ended_ms.saturating_sub(lease.issued_ms);
        let is_lost = matches!(lease.state, LeaseState::Lost { .. });
        let had_its_time = !is_lost && elapsed_ms >= lease.lease.wall_ms;
        let is_telling = is_telling(lease.verified_macs, had_its_time, &lease.lease);
        if let Some(record) = self.miners.get_mut(&lease.miner).filter(|_| is_telling) {
            record.rating.note_speed(lease.verified_macs, elapsed_ms);
            if record.is_proven {
                record.calibrated_macs_s = record.calibrated_macs_s.max(record.rating.speed_macs_s);
            }
        }
    }

    /// Miners without a lease are at work on nothing: those that were silent for a phase are gone.
    fn note_silent(&mut self) {
        let (now_ms, silence_ms) = (self.now_ms, self.params.train_ms);
        let is_silent = |m: &MinerRecord| m.lease.is_none() && now_ms.saturating_sub(m.heard_ms) >= silence_ms;
        self.miners.values_mut().filter(|m| is_silent(m)).for_each(|m| m.online = false);
    }

    /// A won block is final: its batch is due, and its miners have what they had pending.
    fn settle(&mut self, block: &BlockHash, effects: &mut Vec<Effect>) {
        let Some(list) = self.ledger.settle(block) else { return };
        for row in &list.rows {
            if let Some(record) = self.miners.get_mut(&row.miner) {
                record.paid = Amount(record.paid.0.saturating_add(row.amount.0));
            }
        }
        effects.extend(list.batch(&self.params.account).map(Effect::Pay));
    }

    fn assign_classes(&mut self) {
        self.note_silent();
        let now_ms = self.now_ms;
        let active = self.miners.iter_mut().filter(|(_, m)| m.online && m.is_calibrated() && !m.is_suspended(now_ms));
        self.border_macs_s = classes::assign(active.map(|(id, m)| (*id, &mut m.rating)), self.params.classes);
    }
}

/// Whether so much work under a lease tells how fast its miner is. A lease of a few small networks took its time with
/// messages, not with training; one that had all its time tells in any case, or a calibration that was answered by a
/// faster machine would be believed for ever.
fn is_telling(macs: u64, had_its_time: bool, lease: &Lease) -> bool {
    macs > lease.budget_macs / 4 || (macs > 0 && had_its_time)
}
