//! `podl pool`: asks the node that manages the pool.

use clap::{Args, Subcommand};
use podl_chain_spec::AccountId;
use podl_rpc::NodeApiClient;
use podl_rpc::client::NodeClient;
use podl_rpc::types::{PayView, PayoutView, PoolStatus};

use super::output::{Out, grouped};
use super::pool_study::{self, StudyArgs};
use super::remote::{Explain, RemoteArgs, block_on};

#[derive(Debug, Subcommand)]
pub(super) enum PoolCommand {
    /// Show a pool and its miners.
    #[command(after_help = "Example: podl pool status --rpc 127.0.0.1:9744")]
    Status(StatusArgs),
    /// Show what a pool paid, newest first, or compute it again and compare it with the chain.
    #[command(after_help = "Example: podl pool payouts --verify --rpc pool.example:9744 --chain-rpc 127.0.0.1:9744")]
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
    /// Only what this account was paid.
    #[arg(long, value_name = "ADDRESS")]
    account: Option<AccountId>,
    /// Compute every share list again (division, fee, bonus, Merkle root), compare it with the block and with the
    /// transaction on the chain, and fail when anything differs.
    #[arg(long)]
    verify: bool,
    /// RPC of a node whose chain you trust, rather than the pool manager's own.
    #[arg(long, value_name = "ADDR", requires = "verify")]
    chain_rpc: Option<String>,
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
        PoolCommand::Payouts(args) => payouts(&args, out),
    }
}

fn payouts(args: &PayoutsArgs, out: &Out) -> anyhow::Result<()> {
    let manager = args.remote.connect()?;
    if args.verify {
        let chain =
            args.chain_rpc.as_ref().map_or_else(|| args.remote.connect(), |rpc| Ok(NodeClient::new(rpc, None)?))?;
        return super::payouts::verify(&manager, &chain, args.limit, args.account, out);
    }
    let mut payouts = block_on(async { Ok(manager.public().pool_payouts(args.limit).await.explain(&manager)?) })?;
    if let Some(account) = args.account {
        payouts.iter_mut().for_each(|payout| payout.payments.retain(|(to, ..)| *to == account));
        payouts.retain(|payout| !payout.payments.is_empty());
    }
    payouts.iter().try_for_each(|payout| out.record(payout, || payout_text(payout)))
}

fn status_text(status: &PoolStatus) -> String {
    let best = status.best_correct.map_or("none yet".into(), |n| format!("{n} of {}", status.holdout_images));
    let mut text = format!(
        "account     {}\njoin with   podl miner join {}\nfee         {} basis points, partition {}\npay         {}\nbest        {best}",
        status.account,
        status.urls.first().map_or("(no address yet)", String::as_str),
        status.fee_basis_points,
        status.partition,
        pay_text(status.pay),
    );
    let work = status.work;
    text += &format!(
        "\nnetworks    {} begun, {} done, {} taken over, {} backed up, {} dropped\naudits      {} passed, {} failed",
        work.begun, work.done, work.taken_over, work.backed_up, work.dropped, work.audits_passed, work.audits_failed
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

fn pay_text(pay: PayView) -> String {
    match pay {
        PayView::Pplns { window, finder_basis_points } => {
            format!("by work in {window} intervals, {finder_basis_points} basis points to the finder")
        }
        PayView::Performance => "by performance in the interval".into(),
    }
}

fn payout_text(payout: &PayoutView) -> String {
    let tx = payout.tx.map_or("not sent yet".into(), |tx| format!("transaction {tx}"));
    let mut text = format!("block {} {tx}, fee {} PODL", payout.height, payout.fee);
    for (account, macs, amount) in &payout.payments {
        text += &format!("\n  {amount} PODL for {} verified MACs to {account}", grouped(*macs));
    }
    text
}
