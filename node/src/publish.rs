//! Making a task out of a data set: cut, seal, describe. Pure but for random keys; the running node stores what comes
//! out, signs and sends it.
//!
//! The data blob is one canonical data set: the training images first, then the search-validation images; the task's
//! `train_images` says where the second part begins ([`split_data`]).

use podl_chain_spec::{Amount, ChainSpec};
use podl_consensus::hash::blob_root;
use podl_consensus::shard::seal_shard;
use podl_consensus::types::{BlobRef, PublishTask, ShardKey, ShardRef};
use podl_consensus::workload::{Bounds, Space, Workload, WorkloadError, WorkloadVersions};
pub use podl_nas::data::Source;
use podl_nas::data::{self, DataError, Dataset, SplitPlan};
use podl_rpc::types::PublishRequest;

use crate::sealed::{self, SealedError};

/// Most characters of a task's name.
const NAME_CHARACTERS: usize = 64;

/// What the publisher chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// For people, 1 to 64 printable characters.
    pub name: String,
    /// The search space.
    pub space: Space,
    /// FPGA bounds.
    pub bounds: Bounds,
    /// What each round pays.
    pub reward: Amount,
    /// At least one round's reward.
    pub bond: Amount,
    /// Rounds, and so test shards.
    pub rounds: u32,
    /// Images of each shard; `None` shares the test images out evenly, as far as a shard may be large.
    pub shard_images: Option<u32>,
    /// Training images held back for search; `None` takes a tenth.
    pub validation_images: Option<u32>,
    /// Epochs that the publisher reckons with.
    pub epochs: u16,
    /// By how many images a later winner must beat the one before.
    pub min_gain: u32,
}

impl From<&PublishRequest> for Recipe {
    fn from(request: &PublishRequest) -> Self {
        Self {
            name: request.name.clone(),
            space: request.space.clone(),
            bounds: request.bounds,
            reward: request.reward,
            bond: request.bond.unwrap_or(request.reward),
            rounds: request.rounds,
            shard_images: request.shard_images,
            validation_images: request.validation_images,
            epochs: request.epochs,
            min_gain: request.min_gain,
        }
    }
}

/// Everything that a publication consists of.
pub struct Publication {
    /// For the transaction.
    pub task: PublishTask,
    /// Training and search-validation images; its root is `task.data.root`.
    pub data: Vec<u8>,
    /// The sealed shards in the order of rounds; their roots are in `task.shards`.
    pub sealed: Vec<Vec<u8>>,
    /// Their keys. Whoever has one early has the test data.
    pub keys: Vec<ShardKey>,
}

/// Why a task cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The data set cannot be cut like that.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The chain would refuse the workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A number is out of its range.
    #[error("{what} must be {low} to {high}, got {got}")]
    Range {
        /// Which.
        what: &'static str,
        /// What it is.
        got: u64,
        /// Least allowed.
        low: u64,
        /// Most allowed.
        high: u64,
    },
    /// The name cannot be shown.
    #[error("a task's name has 1 to {NAME_CHARACTERS} printable characters, got {0:?}")]
    Name(String),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] SealedError),
}

fn range(what: &'static str, got: u64, low: u64, high: u64) -> Result<(), PublishError> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(PublishError::Range { what, got, low, high }) }
}

/// Cuts and seals a data set. Every call draws new keys and a new cut.
///
/// # Errors
/// [`PublishError`] for everything that the chain would refuse, before any money is spent.
pub fn prepare(source: &Source, recipe: &Recipe, spec: &ChainSpec) -> Result<Publication, PublishError> {
    check(recipe, spec)?;
    let plan = plan(source, recipe, spec)?;
    let cut = data::split(source, &plan)?;
    let workload = workload(&source.train, recipe, spec, count(plan.shard_images));
    workload.validate(&spec.caps)?;
    let train_images = count(cut.train.len());
    let data = data::encode_dataset(&joined(cut.train, &cut.validation));
    range("the training data (bytes)", data.len() as u64, 1, spec.caps.data_bytes)?;
    let mut publication = Publication {
        task: PublishTask {
            name: recipe.name.clone(),
            workload,
            data: BlobRef { root: blob_root(&data), bytes: data.len() as u64 },
            train_images,
            epochs: recipe.epochs,
            shards: Vec::new(),
            reward: recipe.reward,
            bond: recipe.bond,
            min_gain: recipe.min_gain,
            baseline: None,
        },
        data,
        sealed: Vec::new(),
        keys: Vec::new(),
    };
    for shard in &cut.shards {
        let key = ShardKey(sealed::random()?);
        let (entry, bytes): (ShardRef, Vec<u8>) = seal_shard(&key, &data::encode_dataset(shard));
        publication.task.shards.push(entry);
        publication.sealed.push(bytes);
        publication.keys.push(key);
    }
    Ok(publication)
}

fn check(recipe: &Recipe, spec: &ChainSpec) -> Result<(), PublishError> {
    let printable = recipe.name.chars().all(|c| !c.is_control());
    if !printable || !(1..=NAME_CHARACTERS).contains(&recipe.name.chars().count()) || recipe.name.trim().is_empty() {
        return Err(PublishError::Name(recipe.name.clone()));
    }
    range("rounds", recipe.rounds.into(), 1, spec.caps.rounds.into())?;
    range("the reward (smallest units)", recipe.reward.0, spec.money.min_reward.0, u64::MAX)?;
    range("the bond (smallest units)", recipe.bond.0, recipe.reward.0, u64::MAX)?;
    range("epochs", recipe.epochs.into(), 1, u16::MAX.into())
}

fn plan(source: &Source, recipe: &Recipe, spec: &ChainSpec) -> Result<SplitPlan, PublishError> {
    let rounds = recipe.rounds as usize;
    let even = count(source.test.len() / rounds.max(1));
    let shard_images = recipe.shard_images.unwrap_or(even.min(most_shard_images(&source.test, spec)));
    range("images of a test shard", shard_images.into(), 1, u32::MAX.into())?;
    let validation_images = recipe.validation_images.unwrap_or(count(source.train.len() / 10));
    range("search-validation images", validation_images.into(), 1, u32::MAX.into())?;
    // The cut must not be guessable from the public data set, or the sealed test images would be known.
    let seed = sealed::random()?;
    let (validation_images, shard_images) = (validation_images as usize, shard_images as usize);
    Ok(SplitPlan { validation_images, shards: rounds, shard_images, seed })
}

/// Most images that a shard of this form holds on that chain.
fn most_shard_images(test: &Dataset, spec: &ChainSpec) -> u32 {
    let [empty, one] = [0, 1].map(|images| data::encoded_dataset_bytes(test.shape, images));
    let images = u64::from(spec.caps.shard_bytes).saturating_sub(empty) / (one - empty).max(1);
    u32::try_from(images).unwrap_or(u32::MAX)
}

fn workload(train: &Dataset, recipe: &Recipe, spec: &ChainSpec, shard_images: u32) -> Workload {
    let versions = WorkloadVersions {
        engine: spec.versions.engine,
        cost_model: spec.versions.cost_model,
        generator: spec.versions.generator,
    };
    Workload {
        space: recipe.space.clone(),
        bounds: recipe.bounds,
        input: train.shape,
        classes: train.classes,
        // Of the whole training set, not of the cut: whoever has the data set can evaluate the winner without the task.
        input_table: data::input_table(train),
        shard_images,
        versions,
    }
}

fn count(images: usize) -> u32 {
    u32::try_from(images).unwrap_or(u32::MAX)
}

fn joined(mut first: Dataset, second: &Dataset) -> Dataset {
    first.images.extend_from_slice(&second.images);
    first.labels.extend_from_slice(&second.labels);
    first
}

/// Training and search-validation images of a task's decoded data blob.
pub fn split_data(data: &Dataset, train_images: u32) -> (Dataset, Dataset) {
    let border = (train_images as usize).min(data.len());
    (data.select(0..border), data.select(border..data.len()))
}

#[cfg(test)]
mod tests {
    use podl_consensus::shard::open_checked;
    use podl_consensus::workload::WorkVerifier;
    use podl_nas::Verifier;

    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            name: "test".into(),
            space: Space::full(4),
            bounds: Bounds { lut: 100_000, throughput: 1000 },
            reward: Amount(10_000_000),
            bond: Amount(10_000_000),
            rounds: 3,
            shard_images: None,
            validation_images: None,
            epochs: 5,
            min_gain: 1,
        }
    }

    fn source() -> Source {
        Source::numbered(data::generate(&[1; 32], 200), data::generate(&[2; 32], 100))
    }

    #[test]
    fn a_publication_opens_to_what_was_cut() {
        let (source, spec) = (source(), ChainSpec::load("dev").unwrap());
        let publication = prepare(&source, &recipe(), &spec).unwrap();
        let task = &publication.task;
        assert_eq!((task.shards.len(), task.workload.shard_images, task.train_images), (3, 33, 180));
        assert_eq!(task.data.root, blob_root(&publication.data));
        let verifier = Verifier::new(1);
        for ((shard, sealed), key) in task.shards.iter().zip(&publication.sealed).zip(&publication.keys) {
            let plain = open_checked(shard, key, sealed).unwrap();
            assert_eq!(verifier.parse_shard(&task.workload, &spec.caps, &plain), Ok(33));
        }
        let decoded =
            data::decode_dataset(&publication.data, task.workload.input, task.workload.classes, spec.caps.data_bytes)
                .unwrap();
        let (train, validation) = split_data(&decoded, task.train_images);
        assert_eq!((train.len(), validation.len()), (180, 20));
        assert_eq!(data::input_table(&source.train), task.workload.input_table);
    }

    #[test]
    fn no_two_publications_share_keys_or_cut() {
        let (source, spec) = (source(), ChainSpec::load("dev").unwrap());
        let [a, b] = [(), ()].map(|()| prepare(&source, &recipe(), &spec).unwrap());
        assert!(a.keys.iter().all(|key| !b.keys.contains(key)));
        assert_ne!(a.task.shards[0].plain_root, b.task.shards[0].plain_root);
        assert_ne!(a.task.data.root, b.task.data.root);
    }

    #[test]
    fn what_the_chain_would_refuse_is_refused_here() {
        let (source, spec) = (source(), ChainSpec::load("dev").unwrap());
        let refused = |change: &dyn Fn(&mut Recipe)| {
            let mut bad = recipe();
            change(&mut bad);
            prepare(&source, &bad, &spec).err().unwrap().to_string()
        };
        assert!(refused(&|r| r.rounds = 0).contains("rounds must be 1 to 256"));
        assert!(refused(&|r| r.reward = Amount(1)).contains("reward"));
        assert!(refused(&|r| r.bond = Amount(9_999_999)).contains("bond"));
        assert!(refused(&|r| r.name = "a\nb".into()).contains("printable"));
        assert!(refused(&|r| r.name = " ".into()).contains("printable"));
        assert!(refused(&|r| r.shard_images = Some(34)).contains("too few test images"));
        assert!(refused(&|r| r.validation_images = Some(200)).contains("too few training images"));
        assert!(refused(&|r| r.space.conv_layers = 17).contains("conv_layers"));
        assert!(refused(&|r| r.bounds.lut = 0).contains("LUT"));
        assert!(refused(&|r| r.rounds = 101).contains("images of a test shard"));
    }
}
