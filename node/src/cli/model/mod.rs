//! `podl model`.

mod eval;
mod export;
mod fetch;
mod list;
mod provenance;
mod source;

use clap::Subcommand;

use super::output::Out;

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// List models that won blocks, newest first.
    #[command(after_help = "Example: podl model list --limit 10")]
    List(list::ListArgs),
    /// Bring a model home: a task's latest winner, or any model by its root.
    #[command(after_help = "Example: podl model fetch 5a1e… --out winner.podlmodel")]
    Fetch(fetch::FetchArgs),
    /// Count the images that a model classifies correctly, in integers, as every full node does.
    #[command(after_help = "Example: podl model eval winner.podlmodel --dataset cifar10:data/cifar10 --json")]
    Eval(eval::EvalArgs),
    /// Write a model for other tools: a QONNX graph for FPGA tool chains, or a model card.
    #[command(
        after_help = "Example: podl model export winner.podlmodel --format qonnx --dataset cifar10:data/cifar10 --out winner.onnx
         podl model export winner.podlmodel --format card --dataset cifar10:data/cifar10 --bounds fast"
    )]
    Export(Box<export::ExportArgs>),
}

pub(super) fn run(command: ModelCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        ModelCommand::List(args) => list::run(&args, out),
        ModelCommand::Fetch(args) => fetch::run(&args, out),
        ModelCommand::Eval(args) => eval::run(&args, out),
        ModelCommand::Export(args) => export::run(&args, out),
    }
}
