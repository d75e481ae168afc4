//! Ways to share a reward.

use podl_chain_spec::Amount;
use serde::{Deserialize, Serialize};

use super::basis_points;

/// Longest window, in intervals: bounds what the books keep.
pub const MOST_WINDOW: u16 = 64;
/// Highest finder bonus, in hundredths of a percent. More of it would make pay a lottery again, which pools are against.
pub const MOST_FINDER_BASIS_POINTS: u16 = 1_000;

/// How a won block's reward, less the fee, is shared.
///
/// # Why the window counts intervals
/// An interval is one chance of the pool to win, whatever comes of it. A window of won blocks, or of work since the last
/// one, makes work just after a win worth more than work long after it, and miners hop between pools to have only the
/// former. In a window of `window` intervals every unit of work takes part in exactly that many chances, won or not, and
/// the past neither raises nor lowers what it will bring: there is nothing to hop for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayScheme {
    /// By verified work in the last intervals, and a bonus to the finder. Linear in work, so that one miner under many
    /// names is paid as under one.
    Pplns {
        /// Intervals in the window, at most [`MOST_WINDOW`].
        window: u16,
        /// Bonus of the miner whose model won, at most [`MOST_FINDER_BASIS_POINTS`].
        finder_basis_points: u16,
    },
    /// R_i = P_i / sum P * R, where P_i is by how many images a miner's best confirmed model of the block's interval is
    /// above chance. Not linear in work: many names with one good model each are paid many times, so it suits only
    /// pools whose miners know each other.
    Performance,
}

impl Default for PayScheme {
    fn default() -> Self {
        Self::Pplns { window: 4, finder_basis_points: 0 }
    }
}

impl PayScheme {
    /// Intervals whose work a block pays.
    pub fn window(self) -> u16 {
        match self {
            Self::Pplns { window, .. } => window.clamp(1, MOST_WINDOW),
            Self::Performance => 1,
        }
    }

    /// The finder's bonus, in hundredths of a percent.
    pub fn finder_basis_points(self) -> u16 {
        match self {
            Self::Pplns { finder_basis_points, .. } => finder_basis_points.min(MOST_FINDER_BASIS_POINTS),
            Self::Performance => 0,
        }
    }

    /// Its name, as configurations write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pplns { .. } => "pplns",
            Self::Performance => "performance",
        }
    }

    /// What a miner is paid by.
    pub(super) fn weight(self, macs: u64, points: u64) -> u64 {
        match self {
            Self::Pplns { .. } => macs,
            Self::Performance => points,
        }
    }
}

/// Under what terms a block is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayTerms {
    /// The manager's cut, in hundredths of a percent.
    pub fee_basis_points: u16,
    /// How the rest is shared.
    pub scheme: PayScheme,
}

impl PayTerms {
    /// The manager's fee of a reward.
    pub fn fee(&self, reward: Amount) -> Amount {
        basis_points(reward, self.fee_basis_points)
    }

    /// What is left for miners.
    pub fn net(&self, reward: Amount) -> Amount {
        Amount(reward.0.saturating_sub(self.fee(reward).0))
    }

    /// The finder's bonus out of it.
    pub fn bonus(&self, reward: Amount) -> Amount {
        basis_points(self.net(reward), self.scheme.finder_basis_points())
    }
}
