//! The command line: one module a command group. Results go to standard output (with `--json` one object a line),
//! everything else to standard error; an error is one line that says what is wrong and what to do.

mod bounds;
mod chain;
mod completions;
mod dataset;
mod explain;
mod miner;
mod model;
mod nas;
mod node;
mod output;
mod payouts;
mod pool;
mod pool_study;
mod progress;
mod remote;
mod replay;
mod run;
mod task;
mod testnet;
mod usage;
mod wallet;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::logging::{self, LogFormat};
use output::Out;

/// Version and commit, as `podl --version` prints them.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PODL_COMMIT"), ")");

/// A blockchain whose consensus is proof of deep learning: miners search and train small networks for FPGAs, every
/// node re-scores the best one in integers.
#[derive(Debug, Parser)]
#[command(name = "podl", version = LONG_VERSION, max_term_width = 110, disable_help_subcommand = true)]
#[command(after_help = "A local network of everything: podl testnet up. A node: podl node run --chain dev.")]
pub struct Cli {
    /// Print results as JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,

    /// What to log to standard error: error, warn, info, debug, trace, or by part ("info,podl_network=debug").
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,

    /// How to log: text or json.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a full node, write its configuration, or ask how it fares.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Mine for a pool: no node, no funds, one command.
    #[command(subcommand)]
    Miner(miner::MinerCommand),
    /// Ask a pool how it fares and what it paid.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Publish tasks and follow them.
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// List, fetch, evaluate and export models.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Make and guard accounts; balances, payments, history.
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Download data sets and look at them.
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Search, train and cost networks, without a chain.
    #[command(subcommand)]
    Nas(nas::NasCommand),
    /// Specifications and blocks.
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Local networks of real nodes.
    #[command(subcommand)]
    Testnet(testnet::TestnetCommand),
    /// Print completions for a shell.
    Completions(completions::CompletionsArgs),
}

/// The command line as clap knows it, for completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = command();
    let cli = match command.try_get_matches_from_mut(&args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &command, &args),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&one_line(&words(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes. Many errors name their cause themselves; it is not said twice.
fn words(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            _ if text.contains(&cause) => text,
            _ => format!("{text}: {cause}"),
        }
    })
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let out = Out::new(cli.json);
    let log = LogChoice { filter: cli.log, format: cli.log_format };
    // A node starts logging by itself, once it has read its configuration.
    if !matches!(cli.command, Command::Node(node::NodeCommand::Run(_))) {
        log.start()?;
    }
    match cli.command {
        Command::Node(command) => node::run(command, &out, log),
        Command::Miner(command) => miner::run(command, &out),
        Command::Pool(command) => pool::run(command, &out),
        Command::Task(command) => task::run(command, &out),
        Command::Model(command) => model::run(command, &out),
        Command::Wallet(command) => wallet::run(command, &out),
        Command::Dataset(command) => dataset::run(&command, &out),
        Command::Nas(command) => nas::run(command, &out),
        Command::Chain(command) => chain::run(command, &out),
        Command::Testnet(command) => testnet::run(command, &out),
        Command::Completions(args) => completions::run(&args),
    }
}

/// `--log` and `--log-format`. A node hands them on to its configuration.
#[derive(Debug)]
struct LogChoice {
    filter: Option<String>,
    format: Option<LogFormat>,
}

impl LogChoice {
    /// Starts logging for a command that ends by itself: warnings only, unless flag or environment say otherwise.
    fn start(&self) -> anyhow::Result<()> {
        let environment = || ["PODL_LOG", "RUST_LOG"].iter().find_map(|name| std::env::var(name).ok());
        let filter = self.filter.clone().or_else(environment).unwrap_or_else(|| "warn".into());
        logging::check_filter(&filter).map_err(|e| anyhow::anyhow!("--log {filter:?}: {e}"))?;
        logging::start(&filter, self.format.unwrap_or_default());
        Ok(())
    }
}

/// An error's text without line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The one line of an error.
fn report(text: &str) {
    let line = if text.starts_with("error: ") { text.to_owned() } else { format!("error: {text}") };
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
