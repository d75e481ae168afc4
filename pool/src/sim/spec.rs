//! What is simulated and what came out.

use std::collections::BTreeMap;
use std::sync::Arc;

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::types::{BatchPayment, ModelRoot};
use podl_consensus::workload::Workload;

use super::landscape::Landscape;
use super::lives::Stay;
use crate::manager::PoolParams;
use crate::protocol::Refusal;
use crate::types::{Class, EvaluationPlan, MinerId};

/// How a simulated miner breaks the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cheat {
    /// Not at all.
    #[default]
    Honest,
    /// Adds to its counts.
    InflatesCounts(u32),
    /// Trains an eighth of what it claims.
    Underworks,
    /// Hands in the pool's best model as its own.
    Copies,
    /// Holds leases and reports progress, but trains nothing.
    Squats,
}

/// A miner of a simulation.
#[derive(Clone, Debug)]
pub struct MinerSpec {
    /// Training multiply-accumulates a second.
    pub speed_macs_s: u64,
    /// Time of a message from it to the manager, or back.
    pub latency_ms: u64,
    /// When it is there. Nothing is remembered from one stay to the next.
    pub stays: Vec<Stay>,
    /// How it cheats.
    pub cheat: Cheat,
    /// Whom it has paid: miners of one number are one owner's.
    pub owner: u16,
}

impl MinerSpec {
    /// An honest miner that stays.
    pub fn honest(speed_macs_s: u64) -> Self {
        let stays = vec![Stay { from_ms: 0, dies_ms: None }];
        Self { speed_macs_s, latency_ms: 20, stays, cheat: Cheat::Honest, owner: 0 }
    }
}

/// Who wins blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wins {
    /// The pool wins every interval in which it revealed a model.
    Always,
    /// Others mine too: the pool wins so many intervals in a thousand, at random.
    Luck(u64),
}

/// What is simulated.
#[derive(Clone)]
pub struct SimSpec {
    /// Decides everything random.
    pub seed: u64,
    /// The pool.
    pub params: PoolParams,
    /// Its miners.
    pub miners: Vec<MinerSpec>,
    /// What is searched.
    pub workload: Workload,
    /// What networks reach.
    pub landscape: Arc<dyn Landscape>,
    /// Training images of the task.
    pub train_images: u32,
    /// Images after which a network is fully trained.
    pub full_images: u64,
    /// What judges results.
    pub plan: EvaluationPlan,
    /// How many intervals.
    pub intervals: u32,
    /// Ends the simulation as soon as the pool is handed a model that truly reaches this.
    pub target: Option<Target>,
    /// What a block pays.
    pub reward: Amount,
    /// Who wins blocks.
    pub wins: Wins,
    /// Whether everything that happens goes into the trace, which takes longer than the rest.
    pub traced: bool,
    /// Kills the manager without warning; it comes back from its journal.
    pub kills: Option<Kills>,
}

/// When a manager is killed, and what its journal loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kills {
    /// How often. Every other time it is killed not at once but as soon as it has acknowledged a result, which then waits
    /// to be counted.
    pub every_ms: u64,
    /// Events at the end of the journal that each kill takes with it. None where only the process ends, since every event
    /// is written before it is handled.
    pub lost_events: usize,
}

/// What must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// True accuracy of the model, as it was trained, in millionths.
    pub accuracy_ppm: u32,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct SimReport {
    /// Best count on the shard that was revealed, an interval each.
    pub revealed: Vec<(ModelRoot, Option<u32>)>,
    /// Batch payments.
    pub payments: Vec<BatchPayment>,
    /// Commitments, an interval each.
    pub commitments: Vec<u32>,
    /// Share lists' sums: reward, fee, what the rows sum to.
    pub sums: Vec<(Amount, Amount, Amount)>,
    /// Time from the start to each improvement of the pool's best, and its count.
    pub improvements: Vec<(u64, u32)>,
    /// Time in training phases from the start to each improvement of the pool's best true accuracy, and that.
    pub progress: Vec<(u64, u32)>,
    /// Time in training phases until the target was reached, if it was.
    pub reached_ms: Option<u64>,
    /// Networks trained from scratch.
    pub evaluations: u64,
    /// Training multiply-accumulates spent by each miner.
    pub spent_macs: Vec<u128>,
    /// Those in results that the manager acknowledged.
    pub delivered_macs: Vec<u128>,
    /// Milliseconds of training by each miner.
    pub trained_ms: Vec<u64>,
    /// Milliseconds in training phases in which each miner was there.
    pub present_ms: Vec<u64>,
    /// Training phases, in milliseconds.
    pub phases_ms: u64,
    /// Classes at the end of each phase, by miner.
    pub classes: Vec<BTreeMap<MinerId, Class>>,
    /// Refusals by code.
    pub refusals: BTreeMap<Refusal, u32>,
    /// What each owner was paid, an interval each.
    pub income: Vec<BTreeMap<AccountId, u64>>,
    /// Networks left unfinished by miners that had died when the manager did not know: what it counts as cut short, or
    /// not at all, is not.
    pub unnoticed_units: u64,
    /// Times the manager was killed.
    pub manager_deaths: u32,
    /// Of those, times after which it was not, to the byte, what it was before.
    pub changed_restores: u32,
    /// Verified work, credited or kept back, that was gone after them.
    pub lost_macs: u128,
    /// Results that waited to be counted when it was killed.
    pub waiting_results: u64,
    /// Results that it acknowledged to honest miners and had counted for none of them at the end.
    pub uncounted_results: u64,
    /// Hash over everything that happened, in order.
    pub trace: Hash32,
}

impl SimReport {
    /// Share of their time in training phases in which miners trained.
    pub fn utilisation(&self) -> f64 {
        self.trained_ms.iter().sum::<u64>() as f64 / self.present_ms.iter().sum::<u64>().max(1) as f64
    }
}

/// The account of an owner.
pub fn account(owner: u16) -> AccountId {
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&owner.to_be_bytes());
    AccountId(bytes)
}
