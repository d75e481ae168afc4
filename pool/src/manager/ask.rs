//! Requests of miners: joining, calibration, progress, leaving; the gate before all of them.

use podl_chain_spec::{AccountId, Hash32};

use super::miners::{Calibration, MinerRecord, PENALTY_LIMIT, evict_one};
use super::{Ask, Effect, Manager};
use crate::calibration::{self, CalibrationJob};
use crate::lease::LeaseState;
use crate::protocol::{Refusal, Reply, Standing, VERSION};
use crate::types::{LeaseId, MinerId};

/// Speed of the integer engine that first calibrations reckon with: about one core of a present-day machine.
const REFERENCE_MACS_S: u64 = 4_000_000_000;
/// By how much a calibration that was too short is repeated longer. A fixed factor, so that managers recompute few
/// different jobs.
const LONGER: u32 = 8;
/// How many times as fast as the fastest known miner a calibration may say that one is.
const BELIEVABLE: u64 = 8;
/// How long one calibration seed serves: answers of earlier hours are of no use.
const SEED_MS: u64 = 3_600_000;

impl Manager {
    pub(super) fn asked(&mut self, miner: MinerId, ask: Ask, effects: &mut Vec<Effect>) {
        if ask == Ask::Broken {
            self.penalise(&miner, 5);
            return;
        }
        let reply = match self.gate(&miner, &ask) {
            Err((refusal, retry_ms)) => Reply::Refused { refusal, retry_ms },
            Ok(()) => match ask {
                Ask::Hello { version, account } => self.hello(miner, version, account),
                Ask::Calibrated { seed, digest } => self.calibrated(miner, seed, digest, effects),
                Ask::Lease => self.lease(miner),
                Ask::Progress { lease, done_macs } => self.progress(miner, lease, done_macs),
                Ask::Submit { share, is_model } => self.submit(miner, share, is_model, effects),
                Ask::Chunk => self.ack(&miner, true),
                Ask::Leave | Ask::Broken => self.leave(miner),
            },
        };
        effects.push(Effect::Reply { miner, reply: Box::new(reply) });
    }

    /// Whether a miner is not heard at all now, and what it is told: [`Manager::handle`] would say the same whatever else it
    /// asks, so that its request need not be looked at. Only a Hello makes a miner known.
    pub fn turns_away(&self, miner: &MinerId, is_hello: bool, now_ms: u64) -> Option<(Refusal, u64)> {
        let now_ms = self.now_ms.max(now_ms);
        match self.miners.get(miner) {
            None => (!is_hello).then_some((Refusal::Unknown, 0)),
            Some(record) => record.turned_away(now_ms, self.params.requests_per_s),
        }
    }

    /// Who may ask at all.
    fn gate(&mut self, miner: &MinerId, ask: &Ask) -> Result<(), (Refusal, u64)> {
        let (now_ms, per_s) = (self.now_ms, self.params.requests_per_s);
        let Some(record) = self.miners.get_mut(miner) else {
            return if matches!(ask, Ask::Hello { .. }) { Ok(()) } else { Err((Refusal::Unknown, 0)) };
        };
        if let Some(refusal) = record.turned_away(now_ms, per_s) {
            return Err(refusal);
        }
        record.take_token(now_ms, per_s);
        record.heard_ms = now_ms;
        // A miner that was only slow is back; its lost lease stays lost.
        record.online = true;
        if let Some(running) = record.lease.and_then(|id| self.leases.get_mut(id)) {
            running.heard_ms = now_ms;
        }
        Ok(())
    }

    fn hello(&mut self, miner: MinerId, version: u16, account: AccountId) -> Reply {
        if version != VERSION {
            return self.refused(Refusal::Version, 0);
        }
        let job = self.first_job();
        if !self.miners.contains_key(&miner) {
            self.note_silent();
            let (ledger, pay) = (&self.ledger, self.params.pay);
            let is_owed = |id: &MinerId| ledger.is_owed(id, pay);
            let kept_from_ms = self.now_ms.saturating_sub(self.params.suspension_ms);
            if self.miners.len() >= self.params.max_miners && !evict_one(&mut self.miners, kept_from_ms, is_owed) {
                return self.refused(Refusal::Full, 30_000);
            }
            let burst = self.params.requests_per_s.saturating_mul(2);
            self.miners.insert(miner, MinerRecord::new(account, self.now_ms, job, burst));
        }
        let (now_ms, fee_basis_points, heartbeat_ms) =
            (self.now_ms, self.params.fee_basis_points, self.params.heartbeat.every_ms);
        let mut calibrate = None;
        self.audits.note_hello(&miner);
        if let Some(record) = self.miners.get_mut(&miner) {
            record.account = account;
            if !record.is_calibrated() {
                record.calibration = Calibration::Issued { job, at_ms: now_ms, round: 1 };
                calibrate = Some(job);
            }
        }
        let audit = self.audits.wanted_of(&miner);
        Reply::Welcome { fee_basis_points, heartbeat_ms, calibrate, audit }
    }

    fn first_job(&self) -> CalibrationJob {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(b"calibration");
        hasher.update(&(self.now_ms / SEED_MS).to_le_bytes());
        calibration::job_for(*hasher.finalize().as_bytes(), REFERENCE_MACS_S, self.params.calibration_ms)
    }

    fn calibrated(&mut self, miner: MinerId, seed: [u8; 32], digest: Hash32, effects: &mut Vec<Effect>) -> Reply {
        let most_macs_s = self.believable_macs_s();
        let (now_ms, params) = (self.now_ms, &self.params);
        let Some(record) = self.miners.get_mut(&miner) else { return self.refused(Refusal::Unknown, 0) };
        let (job, at_ms, round) = match record.calibration {
            Calibration::Issued { job, at_ms, round } if job.seed == seed => (job, at_ms, round),
            _ => {
                self.penalise(&miner, 2);
                return self.refused(Refusal::CalibrationFailed, 0);
            }
        };
        let elapsed_ms = now_ms.saturating_sub(at_ms);
        if elapsed_ms < calibration::SHORTEST_MS && round < params.calibration_rounds {
            let steps = job.steps.saturating_mul(LONGER).min(calibration::MOST_STEPS);
            let job = CalibrationJob { steps, ..job };
            record.calibration = Calibration::Issued { job, at_ms: now_ms, round: round + 1 };
            return Reply::CalibrateAgain(job);
        }
        let per_s = u128::from(calibration::job_macs(&job)) * 1000 / u128::from(elapsed_ms.max(1));
        let training = per_s * u128::from(params.training_permille) / 1000;
        record.calibrated_macs_s = u64::try_from(training).unwrap_or(u64::MAX).clamp(1, most_macs_s);
        record.rate_macs_s = record.calibrated_macs_s;
        record.rating = crate::classes::Rating::calibrated(record.calibrated_macs_s);
        record.calibration = Calibration::Checking { job, digest };
        effects.push(Effect::CheckCalibration { miner, job, digest });
        self.assign_classes();
        self.ack(&miner, true)
    }

    /// What a calibration alone can show. All miners of an hour have the same job, or a manager could not recompute
    /// all of them, so that one may have been told the answer: until verified work shows more, nobody is reckoned faster
    /// than eight times the fastest miner of which that is known.
    fn believable_macs_s(&self) -> u64 {
        let proven = self.miners.values().filter(|m| m.is_proven && m.online);
        let fastest = proven.map(|m| m.rating.speed_macs_s).max();
        fastest.map_or(u64::MAX, |speed| speed.max(1).saturating_mul(BELIEVABLE))
    }

    pub(super) fn calibration_checked(&mut self, miner: &MinerId, job: CalibrationJob, correct: bool) {
        let again = self.first_job();
        let (now_ms, suspension_ms) = (self.now_ms, self.params.suspension_ms);
        let Some(record) = self.miners.get_mut(miner) else { return };
        if !matches!(record.calibration, Calibration::Checking { job: checked, .. } if checked == job) {
            return;
        }
        if correct {
            record.calibration = Calibration::Done;
            return;
        }
        record.calibration = Calibration::Issued { job: again, at_ms: now_ms, round: 1 };
        record.rejected = record.rejected.saturating_add(1);
        record.suspended_until_ms = now_ms.saturating_add(suspension_ms);
        self.take_lease(miner);
        self.ledger.forfeit(miner);
        self.assign_classes();
    }

    fn progress(&mut self, miner: MinerId, id: LeaseId, done_macs: u64) -> Reply {
        let open = self.search.as_ref().is_some_and(|s| s.open);
        let Some(running) = self.leases.get_mut(id).filter(|l| l.miner == miner) else {
            return self.refused(Refusal::NoLease, 0);
        };
        running.reported_macs = running.reported_macs.max(done_macs);
        let go_on = open && running.state == LeaseState::Running;
        self.ack(&miner, go_on)
    }

    fn leave(&mut self, miner: MinerId) -> Reply {
        self.take_lease(&miner);
        if let Some(record) = self.miners.get_mut(&miner) {
            record.online = false;
        }
        self.assign_classes();
        Reply::Goodbye { window_macs: self.ledger.window_macs(&miner, self.params.pay) }
    }

    /// Ends a miner's lease.
    pub(super) fn take_lease(&mut self, miner: &MinerId) {
        if let Some(id) = self.miners.get(miner).and_then(|m| m.lease) {
            self.lease_over(id, false);
        }
    }

    /// Counts rule breaks; too many shut the miner out for a while.
    pub(super) fn penalise(&mut self, miner: &MinerId, points: u32) {
        let (now_ms, suspension_ms) = (self.now_ms, self.params.suspension_ms);
        let Some(record) = self.miners.get_mut(miner) else { return };
        record.rejected = record.rejected.saturating_add(1);
        record.penalty = record.penalty.saturating_add(points);
        if record.penalty >= PENALTY_LIMIT {
            record.penalty = 0;
            record.suspended_until_ms = now_ms.saturating_add(suspension_ms);
            self.take_lease(miner);
        }
    }

    pub(super) fn refused(&self, refusal: Refusal, retry_ms: u64) -> Reply {
        Reply::Refused { refusal, retry_ms }
    }

    /// An acknowledgement as things are now.
    pub fn ack(&self, miner: &MinerId, go_on: bool) -> Reply {
        let rank_images = self.search.as_ref().map_or(1, |s| s.plan.rank_images());
        Reply::Ack {
            go_on,
            best_permille: self.elites().first().map(|e| e.permille(rank_images)),
            standing: self.standing(miner),
            audit: self.audits.wanted_of(miner),
        }
    }

    /// What a miner is told of itself.
    pub fn standing(&self, miner: &MinerId) -> Standing {
        let (ledger, pay) = (&self.ledger, self.params.pay);
        let of_pool = Standing {
            strong_from_macs_s: self.border_macs_s,
            window_macs: ledger.window_macs(miner, pay),
            pool_window_macs: u64::try_from(ledger.window_total(pay)).unwrap_or(u64::MAX),
            window_intervals: pay.window(),
            pending: ledger.pending_of(miner),
            next_payment: ledger.next_payment(miner, self.params.pay_terms()),
            luck: ledger.luck(),
            ..Standing::default()
        };
        let Some(record) = self.miners.get(miner) else { return of_pool };
        Standing {
            class: record.rating.class,
            speed_macs_s: record.rating.speed_macs_s,
            kept_back_macs: record.kept_back_macs,
            paid: record.paid,
            accepted: record.accepted,
            rejected: record.rejected,
            audits: record.audits,
            backups: record.backups,
            ..of_pool
        }
    }
}
