//! What a search was started with.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use podl_consensus::workload::{Bounds, InputShape, Space};
use podl_nas::search::{Rungs, StrategyKind};
use podl_nas::train::TrainConfig;
use serde::{Deserialize, Serialize};

use super::super::write_replacing;

/// The file in the search's folder; a search goes on with the same settings only.
pub(in super::super) const SETTINGS: &str = "settings.json";

/// Everything that a search's results follow from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Settings {
    pub dataset: String,
    pub input: InputShape,
    pub space: Space,
    pub strategy: StrategyKind,
    pub seed: u64,
    pub bounds: Bounds,
    pub rungs: Rungs,
    pub training: TrainConfig,
    /// Devices round differently.
    pub device: String,
    pub train_images: usize,
    pub validation_images: usize,
}

impl Settings {
    /// Those of a search's folder.
    pub(in super::super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(SETTINGS);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes them, or finds that the folder's are the same.
    pub(super) fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(SETTINGS);
        let ours = serde_json::to_value(self)?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return write_replacing(&path, format!("{ours:#}\n").as_bytes());
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let theirs: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        for (name, value) in ours.as_object().into_iter().flatten() {
            if theirs.get(name) != Some(value) {
                bail!(
                    "{} holds a search with another {name}; give another --out, or the same settings",
                    folder.display()
                );
            }
        }
        Ok(())
    }
}
