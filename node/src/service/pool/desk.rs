//! Between the core and the pool's manager.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use podl_chain_spec::AccountId;
use podl_consensus::interval_context::IntervalContext;
use podl_consensus::types::BlockHash;
use podl_network::BlobStore;
use podl_pool::drivers::{ManagerDriver, PoolAction};
use podl_pool::ledger::{ShareList, WonBlock};
use podl_pool::types::{DataSource, Interval};

use super::PoolParts;
use crate::service::input::CoreHandle;
use crate::service::mining::{Committed, MiningEvent};
use crate::service::watch;

/// How often the manager looks at its clock.
const TICK: Duration = Duration::from_millis(100);
/// How often a task's data are looked for while they are still being fetched.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Something for the desk.
pub(super) enum DeskInput {
    /// From the core.
    Mining(MiningEvent),
    /// From the manager.
    Action(Box<PoolAction>),
    /// The node stops.
    Stop,
}

/// An interval whose data are not here yet.
struct Waiting {
    interval: Arc<IntervalContext>,
    deadline: Instant,
    look: Instant,
}

/// The desk. See the module.
pub(super) struct Desk {
    manager: Arc<ManagerDriver>,
    core: CoreHandle,
    blobs: Arc<BlobStore>,
    account: AccountId,
    /// The chain's cap on what scoring a model takes.
    score_macs: u64,
    waiting: Option<Waiting>,
}

impl Desk {
    pub fn new(manager: Arc<ManagerDriver>, parts: &PoolParts) -> Self {
        Self {
            manager,
            core: parts.core.clone(),
            blobs: parts.network.blobs().clone(),
            account: parts.account,
            score_macs: parts.spec.caps.score_macs,
            waiting: None,
        }
    }

    pub fn run(mut self, inputs: &Receiver<DeskInput>) {
        self.recover();
        let mut ticked = Instant::now();
        loop {
            match inputs.recv_timeout(TICK.saturating_sub(ticked.elapsed())) {
                Ok(DeskInput::Mining(event)) => self.on_mining(event),
                Ok(DeskInput::Action(action)) => self.perform(*action),
                Ok(DeskInput::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.manager.tick();
                if let Err(reason) = self.manager.health() {
                    // A manager that leases and counts nothing is worse than none; a restart goes on from its journal.
                    watch::report(&self.core, "podl-pool", reason);
                    return;
                }
                self.look_again();
            }
        }
    }

    /// After a restart: share lists whose payout may not have reached the core are handed over once more.
    fn recover(&self) {
        for list in self.manager.paid_lists() {
            self.pay(list);
        }
    }

    fn on_mining(&mut self, event: MiningEvent) {
        match event {
            MiningEvent::Interval { interval, train_ms } => {
                let now = Instant::now();
                self.waiting = Some(Waiting { interval, deadline: now + Duration::from_millis(train_ms), look: now });
                self.look_again();
            }
            MiningEvent::Closed { parent } => {
                self.waiting.take_if(|waiting| waiting.interval.parent.block == parent);
                self.manager.end_interval(parent);
            }
            MiningEvent::CommitFailed { parent, model_root } => self.manager.commit_failed(parent, model_root),
            MiningEvent::Won { block, height, paid: reward, model } => {
                self.manager.block_won(WonBlock { block, height, reward, model });
            }
            MiningEvent::Settled { block, is_final: true } => self.manager.block_final(block),
            MiningEvent::Settled { block, is_final: false } => self.manager.block_lost(block),
        }
    }

    /// Begins the interval that waits as soon as its data are here.
    fn look_again(&mut self) {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| Instant::now() >= waiting.look) else { return };
        let interval = waiting.interval.clone();
        let blob = match &interval.published {
            None => None,
            Some(round) => match self.blobs.get(&round.data.root) {
                Ok(bytes) => Some(Arc::new(bytes)),
                Err(error) => {
                    tracing::debug!(height = interval.height, %error, "no leases until the task's data are here");
                    waiting.look += LOOK_AGAIN;
                    return;
                }
            },
        };
        let left = waiting.deadline.saturating_duration_since(Instant::now());
        self.waiting = None;
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(0);
        self.manager.begin_interval(pool_interval(&interval, self.score_macs), blob, left_ms);
    }

    fn perform(&self, action: PoolAction) {
        match action {
            PoolAction::Commit { parent, bytes, .. } => self.commit(parent, bytes.as_ref().clone()),
            PoolAction::Pay(batch) => {
                if let Some(list) = self.manager.share_list(&batch.block) {
                    self.pay(list);
                }
            }
            PoolAction::Improved { miner, root, count, images } => {
                tracing::info!(miner = %miner.0.short(), model = %root.short(), count, images, "best of the pool");
            }
        }
    }

    fn commit(&self, parent: BlockHash, artefact: Vec<u8>) {
        // A core that has stopped commits to nothing.
        let _ = self.core.commit(Committed { parent, artefact });
    }

    fn pay(&self, list: ShareList) {
        if list.batch(&self.account).is_some() {
            self.core.post(move |core| {
                if let Err(error) = core.pay_shares(list) {
                    tracing::error!(%error, "a payout could not be written down; it is tried again at the next start");
                }
            });
        }
    }
}

/// An interval as the pool sees it.
fn pool_interval(interval: &IntervalContext, score_macs: u64) -> Interval {
    let data = match (&interval.published, interval.filler_seed()) {
        (Some(round), _) => DataSource::Published { data: round.data, train_images: round.train_images },
        (None, seed) => DataSource::Filler { seed: seed.unwrap_or_default() },
    };
    Interval {
        parent: interval.parent.block,
        height: interval.height,
        task: interval.task,
        round: interval.round,
        workload: interval.workload.as_ref().clone(),
        data,
        score_macs,
        baseline: interval.published.as_ref().and_then(|round| round.baseline).map(|blob| blob.root),
    }
}
