//! Last stage: artefact, shard and score. Slow (a whole inference pass over a shard), needs no state, and may run on
//! another thread: everything it depends on is in [`WorkJob`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use podl_chain_spec::Caps;

use super::{BlockError, WorkRuleError};
use crate::hash::blob_root;
use crate::interval_context::IntervalContext;
use crate::shard::open_checked;
use crate::types::{BlobRef, BlobRoot, Opening, Outcome, ShardKey, ShardRef};
use crate::workload::{WorkError, WorkVerifier, Workload};

/// Where artefacts and sealed shards come from.
pub trait BlobSource {
    /// The bytes with this BLAKE3 root, if they are here. Shared, since a shard has megabytes.
    fn blob(&self, root: &BlobRoot) -> Option<Arc<Vec<u8>>>;
}

impl<F: Fn(&BlobRoot) -> Option<Arc<Vec<u8>>>> BlobSource for F {
    fn blob(&self, root: &BlobRoot) -> Option<Arc<Vec<u8>>> {
        self(root)
    }
}

/// What names a shard in the cache: everything that opening or generating and parsing it depends on, so that a hit and a
/// miss give the same verdict.
type ShardName = (ShardSource, Arc<Workload>);

/// Parsed plaintext shards of the last few intervals, so that the candidates of an interval open (or generate) their
/// common shard once, and score the model that they must beat once.
#[derive(Debug, Default)]
pub struct ShardCache {
    shards: Mutex<VecDeque<(ShardName, Arc<Vec<u8>>)>>,
    baselines: Mutex<VecDeque<((ShardName, BlobRoot), u32)>>,
}

/// Shards kept; siblings of two heights and a reorg are the most that is in use at once.
const CACHED: usize = 4;

fn cached<K: PartialEq, V: Clone>(cache: &Mutex<VecDeque<(K, V)>>, key: &K) -> Option<V> {
    let entries = cache.lock().unwrap_or_else(PoisonError::into_inner);
    entries.iter().find(|(entry, _)| entry == key).map(|(_, value)| value.clone())
}

fn remember<K: PartialEq, V>(cache: &Mutex<VecDeque<(K, V)>>, key: K, value: V) {
    let mut entries = cache.lock().unwrap_or_else(PoisonError::into_inner);
    entries.retain(|(entry, _)| *entry != key);
    entries.push_back((key, value));
    while entries.len() > CACHED {
        entries.pop_front();
    }
}

/// On which shard a block is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ShardSource {
    Sealed { shard: ShardRef, key: ShardKey },
    Filler { seed: [u8; 32] },
}

/// What is to be checked of one block, apart from chain and state.
#[derive(Clone, Debug)]
pub struct WorkJob {
    caps: Caps,
    workload: Arc<Workload>,
    shard: ShardSource,
    opening: Option<Opening>,
    baseline: Option<(BlobRef, u32)>,
    cache: Arc<ShardCache>,
}

/// What the check found, when the block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkDone {
    /// Correct images of the model; 0 for blocks without one.
    pub correct: u32,
    /// Correct images of the model that it had to beat.
    pub baseline: Option<u32>,
}

impl WorkJob {
    /// The job of a block with this outcome; `None` when it claims no work and reveals no key. Call after the rules of
    /// the parent's state, which see to it that a key stands where one belongs.
    pub fn new(caps: &Caps, interval: &IntervalContext, outcome: &Outcome, cache: Arc<ShardCache>) -> Option<Self> {
        let opening = match outcome {
            Outcome::Scored { opening, .. } => Some(opening.clone()),
            // A revealed key spends the round only if it opens the declared shard.
            Outcome::Idle { key: Some(_) } => None,
            Outcome::Idle { key: None } | Outcome::Void { .. } => return None,
        };
        let job = Self::shard_of(caps, interval, outcome.key().copied(), cache)?;
        Some(Self { opening, ..job })
    }

    /// The job of finding an interval's shard alone: with the released key, or for filler intervals without one. `None`
    /// when key and interval do not go together.
    pub fn shard_of(
        caps: &Caps,
        interval: &IntervalContext,
        key: Option<ShardKey>,
        cache: Arc<ShardCache>,
    ) -> Option<Self> {
        let shard = match (&interval.published, key) {
            (Some(round), Some(key)) => ShardSource::Sealed { shard: round.shard, key },
            (None, None) => ShardSource::Filler { seed: interval.filler_seed()? },
            _ => return None,
        };
        let workload = interval.workload.clone();
        let baseline = interval.published.as_ref().and_then(|round| Some((round.baseline?, round.min_gain)));
        Some(Self { caps: caps.clone(), workload, shard, opening: None, baseline, cache })
    }

    /// Blobs that the check reads.
    pub fn blobs(&self) -> Vec<BlobRef> {
        let sealed = match &self.shard {
            ShardSource::Sealed { shard, .. } => Some(shard.sealed),
            ShardSource::Filler { .. } => None,
        };
        let opening = self.opening.as_ref();
        let artefact =
            opening.map(|opening| BlobRef { root: opening.model_root, bytes: opening.artefact_bytes.into() });
        let baseline = opening.and(self.baseline.map(|(blob, _)| blob));
        sealed.into_iter().chain(artefact).chain(baseline).collect()
    }

    /// Checks the key, the shard, the artefact, its score and its gain.
    ///
    /// # Errors
    /// [`BlockError::Work`], or [`BlockError::NotAvailable`] when a blob is not here.
    pub fn run(&self, blobs: &dyn BlobSource, verifier: &dyn WorkVerifier) -> Result<WorkDone, BlockError> {
        let shard = self.shard(blobs, verifier)?;
        let Some(opening) = &self.opening else { return Ok(WorkDone { correct: 0, baseline: None }) };
        let artefact = fetch(blobs, &opening.model_root)?;
        self.facts(opening, &artefact, verifier)?;
        let correct = self.count(opening, &artefact, &shard, verifier)?;
        let baseline = self.min_gain(correct, &shard, blobs, verifier)?;
        Ok(WorkDone { correct, baseline })
    }

    /// Whether a model with so many correct images beats the one that it must: what miners find out before they show theirs,
    /// since all others refuse a block that does not. The count of the model to beat, if there is one.
    ///
    /// # Errors
    /// As [`WorkJob::run`].
    pub fn check_gain(
        &self,
        correct: u32,
        blobs: &dyn BlobSource,
        verifier: &dyn WorkVerifier,
    ) -> Result<Option<u32>, BlockError> {
        let shard = self.shard(blobs, verifier)?;
        self.min_gain(correct, &shard, blobs, verifier)
    }

    fn shard_name(&self) -> ShardName {
        (self.shard.clone(), self.workload.clone())
    }

    /// The plaintext shard, opened or generated, and parsed: what miners score their models on, and what a released key
    /// must lead to.
    ///
    /// # Errors
    /// [`BlockError::Work`] when the key does not open a shard of the declared data set, so that it counts as not
    /// released; [`BlockError::NotAvailable`] when the sealed shard is not here.
    pub fn shard(&self, blobs: &dyn BlobSource, verifier: &dyn WorkVerifier) -> Result<Arc<Vec<u8>>, BlockError> {
        let name = self.shard_name();
        if let Some(shard) = cached(&self.cache.shards, &name) {
            return Ok(shard);
        }
        let plain = match &self.shard {
            ShardSource::Sealed { shard, key } => {
                let sealed = fetch(blobs, &shard.sealed.root)?;
                open_checked(shard, key, &sealed).map_err(WorkRuleError::Sealed)?
            }
            ShardSource::Filler { seed } => {
                verifier.filler_shard(&self.workload, &self.caps, *seed).map_err(WorkRuleError::Shard)?
            }
        };
        verifier.parse_shard(&self.workload, &self.caps, &plain).map_err(WorkRuleError::Shard)?;
        let plain = Arc::new(plain);
        remember(&self.cache.shards, name, plain.clone());
        Ok(plain)
    }

    fn facts(&self, opening: &Opening, artefact: &[u8], verifier: &dyn WorkVerifier) -> Result<(), WorkRuleError> {
        let (got, expected) = (artefact.len() as u64, opening.artefact_bytes);
        if got != u64::from(expected) {
            return Err(WorkRuleError::ArtefactBytes { got, expected });
        }
        let facts = verifier.model_facts(&self.workload, &self.caps, artefact).map_err(WorkRuleError::Artefact)?;
        let (got, expected) = (opening.mac_bits, facts.mac_bits);
        if got == expected { Ok(()) } else { Err(WorkRuleError::MacBits { got, expected }) }
    }

    fn count(
        &self,
        opening: &Opening,
        artefact: &[u8],
        shard: &[u8],
        verifier: &dyn WorkVerifier,
    ) -> Result<u32, WorkRuleError> {
        let expected = verifier.score(&self.workload, &self.caps, artefact, shard).map_err(WorkRuleError::Artefact)?;
        let got = opening.correct;
        if got == expected { Ok(expected) } else { Err(WorkRuleError::Count { got, expected }) }
    }

    /// The model must beat the published one by the gain, so that a copy of it cannot win. A baseline that cannot be
    /// scored counts 0: a publisher must not be able to make a round that nobody can win.
    fn min_gain(
        &self,
        got: u32,
        shard: &[u8],
        blobs: &dyn BlobSource,
        verifier: &dyn WorkVerifier,
    ) -> Result<Option<u32>, BlockError> {
        let Some((blob, gain)) = self.baseline else { return Ok(None) };
        let name = (self.shard_name(), blob.root);
        let baseline = match cached(&self.cache.baselines, &name) {
            Some(baseline) => baseline,
            None => {
                let artefact = fetch(blobs, &blob.root)?;
                match verifier.score(&self.workload, &self.caps, &artefact, shard) {
                    Err(error @ WorkError::UnknownVersion { .. }) => return Err(WorkRuleError::Artefact(error).into()),
                    score => score.unwrap_or(0),
                }
            }
        };
        remember(&self.cache.baselines, name, baseline);
        let need = u64::from(baseline) + u64::from(gain);
        if u64::from(got) >= need {
            return Ok(Some(baseline));
        }
        Err(WorkRuleError::MinGain { got, baseline, need }.into())
    }
}

/// A blob that is here and is what its root says; damaged bytes count as absent.
fn fetch(blobs: &dyn BlobSource, root: &BlobRoot) -> Result<Arc<Vec<u8>>, BlockError> {
    blobs.blob(root).filter(|bytes| blob_root(bytes) == *root).ok_or(BlockError::NotAvailable(*root))
}
