//! `podl chain verify` and `podl chain import`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use podl_chain_spec::ChainSpec;
use podl_consensus::chain::{Chain, Imported};
use podl_consensus::state::Checkpoint;
use podl_consensus::types::BlobRoot;
use podl_nas::Verifier;
use podl_network::BlobStore;
use podl_storage::Database;
use serde::Serialize;

use super::nas::threads_or_all;
use super::output::Out;
use super::progress::Progress;
use crate::chain_file::{ChainReader, Record};
use crate::paths;
use crate::replay::{self, RecentBlobs, Replay, Tally};
use crate::service::data_dir::DataDir;

/// Blobs of a stopped node are read, and those of a file are written, whatever its quota is.
const QUOTA_BYTES: u64 = u64::MAX;

/// A chain and where it lies.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// dev, testnet or the path of a specification.
    #[arg(long, default_value = "dev")]
    chain: String,
    /// Data folder of the stopped node [default: that of the chain].
    #[arg(long, value_name = "DIR", env = "PODL_DATA_DIR", hide_env = true)]
    data_dir: Option<PathBuf>,
    /// Threads that score models [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl PlaceArgs {
    fn spec(&self) -> anyhow::Result<Arc<ChainSpec>> {
        Ok(Arc::new(ChainSpec::load(&self.chain)?))
    }

    fn folder(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| paths::default_data_dir(&self.chain))
    }

    fn verifier(&self) -> Box<Verifier> {
        Box::new(Verifier::new(threads_or_all(self.threads)))
    }
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Verify a file of `podl chain export` instead of a data folder.
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A file of `podl chain export`.
    file: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
    /// Take scores on trust whose models or shards are not in the file.
    #[arg(long)]
    trust_scores: bool,
}

/// What both commands print.
#[derive(Serialize)]
struct Report {
    blocks: u64,
    transactions: u64,
    head: Checkpoint,
    finalised: Checkpoint,
    scores_checked: u64,
    scores_believed: u64,
    state_rows: Option<usize>,
}

impl Report {
    fn new(tally: Tally, head: Checkpoint, finalised: Checkpoint, state_rows: Option<usize>) -> Self {
        let Tally { blocks, transactions, scores_checked, scores_believed } = tally;
        Self { blocks, transactions, head, finalised, scores_checked, scores_believed, state_rows }
    }

    fn text(&self, done: &str) -> String {
        let believed = match self.scores_believed {
            0 => String::new(),
            n => format!(", {n} believed because their models or shards are not here"),
        };
        let state = self.state_rows.map_or(String::new(), |rows| format!("; {rows} state rows are what they make"));
        format!(
            "{} blocks {done} up to height {} {}, final up to {}; {} transactions, {} scores counted again{believed}{state}",
            self.blocks,
            self.head.height,
            self.head.block,
            self.finalised.height,
            self.transactions,
            self.scores_checked,
        )
    }
}

pub(super) fn verify(args: &VerifyArgs, out: &Out) -> anyhow::Result<()> {
    let mut replay = Replay::new(args.place.spec()?, args.place.verifier())?;
    let state_rows = match &args.file {
        Some(file) => {
            verify_file(&mut replay, file, &args.place)?;
            None
        }
        None => Some(verify_folder(&mut replay, &args.place)?),
    };
    let report = Report::new(replay.tally(), replay.head(), replay.finalised(), state_rows);
    out.record(&report, || report.text("are valid"))
}

fn verify_file(replay: &mut Replay, file: &Path, place: &PlaceArgs) -> anyhow::Result<()> {
    let mut reader = open_file(file, &*place.spec()?)?;
    let mut blobs = RecentBlobs::default();
    let mut progress = Progress::new("verify", 0);
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Blob(bytes) => blobs.insert(bytes),
            Record::Block(block) => replay.take(*block, &blobs)?,
        }
        progress.set(replay.tally().blocks, 0, "blocks");
    }
    Ok(())
}

fn open_file(path: &Path, spec: &ChainSpec) -> anyhow::Result<ChainReader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    ChainReader::new(BufReader::new(file), spec).with_context(|| path.display().to_string())
}

/// Replays what a data folder holds and compares the stored state; returns its number of rows.
fn verify_folder(replay: &mut Replay, place: &PlaceArgs) -> anyhow::Result<usize> {
    let folder = place.folder();
    if !folder.join("chain").is_dir() {
        bail!("{} holds no chain; name a node's data folder with --data-dir", folder.display());
    }
    let held = DataDir::open(&folder)?;
    let db = Database::open(&held.join("chain"), &*place.spec()?)?.database;
    let blobs = BlobStore::open(&held.join("blobs"), QUOTA_BYTES)?;
    let source = |root: &BlobRoot| blobs.get(root).ok().map(Arc::new);
    let found = db.recover()?;
    let last = found.finalised.height;
    let mut progress = Progress::new("verify", last);
    for height in 1..=last {
        let hash = db.final_hash(height)?;
        let block = hash.map(|hash| db.block(&hash)).transpose()?.flatten();
        let block = block.with_context(|| format!("the chain folder has lost block {height}; sync it anew"))?;
        replay.take(block, &source)?;
        progress.set(height, last, "blocks");
    }
    for stored in found.pending {
        replay.take(stored.block, &source)?;
    }
    if replay.finalised() != found.finalised {
        let got = replay.finalised();
        bail!("the folder says that block {last} is final, its blocks make {} final", got.height);
    }
    Ok(replay.compare(db.state_values(&[])?)?)
}

pub(super) fn import(args: &ImportArgs, out: &Out) -> anyhow::Result<()> {
    let spec = args.place.spec()?;
    let verifier = args.place.verifier();
    let held = DataDir::open(&args.place.folder())?;
    let db = Arc::new(Database::open(&held.join("chain"), &spec)?.database);
    let blobs = BlobStore::open(&held.join("blobs"), QUOTA_BYTES)?;
    let source = |root: &BlobRoot| blobs.get(root).ok().map(Arc::new);
    let found = db.recover()?;
    let pending = found.pending.into_iter().map(|stored| (stored.block, stored.delta));
    let mut chain = Chain::open(spec.clone(), db.clone(), found.finalised, pending)?;
    let (mut head, mut tally) = (found.head, Tally::default());
    let mut reader = open_file(&args.file, &spec)?;
    let mut progress = Progress::new("import", 0);
    while let Some(record) = reader.next_record()? {
        let block = match record {
            Record::Blob(bytes) => {
                blobs.insert(&bytes)?;
                continue;
            }
            Record::Block(block) => block,
        };
        if block.height() <= chain.finalised().height || chain.contains(&block.hash()) {
            continue;
        }
        let trust = args.trust_scores;
        let imported = replay::take(&mut chain, *block, &source, verifier.as_ref(), trust, &mut tally)?;
        if imported.block.height() > head.height {
            head = Checkpoint { height: imported.block.height(), block: imported.hash };
        }
        persist(&db, &mut chain, &imported, head)?;
        progress.set(tally.blocks, 0, "blocks");
    }
    let report = Report::new(tally, head, chain.finalised(), None);
    out.record(&report, || report.text("were imported"))
}

/// One synced batch, as a running node writes it.
fn persist(
    db: &Arc<Database>,
    chain: &mut Chain<Arc<Database>>,
    imported: &Imported,
    head: Checkpoint,
) -> anyhow::Result<()> {
    let mut batch = db.batch();
    batch.insert_block(&imported.hash, &imported.block, &imported.delta)?;
    for block in &imported.newly_final {
        batch.finalise(&block.hash, &block.block, &block.delta)?;
    }
    for block in &imported.pruned {
        batch.prune_block(&block.hash())?;
    }
    batch.set_head(head)?;
    db.commit(batch)?;
    if let Some(last) = imported.newly_final.last() {
        chain.folded(Checkpoint { height: last.height, block: last.hash });
    }
    Ok(())
}
