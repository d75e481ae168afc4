//! Search for networks of a space: strategies, the cache of what was evaluated, and the journal that survives a kill.
//!
//! [`Search`] is what miners and the command line use: it asks a [`Strategy`] for networks, skips what is infeasible
//! or known, and writes every result to the journal before the strategy hears of it. Everything follows from the seed,
//! so that replaying the journal brings a killed search back to where it was.

mod controller;
mod driver;
mod evolution;
pub(crate) mod features;
mod gaussian_process;
mod hill_climb;
mod history;
mod journal;
mod moves;
mod predictor;
mod random_search;
mod reinforce;
mod rungs;
mod search_box;
mod starting_points;
mod strategy;
#[cfg(test)]
mod tests;

pub use driver::{Filter, Job, Search, SearchConfig, SearchError};
pub use evolution::Evolution;
pub use hill_climb::HillClimb;
pub use history::{HistoryEpisode, history};
pub use journal::{Entry, Header, JournalError};
pub use predictor::Predictor;
pub use random_search::RandomSearch;
pub use reinforce::Reinforce;
pub use rungs::{Rungs, chance_reward};
pub use search_box::{BoxError, LayerBox, SETTINGS, SearchBox};
pub use starting_points::{StartingPoint, starting_points};
pub use strategy::{AnyStrategy, MOST_REWARD, Strategy, StrategyKind, architecture_hash, reward_of};
