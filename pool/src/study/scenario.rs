//! What can be studied.

use std::sync::Arc;

use super::figure::Findings;
use super::{baselines, cheats, churn, paper, partition, pay, robust, speedup, strategy};
use crate::sim::Landscape;

/// A scenario by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Time to a target, the pool against one miner.
    Speedup,
    /// Time to a target, the pool against other schemes.
    Baselines,
    /// Miners that come and go.
    Churn,
    /// Exploration and exploitation, on and off.
    Strategy,
    /// The space whole and in parts.
    Partition,
    /// Variance of income.
    Variance,
    /// Splitting and hopping.
    Neutrality,
    /// Miners that cheat.
    Cheats,
    /// A manager that is killed.
    ManagerKill,
    /// A thousand miners.
    Scale,
    /// The paper's figures 2 to 4 and its experiment with weak miners.
    Paper,
}

impl Scenario {
    /// All, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Speedup,
        Self::Baselines,
        Self::Churn,
        Self::Strategy,
        Self::Partition,
        Self::Variance,
        Self::Neutrality,
        Self::Cheats,
        Self::ManagerKill,
        Self::Scale,
        Self::Paper,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Speedup => "speedup",
            Self::Baselines => "baselines",
            Self::Churn => "churn",
            Self::Strategy => "strategy",
            Self::Partition => "partition",
            Self::Variance => "variance",
            Self::Neutrality => "neutrality",
            Self::Cheats => "cheats",
            Self::ManagerKill => "manager-kill",
            Self::Scale => "scale",
            Self::Paper => "paper",
        }
    }

    /// Runs it with so many seeds.
    pub fn run(self, landscape: &Arc<dyn Landscape>, seeds: u64) -> Findings {
        match self {
            Self::Speedup => speedup::speedup(landscape, seeds),
            Self::Baselines => baselines::baselines(landscape, seeds),
            Self::Churn => churn::churn(landscape, seeds),
            Self::Strategy => strategy::strategy(landscape, seeds),
            Self::Partition => partition::partition(landscape, seeds),
            Self::Variance => pay::variance_of_income(landscape, seeds),
            Self::Neutrality => pay::neutrality(landscape, seeds),
            Self::Cheats => cheats::cheats(landscape, seeds),
            Self::ManagerKill => robust::manager_kill(landscape, seeds),
            Self::Scale => robust::scale(landscape, seeds),
            Self::Paper => paper::paper(landscape, seeds),
        }
    }
}

impl std::str::FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found
            .ok_or_else(|| format!("unknown scenario {name:?}: expected all, {}", Self::ALL.map(Self::name).join(", ")))
    }
}
