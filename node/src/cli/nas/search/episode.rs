//! One training of a search: train, score, record.

use std::path::Path;
use std::sync::Arc;

use podl_chain_spec::Hash32;
use podl_consensus::workload::{Architecture, Network};
use podl_nas::artefact::Model;
use podl_nas::engine::Engine;
use podl_nas::search::{Job, MOST_REWARD, Search, reward_of};
use podl_nas::train::{ThreadPool, TrainDevice, TrainError, Trainer};
use serde::Serialize;
use serde_json::json;

use super::super::super::output::Out;
use super::super::super::progress::Progress;
use super::super::{rounded, seed_bytes, write_replacing};
use super::checkpoints::Checkpoints;
use super::material::Material;
use super::settings::Settings;

/// What trainings share.
pub(super) struct Workshop<'a> {
    pub settings: &'a Settings,
    pub material: &'a Material,
    pub device: TrainDevice,
    pub folder: &'a Path,
    pub checkpoints: Checkpoints,
    pub pool: Arc<ThreadPool>,
}

/// One trained network. The names are a stable interface.
#[derive(Debug, Serialize)]
struct Episode<'a> {
    episode: u64,
    /// Epochs that the network has had; with early stopping it may come again with more.
    epochs: u32,
    accuracy: f64,
    correct: u32,
    images: usize,
    best_accuracy: f64,
    is_best: bool,
    model_root: Option<Hash32>,
    train_images_per_second: f64,
    architecture: &'a Architecture,
}

/// A trained network and how fast it was trained; no speed where it only had to be scored.
struct Trained {
    model: Model,
    images_per_second: f64,
}

impl Workshop<'_> {
    /// Trains, scores and records what the search asked for.
    pub(super) fn run(&self, search: &mut Search, job: &Job, out: &Out) -> anyhow::Result<()> {
        let trained = self.train(job)?;
        let images = self.material.validation.len();
        let (correct, root) = match &trained {
            Some(trained) => {
                let engine = Engine::new(&trained.model, &self.material.table)?;
                let correct = engine.count_correct(&self.material.validation, self.pool.threads())?;
                (correct, Some(Hash32(trained.model.root())))
            }
            None => (0, None),
        };
        let reward = reward_of(correct, u32::try_from(images)?);
        let before = search.best().map(|(_, reward)| reward);
        let is_best = before.is_none_or(|before| reward > before);
        if let Some(trained) = trained.as_ref().filter(|_| is_best) {
            self.write_best(&job.architecture, &trained.model)?;
        }
        let note = json!({ "correct": correct, "images": images, "model_root": root, "epochs": job.epochs });
        search.record(job, reward, note)?;
        if trained.is_none() || job.epochs == self.settings.rungs.last() {
            self.checkpoints.remove(job.episode);
        }
        let line = Episode {
            episode: job.episode,
            epochs: job.epochs,
            accuracy: f64::from(correct) / images as f64,
            correct,
            images,
            best_accuracy: f64::from(before.unwrap_or(0).max(reward)) / f64::from(MOST_REWARD),
            is_best: is_best && root.is_some(),
            model_root: root,
            train_images_per_second: rounded(trained.map_or(0.0, |trained| trained.images_per_second)),
            architecture: &job.architecture,
        };
        out.record(&line, || text(&line))
    }

    /// The trained network, or `None` when training diverges: such a network earns nothing.
    fn train(&self, job: &Job) -> anyhow::Result<Option<Trained>> {
        let Material { table, train, .. } = self.material;
        let network = Network::new(&job.architecture, train.shape, train.classes, self.settings.space.dense)?;
        let (config, seed) = (self.settings.training.clone(), seed_bytes(self.settings.seed));
        let of_epoch = (train.len() / config.batch) as u64;
        let mut trainer = Trainer::on_device(self.device, network, table, config, seed, self.pool.clone())?;
        self.checkpoints.resume(&mut trainer, job)?;
        let mut progress = Progress::new(&format!("network {}", job.episode), 0);
        let (mut images, mut seconds) = (0, 0.0);
        while trainer.epochs_done() < job.epochs {
            let report = trainer.run_epoch(train, &mut |p| {
                let done = u64::from(p.epoch) * of_epoch + p.batches as u64;
                progress.set(done, u64::from(job.epochs) * of_epoch, &format!("loss {:.3}", p.loss));
            });
            match report {
                Ok(report) => (images, seconds) = (images + report.images, seconds + report.seconds),
                Err(TrainError::Diverged { epoch, batch }) => {
                    tracing::warn!(epoch, batch, "training diverged; the network counts as 0");
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            if self.settings.rungs.last() > 1 {
                self.checkpoints.save(&trainer, job)?;
            }
        }
        let images_per_second = if images == 0 { 0.0 } else { images as f64 / f64::max(seconds, 1e-9) };
        Ok(Some(Trained { model: trainer.quantised_model()?, images_per_second }))
    }

    fn write_best(&self, architecture: &Architecture, model: &Model) -> anyhow::Result<()> {
        let text = format!("{}\n", serde_json::to_string(architecture)?);
        write_replacing(&self.folder.join(super::BEST_ARCHITECTURE), text.as_bytes())?;
        write_replacing(&self.folder.join(super::BEST_MODEL), &model.encode())
    }
}

fn text(line: &Episode<'_>) -> String {
    let layers = line.architecture.layers.iter();
    let shape: Vec<String> = layers.map(|l| format!("{}x{}:{}", l.kernel[0], l.kernel[1], l.filters)).collect();
    let star = if line.is_best { "  best so far" } else { "" };
    format!("{:>5}  {:>3} epochs  {:.4}  {}{star}", line.episode, line.epochs, line.accuracy, shape.join(" "))
}
