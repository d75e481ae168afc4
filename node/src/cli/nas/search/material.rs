//! The data of a search.

use anyhow::{Context, bail};
use podl_nas::data::{Dataset, SplitPlan, input_table, split};

use super::super::seed_bytes;
use super::SearchArgs;

/// Training and validation images, and the values that the integer engine gets for their bytes.
pub(super) struct Material {
    pub table: Vec<Vec<i16>>,
    pub train: Dataset,
    pub validation: Dataset,
}

impl Material {
    pub(super) fn load(args: &SearchArgs) -> anyhow::Result<Self> {
        let source = args.dataset.load().with_context(|| format!("data set {}", args.dataset))?;
        let validation_images = args.validation.unwrap_or(source.train.len() / 10);
        let plan = SplitPlan { validation_images, shards: 0, shard_images: 1, seed: seed_bytes(args.seed) };
        let cut = split(&source, &plan)?;
        if cut.validation.is_empty() {
            bail!("there are no images to compare networks on; give --validation at least 1");
        }
        let train = cut.train.head(args.train.unwrap_or(cut.train.len()));
        if train.is_empty() {
            bail!("there are no images left to train on; give a smaller --validation or a larger --train");
        }
        Ok(Self { table: input_table(&source.train), train, validation: cut.validation })
    }
}
