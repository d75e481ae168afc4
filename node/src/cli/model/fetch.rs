//! `podl model fetch`: the artefact, and beside it what the chain knows of its origin.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use podl_chain_spec::Hash32;
use podl_consensus::types::TaskId;
use podl_nas::export::Provenance;
use podl_rpc::NodeApiClient;
use podl_rpc::client::{CallError, NodeClient};
use serde_json::json;

use super::super::output::{Out, grouped};
use super::super::progress::Progress;
use super::super::remote::{Explain, RemoteArgs, block_on};
use super::provenance::{self, sidecar};

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Id of a task, or root of a model.
    id: Hash32,
    /// A new file [default: the first digits of the root, .podlmodel]. What the chain knows of the model goes into a file
    /// beside it, .provenance.json.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: &FetchArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let (provenance, bytes) = block_on(fetch(&client, args.id))?;
    let root = provenance.model_root;
    let path = args.out.clone().unwrap_or_else(|| format!("{}.podlmodel", root.short()).into());
    let beside = write_both(&path, &bytes, &provenance)?;
    let object = json!({ "model_root": root, "bytes": bytes.len(), "file": path, "provenance": beside });
    out.record(&object, || {
        let size = grouped(bytes.len() as u64);
        format!("model {root}: {size} bytes in {}, its origin in {}", path.display(), beside.display())
    })
}

async fn fetch(client: &NodeClient, id: Hash32) -> anyhow::Result<(Provenance, Vec<u8>)> {
    let (root, task) = resolve(client, id).await?;
    let spec = client.public().chain_spec().await.explain(client)?;
    let provenance = provenance::ask(client, &spec, root, task).await?;
    let mut progress = Progress::new("fetch", 0);
    let limit = spec.caps.artefact_bytes.into();
    let bytes = client.blob(root, limit, |done, length| progress.set(done, length, "bytes")).await?;
    Ok((provenance, bytes))
}

/// The model that an id means: the winner of that task (which is told too), or else the model itself.
async fn resolve(client: &NodeClient, id: Hash32) -> anyhow::Result<(Hash32, Option<TaskId>)> {
    match client.public().task_get(id).await.explain(client) {
        Ok(task) => match task.summary.last_winner {
            Some(winner) => Ok((winner.model_root, Some(id))),
            None => bail!("task {id} has no winner yet; `podl task show {id}` says where it stands"),
        },
        Err(CallError::Refused(_)) => Ok((id, None)),
        Err(other) => Err(other.into()),
    }
}

/// Writes model and origin; neither may be there already. Returns where the origin lies.
fn write_both(path: &Path, bytes: &[u8], provenance: &Provenance) -> anyhow::Result<PathBuf> {
    let beside = sidecar(path);
    if beside == path || beside.exists() {
        bail!("{} exists already and would be the model's origin; choose another --out", beside.display());
    }
    write_new(path, bytes)?;
    write_new(&beside, format!("{}\n", serde_json::to_string(provenance)?).as_bytes())?;
    Ok(beside)
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::File::create_new(path).with_context(|| format!("a new file {}", path.display()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("writing {}", path.display()))
}
