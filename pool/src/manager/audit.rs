//! Audits: the training of some shares is replayed bit for bit, chosen after the miner has committed to its states.
//!
//! One replay runs at a time, few wait, and replays rest between each other, so that they take a bounded part of one
//! thread. What does not find a place is not audited. A share from scratch, or from an artefact, needs nothing of its
//! miner; one that went on from the miner's own state needs that state, which is asked for in acknowledgements and in welcomes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use podl_chain_spec::Hash32;
use podl_consensus::types::{BlobRef, ModelRoot, TaskId};
use podl_consensus::workload::Network;
use serde::{Deserialize, Serialize};

use super::miners::MinerRecord;
use super::{Effect, JobKind, Manager, PoolParams};
use crate::training::{Recipe, STATE_BYTES, States, state_bytes};
use crate::types::{AuditId, AuditTally, DataSource, MinerId, Share};

/// Shares on the present data that can be audited after the fact.
const RECENT: usize = 512;
/// Of one miner, how many are audited again after one failed.
const AGAIN: usize = 8;
/// A replay that took longer, by a restart in between perhaps, counts as this long.
const LONGEST_MS: u64 = 600_000;
/// Most time between two events that counts against a miner that owes a state: ticks come more often, so that in a
/// longer gap the manager was not there to be told.
const GAP_MS: u64 = 1000;

/// How much is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRule {
    /// Thousandths of one thread's time that replays may take; 0 is no audits.
    pub permille: u64,
    /// Most audits that wait for their turn, and as many that need a state.
    pub queue: usize,
    /// How long a miner may take to upload a state, the time of a slow line for its bytes aside; see [`PoolParams::upload_ms`](super::PoolParams::upload_ms).
    pub upload_ms: u64,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFrom {
    /// At the weights that seed and architecture give.
    Seed,
    /// At the weights of this artefact.
    Artefact(ModelRoot),
    /// At a state that the miner uploaded.
    State(BlobRef),
}

/// All that a replay needs but the interval's data and the start itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditOrder {
    /// Whose workload it is.
    pub task: TaskId,
    /// What is trained on. Rounds of one task share it, so that a replay may end in the next.
    pub data: DataSource,
    /// What decides the training.
    pub recipe: Recipe,
    /// Where it begins.
    pub from: StartFrom,
    /// Images that the miner says it trained.
    pub images: u64,
    /// States that the miner committed to.
    pub states: States,
    /// The model that it handed in.
    pub artefact: ModelRoot,
}

impl AuditOrder {
    /// Whether the miner must upload the state that it begins at.
    fn needs_state(&self) -> bool {
        matches!(self.from, StartFrom::State(_))
    }
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Start, end and model are those of the share.
    Same,
    /// They are not, or cannot come from such training, in words.
    Different(String),
    /// The manager's own side failed (no data, no trainer, out of memory): nobody is to blame.
    Undecided(String),
}

/// Numbers of audits since the manager began, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCounts {
    /// Replays that found what was handed in.
    pub passed: u64,
    /// Replays that did not, and states that were not uploaded.
    pub failed: u64,
    /// Replays that could not be done.
    pub undecided: u64,
    /// Shares that were due for an audit when there was no time for it.
    pub skipped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Waits for the miner's state.
    Upload {
        /// For so long still.
        left_ms: u64,
        /// Whether the miner has joined anew since, perhaps without what it had in memory.
        restarted: bool,
    },
    /// Waits for its turn.
    Ready,
    /// Is replayed.
    Running { since_ms: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Audit {
    miner: MinerId,
    order: AuditOrder,
    stage: Stage,
    /// Whether it follows another's failure; it proves nothing new of the miner then.
    again: bool,
}

/// A share on the present data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recent {
    miner: MinerId,
    order: AuditOrder,
    /// Whether it was replayed with success.
    proven: bool,
}

/// Audits under way and what can still be audited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Audits {
    pending: BTreeMap<AuditId, Audit>,
    next: u64,
    /// No replay begins before.
    rest_until_ms: u64,
    recent: VecDeque<Recent>,
    /// Shares that were due for an audit since the last replay began, and those that waited then: of those that need
    /// nothing of their miner, and of those that need a state.
    offered: [u64; 2],
    counts: AuditCounts,
}

impl Audits {
    fn insert(&mut self, audit: Audit) {
        self.next = self.next.saturating_add(1);
        self.pending.insert(AuditId(self.next), audit);
    }

    /// An interval on other data begins. What waits of the one that `ended` is still replayed, or false work would be
    /// safe just before the end; what has waited for a whole interval is given up, and a state that has not come by then
    /// will not come any more.
    pub fn begin_other_data(&mut self, ended: Option<&DataSource>) {
        self.recent.clear();
        self.pending.retain(|_, audit| {
            let is_over = Some(&audit.order.data) != ended;
            if let Stage::Upload { left_ms, .. } = &mut audit.stage {
                *left_ms = if is_over { 0 } else { *left_ms };
                return true;
            }
            !is_over || matches!(audit.stage, Stage::Running { .. })
        });
    }

    /// Time has passed. A miner is asked for one state after the other, and each has its own time.
    pub fn pass(&mut self, passed_ms: u64) {
        let mut asked = BTreeSet::new();
        for audit in self.pending.values_mut() {
            if let Stage::Upload { left_ms, .. } = &mut audit.stage
                && asked.insert(audit.miner)
            {
                *left_ms = left_ms.saturating_sub(passed_ms.min(GAP_MS));
            }
        }
    }

    /// A miner has joined anew.
    pub fn note_hello(&mut self, miner: &MinerId) {
        for audit in self.pending.values_mut().filter(|a| a.miner == *miner) {
            if let Stage::Upload { restarted, .. } = &mut audit.stage {
                *restarted = true;
            }
        }
    }

    /// After a restart: miners have their time anew, and states that they uploaded and that are gone are asked for again.
    pub fn restart(&mut self, is_here: impl Fn(&Hash32) -> bool, params: &PoolParams) {
        for audit in self.pending.values_mut() {
            let StartFrom::State(state) = audit.order.from else { continue };
            let restarted = matches!(audit.stage, Stage::Upload { restarted: true, .. });
            if !is_here(&state.root) {
                audit.stage = Stage::Upload { left_ms: params.upload_ms(state.bytes), restarted };
            } else if matches!(audit.stage, Stage::Upload { .. }) {
                audit.stage = Stage::Ready;
            }
        }
    }

    /// Replays to be asked for again after a restart.
    pub fn running(&self) -> impl Iterator<Item = (AuditId, &AuditOrder)> {
        let running = self.pending.iter().filter(|(_, audit)| matches!(audit.stage, Stage::Running { .. }));
        running.map(|(id, audit)| (*id, &audit.order))
    }

    /// Artefacts that replays under way begin from.
    pub fn artefacts(&self) -> impl Iterator<Item = ModelRoot> {
        self.pending.values().filter_map(|audit| match audit.order.from {
            StartFrom::Artefact(root) => Some(root),
            StartFrom::Seed | StartFrom::State(_) => None,
        })
    }

    /// When something becomes due by time alone.
    pub fn next_wake_ms(&self, now_ms: u64) -> Option<u64> {
        let due = self.pending.values().filter_map(|audit| match audit.stage {
            Stage::Upload { left_ms, .. } => Some(now_ms.saturating_add(left_ms.max(1))),
            Stage::Ready => Some(self.rest_until_ms),
            Stage::Running { .. } => None,
        });
        due.min()
    }

    /// The state that a miner owes, the one asked for first.
    pub fn wanted_of(&self, miner: &MinerId) -> Option<BlobRef> {
        let owed = |a: &&Audit| a.miner == *miner && matches!(a.stage, Stage::Upload { .. });
        self.pending.values().find(owed).and_then(|audit| match audit.order.from {
            StartFrom::State(blob) => Some(blob),
            StartFrom::Seed | StartFrom::Artefact(_) => None,
        })
    }

    /// Forgets what waits of a miner that was found out otherwise.
    pub fn forget(&mut self, miner: &MinerId) {
        self.pending.retain(|_, a| a.miner != *miner || a.again || matches!(a.stage, Stage::Running { .. }));
    }
}

impl Manager {
    /// Whether a blob is the state that a miner owes for an audit; it may then be longer than artefacts are.
    pub fn wants_state(&self, miner: &MinerId, blob: &BlobRef) -> bool {
        self.audits.wanted_of(miner).as_ref() == Some(blob)
    }

    /// Whether an audit under way needs these data.
    pub fn replays_on(&self, data: &DataSource) -> bool {
        self.audits.pending.values().any(|audit| audit.order.data == *data)
    }

    /// Hashes of the states that audits under way begin from.
    pub fn wanted_states(&self) -> BTreeSet<Hash32> {
        let states = self.audits.pending.values().filter_map(|audit| match audit.order.from {
            StartFrom::State(blob) => Some(blob.root),
            StartFrom::Seed | StartFrom::Artefact(_) => None,
        });
        states.collect()
    }

    /// Numbers of audits.
    pub fn audit_counts(&self) -> AuditCounts {
        self.audits.counts
    }

    /// Whether a miner's training is replayed at all. The node's own miner would cheat its own pool.
    pub(super) fn is_audited(&self, miner: &MinerId) -> bool {
        self.params.audits.permille > 0 && miner.0.as_bytes() != self.params.account.as_bytes()
    }

    /// Whether a miner may be shown what others trained: those that are audited, once a replay has shown that they train
    /// at all. A name is free, and whoever has a model can commit to it in its own name.
    pub(super) fn is_trusted(&self, miner: &MinerId) -> bool {
        self.is_proven(miner) || !self.is_audited(miner)
    }

    fn is_proven(&self, miner: &MinerId) -> bool {
        self.miners.get(miner).is_some_and(|record| record.is_proven)
    }

    /// A share was accepted and its states are committed to: whether it is audited is decided now, and said.
    pub(super) fn consider_audit(&mut self, miner: MinerId, share: &Share) -> bool {
        if !self.is_audited(&miner) {
            return false;
        }
        let Some(order) = self.audit_order(share) else { return false };
        self.audits.recent.push_back(Recent { miner, order: order.clone(), proven: false });
        if self.audits.recent.len() > RECENT {
            self.audits.recent.pop_front();
        }
        if !self.draw_check(&miner) || !self.make_room(&miner, &order) {
            return false;
        }
        let stage = match order.from {
            StartFrom::State(state) => Stage::Upload { left_ms: self.params.upload_ms(state.bytes), restarted: false },
            StartFrom::Seed | StartFrom::Artefact(_) => Stage::Ready,
        };
        self.audits.insert(Audit { miner, order, stage, again: false });
        true
    }

    /// Whether there is a place for one more audit. When all are taken, one that waits for its turn may lose its place:
    /// each share since the last replay began is as likely to be replayed, so that it is of no use to hand in false
    /// work when true work has filled the queue. The first audit of a miner, for which its pay waits, takes the place of one
    /// whose miner has been audited before. Those that need a state have as many places of their own: who never uploads
    /// one holds up no others. Nobody of whom anything is known rids itself of a state that it owes: names that are free
    /// would crowd it out.
    fn make_room(&mut self, miner: &MinerId, order: &AuditOrder) -> bool {
        let queue = self.params.audits.queue;
        let offered = &mut self.audits.offered[usize::from(order.needs_state())];
        *offered = offered.saturating_add(1);
        let offered = *offered;
        let waits =
            |a: &Audit| !matches!(a.stage, Stage::Running { .. }) && a.order.needs_state() == order.needs_state();
        if self.audits.pending.values().filter(|a| waits(a)).count() < queue {
            return true;
        }
        self.audits.counts.skipped = self.audits.counts.skipped.saturating_add(1);
        let is_kept = self.rng.below(offered) >= queue as u64;
        let may_lose = |a: &Audit| a.stage == Stage::Ready || !self.is_proven(&a.miner);
        let waiting = || self.audits.pending.iter().filter(|(_, a)| waits(a) && may_lose(a) && !a.again);
        let is_first = !self.is_proven(miner) && self.audits.pending.values().all(|a| a.miner != *miner);
        if let Some((id, _)) = waiting().find(|(_, a)| is_first && self.is_proven(&a.miner)) {
            let loser = *id;
            return self.audits.pending.remove(&loser).is_some();
        }
        let waiting: Vec<AuditId> = waiting().map(|(id, _)| *id).collect();
        if is_kept || waiting.is_empty() {
            return false;
        }
        let loser = waiting[self.rng.index(waiting.len())];
        self.audits.pending.remove(&loser).is_some()
    }

    /// One in as many results as the miner's run of valid ones; all of them while that is short.
    pub(super) fn draw_check(&mut self, miner: &MinerId) -> bool {
        let (streak, is_proven) = self.miners.get(miner).map_or((0, true), |m| (m.valid_streak, m.is_proven));
        if self.is_audited(miner) && !is_proven {
            return true;
        }
        let permille = (1000 / u64::from(streak.max(1))).max(self.params.check_floor_permille);
        streak < self.params.always_check || self.rng.below(1000) < permille
    }

    /// How a share's training is replayed. A start that is the end of an accepted share of its base is that; any other
    /// must be what the base's artefact gives, which the replay finds out.
    fn audit_order(&self, share: &Share) -> Option<AuditOrder> {
        let lease = &self.leases.get(share.lease)?.lease;
        let interval = &self.search.as_ref()?.interval;
        let work = &interval.workload;
        let network = Network::new(&share.architecture, work.input, work.classes, work.space.dense).ok()?;
        let bytes = state_bytes(&network);
        let memory = self.memories.current();
        let is_end_of = |root| memory.is_some_and(|m| m.is_end_of(root, share.states.start));
        let from = match share.base {
            None => StartFrom::Seed,
            Some(root) if bytes <= STATE_BYTES && is_end_of(root) => {
                StartFrom::State(BlobRef { root: share.states.start, bytes })
            }
            Some(root) => StartFrom::Artefact(root),
        };
        Some(AuditOrder {
            task: interval.task,
            data: interval.data.clone(),
            recipe: share.recipe(lease)?,
            from,
            images: share.images,
            states: share.states,
            artefact: share.artefact.root,
        })
    }

    /// A state was uploaded; its bytes are of that root.
    pub(super) fn state_arrived(&mut self, miner: &MinerId, root: ModelRoot) {
        for audit in self.audits.pending.values_mut().filter(|a| a.miner == *miner) {
            let is_it = matches!(audit.order.from, StartFrom::State(blob) if blob.root == root);
            if is_it && matches!(audit.stage, Stage::Upload { .. }) {
                audit.stage = Stage::Ready;
            }
        }
    }

    /// Begins the next replay if none runs and the last one's rest is over.
    pub(super) fn start_audit(&mut self, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms;
        if now_ms < self.audits.rest_until_ms || self.audits.running().next().is_some() {
            return;
        }
        let waiting = |needs_state| {
            self.audits.pending.values().filter(|audit| audit.order.needs_state() == needs_state).count() as u64
        };
        let waiting = [waiting(false), waiting(true)];
        // Those for which a miner's pay waits go first.
        let ready = self.audits.pending.iter().filter(|(_, audit)| audit.stage == Stage::Ready);
        let first = ready.min_by_key(|(id, audit)| (self.is_proven(&audit.miner), **id)).map(|(id, _)| *id);
        let next = first.and_then(|id| Some((id, self.audits.pending.get_mut(&id)?)));
        if let Some((id, audit)) = next {
            self.audits.offered = waiting;
            // The one that begins waits no longer.
            let kind = usize::from(audit.order.needs_state());
            self.audits.offered[kind] = self.audits.offered[kind].saturating_sub(1);
            audit.stage = Stage::Running { since_ms: now_ms };
            effects.push(Effect::Audit { audit: id, order: Box::new(audit.order.clone()) });
        }
    }

    pub(super) fn audited(&mut self, id: AuditId, verdict: &Verdict) {
        let Some(audit) = self.audits.pending.remove(&id) else { return };
        let Stage::Running { since_ms } = audit.stage else {
            self.audits.pending.insert(id, audit);
            return;
        };
        let permille = self.params.audits.permille.clamp(1, 1000);
        let took_ms = self.now_ms.saturating_sub(since_ms).min(LONGEST_MS);
        self.audits.rest_until_ms = self.now_ms.saturating_add(took_ms * (1000 - permille) / permille);
        match verdict {
            Verdict::Same => self.audit_passed(&audit),
            Verdict::Different(_) => self.audit_failed(&audit, true),
            Verdict::Undecided(_) => {
                let counts = &mut self.audits.counts;
                // It proves nothing; the miner's next result is drawn again.
                counts.undecided = counts.undecided.saturating_add(1);
            }
        }
    }

    /// A miner trains what it says: what was kept back is credited.
    fn prove(&mut self, miner: &MinerId) {
        if let Some(record) = self.miners.get_mut(miner) {
            record.is_proven = true;
            let macs = std::mem::take(&mut record.kept_back_macs);
            let account = record.account;
            if macs > 0 {
                self.ledger.credit(*miner, account, macs);
            }
        }
    }

    /// States that were not uploaded in time. A miner that fell silent or began anew may have broken down: it loses as
    /// much, but is not shut out.
    pub(super) fn expire_audits(&mut self) {
        let is_overdue = |a: &Audit| matches!(a.stage, Stage::Upload { left_ms: 0, .. });
        let overdue: Vec<AuditId> =
            self.audits.pending.iter().filter(|(_, a)| is_overdue(a)).map(|(id, _)| *id).collect();
        for id in overdue {
            let Some(audit) = self.audits.pending.remove(&id) else { continue };
            let silence_ms = self.params.heartbeat.silence_ms();
            let is_silent = |m: &MinerRecord| !m.online || self.now_ms.saturating_sub(m.heard_ms) >= silence_ms;
            let broke_down = matches!(audit.stage, Stage::Upload { restarted: true, .. })
                || self.miners.get(&audit.miner).is_none_or(is_silent);
            self.audit_failed(&audit, !broke_down);
        }
    }

    fn audit_passed(&mut self, audit: &Audit) {
        self.audits.counts.passed = self.audits.counts.passed.saturating_add(1);
        if let Some(AuditTally { passed, .. }) = self.tally_of(&audit.miner) {
            *passed = passed.saturating_add(1);
        }
        for recent in self.audits.recent.iter_mut().filter(|r| r.order.artefact == audit.order.artefact) {
            recent.proven = true;
        }
        if audit.again {
            return;
        }
        if let Some(record) = self.miners.get_mut(&audit.miner) {
            record.valid_streak = record.valid_streak.saturating_add(1);
        }
        self.prove(&audit.miner);
    }

    /// What was handed in was not trained as it should have been: its work in the pay window is lost, and what the miner
    /// handed in before is worth only what can be proved.
    fn audit_failed(&mut self, audit: &Audit, shut_out: bool) {
        let miner = audit.miner;
        self.audits.counts.failed = self.audits.counts.failed.saturating_add(1);
        if let Some(AuditTally { failed, .. }) = self.tally_of(&miner) {
            *failed = failed.saturating_add(1);
        }
        self.drop_model(&miner, audit.order.artefact);
        self.jobs.retain(|_, job| !matches!(&job.kind, JobKind::Share { miner: of, .. } if *of == miner));
        self.audits.recent.retain(|r| r.order.artefact != audit.order.artefact);
        if audit.again {
            return;
        }
        if shut_out {
            self.lied(&miner);
        } else {
            self.audits.forget(&miner);
            self.ledger.forfeit(&miner);
            if let Some(record) = self.miners.get_mut(&miner) {
                record.valid_streak = 0;
                (record.is_proven, record.kept_back_macs) = (false, 0);
                record.rejected = record.rejected.saturating_add(1);
            }
        }
        self.audit_again(miner);
    }

    fn tally_of(&mut self, miner: &MinerId) -> Option<&mut AuditTally> {
        self.miners.get_mut(miner).map(|record| &mut record.audits)
    }

    fn drop_model(&mut self, miner: &MinerId, root: ModelRoot) {
        let units = self.memories.drop_model(miner, root);
        self.unit_counts.dropped = self.unit_counts.dropped.saturating_add(units as u64);
    }

    /// Replays a miner's last results that can be replayed without it; of the others the unproven are dropped.
    fn audit_again(&mut self, miner: MinerId) {
        let is_under_way = |a: &Audit, root| a.order.artefact == root;
        let doubtful: Vec<AuditOrder> = self
            .audits
            .recent
            .iter()
            .rev()
            .filter(|r| r.miner == miner && !r.proven)
            .map(|r| r.order.clone())
            .filter(|order| !self.audits.pending.values().any(|a| is_under_way(a, order.artefact)))
            .collect();
        let mut left = AGAIN;
        for order in doubtful {
            if left == 0 || order.needs_state() {
                self.drop_model(&miner, order.artefact);
            } else if self.memories.has_elite(order.artefact) {
                left -= 1;
                self.audits.insert(Audit { miner, order, stage: Stage::Ready, again: true });
            }
        }
    }
}
