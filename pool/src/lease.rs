//! Running leases: heartbeats, ends, grace, and how large the next one is.

use std::collections::BTreeMap;

use podl_consensus::types::BlobRef;
use serde::{Deserialize, Serialize};

use crate::types::{Lease, LeaseId, MinerId, Share};

/// A lease's way through its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// Worked on.
    Running,
    /// Ended by the miner or by its deadline.
    Ended {
        /// When; shares count until shortly after.
        at_ms: u64,
    },
    /// Taken away after missed heartbeats; its work goes to another miner.
    Lost {
        /// When; shares of a miner that was only slow count until shortly after.
        at_ms: u64,
    },
}

/// How far a network of a lease is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Training images that its weights have seen, over all leases.
    pub seen_images: u64,
    /// Training images that are still to be spent on it, by this miner or a later one.
    pub left_images: u64,
    /// The last model handed in under this lease.
    pub last: Option<BlobRef>,
}

/// A lease that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// What was leased.
    pub lease: Lease,
    /// To whom.
    pub miner: MinerId,
    /// When it was handed out.
    pub issued_ms: u64,
    /// When it must be over.
    pub due_at_ms: u64,
    /// Last sign of life.
    pub heard_ms: u64,
    /// Work that the miner reported.
    pub reported_macs: u64,
    /// Work in shares that were taken in.
    pub shared_macs: u64,
    /// Work in shares that were found, or taken to be, true.
    pub verified_macs: u64,
    /// How far each of its networks is.
    pub done: Vec<Done>,
    /// The units that its networks belong to.
    pub units: Vec<u64>,
    /// Where it is.
    pub state: LeaseState,
}

impl Running {
    /// Notes a result for a network of the lease; none when there is no such network.
    pub fn note_done(&mut self, index: usize, share: &Share) -> Option<Done> {
        let done = self.done.get_mut(index)?;
        done.seen_images = done.seen_images.saturating_add(share.images);
        done.left_images = done.left_images.saturating_sub(share.images);
        done.last = Some(share.artefact);
        Some(*done)
    }

    /// Whether a share that comes now counts.
    pub fn takes_shares(&self, now_ms: u64, grace_ms: u64) -> bool {
        match self.state {
            LeaseState::Running => true,
            LeaseState::Ended { at_ms } | LeaseState::Lost { at_ms } => now_ms <= at_ms.saturating_add(grace_ms),
        }
    }
}

/// When a lease is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatRule {
    /// How often a miner reports.
    pub every_ms: u64,
    /// After how many missing reports its lease goes to another.
    pub missed: u32,
}

impl HeartbeatRule {
    /// How long a miner may be silent, in milliseconds.
    pub fn silence_ms(self) -> u64 {
        self.every_ms.saturating_mul(self.missed.into())
    }
}

/// All leases of an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBook {
    leases: BTreeMap<LeaseId, Running>,
}

impl LeaseBook {
    /// Notes a new lease.
    pub fn insert(&mut self, running: Running) {
        self.leases.insert(running.lease.id, running);
    }

    /// A lease.
    pub fn get(&self, id: LeaseId) -> Option<&Running> {
        self.leases.get(&id)
    }

    /// A lease.
    pub fn get_mut(&mut self, id: LeaseId) -> Option<&mut Running> {
        self.leases.get_mut(&id)
    }

    /// All leases.
    pub fn iter(&self) -> impl Iterator<Item = &Running> {
        self.leases.values()
    }

    /// How many are worked on.
    pub fn running(&self) -> usize {
        self.leases.values().filter(|l| l.state == LeaseState::Running).count()
    }

    /// Ends leases that are silent or past their end, and returns those with whether they were lost.
    pub fn expire(&mut self, now_ms: u64, rule: HeartbeatRule) -> Vec<(LeaseId, bool)> {
        let silence_ms = rule.silence_ms();
        let mut ended = Vec::new();
        for running in self.leases.values_mut().filter(|l| l.state == LeaseState::Running) {
            let silent_ms = running.heard_ms.saturating_add(silence_ms);
            let lost = now_ms > silent_ms;
            // The end counts from when it was due, not from when it was noticed.
            if lost {
                running.state = LeaseState::Lost { at_ms: silent_ms };
            } else if now_ms > running.due_at_ms {
                running.state = LeaseState::Ended { at_ms: running.due_at_ms };
            } else {
                continue;
            }
            ended.push((running.lease.id, lost));
        }
        ended
    }

    /// Puts off what counts against miners by the time that the manager was away. Since when they have had their
    /// leases stays, or work done meanwhile would seem too fast to be true.
    pub fn put_off(&mut self, away_ms: u64) {
        for lease in self.leases.values_mut() {
            lease.heard_ms = lease.heard_ms.saturating_add(away_ms);
            lease.due_at_ms = lease.due_at_ms.saturating_add(away_ms);
            if let LeaseState::Ended { at_ms } | LeaseState::Lost { at_ms } = &mut lease.state {
                *at_ms = at_ms.saturating_add(away_ms);
            }
        }
    }

    /// Removes and returns leases that take no shares any more.
    pub fn prune(&mut self, now_ms: u64, grace_ms: u64) -> Vec<Running> {
        let over = self.leases.iter().filter(|(_, l)| !l.takes_shares(now_ms, grace_ms)).map(|(id, _)| *id);
        let over: Vec<LeaseId> = over.collect();
        over.iter().filter_map(|id| self.leases.remove(id)).collect()
    }

    /// Ends and returns the leases still worked on, because their interval is over.
    pub fn end_all(&mut self, now_ms: u64) -> Vec<(LeaseId, MinerId)> {
        let running = self.leases.values_mut().filter(|l| l.state == LeaseState::Running);
        running
            .map(|l| {
                l.state = LeaseState::Ended { at_ms: now_ms };
                (l.lease.id, l.miner)
            })
            .collect()
    }

    /// When the next lease expires if nothing is heard.
    pub fn next_expiry_ms(&self, rule: HeartbeatRule) -> Option<u64> {
        let silence_ms = rule.silence_ms();
        let running = self.leases.values().filter(|l| l.state == LeaseState::Running);
        running.map(|l| l.heard_ms.saturating_add(silence_ms).min(l.due_at_ms).saturating_add(1)).min()
    }
}

/// Integer square root, rounded down.
fn isqrt(n: u128) -> u128 {
    n.isqrt()
}

/// The next rate (multiply-accumulates a second) to size leases by, from what the last lease took.
///
/// As miners know it from variable difficulty: nothing changes while the measured rate is within 0.75 to 1.25 of the
/// leased one; otherwise the rate moves by the square root of the ratio, at most to half or double.
pub fn next_rate(rate_macs_s: u64, done_macs: u64, elapsed_ms: u64) -> u64 {
    let leased = u128::from(rate_macs_s.max(1));
    let measured = u128::from(done_macs) * 1000 / u128::from(elapsed_ms.max(1));
    let ratio_permille = measured.saturating_mul(1000) / leased;
    if (750..=1250).contains(&ratio_permille) {
        return rate_macs_s;
    }
    // sqrt(ratio) in thousandths is sqrt(ratio_permille x 1000).
    let step_permille = isqrt(ratio_permille.min(4000) * 1000).clamp(500, 2000);
    u64::try_from((leased * step_permille / 1000).max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use podl_chain_spec::Hash32;
    use proptest::prelude::*;

    use super::*;
    use crate::types::Purpose;

    const RULE: HeartbeatRule = HeartbeatRule { every_ms: 1000, missed: 3 };

    fn running(id: u64, issued_ms: u64) -> Running {
        let lease = Lease {
            id: LeaseId(id),
            parent: Hash32::ZERO,
            purpose: Purpose::Explore,
            work: vec![],
            steps: 1,
            seed: 0,
            budget_macs: 1000,
            wall_ms: 4000,
            due_ms: 5000,
            left_permille: 1000,
            left_after_permille: 900,
        };
        Running {
            lease,
            miner: MinerId(Hash32::ZERO),
            issued_ms,
            due_at_ms: issued_ms + 5000,
            heard_ms: issued_ms,
            reported_macs: 0,
            shared_macs: 0,
            verified_macs: 0,
            done: Vec::new(),
            units: Vec::new(),
            state: LeaseState::Running,
        }
    }

    #[test]
    fn three_missed_heartbeats_lose_a_lease() {
        let mut book = LeaseBook::default();
        book.insert(running(1, 0));
        book.insert(running(2, 0));
        book.get_mut(LeaseId(2)).unwrap().heard_ms = 2500;
        assert_eq!(book.next_expiry_ms(RULE), Some(3001));
        assert_eq!(book.expire(3000, RULE), []);
        assert_eq!(book.expire(3001, RULE), [(LeaseId(1), true)]);
        assert_eq!(book.expire(5001, RULE), [(LeaseId(2), false)], "its end comes before its silence");
        assert_eq!(book.running(), 0);
        assert!(book.get(LeaseId(1)).unwrap().takes_shares(5000, 2000));
        book.prune(5001, 2000);
        assert!(book.get(LeaseId(1)).is_none() && book.get(LeaseId(2)).is_some());
    }

    #[test]
    fn sizes_follow_speed_with_a_dead_band() {
        for (done, rate) in [(1000, 1000), (760, 1000), (1240, 1000), (640, 800), (4000, 2000), (9999, 2000), (0, 500)]
        {
            assert_eq!(next_rate(1000, done, 1000), rate, "{done}");
        }
    }

    proptest! {
        #[test]
        fn sizes_settle_within_the_dead_band(start in 1u64..1 << 50, speed in 1000u64..1 << 50) {
            let mut rate = start;
            for _ in 0..120 {
                rate = next_rate(rate, speed, 1000);
            }
            let ratio = speed as f64 / rate as f64;
            prop_assert!((0.74..=1.26).contains(&ratio), "{ratio}");
        }
    }
}
