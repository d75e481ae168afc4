//! What manager and miners talk about: intervals, leases, shares, elites.

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::types::{BlobRef, BlockHash, Height, ModelRoot, TaskId};
use podl_consensus::workload::{Architecture, Bounds, InputShape, Network, NetworkError, Workload};
use podl_nas::cost::{self, CostModel};
use podl_nas::train::TrainingCosts;
use serde::{Deserialize, Serialize};

use crate::training::{Recipe, States, TrainRule, order_seed};

/// A miner: the ed25519 public key that is its peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MinerId(pub Hash32);

/// A lease of one pool; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// An evaluation that the manager has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// Where an interval's data come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataSource {
    /// A published task: training images, then search-validation images, in one blob.
    Published {
        /// The blob.
        data: BlobRef,
        /// How many of its images come first and are for training.
        train_images: u32,
    },
    /// A filler interval: the shard that scores is generated from a seed and public, so it is also what is trained on.
    Filler {
        /// Seed of the generator.
        seed: [u8; 32],
    },
}

/// The work of one interval, as the manager's node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// The block that the interval builds on; names the interval.
    pub parent: BlockHash,
    /// Number of the interval.
    pub height: Height,
    /// The task, or the filler task of that parent.
    pub task: TaskId,
    /// The task's round; 0 for filler.
    pub round: u32,
    /// What is searched and how it is judged.
    pub workload: Workload,
    /// What is trained on.
    pub data: DataSource,
    /// Most multiply-accumulates that scoring a model on the whole shard may take (`caps.score_macs`).
    pub score_macs: u64,
    /// A model that the winner must beat, so that submitting it again wins nothing.
    pub baseline: Option<ModelRoot>,
}

impl Interval {
    /// Whether the data are generated.
    pub fn is_filler(&self) -> bool {
        matches!(self.data, DataSource::Filler { .. })
    }

    /// Whether the task admits a network: its FPGA bounds, and what scoring it may cost.
    pub fn admits(&self, architecture: &Architecture) -> bool {
        let work = &self.workload;
        let network = Network::new(architecture, work.input, work.classes, work.space.dense);
        let macs = network.map_or(u64::MAX, |network| network.macs());
        meets_bounds(architecture, work.input, work.bounds)
            && macs.saturating_mul(work.shard_images.into()) <= self.score_macs
    }

    /// Training on one image in a network of this task, in multiply-accumulates, as leases and pay count it: what an
    /// image costs in any network included, or leases of the smallest would take many times as long as they should, for
    /// hardly any pay.
    ///
    /// # Errors
    /// [`NetworkError`] when the architecture has no network.
    pub fn training_macs(&self, architecture: &Architecture) -> Result<u64, NetworkError> {
        TrainingCosts::of_task(&self.workload).of(architecture)
    }
}

/// A replay that the manager has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuditId(pub u64);

/// Whether a network maps onto so many LUTs at that throughput, by the cost model that the chain judges by.
pub fn meets_bounds(architecture: &Architecture, input: InputShape, bounds: Bounds) -> bool {
    matches!(cost::evaluate(CostModel::Corrected, architecture, input, bounds), Ok(Some(_)))
}

/// How many images results are judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationPlan {
    /// Images that the miner knows and whose count it claims: the first of the search-validation images.
    pub public_images: u32,
    /// Images that only the manager knows; 0 in filler intervals, where the public ones are the score itself.
    pub holdout_images: u32,
}

impl EvaluationPlan {
    /// The plan for so many search-validation images: a quarter, at most 256, to check the claim; of the others up to
    /// 1,000 to rank by, or more where candidates are trained on so many images that counting them hardly adds to that
    /// (one for fifty). A claim needs few images, since one wrong count exposes it; ranking needs many, or a search
    /// follows what is luck.
    pub fn for_validation(images: u32, trained_images: u64) -> Self {
        let public_images = (images / 4).min(256).max(images.min(32));
        let most = u32::try_from(trained_images / 50).unwrap_or(u32::MAX).max(1000);
        Self { public_images, holdout_images: (images - public_images).min(most) }
    }

    /// The plan for a filler shard of so many images.
    pub fn for_filler(shard_images: u32) -> Self {
        Self { public_images: shard_images, holdout_images: 0 }
    }

    /// Images that models are ranked by.
    pub fn rank_images(self) -> u32 {
        if self.holdout_images > 0 { self.holdout_images } else { self.public_images }
    }
}

/// A count that cannot well be chance: more than three standard deviations above guessing.
pub fn is_above_chance(correct: u32, images: u32, classes: u16) -> bool {
    let (correct, images, classes) = (i128::from(correct), i128::from(images), i128::from(classes.max(1)));
    // correct - n/c > 3 sqrt(n/c), with both sides multiplied by c and squared.
    let excess = correct * classes - images;
    excess > 0 && excess * excess > 9 * images * classes
}

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// Try networks that nobody has trained (paper: strong miners explore).
    Explore,
    /// Train a confirmed network longer (paper: weak miners exploit).
    Exploit,
    /// Go on with what another miner left, or may not finish (paper: backup miners).
    Backup,
}

/// A network to train under a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The network.
    pub architecture: Architecture,
    /// The model to go on from; none to train from scratch.
    pub base: Option<BlobRef>,
    /// Hash of the state that the base's training ended with: the miner that has it goes on from there, others from
    /// the artefact.
    pub end: Option<Hash32>,
    /// Training images to spend on it.
    pub images: u64,
    /// How it is trained.
    pub rule: TrainRule,
}

impl Assignment {
    /// A network to train by the usual rule; the manager adds what the base's past calls for.
    pub fn new(architecture: Architecture, base: Option<BlobRef>, images: u64) -> Self {
        Self { architecture, base, end: None, images, rule: TrainRule::default() }
    }
}

/// Work for one miner, sized to a fixed share of the phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// The interval it belongs to.
    pub parent: BlockHash,
    /// What it is for.
    pub purpose: Purpose,
    /// What to train, in this order.
    pub work: Vec<Assignment>,
    /// In how many results the budget is handed in: each is a checkpoint from which another miner can go on.
    pub steps: u8,
    /// Fixes first weights and data order.
    pub seed: u64,
    /// Training multiply-accumulates to spend. Shares are judged by it.
    pub budget_macs: u64,
    /// How long that should take.
    pub wall_ms: u64,
    /// From receipt on, when it must be over.
    pub due_ms: u64,
    /// Thousandths of the phase's work time that are left when the lease begins; learning rates fall with them.
    pub left_permille: u16,
    /// The same when it ends.
    pub left_after_permille: u16,
}

impl Lease {
    /// How a network of the lease is trained; none when it has no such network.
    pub fn rule_of(&self, architecture: &Architecture) -> Option<TrainRule> {
        self.work.iter().find(|work| work.architecture == *architecture).map(|work| work.rule)
    }
}

/// A miner's result: a trained network and what the miner claims of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Under which lease.
    pub lease: LeaseId,
    /// The model.
    pub artefact: BlobRef,
    /// Its architecture.
    pub architecture: Architecture,
    /// The model whose training was continued; none when trained from scratch.
    pub base: Option<ModelRoot>,
    /// Training images spent on it under this lease.
    pub images: u64,
    /// Claimed count on the public part of the search-validation images.
    pub correct: u32,
    /// Training images that were to be spent, which the learning rate followed.
    pub ordered: u64,
    /// Thousandths of the phase that were left at the first and after the last of those.
    pub left_permille: (u16, u16),
    /// Hashes of the training's state before and after: what an audit compares.
    pub states: States,
}

impl Share {
    /// How it must have been trained; none when the lease has no such network.
    pub fn recipe(&self, lease: &Lease) -> Option<Recipe> {
        let rule = lease.rule_of(&self.architecture)?;
        Some(Recipe {
            architecture: self.architecture.clone(),
            seed: order_seed(lease.seed, &self.architecture, self.base),
            rule,
            images: self.ordered,
            left_permille: self.left_permille,
            fresh: self.base.is_none(),
        })
    }
}

/// How a model's training was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Hash of the state that it ended with, which its miner may have.
    pub end: Hash32,
    /// The interval in which it began from scratch.
    pub began: BlockHash,
}

/// A model that the manager has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elite {
    /// Who trained it.
    pub miner: MinerId,
    /// Its artefact.
    pub artefact: BlobRef,
    /// Its architecture, read from the artefact.
    pub architecture: Architecture,
    /// Training images that its weights have seen, over all leases.
    pub images: u64,
    /// Confirmed count on the images that models are ranked by.
    pub count: u32,
    /// Confirmed count on the public part.
    pub public_correct: u32,
    /// Multiply-accumulates x bits of one image; fewer rank first among equals.
    pub mac_bits: u64,
    /// Times that training it further brought nothing.
    pub stalls: u8,
    /// How its training was left.
    pub past: Past,
}

impl Elite {
    /// Best first: higher count, then fewer MAC-bits, then root, as the chain ranks siblings.
    pub fn rank(&self) -> (std::cmp::Reverse<u32>, u64, ModelRoot) {
        (std::cmp::Reverse(self.count), self.mac_bits, self.artefact.root)
    }

    /// What other miners are told of it: thousandths of the images that models are ranked by.
    pub fn permille(&self, rank_images: u32) -> u16 {
        let permille = u64::from(self.count) * 1000 / u64::from(rank_images.max(1));
        u16::try_from(permille.min(1000)).unwrap_or(1000)
    }
}

/// Strong miners can finish a lease of a subspace inside the phase, weak ones cannot (paper, 3.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Explores.
    Strong,
    /// Exploits; so does a miner of which nothing is known.
    #[default]
    Weak,
}

/// Replays of one miner's training since the pool knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTally {
    /// That found what it handed in.
    pub passed: u32,
    /// That found something else, and states that it did not show in time.
    pub failed: u32,
}

/// Backups that one miner had part in since the pool knows it, in networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTally {
    /// Its own that others took over when it was gone.
    pub own_taken_over: u32,
    /// Its own that others trained beside it, for fear that it would not finish.
    pub own_backed_up: u32,
    /// Those of miners that were gone that it took over.
    pub taken_over: u32,
    /// Those of others that it trained beside them.
    pub backed_up: u32,
}

/// Whom a share is paid to.
pub type PayTo = AccountId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_keep_images_secret_when_there_are_enough() {
        for (images, trained, public_images, holdout_images) in [
            (5000, 300_000, 256, 4744),
            (5000, 100_000, 256, 2000),
            (2000, 0, 256, 1000),
            (1000, 0, 250, 750),
            (100, 0, 32, 68),
            (20, 0, 20, 0),
            (0, 0, 0, 0),
        ] {
            let plan = EvaluationPlan::for_validation(images, trained);
            assert_eq!((plan.public_images, plan.holdout_images), (public_images, holdout_images), "{images}");
        }
        assert_eq!(EvaluationPlan::for_filler(400).rank_images(), 400);
    }

    #[test]
    fn chance_is_left_behind_at_three_deviations() {
        // 1,000 images of 10 classes: 100 expected, deviation at most 10.
        assert!(!is_above_chance(100, 1000, 10));
        assert!(!is_above_chance(130, 1000, 10));
        assert!(is_above_chance(131, 1000, 10));
        assert!(!is_above_chance(0, 0, 10));
        assert!(!is_above_chance(u32::MAX, u32::MAX, 1));
    }
}
