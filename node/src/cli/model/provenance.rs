//! Where models come from: asked of a node, kept in a file beside the model.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::codec;
use podl_consensus::state::TaskSpec;
use podl_consensus::types::TaskId;
use podl_consensus::workload::Workload;
use podl_nas::export::{Provenance, TaskFacts, Won};
use podl_rpc::NodeApiClient;
use podl_rpc::client::{CallError, NodeClient};
use podl_rpc::types::{LIST_LIMIT, ModelEntry, StateSubject};

use super::super::remote::Explain;

/// Far above any task that a chain takes.
const TASK_BYTES: usize = 8 << 20;

/// The file beside a model that says where it comes from.
pub(super) fn sidecar(model: &Path) -> PathBuf {
    model.with_extension("provenance.json")
}

/// Reads the file beside a model, `None` if there is none.
pub(super) fn read(model: &Path, root: Hash32) -> anyhow::Result<Option<Provenance>> {
    let path = sidecar(model);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let provenance: Provenance = serde_json::from_str(&text)
        .with_context(|| format!("{} does not say where a model comes from; mend or remove it", path.display()))?;
    if provenance.model_root != root {
        bail!("{} is about model {}, not {root}; move it away", path.display(), provenance.model_root);
    }
    Ok(Some(provenance))
}

/// What the node knows of a model, which won a round of `task` or of any. The node is trusted with it as with every
/// answer.
pub(super) async fn ask(
    client: &NodeClient,
    spec: &ChainSpec,
    root: Hash32,
    task: Option<TaskId>,
) -> anyhow::Result<Provenance> {
    let status = client.public().node_status().await.explain(client)?;
    let models = client.public().model_list(task, LIST_LIMIT).await.explain(client)?;
    let entry = models.into_iter().find(|model| model.model_root == root);
    let task = match &entry {
        Some(entry) if entry.round == 0 => Some(filler(spec, entry)),
        Some(entry) => Some(published_task(client, entry).await?),
        None => None,
    };
    let (chain_name, chain) = (Some(status.chain_name), Some(status.chain));
    Ok(Provenance { model_root: root, chain_name, chain, won: entry.as_ref().map(won), task })
}

fn won(entry: &ModelEntry) -> Won {
    Won {
        height: entry.height,
        block: entry.block,
        is_final: entry.is_final,
        round: entry.round,
        miner: entry.owner,
        correct: entry.correct,
        images: entry.images,
    }
}

/// Filler is what the chain's specification says; rounds of published tasks count from 1.
fn filler(spec: &ChainSpec, entry: &ModelEntry) -> TaskFacts {
    let workload = Workload::filler(spec);
    TaskFacts {
        id: entry.task,
        name: entry.task_name.clone(),
        data_root: None,
        bounds: Some(workload.bounds),
        input_table: Some(workload.input_table),
    }
}

async fn published_task(client: &NodeClient, entry: &ModelEntry) -> anyhow::Result<TaskFacts> {
    let published = published(client, entry.task).await?.map(|spec| spec.task);
    Ok(TaskFacts {
        id: entry.task,
        name: entry.task_name.clone(),
        data_root: published.as_ref().map(|task| task.data.root),
        bounds: published.as_ref().map(|task| task.workload.bounds),
        input_table: published.map(|task| task.workload.input_table),
    })
}

/// A task as it was published, out of the state: `task_get` leaves the normalisation out. `None` if the state does not
/// hold it any more.
async fn published(client: &NodeClient, id: TaskId) -> anyhow::Result<Option<TaskSpec>> {
    let answer = client.public().chain_state_proof(StateSubject::TaskSpec(id)).await.explain(client);
    let value = match answer {
        Ok(proof) => proof.value,
        Err(CallError::Refused(_)) => None,
        Err(other) => return Err(other.into()),
    };
    let decoded = value.map(|bytes| codec::decode(&bytes.0, TASK_BYTES)).transpose();
    decoded.context("the node's task is not understood; do both run the same version?")
}
