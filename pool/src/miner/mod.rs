//! The miner: joins, calibrates, searches its lease, reports, exploits what others confirmed.
//!
//! A pure machine like the manager: events and the time in, effects out. One request is under way at a time; results
//! go before requests for work, and heartbeats last.

mod event;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, VecDeque};

use podl_chain_spec::AccountId;
use podl_consensus::types::{BlobRef, BlockHash};

pub use event::{MinerEffect, MinerEvent, TrainOrder, Trained};
pub use work::Progress;

use crate::calibration::MOST_STEPS;
use crate::protocol::{CHUNK_BYTES, Refusal, Reply, Request, Standing, VERSION};
use crate::types::{EvaluationPlan, Interval, Lease, LeaseId};
use work::Work;

/// First and longest wait before a pool that does not answer is tried again.
const BACKOFF_MS: (u64, u64) = (250, 30_000);
/// Most results that wait to be sent; more are dropped, oldest first.
const MOST_QUEUED: usize = 16;

/// Where a miner is with its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not joined, or the pool does not answer.
    Offline,
    /// Hello is under way.
    Joining,
    /// Being measured.
    Calibrating,
    /// Joined: working or asking for work.
    Joined,
    /// Leaving.
    Stopping,
    /// Left.
    Stopped,
}

/// Refusals of one kind that a miner was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalTally {
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub last_ms: u64,
}

/// A miner without its pool, which it tries again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    /// Since when.
    pub since_ms: u64,
    /// Why the last try came to nothing, in words.
    pub reason: String,
    /// When the pool is tried next; none while it is being tried.
    pub retry_at_ms: Option<u64>,
}

/// A miner of one pool.
#[derive(Clone, Debug)]
pub struct Miner {
    account: AccountId,
    agent: String,
    stage: Stage,
    now_ms: u64,
    in_flight: Option<Request>,
    outbox: VecDeque<Request>,
    /// Nothing is sent before.
    quiet_until_ms: u64,
    /// Work is not asked for before.
    ask_at_ms: u64,
    backoff_ms: u64,
    heartbeat_ms: u64,
    beat_at_ms: u64,
    interval: Option<(Interval, EvaluationPlan)>,
    prepared: Option<BlockHash>,
    work: Option<Work>,
    next_order: u64,
    standing: Option<Standing>,
    best_permille: Option<u16>,
    last_refusal: Option<Refusal>,
    refusals: BTreeMap<Refusal, RefusalTally>,
    /// The state that the pool wants and that is no longer here.
    gone: Option<BlobRef>,
    /// Since when, and why, it is without its pool.
    offline: Option<(u64, String)>,
}

impl Miner {
    /// A miner that wants `account` paid. `agent` names its software, for people.
    pub fn new(account: AccountId, agent: &str) -> Self {
        Self {
            account,
            agent: agent.chars().take(crate::protocol::AGENT_CHARACTERS).collect(),
            stage: Stage::Offline,
            now_ms: 0,
            in_flight: None,
            outbox: VecDeque::new(),
            quiet_until_ms: 0,
            ask_at_ms: 0,
            backoff_ms: BACKOFF_MS.0,
            heartbeat_ms: 2000,
            beat_at_ms: 0,
            interval: None,
            prepared: None,
            work: None,
            next_order: 1,
            standing: None,
            best_permille: None,
            last_refusal: None,
            refusals: BTreeMap::new(),
            gone: None,
            offline: None,
        }
    }

    /// Takes in an event that happens at `now_ms`.
    pub fn handle(&mut self, now_ms: u64, event: MinerEvent) -> Vec<MinerEffect> {
        let mut effects = Vec::new();
        self.now_ms = self.now_ms.max(now_ms);
        match event {
            MinerEvent::Start => self.join(),
            MinerEvent::Replied(reply) => self.replied(*reply, &mut effects),
            MinerEvent::Unreachable { reason } => self.unreachable(reason, &mut effects),
            MinerEvent::Calibrated { job, digest } => {
                if self.stage == Stage::Calibrating {
                    self.outbox.push_back(Request::Calibrated { seed: job.seed, digest });
                }
            }
            MinerEvent::NotCalibrated { reason } => {
                if self.stage == Stage::Calibrating {
                    self.go_offline(reason, BACKOFF_MS.1);
                }
            }
            MinerEvent::Prepared { parent } => {
                self.prepared = Some(parent);
                self.next_order(&mut effects);
            }
            MinerEvent::NotPrepared { parent } => self.not_prepared(&parent),
            MinerEvent::Progressed { order, images } => self.progressed(order, images),
            MinerEvent::Finished { order, result } => self.finished(order, result, &mut effects),
            MinerEvent::StateGone { state } => {
                self.in_flight = None;
                self.gone = Some(state);
            }
            // Sending it again and again would keep everything else back.
            MinerEvent::ResultGone => self.in_flight = None,
            MinerEvent::Stop => self.stop(&mut effects),
            MinerEvent::Tick => {}
        }
        self.advance(&mut effects);
        effects
    }

    /// When something will be due although no event comes.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.stage == Stage::Stopped || self.in_flight.is_some() {
            return None;
        }
        let retry = self.quiet_until_ms;
        let due = match (&self.work, self.stage) {
            _ if !self.outbox.is_empty() => retry,
            (Some(work), Stage::Joined) => self.beat_at_ms.min(work.over_at_ms()).max(retry),
            (None, Stage::Joined) => self.ask_at_ms.max(retry),
            (_, Stage::Offline) => retry,
            _ => return None,
        };
        Some(due.max(self.now_ms + 1))
    }

    /// Where it is with its pool.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Its lease.
    pub fn lease(&self) -> Option<&Lease> {
        self.work.as_ref().map(|w| &w.lease)
    }

    /// How far it is with its lease, as of the last event.
    pub fn progress(&self) -> Option<Progress> {
        self.work.as_ref().map(|work| work.progress(self.now_ms))
    }

    /// Its standing, as the pool last said.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// What part the pool's best model classifies correctly, in thousandths, as the pool last said.
    pub fn best_permille(&self) -> Option<u16> {
        self.best_permille
    }

    /// The last refusal, which says what to do.
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.last_refusal
    }

    /// All refusals so far.
    pub fn refusals(&self) -> &BTreeMap<Refusal, RefusalTally> {
        &self.refusals
    }

    /// That it is without its pool, if it is: from the first request that failed until the pool welcomes it again.
    pub fn offline(&self) -> Option<Offline> {
        let (since_ms, reason) = self.offline.clone()?;
        let retry_at_ms = (self.stage == Stage::Offline).then_some(self.quiet_until_ms);
        Some(Offline { since_ms, reason, retry_at_ms })
    }

    fn join(&mut self) {
        if matches!(self.stage, Stage::Stopping | Stage::Stopped) {
            return;
        }
        self.stage = Stage::Joining;
        self.outbox.retain(is_owed);
        let (account, agent) = (self.account, self.agent.clone());
        self.outbox.push_front(Request::Hello { version: VERSION, account, agent });
    }

    /// Sends what is due by time and what waits.
    fn advance(&mut self, effects: &mut Vec<MinerEffect>) {
        let now_ms = self.now_ms;
        if self.in_flight.is_some() || now_ms < self.quiet_until_ms || self.stage == Stage::Stopped {
            return;
        }
        if self.stage == Stage::Offline {
            self.join();
        }
        let is_chunk = |r: &Request| matches!(r, Request::Chunk { .. });
        if self.stage == Stage::Joined && self.outbox.iter().all(is_chunk) {
            match &self.work {
                Some(work) if now_ms >= work.over_at_ms() => self.end_work(effects),
                Some(work) if now_ms >= self.beat_at_ms => {
                    self.beat_at_ms = now_ms + self.heartbeat_ms;
                    let (lease, done_macs) = (work.lease.id, work.done_macs());
                    self.outbox.push_front(Request::Progress { lease, done_macs });
                }
                _ => {}
            }
            if self.work.is_none() && now_ms >= self.ask_at_ms && self.outbox.iter().all(is_chunk) {
                self.outbox.push_front(Request::Lease);
            }
        }
        if let Some(request) = self.outbox.pop_front() {
            self.in_flight = Some(request.clone());
            effects.push(MinerEffect::Send(request));
        }
    }

    fn unreachable(&mut self, reason: String, effects: &mut Vec<MinerEffect>) {
        // A result survives the connection; everything else is asked anew.
        if let Some(request) = self.in_flight.take().filter(is_owed) {
            self.outbox.push_front(request);
        }
        if self.stage == Stage::Stopping {
            self.stopped(effects);
            return;
        }
        self.go_offline(reason, self.backoff_ms);
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS.1);
    }

    /// Is without its pool for `wait_ms` at least.
    fn go_offline(&mut self, reason: String, wait_ms: u64) {
        self.stage = Stage::Offline;
        self.quiet_until_ms = self.now_ms + wait_ms;
        let since_ms = self.offline.take().map_or(self.now_ms, |(since_ms, _)| since_ms);
        self.offline = Some((since_ms, reason));
    }

    fn replied(&mut self, reply: Reply, effects: &mut Vec<MinerEffect>) {
        let Some(request) = self.in_flight.take() else { return };
        self.backoff_ms = BACKOFF_MS.0;
        if let Reply::Ack { audit: Some(state), .. } | Reply::Welcome { audit: Some(state), .. } = &reply {
            self.queue_chunk(*state, &request);
        }
        if self.stage == Stage::Stopping {
            if matches!(request, Request::Leave) {
                self.stopped(effects);
            }
            return;
        }
        match reply {
            Reply::Welcome { heartbeat_ms, calibrate, .. } => {
                self.heartbeat_ms = heartbeat_ms.clamp(100, 60_000);
                self.calibrate_or_work(calibrate, effects);
            }
            Reply::CalibrateAgain(job) => self.calibrate_or_work(Some(job), effects),
            Reply::Lease { lease, interval, plan } => {
                // There is work: what was refused before no longer matters to anybody.
                self.last_refusal = None;
                self.take_lease(*lease, *interval, plan, effects);
            }
            Reply::Ack { go_on, best_permille, standing, audit: _ } => {
                self.standing = Some(standing);
                self.best_permille = best_permille;
                match request {
                    Request::Calibrated { .. } => self.stage = Stage::Joined,
                    Request::Progress { lease, .. } if !go_on => self.drop_lease(lease, effects),
                    _ => {}
                }
            }
            Reply::Refused { refusal, retry_ms } => self.refused(request, refusal, retry_ms, effects),
            Reply::Goodbye { .. } => {}
        }
    }

    fn calibrate_or_work(&mut self, job: Option<crate::calibration::CalibrationJob>, effects: &mut Vec<MinerEffect>) {
        let job = match job {
            // A pool that asks for endless calibration is not worth joining at once again.
            Some(job) if job.steps > MOST_STEPS => {
                let reason = format!("the pool asks for a calibration of {} steps, of {MOST_STEPS} at most", job.steps);
                return self.go_offline(reason, BACKOFF_MS.1);
            }
            job => job,
        };
        self.offline = None;
        self.stage = if job.is_some() { Stage::Calibrating } else { Stage::Joined };
        effects.extend(job.map(MinerEffect::Calibrate));
    }

    fn refused(&mut self, request: Request, refusal: Refusal, retry_ms: u64, effects: &mut Vec<MinerEffect>) {
        let retry_ms = retry_ms.min(600_000);
        if self.last_refusal != Some(refusal) {
            effects.push(MinerEffect::Refused(refusal));
        }
        self.last_refusal = Some(refusal);
        let tally = self.refusals.entry(refusal).or_default();
        *tally = RefusalTally { count: tally.count.saturating_add(1), last_ms: self.now_ms };
        match refusal {
            Refusal::Unknown | Refusal::NotCalibrated => self.join(),
            Refusal::Full | Refusal::Version | Refusal::CalibrationFailed | Refusal::Suspended => {
                self.abandon(effects);
                self.go_offline(refusal.to_string(), retry_ms.max(1000));
            }
            Refusal::RateLimited | Refusal::Busy => {
                self.quiet_until_ms = self.now_ms + retry_ms.max(100);
                self.outbox.push_front(request);
            }
            Refusal::NoInterval | Refusal::TooLate => self.ask_at_ms = self.now_ms + retry_ms.max(100),
            Refusal::NoLease | Refusal::Late => self.abandon(effects),
            _ => {
                // A result that does not count; the lease goes on, but a miner that is refused again and again asks
                // no faster than this.
                self.ask_at_ms = self.ask_at_ms.max(self.now_ms + 250);
            }
        }
    }

    /// Queues a result before everything else but a Hello and the results before it, from which it may go on.
    fn queue_result(&mut self, request: Request) {
        let before = |r: &Request| matches!(r, Request::Hello { .. } | Request::Submit { .. });
        let place = self.outbox.iter().take_while(|r| before(r)).count();
        self.outbox.insert(place, request);
        self.outbox.retain(|r| !matches!(r, Request::Progress { .. }));
        while self.outbox.len() > MOST_QUEUED {
            // Who is to leave leaves, whatever else there is.
            let Some(last) = self.outbox.iter().rposition(|r| !matches!(r, Request::Leave)) else { break };
            self.outbox.remove(last);
        }
    }

    /// Queues the next chunk of a state that the pool wants to audit: the first, or what follows the one that was `sent`.
    /// Results go before it, and it goes before leaving: a large state on a slow line holds up neither.
    fn queue_chunk(&mut self, state: BlobRef, sent: &Request) {
        let is_of_it = |r: &Request| matches!(r, Request::Chunk { artefact, .. } if *artefact == state);
        let offset = match sent {
            Request::Chunk { offset, .. } if is_of_it(sent) => offset.saturating_add(CHUNK_BYTES as u64),
            _ => 0,
        };
        if offset < state.bytes && self.gone != Some(state) && !self.outbox.iter().any(is_of_it) {
            self.queue_result(Request::Chunk { artefact: state, offset, bytes: Vec::new() });
        }
    }

    fn drop_lease(&mut self, lease: LeaseId, effects: &mut Vec<MinerEffect>) {
        if self.work.as_ref().is_some_and(|w| w.lease.id == lease) {
            self.abandon(effects);
        }
    }

    /// Ends the work on the lease at once.
    fn abandon(&mut self, effects: &mut Vec<MinerEffect>) {
        if let Some(work) = self.work.take()
            && work.is_training()
        {
            effects.push(MinerEffect::Cancel);
        }
    }

    fn stop(&mut self, effects: &mut Vec<MinerEffect>) {
        self.abandon(effects);
        if matches!(self.stage, Stage::Joined | Stage::Calibrating) {
            self.stage = Stage::Stopping;
            self.quiet_until_ms = 0;
            // What is trained is still handed in.
            self.outbox.retain(is_owed);
            self.outbox.push_back(Request::Leave);
        } else if self.stage != Stage::Stopping {
            self.stopped(effects);
        }
    }

    fn stopped(&mut self, effects: &mut Vec<MinerEffect>) {
        if self.stage != Stage::Stopped {
            self.stage = Stage::Stopped;
            self.outbox.clear();
            self.in_flight = None;
            effects.push(MinerEffect::Stopped);
        }
    }
}

/// Requests that are sent whatever comes between: results, and the states that audits of them want.
fn is_owed(request: &Request) -> bool {
    matches!(request, Request::Submit { .. } | Request::Chunk { .. })
}
