//! What every search strategy is.

use podl_consensus::workload::Architecture;
use serde::{Deserialize, Serialize};

use super::{Evolution, HillClimb, Predictor, RandomSearch, Reinforce, SearchBox};
use crate::data::Random;
use crate::train::TrainingCosts;

/// The best reward. Rewards are accuracies in millionths.
pub const MOST_REWARD: u32 = 1_000_000;

/// The reward of so many images counted right.
pub fn reward_of(correct: u32, images: u32) -> u32 {
    let reward = u64::from(correct) * u64::from(MOST_REWARD) / u64::from(images.max(1));
    u32::try_from(reward).unwrap_or(MOST_REWARD)
}

/// A search strategy. What it proposes follows from its seed and from what was reported, so that the same reports
/// bring it to the same state; its serde form is that state.
pub trait Strategy {
    /// The next network to try. It may be infeasible or known already; then it is rejected, or reported with the known
    /// reward.
    fn propose(&mut self) -> Architecture;
    /// Reward of a network, proposed by this strategy or found elsewhere.
    fn report(&mut self, architecture: &Architecture, reward: u32);
    /// A network that was reported got a further rung of training. Rewards of different rungs cannot be compared with
    /// each other.
    fn promoted(&mut self, _architecture: &Architecture, _rung: usize, _reward: u32) {}
    /// The network just proposed is being evaluated by somebody while others are wanted. Told only where several evaluate
    /// at a time.
    fn pending(&mut self, _architecture: &Architecture) {}
    /// The network just proposed is infeasible. It was not evaluated.
    fn reject(&mut self, _architecture: &Architecture) {}
    /// The best network reported, if any.
    fn best(&self) -> Option<(&Architecture, u32)>;
    /// Proposals in a row that may be infeasible or known before the search gives up.
    fn patience(&self) -> u32 {
        100_000
    }
}

/// Which strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyKind {
    /// Mutate the best so far.
    HillClimb,
    /// Mutate the winners of tournaments in an ageing population.
    Evolution,
    /// Let a Gaussian process over the rewards choose among mutants.
    #[default]
    Predictor,
    /// The paper's recurrent controller.
    Reinforce,
    /// Draw at random.
    Random,
}

impl StrategyKind {
    /// All, in the order of the manual.
    pub const ALL: [Self; 5] = [Self::Predictor, Self::HillClimb, Self::Evolution, Self::Random, Self::Reinforce];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HillClimb => "hill-climb",
            Self::Evolution => "evolution",
            Self::Predictor => "predictor",
            Self::Random => "random",
            Self::Reinforce => "reinforce",
        }
    }
}

impl std::str::FromStr for StrategyKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("unknown strategy {name:?}: expected {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Any strategy with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnyStrategy {
    /// See [`HillClimb`].
    HillClimb(HillClimb),
    /// See [`Evolution`].
    Evolution(Evolution),
    /// See [`Predictor`].
    Predictor(Predictor),
    /// See [`Reinforce`].
    Reinforce(Reinforce),
    /// See [`RandomSearch`].
    Random(RandomSearch),
}

impl AnyStrategy {
    /// A fresh strategy. `starts` are tried first (projected into the box).
    pub fn new(kind: StrategyKind, search_box: SearchBox, seed: [u8; 32], starts: Vec<Architecture>) -> Self {
        match kind {
            StrategyKind::HillClimb => Self::HillClimb(HillClimb::new(search_box, seed, starts)),
            StrategyKind::Evolution => Self::Evolution(Evolution::new(search_box, seed, starts)),
            StrategyKind::Predictor => Self::Predictor(Predictor::new(search_box, seed, starts)),
            StrategyKind::Reinforce => Self::Reinforce(Reinforce::new(search_box, seed, starts)),
            StrategyKind::Random => Self::Random(RandomSearch::new(search_box, seed, starts)),
        }
    }

    /// The same strategy where time counts, not the number of networks: of what it could propose next, it takes what
    /// promises most for its cost. Only the predictor chooses among several.
    #[must_use]
    pub fn sparing(self, costs: TrainingCosts) -> Self {
        match self {
            Self::Predictor(strategy) => Self::Predictor(strategy.sparing(costs)),
            other => other,
        }
    }

    fn inner(&self) -> &dyn Strategy {
        match self {
            Self::HillClimb(strategy) => strategy,
            Self::Evolution(strategy) => strategy,
            Self::Predictor(strategy) => strategy,
            Self::Reinforce(strategy) => strategy,
            Self::Random(strategy) => strategy,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Strategy {
        match self {
            Self::HillClimb(strategy) => strategy,
            Self::Evolution(strategy) => strategy,
            Self::Predictor(strategy) => strategy,
            Self::Reinforce(strategy) => strategy,
            Self::Random(strategy) => strategy,
        }
    }
}

impl Strategy for AnyStrategy {
    fn propose(&mut self) -> Architecture {
        self.inner_mut().propose()
    }

    fn report(&mut self, architecture: &Architecture, reward: u32) {
        self.inner_mut().report(architecture, reward);
    }

    fn promoted(&mut self, architecture: &Architecture, rung: usize, reward: u32) {
        self.inner_mut().promoted(architecture, rung, reward);
    }

    fn pending(&mut self, architecture: &Architecture) {
        self.inner_mut().pending(architecture);
    }

    fn reject(&mut self, architecture: &Architecture) {
        self.inner_mut().reject(architecture);
    }

    fn best(&self) -> Option<(&Architecture, u32)> {
        self.inner().best()
    }

    fn patience(&self) -> u32 {
        self.inner().patience()
    }
}

/// Name of a network in caches: BLAKE3 over its canonical postcard form.
pub fn architecture_hash(architecture: &Architecture) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("podl search architecture v1");
    // Plain integers in a vector: this cannot fail.
    hasher.update(&postcard::to_stdvec(architecture).unwrap_or_default());
    *hasher.finalize().as_bytes()
}

/// The best so far: the first of several with the same reward.
pub(super) fn keep_best(best: &mut Option<(Architecture, u32)>, architecture: &Architecture, reward: u32) {
    if best.as_ref().is_none_or(|(_, known)| reward > *known) {
        *best = Some((architecture.clone(), reward));
    }
}

/// The best of the highest rung that training went on to, with its reward and that rung: the first of several equals.
pub(super) fn keep_leader(
    leader: &mut Option<(Architecture, u32, usize)>,
    architecture: &Architecture,
    rung: usize,
    reward: u32,
) {
    if leader.as_ref().is_none_or(|&(_, best, highest)| (rung, reward) > (highest, best)) {
        *leader = Some((architecture.clone(), reward, rung));
    }
}

/// Stream of one draw. Numbering the draws makes the state small and serialisable.
pub(super) fn draw(domain: &'static str, seed: &[u8; 32], number: &mut u64) -> Random {
    *number += 1;
    Random::new(domain, seed, *number)
}
