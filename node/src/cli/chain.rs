//! `podl chain`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use podl_chain_spec::{ChainSpec, Hash32};
use podl_consensus::codec;
use podl_consensus::types::{BlobRef, Block, Height, Outcome, TaskId, TransactionKind};
use podl_rpc::NodeApiClient;
use podl_rpc::client::{CallError, NodeClient};
use podl_rpc::types::{BlockId, BlockView, SupplyView};
use serde_json::json;

use super::output::{Out, grouped};
use super::progress::Progress;
use super::remote::{Explain, RemoteArgs, block_on};
use crate::chain_file::ChainWriter;

#[derive(Debug, Subcommand)]
pub(super) enum ChainCommand {
    /// Print a specification, or explain it.
    #[command(after_help = "Example: podl chain spec testnet --explain")]
    Spec(SpecArgs),
    /// Show a block of a node's chain.
    #[command(after_help = "Example: podl chain show 17")]
    Show(ShowArgs),
    /// Recount all money of a node's last final state and compare it with what the state records.
    #[command(after_help = "Example: podl chain supply")]
    Supply(SupplyArgs),
    /// Copy the blocks of a node's chain to a file.
    #[command(after_help = "Example: podl chain export dev.blocks")]
    Export(ExportArgs),
    /// Replay a stopped node's chain, or an exported one, from the first block with every rule.
    #[command(after_help = "Example: podl chain verify --chain dev --data-dir ~/podl-dev")]
    Verify(super::replay::VerifyArgs),
    /// Take the blocks of an exported chain into the data folder of a stopped node, with every rule checked.
    #[command(after_help = "Example: podl chain import dev.blocks --chain dev --data-dir ~/podl-copy")]
    Import(super::replay::ImportArgs),
}

#[derive(Debug, Args)]
pub(super) struct SpecArgs {
    /// dev, testnet or a file.
    #[arg(default_value = "dev")]
    chain: String,
    /// Say beside every parameter what it means.
    #[arg(long)]
    explain: bool,
    /// Print the genesis hash only.
    #[arg(long, conflicts_with = "explain")]
    hash: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Height or hash [default: the head].
    block: Option<BlockId>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct SupplyArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A new file.
    file: PathBuf,
    /// First height.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Last height [default: the last final block].
    #[arg(long)]
    to: Option<u64>,
    /// Leave out the models and shards by which scores can be checked.
    #[arg(long)]
    without_blobs: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(command: ChainCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        ChainCommand::Spec(args) => spec(&args, out),
        ChainCommand::Show(args) => show(&args, out),
        ChainCommand::Supply(args) => supply(&args, out),
        ChainCommand::Export(args) => export(&args, out),
        ChainCommand::Verify(args) => super::replay::verify(&args, out),
        ChainCommand::Import(args) => super::replay::import(&args, out),
    }
}

fn spec(args: &SpecArgs, out: &Out) -> anyhow::Result<()> {
    let spec = ChainSpec::load(&args.chain)?;
    let hash = spec.genesis_hash();
    if args.hash {
        return out.record(&json!({ "name": spec.name, "genesis_hash": hash }), || hash.to_string());
    }
    let text = if args.explain { super::explain::explained(&spec)? } else { toml::to_string(&spec)? };
    let object = json!({ "genesis_hash": hash, "spec": spec });
    out.record(&object, || format!("# genesis hash {hash}\n{}", text.trim_end()))
}

fn show(args: &ShowArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let block = block_on(async {
        Ok(match args.block {
            Some(block) => client.public().chain_block(block).await.explain(&client)?,
            None => client.public().chain_tip().await.explain(&client)?,
        })
    })?;
    out.record(&block, || block_text(&block))
}

/// A block in a few lines.
fn block_text(block: &BlockView) -> String {
    let kind = format!("{:?}", block.kind).to_lowercase();
    let work = if block.is_filler { "filler".into() } else { format!("task {} round {}", block.task, block.round) };
    let is_final = if block.is_final { "final" } else { "not final yet" };
    let mut text = format!(
        "block {} {}\nparent      {}\nkind        {kind}, {work}, {is_final}\nproducer    {}\nstate root  {}\n",
        block.height, block.hash, block.parent, block.producer, block.state_root,
    );
    if let Some(score) = &block.score {
        text += &format!("score       {} of {} images, model {}\n", score.correct, score.images, score.model_root);
    }
    text += &format!(
        "carries     {} votes, {} closings, {} commitments, {} transactions; {} bytes",
        block.votes,
        block.closings,
        block.commitments,
        block.transactions.len(),
        grouped(block.bytes.into()),
    );
    for tx in &block.transactions {
        let amount = tx.amount.map_or(String::new(), |amount| format!(" {amount} PODL"));
        text += &format!("\n  {} {}{amount} from {}", tx.id, tx.kind, tx.sender);
    }
    text
}

fn supply(args: &SupplyArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let view = block_on(async { Ok(client.public().chain_supply().await.explain(&client)?) })?;
    out.record(&view, || supply_text(&view))?;
    if !view.adds_up {
        bail!("the money of block {} does not add up; check the chain with podl chain verify", view.height);
    }
    Ok(())
}

/// Where all the money is, in a few lines.
fn supply_text(view: &SupplyView) -> String {
    let verdict = if view.adds_up { "adds up" } else { "DOES NOT ADD UP" };
    let lines = [
        ("spendable", view.spendable, format!("in {} accounts", view.accounts)),
        ("locked", view.locked, "rewards and freed bonds that wait".into()),
        ("seat bonds", view.seat_bonds, String::new()),
        ("escrow", view.escrow, format!("of {} live tasks", view.tasks)),
        ("task bonds", view.task_bonds, String::new()),
        ("counted", view.total, String::new()),
        ("recorded", view.supply, verdict.into()),
        ("genesis", view.genesis, format!("and {} PODL minted, {} PODL burned since", view.minted, view.burned)),
    ];
    let mut text = format!("final block {} {}", view.height, view.block);
    for (name, amount, note) in lines {
        text += format!("\n{name:<11} {amount} PODL{}{note}", if note.is_empty() { "" } else { ", " }).as_str();
    }
    text
}

fn export(args: &ExportArgs, out: &Out) -> anyhow::Result<()> {
    let client = args.remote.connect()?;
    let file = File::create_new(&args.file).with_context(|| format!("a new file {}", args.file.display()))?;
    let (last, blobs) = block_on(async {
        let status = client.public().node_status().await.explain(&client)?;
        let last = args.to.unwrap_or(status.finalised.height);
        if args.from == 0 || last < args.from {
            bail!("there are no blocks from height {} to {last}; block 0 is the specification", args.from);
        }
        let spec = client.public().chain_spec().await.explain(&client)?;
        let writer = ChainWriter::new(BufWriter::new(&file), status.chain)?;
        let mut export = Export { client: &client, spec, writer, shards: BTreeMap::new(), blobs: 0 };
        let mut progress = Progress::new("export", last - args.from + 1);
        for height in args.from..=last {
            export.block(height, !args.without_blobs).await?;
            progress.set(height - args.from + 1, last - args.from + 1, "blocks");
        }
        export.writer.finish()?;
        Ok((last, export.blobs))
    })?;
    file.sync_all()?;
    let blocks = last - args.from + 1;
    let object = json!({ "file": args.file, "from": args.from, "to": last, "blocks": blocks, "blobs": blobs });
    out.record(&object, || {
        format!("{blocks} blocks ({} to {last}) and {blobs} blobs in {}", args.from, args.file.display())
    })
}

/// An export under way.
struct Export<'a> {
    client: &'a NodeClient,
    spec: ChainSpec,
    writer: ChainWriter<BufWriter<&'a File>>,
    /// Sealed shards of the tasks whose publication has passed by.
    shards: BTreeMap<TaskId, Vec<BlobRef>>,
    blobs: u64,
}

impl Export<'_> {
    /// Writes a block and, before it, what its score is judged by.
    async fn block(&mut self, height: Height, with_blobs: bool) -> anyhow::Result<()> {
        let raw = self.client.public().chain_raw_block(BlockId::Height(height)).await.explain(self.client)?;
        let block: Block = codec::decode(&raw.bytes.0, self.spec.limits.block_bytes as usize)
            .with_context(|| format!("the node's block {height} is malformed"))?;
        if with_blobs && let Outcome::Scored { opening, .. } = &block.body.outcome {
            let header = &block.header.message;
            let round = (header.round as usize).checked_sub(1);
            let shard = round.and_then(|round| self.shards.get(&header.task)?.get(round).copied());
            for root in [Some(opening.model_root), shard.map(|shard| shard.root)].into_iter().flatten() {
                self.blob(root).await?;
            }
        }
        for transaction in &block.body.transactions {
            if let (Some(id), TransactionKind::Publish(task)) =
                (transaction.message.task_id(), &transaction.message.kind)
            {
                self.shards.insert(id, task.shards.iter().map(|shard| shard.sealed).collect());
            }
        }
        Ok(self.writer.block(&raw.bytes.0)?)
    }

    async fn blob(&mut self, root: Hash32) -> anyhow::Result<()> {
        let limit = self.spec.caps.artefact_bytes.max(self.spec.caps.shard_bytes);
        match self.client.blob(root, limit.into(), |_, _| ()).await {
            Ok(bytes) => {
                self.blobs += 1;
                Ok(self.writer.blob(&bytes)?)
            }
            // Pruned: the reader of the file then has to rely on finality for this score.
            Err(CallError::Refused(reason)) => {
                tracing::warn!(%root, reason, "a blob is not exported");
                Ok(())
            }
            Err(other) => Err(other.into()),
        }
    }
}
