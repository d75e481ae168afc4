//! `podl nas`: the workload without a chain.

mod cost;
mod explain;
mod front;
mod plot;
mod search;
mod study;
mod train;
mod training;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Subcommand;

use super::output::Out;
pub(super) use train::rounded;

#[derive(Debug, Subcommand)]
pub(super) enum NasCommand {
    /// Map architectures onto an FPGA within bounds: LUTs, cycles, images a second.
    #[command(
        after_help = "Example: podl nas cost --model corrected --lut 100000 --throughput 1000 networks.jsonl --json"
    )]
    Cost(cost::CostArgs),
    /// Train one network and score it in integers.
    #[command(
        after_help = "Example: podl nas train golden.json --dataset cifar10:data/cifar10 --epochs 3 --out golden.podlmodel"
    )]
    Train(train::TrainArgs),
    /// Search a space: train and score one network after the other; a killed search goes on.
    #[command(
        after_help = "Example: podl nas search --dataset builtin --space S2 --episodes 50 --epochs 2 --out search-1 --json"
    )]
    Search(Box<search::SearchArgs>),
    /// Draw a search as SVG and PNG: rewards against episodes, and the Pareto front of accuracy against LUTs.
    #[command(after_help = "Example: podl nas plot search-1")]
    Plot(plot::PlotArgs),
    /// Compare search strategies over recorded evaluations, without training anything.
    #[command(after_help = "Example: podl nas study --records episodes.csv --seeds 10 --json")]
    Study(study::StudyArgs),
}

pub(super) fn run(command: NasCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        NasCommand::Cost(args) => cost::run(&args, out),
        NasCommand::Train(args) => train::run(&args, out),
        NasCommand::Search(args) => search::run(&args, out),
        NasCommand::Plot(args) => plot::run(&args, out),
        NasCommand::Study(args) => study::run(&args, out),
    }
}

/// The seed that a number on the command line stands for.
fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// That many threads, or one a core.
pub(super) fn threads_or_all(threads: Option<usize>) -> usize {
    threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// Writes a result whole or not at all; an older file of that name is replaced.
pub(super) fn write_replacing(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("writing to {}", folder.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .with_context(|| format!("writing {}", path.display()))?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
