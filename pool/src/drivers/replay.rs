//! Training as a function: interval data, start state and recipe give the same bits wherever they are run. Miners train
//! with it and managers replay with it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use podl_chain_spec::Caps;
use podl_consensus::workload::{Network, Workload};
use podl_nas::artefact::{self, Model};
use podl_nas::data::Dataset;
use podl_nas::train::{Progress, Schedule, ThreadPool, TrainConfig, TrainError, Trainer};

use crate::rng::SeededRng;
use crate::training::Recipe;

/// Why a training led to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RunError {
    /// Its recipe or start state cannot be trained; that is so on every machine.
    #[error("{0}")]
    Impossible(String),
    /// This machine's own trouble: memory, threads, cancelled.
    #[error("{0}")]
    Here(String),
}

impl From<TrainError> for RunError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Diverged { .. } | TrainError::State(_) => Self::Impossible(error.to_string()),
            _ => Self::Here(error.to_string()),
        }
    }
}

/// What a training starts from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// The weights of the recipe's seed.
    Seed,
    /// The weights of an artefact, without momentum.
    Artefact(&'a [u8]),
    /// A state as [`Trainer::state`] writes it.
    State(&'a [u8]),
}

/// A training under way.
pub(super) struct Run<'a> {
    recipe: &'a Recipe,
    data: &'a Dataset,
    trainer: Trainer,
    pass: Pass,
    batch: usize,
    images: u64,
}

impl<'a> Run<'a> {
    /// A training that has not begun.
    pub fn new(
        recipe: &'a Recipe,
        from: Origin<'_>,
        data: &'a Dataset,
        (work, caps): (&Workload, &Caps),
        pool: &Arc<ThreadPool>,
    ) -> Result<Self, RunError> {
        let network = Network::new(&recipe.architecture, work.input, work.classes, work.space.dense)
            .map_err(|e| RunError::Impossible(e.to_string()))?;
        let batch = recipe.batch(data.len());
        let rule = recipe.rule;
        let config = TrainConfig {
            epochs: 1,
            batch,
            learning_rate: millionths(rule.first_rate_millionths),
            schedule: Schedule::Constant,
            weight_decay: millionths(rule.weight_decay_millionths),
            warm_up_batches: if recipe.fresh { rule.warm_up_batches } else { 0 },
            ..TrainConfig::default()
        };
        let seed = SeededRng::new(&recipe.seed.to_le_bytes(), "weights").next_bytes();
        let mut trainer = Trainer::new(network, &work.input_table, config, seed, pool.clone())?;
        match from {
            Origin::Seed => {}
            Origin::State(bytes) => trainer.set_state(bytes)?,
            Origin::Artefact(bytes) => {
                let model = artefact::decode(bytes, caps).map_err(|e| RunError::Impossible(e.to_string()))?;
                if model.network().architecture() != recipe.architecture {
                    return Err(RunError::Impossible("the base's artefact is of another architecture".into()));
                }
                trainer.load_model(&model)?;
            }
        }
        Ok(Self { recipe, data, trainer, pass: Pass::new(recipe.seed), batch, images: 0 })
    }

    /// Raising this flag ends a slice after its current batch.
    pub fn set_cancel_flag(&mut self, cancel: Arc<AtomicBool>) {
        self.trainer.set_cancel_flag(cancel);
    }

    /// Trains the next slice; false when the order is done.
    pub fn slice(&mut self) -> Result<bool, RunError> {
        let Some(batches) = self.recipe.slice(self.images, self.batch) else { return Ok(false) };
        self.trainer.set_learning_rate(rate(self.recipe, self.images))?;
        let slice = self.data.select(self.pass.take(batches * self.batch, self.data.len()));
        let report = self.trainer.run_epoch(&slice, &mut |_: Progress| ())?;
        self.images += report.images as u64;
        Ok(true)
    }

    /// Images trained so far.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// The state as it is now.
    pub fn state(&self) -> Result<Vec<u8>, RunError> {
        Ok(self.trainer.state()?)
    }

    /// The integer model as it is now.
    pub fn model(&self) -> Result<Model, RunError> {
        Ok(self.trainer.quantised_model()?)
    }
}

/// Exact for what a rule may hold but for one rounding, which is the same everywhere.
fn millionths(number: u32) -> f32 {
    (f64::from(number) / 1e6) as f32
}

/// Learning rate of the slice that begins after so many images: half a cosine over the phase.
fn rate(recipe: &Recipe, done_images: u64) -> f32 {
    let (first, last) = (millionths(recipe.rule.first_rate_millionths), millionths(recipe.rule.last_rate_millionths));
    // The trainer's own cosine, which is the same on every machine, unlike the standard library's.
    let shape = TrainConfig { learning_rate: 1.0, schedule: Schedule::Cosine, ..TrainConfig::default() };
    let shape = shape.rate(recipe.gone_millionths(done_images).into(), 1_000_000);
    last + (first - last).max(0.0) * shape
}

/// The position in the current pass over the data.
struct Pass {
    seed: u64,
    number: u64,
    order: Vec<usize>,
    next: usize,
}

impl Pass {
    fn new(seed: u64) -> Self {
        Self { seed, number: 0, order: Vec::new(), next: 0 }
    }

    /// The next `count` indices below `len`: passes over all of them in an order drawn anew for each.
    fn take(&mut self, count: usize, len: usize) -> Vec<usize> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && len > 0 {
            if self.next >= self.order.len() || self.order.len() != len {
                let bytes = [self.seed.to_le_bytes(), self.number.to_le_bytes()].concat();
                let mut rng = SeededRng::new(&bytes, "data order");
                self.order = (0..len).collect();
                for place in 0..len {
                    self.order.swap(place, place + rng.index(len - place));
                }
                (self.number, self.next) = (self.number + 1, 0);
            }
            taken.push(self.order[self.next]);
            self.next += 1;
        }
        taken
    }
}
