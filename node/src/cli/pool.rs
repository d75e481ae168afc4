//! `podl pool`: asks the node that manages the pool.

use clap::{Args, Subcommand};
use podl_rpc::NodeApiClient;
use podl_rpc::types::{PayoutView, PoolStatus};

use super::output::{Out, grouped};
use super::pool_study::{self, StudyArgs};
use super::remote::{Explain, RemoteArgs, block_on};

#[derive(Debug, Subcommand)]
pub(super) enum PoolCommand {
    /// Show a pool and its miners.
    #[command(after_help = "Example: podl pool status --rpc 127.0.0.1:9744")]
    Status(StatusArgs),
    /// Show what a pool paid, newest first.
    #[command(after_help = "Example: podl pool payouts --limit 5 --json")]
    Payouts(PayoutsArgs),
    /// Measure the pool: its own machines on virtual time over recorded trainings, beside goals and other schemes.
    #[command(after_help = "Example: podl pool study --scenario speedup --seeds 30 --records episodes.csv --json")]
    Study(StudyArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct PayoutsArgs {
    /// Most payouts.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(command: PoolCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        PoolCommand::Status(args) => {
            let client = args.remote.connect()?;
            let status = block_on(async { Ok(client.public().pool_status().await.explain(&client)?) })?;
            out.record(&status, || status_text(&status))
        }
        PoolCommand::Study(args) => pool_study::run(&args, out),
        PoolCommand::Payouts(args) => {
            let client = args.remote.connect()?;
            let payouts = block_on(async { Ok(client.public().pool_payouts(args.limit).await.explain(&client)?) })?;
            payouts.iter().try_for_each(|payout| out.record(payout, || payout_text(payout)))
        }
    }
}

fn status_text(status: &PoolStatus) -> String {
    let best = status.best_correct.map_or("none yet".into(), |n| format!("{n} of {}", status.holdout_images));
    let mut text = format!(
        "account     {}\njoin with   podl miner join {}\nfee         {} basis points, partition {}\nbest        {best}",
        status.account,
        status.urls.first().map_or("(no address yet)", String::as_str),
        status.fee_basis_points,
        status.partition,
    );
    for miner in &status.miners {
        text += &format!(
            "\n  {:<7} {:<6} {:>3}.{:02} %  {} MAC/s  {} results  {} PODL pending  {}",
            miner.state,
            miner.class,
            miner.share_ppm / 10_000,
            miner.share_ppm / 100 % 100,
            grouped(miner.verified_macs_per_second),
            miner.accepted,
            miner.pending,
            miner.account,
        );
    }
    text
}

fn payout_text(payout: &PayoutView) -> String {
    let tx = payout.tx.map_or("not sent yet".into(), |tx| format!("transaction {tx}"));
    let mut text = format!("block {} {tx}, fee {} PODL", payout.height, payout.fee);
    for (account, macs, amount) in &payout.payments {
        text += &format!("\n  {amount} PODL for {} verified MACs to {account}", grouped(*macs));
    }
    text
}
