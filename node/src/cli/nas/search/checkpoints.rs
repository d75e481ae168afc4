//! Checkpoints of networks whose training may go on, one file each.

use std::path::{Path, PathBuf};

use anyhow::Context;
use podl_nas::search::Job;
use podl_nas::train::{Checkpoint, Trainer};

use super::super::write_replacing;

/// The folder of checkpoints.
///
/// They only save time: training is determined by its seed, so a network whose file is gone is trained again from the
/// start, to the same bits.
pub(super) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(super) fn open(search: &Path) -> anyhow::Result<Self> {
        let folder = search.join("checkpoints");
        std::fs::create_dir_all(&folder).with_context(|| format!("the folder {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn path(&self, episode: u64) -> PathBuf {
        self.folder.join(format!("{episode}.checkpoint"))
    }

    /// Brings a fresh trainer to where the network of a job stands, if that is known and not beyond the job.
    pub(super) fn resume(&self, trainer: &mut Trainer, job: &Job) -> anyhow::Result<()> {
        let path = self.path(job.episode);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let usable = Checkpoint::decode(&bytes).ok().filter(|checkpoint| checkpoint.epochs() <= job.epochs);
        if usable.is_none_or(|checkpoint| trainer.resume(&checkpoint).is_err()) {
            tracing::warn!(file = %path.display(), "no checkpoint of this network; it is trained from the start");
        }
        Ok(())
    }

    /// Keeps where a network stands, instead of where it stood before.
    pub(super) fn save(&self, trainer: &Trainer, job: &Job) -> anyhow::Result<()> {
        write_replacing(&self.path(job.episode), &trainer.checkpoint()?.encode())
    }

    /// Forgets a network that needs no more training.
    pub(super) fn remove(&self, episode: u64) {
        // A file that stays is only in the way.
        let _ = std::fs::remove_file(self.path(episode));
    }
}
