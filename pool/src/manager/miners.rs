//! What the manager knows of each miner.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Amount, Hash32};
use serde::{Deserialize, Serialize};

use crate::calibration::CalibrationJob;
use crate::classes::Rating;
use crate::protocol::Refusal;
use crate::types::{AuditTally, BackupTally, LeaseId, MinerId};

/// How far a miner's calibration is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Calibration {
    /// Asked for.
    Issued {
        /// The job.
        job: CalibrationJob,
        /// When it was handed out.
        at_ms: u64,
        /// Which repetition, from 1.
        round: u8,
    },
    /// Measured; the answer is being recomputed, and leases are given meanwhile.
    Checking {
        /// The job.
        job: CalibrationJob,
        /// The miner's answer.
        digest: Hash32,
    },
    /// Answered rightly.
    Done,
}

/// One miner. Suspended and silent miners are kept, so that a miner that returns finds its work credited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinerRecord {
    /// Whom to pay.
    pub account: AccountId,
    /// Last message.
    pub heard_ms: u64,
    /// Whether it has left or lost its lease by silence since.
    pub online: bool,
    /// Its calibration.
    pub calibration: Calibration,
    /// Speed from its calibration, in training multiply-accumulates a second; bounds what is plausible.
    pub calibrated_macs_s: u64,
    /// Measured speed, availability, class.
    pub rating: Rating,
    /// Rate that leases are sized by.
    pub rate_macs_s: u64,
    /// Its lease.
    pub lease: Option<LeaseId>,
    /// Consecutive valid results that were checked.
    pub valid_streak: u32,
    /// Whether a replay has shown that it trains what it says, since it joined or last failed one.
    pub is_proven: bool,
    /// Verified work that is credited when it is proven, and lost when it fails. That and the pay window are its escrow, so
    /// that joining needs no funds.
    pub kept_back_macs: u64,
    /// Results taken.
    pub accepted: u32,
    /// Results refused or found false.
    pub rejected: u32,
    /// Its part of won blocks that are final. Share lists are forgotten in time, this is not.
    pub paid: Amount,
    /// Replays of its training.
    pub audits: AuditTally,
    /// Networks that it and others took over from each other.
    pub backups: BackupTally,
    /// Rule breaks; at [`PENALTY_LIMIT`] the miner is suspended.
    pub penalty: u32,
    /// Shut out until then.
    pub suspended_until_ms: u64,
    /// Tokens of its request bucket, in thousandths, and when they were counted.
    tokens_permille: u64,
    tokens_at_ms: u64,
}

/// Rule breaks that suspend a miner.
pub const PENALTY_LIMIT: u32 = 20;
/// Availability from which a miner is trusted to finish what it begins, in thousandths.
const RELIABLE_PERMILLE: u16 = 800;

impl MinerRecord {
    /// A miner that has just said hello.
    pub fn new(account: AccountId, now_ms: u64, job: CalibrationJob, burst: u32) -> Self {
        Self {
            account,
            heard_ms: now_ms,
            online: true,
            calibration: Calibration::Issued { job, at_ms: now_ms, round: 1 },
            calibrated_macs_s: 0,
            rating: Rating::calibrated(0),
            rate_macs_s: 0,
            lease: None,
            valid_streak: 0,
            is_proven: false,
            kept_back_macs: 0,
            accepted: 0,
            rejected: 0,
            paid: Amount::ZERO,
            audits: AuditTally::default(),
            backups: BackupTally::default(),
            penalty: 0,
            suspended_until_ms: 0,
            tokens_permille: u64::from(burst) * 1000,
            tokens_at_ms: now_ms,
        }
    }

    /// Whether it is not heard now, and what it is told: it is shut out, or has no token for a request.
    pub fn turned_away(&self, now_ms: u64, per_s: u32) -> Option<(Refusal, u64)> {
        if self.is_suspended(now_ms) {
            return Some((Refusal::Suspended, self.suspended_until_ms.saturating_sub(now_ms)));
        }
        (self.tokens_permille(now_ms, per_s) < 1000).then_some((Refusal::RateLimited, 1000))
    }

    /// Takes a token for a request.
    pub fn take_token(&mut self, now_ms: u64, per_s: u32) {
        self.tokens_permille = self.tokens_permille(now_ms, per_s).saturating_sub(1000);
        self.tokens_at_ms = now_ms;
    }

    /// Tokens that it has, in thousandths. The bucket holds two seconds' worth.
    fn tokens_permille(&self, now_ms: u64, per_s: u32) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.tokens_at_ms);
        let come = passed_ms.saturating_mul(per_s.into());
        self.tokens_permille.saturating_add(come).min(u64::from(per_s) * 2000)
    }

    /// Whether it may be given work.
    pub fn is_calibrated(&self) -> bool {
        !matches!(self.calibration, Calibration::Issued { .. })
    }

    /// Whether it finishes what it begins.
    pub fn is_reliable(&self) -> bool {
        self.rating.availability_permille >= RELIABLE_PERMILLE
    }

    /// Whether it is shut out.
    pub fn is_suspended(&self, now_ms: u64) -> bool {
        now_ms < self.suspended_until_ms
    }
}

/// Drops the miner that was silent longest among those that are offline, have no lease and are owed nothing. Work that
/// was kept back is owed to miners that were heard since `kept_from_ms`, or names that come for one result each would
/// fill the pool for ever. False when there is none.
pub fn evict_one(
    miners: &mut BTreeMap<MinerId, MinerRecord>,
    kept_from_ms: u64,
    is_owed: impl Fn(&MinerId) -> bool,
) -> bool {
    let keeps = |m: &MinerRecord| m.kept_back_macs > 0 && m.heard_ms >= kept_from_ms;
    let owed = |id: &MinerId, m: &MinerRecord| keeps(m) || is_owed(id);
    let idle = miners.iter().filter(|(id, m)| !m.online && m.lease.is_none() && !owed(id, m));
    let Some(oldest) = idle.min_by_key(|(id, m)| (m.heard_ms, **id)).map(|(id, _)| *id) else { return false };
    miners.remove(&oldest);
    true
}
