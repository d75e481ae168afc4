//! Results: what is refused at once, what is checked, and what the check leads to.

use podl_consensus::types::BlobRef;
use podl_nas::search::reward_of;

use super::outlook::Outlook;
use super::units::SLACK_IMAGES;
use super::{Effect, Job, JobKind, Manager, Outcome};
use crate::lease::{Done, Running};
use crate::protocol::{Refusal, Reply};
use crate::training::LEAST_IMAGES;
use crate::types::{Elite, JobId, Lease, MinerId, Past, Purpose, Share, is_above_chance};

/// What a share stands for, once it has passed the checks that need no evaluation.
#[derive(Clone, Copy)]
struct Admitted {
    macs: u64,
    /// The unit it belongs to, and how far that is with it.
    unit: u64,
    done: Done,
}

impl Manager {
    pub(super) fn submit(&mut self, miner: MinerId, share: Share, is_model: bool, effects: &mut Vec<Effect>) -> Reply {
        let admitted = match self.admit(&miner, &share, is_model) {
            Ok(admitted) => admitted,
            Err((refusal, points)) => {
                self.penalise(&miner, points);
                let retry_ms = if refusal == Refusal::Busy { 500 } else { 0 };
                return self.refused(refusal, retry_ms);
            }
        };
        let Admitted { macs, unit, done } = admitted;
        if let Some(running) = self.leases.get_mut(share.lease) {
            running.shared_macs = running.shared_macs.saturating_add(macs);
        }
        self.unit_claimed(&miner, unit, done);
        let is_audited = self.consider_audit(miner, &share);
        if is_audited || self.must_check(&miner, &share, done) {
            let parent = self.search.as_ref().map(|s| s.parent()).unwrap_or_default();
            let artefact = share.artefact;
            let kind = JobKind::Share { miner, share: Box::new(share), macs, unit, done };
            self.ask_evaluation(Job { parent, artefact, asked_ms: 0, kind }, effects);
        } else {
            self.take_unchecked(&miner, &share, admitted);
        }
        self.ack(&miner, self.search.as_ref().is_some_and(|s| s.open))
    }

    /// Whether results of a miner could be taken now: whether it has a lease, or had one a moment ago.
    pub fn may_hand_in(&self, miner: &MinerId) -> bool {
        let mut own = self.leases.iter().filter(|running| running.miner == *miner);
        own.any(|running| running.takes_shares(self.now_ms, self.params.grace_ms))
    }

    /// Whether a result is one that is waited for, as far as that can be said without its artefact: which network of its
    /// lease it is of. The number is the penalty.
    ///
    /// # Errors
    /// How it is refused whatever its artefact is, now and later.
    pub fn looks_for(&self, miner: &MinerId, share: &Share) -> Result<usize, (Refusal, u32)> {
        let Some(running) = self.leases.get(share.lease).filter(|l| l.miner == *miner) else {
            return Err((Refusal::NoLease, 0));
        };
        let Some(search) = self.search.as_ref().filter(|s| s.parent() == running.lease.parent) else {
            return Err((Refusal::Late, 0));
        };
        if !running.takes_shares(self.now_ms, self.params.grace_ms) {
            return Err((Refusal::Late, 0));
        }
        // What waits of the miner itself counts twice, so that no one takes the last places from the others.
        let is_own = |job: &&Job| matches!(&job.kind, JobKind::Share { miner: of, .. } if of == miner);
        let own = self.jobs.values().filter(is_own).count();
        if self.jobs.len() + own >= self.params.evaluation_queue {
            return Err((Refusal::Busy, 0));
        }
        if share.images == 0 || share.correct > search.plan.public_images {
            return Err((Refusal::Malformed, 5));
        }
        assignment_of(running, share).ok_or((Refusal::OutsideLease, 5))
    }

    /// Every check that needs no evaluation, the cheap ones first. The number is the penalty.
    fn admit(&mut self, miner: &MinerId, share: &Share, is_model: bool) -> Result<Admitted, (Refusal, u32)> {
        let now_ms = self.now_ms;
        let index = self.looks_for(miner, share)?;
        if !is_model {
            return Err((Refusal::Malformed, 5));
        }
        let running = self.leases.get(share.lease).ok_or((Refusal::NoLease, 0))?;
        let search = self.search.as_ref().ok_or((Refusal::Late, 0))?;
        let lease = &running.lease;
        let image_macs = search.interval.training_macs(&share.architecture).map_err(|_| (Refusal::OutsideLease, 5))?;
        let (from, to) = share.left_permille;
        if lease.left_permille < from || from < to || to < lease.left_after_permille {
            return Err((Refusal::OutsideLease, 5));
        }
        let left_images = running.done.get(index).map_or(0, |done| done.left_images);
        if !is_paid_for(lease, share, image_macs, left_images) {
            return Err((Refusal::OverBudget, 2));
        }
        let macs = image_macs.checked_mul(share.images).ok_or((Refusal::OverBudget, 5))?;
        let total = running.shared_macs.saturating_add(macs);
        // Whole batches and whole rungs overshoot a little.
        if total > running.lease.budget_macs.saturating_add(running.lease.budget_macs / 4) {
            return Err((Refusal::OverBudget, 2));
        }
        let calibrated = self.miners.get(miner).map_or(0, |m| m.calibrated_macs_s);
        let elapsed_ms = now_ms.saturating_sub(running.issued_ms).saturating_add(500);
        if u128::from(total) * 1000 > u128::from(calibrated) * 4 * u128::from(elapsed_ms) {
            return Err((Refusal::Implausible, 2));
        }
        let unit = running.units.get(index).copied().unwrap_or(0);
        let parent = search.parent();
        let ends_count = share.base.is_some() && self.is_audited(miner);
        let memory = self.memories.current_mut().ok_or((Refusal::Late, 0))?;
        if !memory.note_submitted(*miner, share.artefact.root, share.states.end, ends_count) {
            // Without replays, a training that changed no integer cannot be told from none.
            return Err((Refusal::NotNovel, u32::from(share.base.is_none())));
        }
        let before = share.base.and_then(|root| memory.past_of(root));
        let began = before.map_or(parent, |past| past.began);
        if memory.is_of(miner, share.artefact.root) {
            memory.note_past(share.artefact.root, Past { end: share.states.end, began });
        }
        let done = self.leases.get_mut(share.lease).and_then(|running| running.note_done(index, share));
        Ok(Admitted { macs, unit, done: done.ok_or((Refusal::NoLease, 0))? })
    }

    /// Every claimed improvement is checked, and what would be near the best if it were trained as long. So is the last
    /// result of a network while there is time for it: a miner that claims too little could keep a good model for itself.
    /// Of the rest, one in as many as the miner's run of valid results.
    fn must_check(&mut self, miner: &MinerId, share: &Share, done: Done) -> bool {
        if done.left_images <= SLACK_IMAGES && self.jobs.len() * 2 < self.params.evaluation_queue {
            return true;
        }
        let (Some(memory), Some(search)) = (self.memories.current(), self.search.as_ref()) else { return true };
        let near = |e: &Elite| u64::from(share.correct) * 100 >= u64::from(e.public_correct) * 95;
        if memory.elites.first().is_none_or(near) || memory.best_of(miner).is_none_or(near) {
            return true;
        }
        let would_be_near = memory.elites.first().is_some_and(|best| {
            let more = best.images.saturating_sub(done.seen_images);
            let then =
                Outlook::of(search).thousandths(share.correct, search.plan.public_images, done.seen_images, more, 0);
            then >= u64::from(best.public_correct) * 950
        });
        would_be_near || self.draw_check(miner)
    }

    /// Queues an evaluation.
    pub(super) fn ask_evaluation(&mut self, mut job: Job, effects: &mut Vec<Effect>) {
        job.asked_ms = self.now_ms;
        let id = JobId(self.next_job);
        self.next_job = self.next_job.saturating_add(1);
        effects.push(Effect::Evaluate { job: id, artefact: job.artefact });
        self.jobs.insert(id, job);
    }

    pub(super) fn evaluated(&mut self, id: JobId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.evaluation_ms = (self.evaluation_ms * 3 + self.now_ms.saturating_sub(job.asked_ms)) / 4;
        let Outcome::Model { architecture, mac_bits, public_correct, holdout_correct, .. } = outcome else {
            match (&job.kind, &outcome) {
                (JobKind::Share { miner, .. }, Outcome::Invalid(_)) => self.lied(miner),
                // The manager's own trouble: the network must not wait for a count that will never come.
                (JobKind::Share { unit, .. }, _) => self.forget_claim(*unit),
                (JobKind::Recheck(_), _) => {}
            }
            return;
        };
        let is_current = self.search.as_ref().is_some_and(|s| s.parent() == job.parent);
        let holdout_images = self.search.as_ref().map_or(0, |s| s.plan.holdout_images);
        let count = if holdout_images > 0 { holdout_correct } else { public_correct };
        match job.kind {
            JobKind::Recheck(elite) => {
                if is_current {
                    self.take_elite(Elite { count, public_correct, ..*elite }, effects);
                }
            }
            JobKind::Share { miner, share, macs, unit, done } => {
                if architecture != share.architecture || public_correct != share.correct {
                    self.lied(&miner);
                    return;
                }
                self.take_valid(&miner, &share, macs, public_correct);
                if !is_current {
                    // A later round of the task goes on with the network, if it is one; the model was not ranked in it.
                    self.note_unit(&share, unit, done, count);
                    return;
                }
                self.note_points(&miner, count);
                let past = self.memories.current().and_then(|m| m.past_of(share.artefact.root));
                let past = past.unwrap_or(Past { end: share.states.end, began: job.parent });
                let elite = Elite {
                    miner,
                    artefact: share.artefact,
                    architecture,
                    images: done.seen_images,
                    count,
                    public_correct,
                    mac_bits,
                    stalls: 0,
                    past,
                };
                self.take_elite(elite, effects);
                self.note_unit(&share, unit, done, count);
            }
        }
    }

    /// A result whose claim holds: pay for its work, unless the model is at chance and so proves none.
    fn take_valid(&mut self, miner: &MinerId, share: &Share, macs: u64, public_correct: u32) {
        if let Some(running) = self.leases.get_mut(share.lease) {
            running.verified_macs = running.verified_macs.saturating_add(macs);
        }
        let judged = self.search.as_ref().map(|s| (s.plan.public_images, s.interval.workload.classes));
        let is_audited = self.is_audited(miner);
        // Where training is replayed, a model at chance is as good a proof of work as any other.
        let proves_work =
            is_audited || judged.is_some_and(|(images, classes)| is_above_chance(public_correct, images, classes));
        let Some(record) = self.miners.get_mut(miner) else { return };
        record.valid_streak = record.valid_streak.saturating_add(1);
        record.accepted = record.accepted.saturating_add(1);
        if is_audited && !record.is_proven {
            record.kept_back_macs = record.kept_back_macs.saturating_add(macs);
        } else if proves_work {
            self.ledger.credit(*miner, record.account, macs);
        }
    }

    /// Images that models are ranked by, and among how many classes.
    fn ranked_by(&self) -> Option<(u32, u16)> {
        self.search.as_ref().map(|s| (s.plan.rank_images(), s.interval.workload.classes))
    }

    /// What a confirmed model earns under pay by performance: how far it is above chance, in integers.
    fn note_points(&mut self, miner: &MinerId, count: u32) {
        if let (Some((images, classes)), Some(record)) = (self.ranked_by(), self.miners.get(miner))
            && is_above_chance(count, images, classes)
        {
            let points = (u64::from(count) * u64::from(classes)).saturating_sub(images.into());
            self.ledger.note_points(*miner, record.account, points);
        }
    }

    /// A result below the best of a miner with a good record: believed.
    fn take_unchecked(&mut self, miner: &MinerId, share: &Share, admitted: Admitted) {
        let Admitted { macs, unit, done } = admitted;
        self.take_valid(miner, share, macs, share.correct);
        let Some(plan) = self.search.as_ref().map(|s| s.plan) else { return };
        let scaled = u64::from(share.correct) * u64::from(plan.rank_images()) / u64::from(plan.public_images.max(1));
        self.note_unit(share, unit, done, u32::try_from(scaled).unwrap_or(u32::MAX));
    }

    /// A valid result of a unit is where others can go on from. When it was the unit's last, the search learns what came
    /// of it.
    fn note_unit(&mut self, share: &Share, id: u64, done: Done, count: u32) {
        let Some(unit) = self.unit_progressed(share.lease, id, done) else { return };
        let (rank_images, classes) = self.ranked_by().unwrap_or((1, 1));
        let Some(memory) = self.memories.current_mut() else { return };
        match unit.purpose {
            Purpose::Exploit => {
                let elite = memory.elites.iter_mut().find(|e| Some(e.artefact) == unit.elite);
                // What a network gained it keeps as another elite; one that is still there was not bettered.
                if let Some(elite) = elite {
                    elite.stalls = elite.stalls.saturating_add(1);
                }
            }
            Purpose::Explore | Purpose::Backup => {
                let Some(proposals) = memory.proposals.as_mut() else { return };
                proposals.report(unit.part, &unit.architecture, reward_of(count, rank_images));
                proposals.rung.note(is_above_chance(count, rank_images, classes));
                if let Some(part) = unit.part {
                    proposals.parts.note(part, count);
                }
            }
        }
    }

    fn take_elite(&mut self, elite: Elite, effects: &mut Vec<Effect>) {
        let (miner, root, count) = (elite.miner, elite.artefact.root, elite.count);
        let Some(search) = self.search.as_ref() else { return };
        let (outlook, images) = (Outlook::of(search), search.plan.rank_images());
        if self.memories.current_mut().is_some_and(|m| m.insert(elite, outlook, images)) {
            effects.push(Effect::Improved { miner, root, count, images });
        }
        self.watch_leaders();
    }

    pub(super) fn elite(&self, root: &BlobRef) -> Option<&Elite> {
        self.elites().iter().find(|e| e.artefact == *root)
    }

    /// A false claim: the work in the pay window is lost, the miner is shut out for a while, and its next results are all checked.
    pub(super) fn lied(&mut self, miner: &MinerId) {
        self.audits.forget(miner);
        let (now_ms, suspension_ms) = (self.now_ms, self.params.suspension_ms);
        self.take_lease(miner);
        self.ledger.forfeit(miner);
        self.forget_claims(miner);
        if let Some(record) = self.miners.get_mut(miner) {
            record.valid_streak = 0;
            (record.is_proven, record.kept_back_macs) = (false, 0);
            record.rejected = record.rejected.saturating_add(1);
            record.suspended_until_ms = now_ms.saturating_add(suspension_ms);
        }
        self.assign_classes();
    }
}

/// Whether no more images were ordered, which the learning rate follows, than the lease pays for, and no more trained
/// than ordered and than are left of the network, or candidates would not compare. One batch is trained in any case.
fn is_paid_for(lease: &Lease, share: &Share, image_macs: u64, left_images: u64) -> bool {
    let most = lease.budget_macs.saturating_add(lease.budget_macs / 4) / image_macs.max(1);
    let batch = lease.rule_of(&share.architecture).map_or(0, |rule| rule.batch.into());
    let is_left = left_images > 0 && share.images <= left_images.max(batch);
    share.ordered <= most.max(LEAST_IMAGES) && share.images <= share.ordered.max(batch) && is_left
}

/// Which network of its lease a result is of. It goes on from where the last one ended, or begins where the lease says.
fn assignment_of(running: &Running, share: &Share) -> Option<usize> {
    running.lease.work.iter().zip(&running.done).position(|(work, done)| {
        let base = done.last.or(work.base).map(|blob| blob.root);
        work.architecture == share.architecture && share.base == base
    })
}
