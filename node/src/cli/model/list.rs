//! `podl model list`.

use clap::Args;
use podl_consensus::types::TaskId;
use podl_rpc::NodeApiClient;
use podl_rpc::types::ModelEntry;

use super::super::output::{Out, grouped};
use super::super::remote::{Explain, RemoteArgs, block_on};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this task only.
    #[arg(long)]
    task: Option<TaskId>,
    /// Most models.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: &ListArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let models = block_on(async { Ok(client.public().model_list(args.task, args.limit).await.explain(&client)?) })?;
    models.iter().try_for_each(|model| out.record(model, || line(model)))
}

fn line(model: &ModelEntry) -> String {
    format!(
        "{:>8}  {}/{} images  {}  {} round {}  {} bytes",
        model.height,
        model.correct,
        model.images,
        model.model_root,
        model.task_name,
        model.round,
        grouped(model.artefact_bytes.into())
    )
}
