//! The loop around a strategy: filter, cache, journal.

use std::collections::BTreeMap;
use std::path::Path;

use podl_consensus::workload::Architecture;

use super::journal::{Entry, Header, Journal, JournalError, VERSION};
use super::strategy::{AnyStrategy, Strategy, StrategyKind, architecture_hash};
use super::{BoxError, SearchBox};

/// What determines a search.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// Which strategy.
    pub strategy: StrategyKind,
    /// What may be visited.
    pub search_box: SearchBox,
    /// Seed of every random choice.
    pub seed: [u8; 32],
    /// Networks to try first.
    pub starts: Vec<Architecture>,
}

/// Why a search cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The box holds no network.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The strategy finds nothing new.
    #[error(
        "no feasible network that is new among {tries} proposals: the space is searched or the bounds are too tight"
    )]
    Exhausted {
        /// Proposals tried.
        tries: u32,
    },
    /// A result for a network that was not asked for.
    #[error("a result for a network that is not the one under evaluation")]
    NotAsked,
}

/// Whether a network is worth training at all: within the bounds, small enough for the time left.
pub type Filter = Box<dyn Fn(&Architecture) -> bool + Send>;

/// A search in progress.
pub struct Search {
    strategy: AnyStrategy,
    feasible: Filter,
    /// Rewards by architecture hash.
    known: BTreeMap<[u8; 32], u32>,
    journal: Option<Journal>,
    episodes: u64,
    asked: Option<Architecture>,
    /// Shared results that came while a network was under evaluation; the strategy hears of them after its result.
    deferred: Vec<(Architecture, u32)>,
}

impl Search {
    /// A search; with a journal, one that goes on where the journal ends.
    ///
    /// `feasible` must be a pure function of the network, since a resumed search asks it again.
    ///
    /// # Errors
    /// [`SearchError::Journal`] when the journal is damaged or of another search.
    pub fn open(config: SearchConfig, feasible: Filter, journal: Option<&Path>) -> Result<Self, SearchError> {
        let strategy = AnyStrategy::new(config.strategy, config.search_box, config.seed, config.starts);
        let header = Header { journal: VERSION, start: strategy.clone() };
        let (known, episodes, asked, deferred) = (BTreeMap::new(), 0, None, Vec::new());
        let mut search = Self { strategy, feasible, known, journal: None, episodes, asked, deferred };
        if let Some(path) = journal {
            let (journal, entries) = Journal::open(path, &header)?;
            for (index, entry) in entries.into_iter().enumerate() {
                // The header is line 1.
                search.replay(entry).map_err(|reason| journal.bad_line(index + 2, reason))?;
            }
            search.journal = Some(journal);
        }
        Ok(search)
    }

    /// Brings the strategy through one line of the journal.
    fn replay(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Episode { episode, architecture, reward, .. } => {
                let proposed = self.next().map_err(|error| error.to_string())?;
                if proposed != architecture || episode != self.episodes {
                    return Err("this episode does not follow from the ones before".into());
                }
                self.finish_episode(&architecture, reward);
            }
            Entry::Shared { architecture, reward, meanwhile } => {
                if meanwhile {
                    self.next().map_err(|error| error.to_string())?;
                }
                self.take_shared(&architecture, reward);
            }
        }
        Ok(())
    }

    /// The next network to evaluate: feasible and never evaluated before. Asking again before the result gives the
    /// same network.
    ///
    /// # Errors
    /// [`SearchError::Exhausted`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Architecture, SearchError> {
        if let Some(asked) = &self.asked {
            return Ok(asked.clone());
        }
        let tries = self.strategy.patience();
        for _ in 0..tries {
            let proposal = self.strategy.propose();
            if let Some(&reward) = self.known.get(&architecture_hash(&proposal)) {
                self.strategy.report(&proposal, reward);
            } else if (self.feasible)(&proposal) {
                self.asked = Some(proposal.clone());
                return Ok(proposal);
            } else {
                self.strategy.reject(&proposal);
            }
        }
        Err(SearchError::Exhausted { tries })
    }

    /// Result of the network that [`Search::next`] gave; on disk before the strategy learns it. Returns the episode's
    /// number.
    ///
    /// # Errors
    /// [`SearchError::NotAsked`], [`SearchError::Journal`] (nothing is learnt then).
    pub fn record(
        &mut self,
        architecture: &Architecture,
        reward: u32,
        note: serde_json::Value,
    ) -> Result<u64, SearchError> {
        if self.asked.as_ref() != Some(architecture) {
            return Err(SearchError::NotAsked);
        }
        let episode = self.episodes;
        if let Some(journal) = &mut self.journal {
            journal.append(&Entry::Episode { episode, architecture: architecture.clone(), reward, note })?;
        }
        self.finish_episode(architecture, reward);
        Ok(episode)
    }

    fn finish_episode(&mut self, architecture: &Architecture, reward: u32) {
        self.learn(architecture, reward);
        self.asked = None;
        self.episodes += 1;
        for (architecture, reward) in std::mem::take(&mut self.deferred) {
            self.learn(&architecture, reward);
        }
    }

    /// A result found elsewhere, for example a pool's confirmed best. A network that is known already changes nothing.
    ///
    /// # Errors
    /// [`SearchError::Journal`].
    pub fn share(&mut self, architecture: &Architecture, reward: u32) -> Result<(), SearchError> {
        if self.known.contains_key(&architecture_hash(architecture)) {
            return Ok(());
        }
        let meanwhile = self.asked.is_some();
        if let Some(journal) = &mut self.journal {
            journal.append(&Entry::Shared { architecture: architecture.clone(), reward, meanwhile })?;
        }
        self.take_shared(architecture, reward);
        Ok(())
    }

    fn take_shared(&mut self, architecture: &Architecture, reward: u32) {
        if self.asked.is_some() {
            self.known.insert(architecture_hash(architecture), reward);
            self.deferred.push((architecture.clone(), reward));
        } else {
            self.learn(architecture, reward);
        }
    }

    fn learn(&mut self, architecture: &Architecture, reward: u32) {
        self.known.insert(architecture_hash(architecture), reward);
        self.strategy.report(architecture, reward);
    }

    /// Results recorded so far, those of a resumed journal included.
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Reward of a network that was evaluated or shared.
    pub fn known(&self, architecture: &Architecture) -> Option<u32> {
        self.known.get(&architecture_hash(architecture)).copied()
    }

    /// The best network so far.
    pub fn best(&self) -> Option<(&Architecture, u32)> {
        self.strategy.best()
    }

    /// The strategy with its state, for checkpoints.
    pub fn strategy(&self) -> &AnyStrategy {
        &self.strategy
    }
}
