//! Which networks are worth trying next: the search strategy of the node's own `nas search`, fed by the results of all
//! miners. It is state of the manager, journaled like the rest, so that no miner's death costs what the search learned.

use podl_consensus::workload::Architecture;
use podl_nas::search::{AnyStrategy, BoxError, Strategy, starting_points};
use podl_nas::train::TrainingCosts;
use serde::{Deserialize, Serialize};

use super::PoolParams;
use crate::partition::{Halving, Scheme, Subspace};

/// Proposals looked at for one candidate; most are infeasible in tight bounds.
const TRIES: u32 = 400;
/// Parts looked at for one candidate: each can take [`TRIES`].
const PARTS: usize = 3;

/// Candidates in a row at chance level after which the next ones are trained twice as long: of networks that nobody can
/// tell from guessing a search learns nothing.
const BARREN: u32 = 12;

/// Training images for each candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// So many now, the same for all, so that they compare.
    pub images: u64,
    /// So many at most, however little they bring.
    pub most_images: u64,
    /// Candidates in a row that ended at chance level.
    barren: u32,
}

impl Rung {
    /// A rung that may grow.
    pub fn new(images: u64, most_images: u64) -> Self {
        Self { images, most_images: most_images.max(images), barren: 0 }
    }

    /// Notes whether a candidate ended above chance level.
    pub(super) fn note(&mut self, is_above_chance: bool) {
        self.barren = if is_above_chance { 0 } else { self.barren + 1 };
        if self.barren >= BARREN {
            self.barren = 0;
            self.images = self.images.saturating_mul(2).min(self.most_images);
        }
    }
}

/// Whether a proposed network can be leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It can.
    Usable,
    /// It was trained, or is being trained: the strategy has or will have its reward.
    Known,
    /// The task does not admit it, or nobody could train it in time.
    Infeasible,
}

/// The search of one task: a strategy for each part of the space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposals {
    /// The parts and what came of each.
    pub parts: Halving,
    /// How the space was cut, whatever has been configured since.
    pub scheme: Scheme,
    /// How long candidates are trained.
    pub rung: Rung,
    strategies: Vec<AnyStrategy>,
    shares: bool,
}

impl Proposals {
    /// Strategies over `parts` that weigh what they hope of a network against its cost. Where they share, every one of them
    /// is told of all results, not only of its own part's.
    ///
    /// # Errors
    /// [`BoxError`] for a part without networks.
    pub fn new(
        params: &PoolParams,
        parts: Halving,
        rung: Rung,
        costs: TrainingCosts,
        seed: [u8; 32],
        known: &[Architecture],
    ) -> Result<Self, BoxError> {
        let (kind, shares) = (params.strategy, params.shares);
        let strategies = (0u64..)
            .zip(parts.boxes())
            .map(|(index, part)| {
                let own = part.subspace.search_box()?;
                let starts =
                    known.iter().filter(|network| shares || part.subspace.contains(network)).cloned().collect();
                let mut hasher = blake3::Hasher::new_keyed(&seed);
                hasher.update(&index.to_le_bytes());
                Ok(AnyStrategy::new(kind, own, *hasher.finalize().as_bytes(), starts).sparing(costs))
            })
            .collect::<Result<Vec<_>, BoxError>>()?;
        Ok(Self { parts, scheme: params.scheme, rung, strategies, shares })
    }

    /// A network to try and its part of the space: of the part that is next, or of one of those after it when that seems to
    /// be used up, so that a part without anything in the task's bounds costs nobody a lease. `is_telling`: whether nothing
    /// found means that there is nothing.
    pub(super) fn propose_next(
        &mut self,
        fit: impl Fn(&Architecture, u32) -> Fit,
        is_telling: bool,
    ) -> Option<(usize, Architecture)> {
        for _ in 0..self.parts.active().len().min(PARTS) {
            let part = self.parts.lease_next()?;
            let network = self.propose(part, &fit);
            if is_telling || network.is_some() {
                self.parts.note_proposed(part, network.is_some());
            }
            if let Some(network) = network {
                return Some((part, network));
            }
        }
        None
    }

    /// A network to try in a part of the space, as `fit` sees it after so many tries. `None` when the part seems to be
    /// used up.
    fn propose(&mut self, part: usize, fit: impl Fn(&Architecture, u32) -> Fit) -> Option<Architecture> {
        for tries in 0..TRIES {
            let strategy = self.strategies.get_mut(part)?;
            let network = strategy.propose();
            match fit(&network, tries) {
                Fit::Usable => {
                    self.tell(Some(part), |strategy| strategy.pending(&network));
                    return Some(network);
                }
                Fit::Known => {}
                Fit::Infeasible => strategy.reject(&network),
            }
        }
        None
    }

    /// What a network reached, in millionths of the images.
    pub(super) fn report(&mut self, part: Option<usize>, network: &Architecture, reward: u32) {
        self.tell(part, |strategy| strategy.report(network, reward));
    }

    /// Tells the strategy of a part, or all of them where they share.
    fn tell(&mut self, part: Option<usize>, what: impl Fn(&mut AnyStrategy)) {
        let shares = self.shares;
        let strategies = self.strategies.iter_mut().enumerate();
        strategies.filter(|(index, _)| shares || part == Some(*index)).for_each(|(_, strategy)| what(strategy));
    }
}

/// Networks known to learn fast that lie in, or near, a space.
pub(super) fn known_networks(whole: &Subspace) -> Vec<Architecture> {
    let points = whole.search_box().map(|own| starting_points(&own)).unwrap_or_default();
    points.into_iter().map(|point| point.architecture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_grows_after_twelve_at_chance_level_in_a_row_up_to_its_most() {
        let mut rung = Rung::new(500, 1500);
        (0..11).for_each(|_| rung.note(false));
        rung.note(true);
        (0..11).for_each(|_| rung.note(false));
        assert_eq!(rung.images, 500);
        rung.note(false);
        assert_eq!(rung.images, 1000);
        (0..48).for_each(|_| rung.note(false));
        assert_eq!(rung.images, 1500);
        assert_eq!(Rung::new(500, 20).most_images, 500, "never shorter than it begins");
    }
}
