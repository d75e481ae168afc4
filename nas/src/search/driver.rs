//! The loop around a strategy: filter, cache, rungs, journal.

use std::collections::BTreeMap;
use std::path::Path;

use podl_consensus::workload::Architecture;

use super::journal::{Entry, Header, Journal, JournalError, VERSION};
use super::rungs::Ladder;
use super::strategy::{AnyStrategy, Strategy, StrategyKind, architecture_hash, keep_best};
use super::{BoxError, Rungs, SearchBox};

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
    /// Epochs after which networks are compared; only a third of each rung is trained on.
    pub rungs: Rungs,
    /// Networks that do no better are never trained on (see [`chance_reward`](super::chance_reward)).
    pub chance: u32,
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

/// What to train next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Number of the network, from 0.
    pub episode: u64,
    /// The network.
    pub architecture: Architecture,
    /// The rung to reach; 0 for a new network, which starts from its seed.
    pub rung: usize,
    /// Epochs that it will then have had in all.
    pub epochs: u32,
}

/// A search in progress.
pub struct Search {
    strategy: AnyStrategy,
    feasible: Filter,
    rungs: Rungs,
    ladder: Ladder,
    /// Networks by episode.
    networks: Vec<Architecture>,
    /// Rewards by architecture hash: those of the first rung, which can be compared with each other.
    known: BTreeMap<[u8; 32], u32>,
    best: Option<(Architecture, u32)>,
    journal: Option<Journal>,
    asked: Option<Job>,
    /// Shared results that came while a new network was under evaluation; the strategy hears of them after its result.
    deferred: Vec<(Architecture, u32)>,
}

impl Search {
    /// A search; with a journal, one that goes on where the journal ends.
    ///
    /// `feasible` must be a pure function of the network, since a resumed search asks it again.
    ///
    /// # Errors
    /// [`SearchError::Journal`] when the journal is damaged, of another search, or in use.
    pub fn open(config: SearchConfig, feasible: Filter, journal: Option<&Path>) -> Result<Self, SearchError> {
        let SearchConfig { strategy, search_box, seed, starts, rungs, chance } = config;
        let strategy = AnyStrategy::new(strategy, search_box, seed, starts);
        let header = Header { journal: VERSION, start: strategy.clone(), rungs: rungs.clone(), chance };
        let mut search = Self {
            strategy,
            feasible,
            ladder: Ladder::new(rungs.epochs().len(), chance),
            rungs,
            networks: Vec::new(),
            known: BTreeMap::new(),
            best: None,
            journal: None,
            asked: None,
            deferred: Vec::new(),
        };
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
                let job = self.propose().map_err(|error| error.to_string())?;
                if job.architecture != architecture || job.episode != episode {
                    return Err("this episode does not follow from the ones before".into());
                }
                self.finish(&job, reward);
            }
            // Any rung that is a network's next: whether it was its turn depends on how many episodes were wanted.
            Entry::Rung { episode, rung, reward, .. } => match self.job(episode, rung) {
                Some(job) if self.ladder.reach(episode, rung, reward) => self.learn_rung(&job, reward),
                _ => return Err(format!("episode {episode} cannot have reached rung {rung} here")),
            },
            Entry::Shared { architecture, reward, meanwhile } => {
                if meanwhile {
                    self.propose().map_err(|error| error.to_string())?;
                }
                self.take_shared(&architecture, reward);
            }
        }
        Ok(())
    }

    /// What to train next: a network that is worth more epochs, or else a new one, feasible and never evaluated
    /// before. Asking again before the result gives the same.
    ///
    /// # Errors
    /// [`SearchError::Exhausted`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Job, SearchError> {
        match self.promotion(false) {
            Some(job) => Ok(job),
            None => self.propose(),
        }
    }

    /// What is left to train when no new networks are wanted: rungs that are still due, the last one for the best
    /// network at least. `None` when the search is finished.
    pub fn next_to_the_end(&mut self) -> Option<Job> {
        self.promotion(true)
    }

    fn promotion(&mut self, to_the_end: bool) -> Option<Job> {
        if self.asked.is_none() {
            self.asked = self.ladder.promotable(to_the_end).and_then(|(episode, rung)| self.job(episode, rung));
        }
        self.asked.clone()
    }

    fn job(&self, episode: u64, rung: usize) -> Option<Job> {
        let architecture = self.networks.get(usize::try_from(episode).ok()?)?.clone();
        Some(Job { episode, architecture, rung, epochs: *self.rungs.epochs().get(rung)? })
    }

    /// A new network.
    fn propose(&mut self) -> Result<Job, SearchError> {
        if let Some(asked) = &self.asked {
            return Ok(asked.clone());
        }
        let tries = self.strategy.patience();
        for _ in 0..tries {
            let proposal = self.strategy.propose();
            if let Some(&reward) = self.known.get(&architecture_hash(&proposal)) {
                self.strategy.report(&proposal, reward);
            } else if (self.feasible)(&proposal) {
                let (episode, epochs) = (self.episodes(), self.rungs.epochs()[0]);
                let job = Job { episode, architecture: proposal, rung: 0, epochs };
                self.asked = Some(job.clone());
                return Ok(job);
            } else {
                self.strategy.reject(&proposal);
            }
        }
        Err(SearchError::Exhausted { tries })
    }

    /// Result of the job that was asked for; on disk before the strategy learns it.
    ///
    /// # Errors
    /// [`SearchError::NotAsked`], [`SearchError::Journal`] (nothing is learnt then).
    pub fn record(&mut self, job: &Job, reward: u32, note: serde_json::Value) -> Result<(), SearchError> {
        if self.asked.as_ref() != Some(job) {
            return Err(SearchError::NotAsked);
        }
        let Job { episode, ref architecture, rung, .. } = *job;
        if let Some(journal) = &mut self.journal {
            journal.append(&match rung {
                0 => Entry::Episode { episode, architecture: architecture.clone(), reward, note },
                _ => Entry::Rung { episode, rung, reward, note },
            })?;
        }
        self.finish(job, reward);
        Ok(())
    }

    fn finish(&mut self, job: &Job, reward: u32) {
        self.asked = None;
        self.ladder.reach(job.episode, job.rung, reward);
        if job.rung > 0 {
            return self.learn_rung(job, reward);
        }
        self.networks.push(job.architecture.clone());
        self.learn(&job.architecture, reward);
        for (architecture, reward) in std::mem::take(&mut self.deferred) {
            self.learn(&architecture, reward);
        }
    }

    fn learn_rung(&mut self, job: &Job, reward: u32) {
        keep_best(&mut self.best, &job.architecture, reward);
        self.strategy.promoted(&job.architecture, job.rung, reward);
    }

    /// A result found elsewhere, for example a pool's confirmed best. A network that is known already changes nothing.
    ///
    /// # Errors
    /// [`SearchError::Journal`].
    pub fn share(&mut self, architecture: &Architecture, reward: u32) -> Result<(), SearchError> {
        if self.known.contains_key(&architecture_hash(architecture)) {
            return Ok(());
        }
        let meanwhile = self.is_new_network_out();
        if let Some(journal) = &mut self.journal {
            journal.append(&Entry::Shared { architecture: architecture.clone(), reward, meanwhile })?;
        }
        self.take_shared(architecture, reward);
        Ok(())
    }

    fn is_new_network_out(&self) -> bool {
        self.asked.as_ref().is_some_and(|job| job.rung == 0)
    }

    fn take_shared(&mut self, architecture: &Architecture, reward: u32) {
        if self.is_new_network_out() {
            self.known.insert(architecture_hash(architecture), reward);
            self.deferred.push((architecture.clone(), reward));
        } else {
            self.learn(architecture, reward);
        }
    }

    fn learn(&mut self, architecture: &Architecture, reward: u32) {
        self.known.insert(architecture_hash(architecture), reward);
        keep_best(&mut self.best, architecture, reward);
        self.strategy.report(architecture, reward);
    }

    /// New networks evaluated so far, those of a resumed journal included.
    pub fn episodes(&self) -> u64 {
        self.networks.len() as u64
    }

    /// Reward of a network that was evaluated (on the first rung) or shared.
    pub fn known(&self, architecture: &Architecture) -> Option<u32> {
        self.known.get(&architecture_hash(architecture)).copied()
    }

    /// The best network so far, on whatever rung it earned that reward.
    pub fn best(&self) -> Option<(&Architecture, u32)> {
        self.best.as_ref().map(|(architecture, reward)| (architecture, *reward))
    }

    /// The strategy with its state, for checkpoints.
    pub fn strategy(&self) -> &AnyStrategy {
        &self.strategy
    }
}
