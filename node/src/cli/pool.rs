//! `podl pool`: asks the node that manages the pool.

use clap::{Args, Subcommand};
use podl_chain_spec::AccountId;
use podl_rpc::NodeApiClient;
use podl_rpc::client::NodeClient;
use podl_rpc::types::{PayView, PayoutView, PoolCoverageView, PoolMinerView, PoolStatus};

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
    let (work, luck) = (status.work, status.luck);
    text += &format!(
        "\nluck        won {} of the last {} intervals with work\nnetworks    {} begun, {} done, {} taken over, {} backed up, {} dropped\naudits      {} passed, {} failed",
        luck.won_intervals,
        luck.worked_intervals,
        work.begun,
        work.done,
        work.taken_over,
        work.backed_up,
        work.dropped,
        work.audits_passed,
        work.audits_failed
    );
    text += &status.coverage.as_ref().map(coverage_text).unwrap_or_default();
    text + &status.miners.iter().map(miner_text).collect::<String>()
}

fn coverage_text(coverage: &PoolCoverageView) -> String {
    let PoolCoverageView { space_networks, searched_networks, begun_networks, begun_share } = coverage;
    let searched = match searched_networks {
        Some(searched) if searched != space_networks => format!(", {searched} in the parts that are searched"),
        _ => String::new(),
    };
    format!("\ncoverage    {begun_networks} begun of {space_networks} networks ({begun_share:.2e}){searched}")
}

fn miner_text(miner: &PoolMinerView) -> String {
    let mut text = format!(
        "\n  {:<7} {:<6} {:>3}.{:02} %  {} MAC/s  {} results  {} audits  {} PODL paid  {} pending",
        miner.state,
        miner.class,
        miner.share_ppm / 10_000,
        miner.share_ppm / 100 % 100,
        grouped(miner.verified_macs_per_second),
        miner.accepted,
        miner.audits_passed,
        miner.paid,
        miner.pending,
    );
    let rare = [
        (miner.audits_failed.into(), "audits failed"),
        (miner.refused, "refused"),
        (miner.kept_back_macs.div_ceil(1_000_000), "MMAC kept back"),
        (miner.own_networks_taken_over.into(), "taken over from it"),
        (miner.own_networks_backed_up.into(), "backed up"),
    ];
    for (count, what) in rare.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!("  {} {what}", grouped(count));
    }
    text + &format!("  {}", miner.account)
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

#[cfg(test)]
mod tests {
    use podl_chain_spec::Amount;

    use super::*;

    fn miner() -> PoolMinerView {
        PoolMinerView {
            peer_id: "12D3".into(),
            account: AccountId([4; 32]),
            class: "strong".into(),
            state: "idle".into(),
            verified_macs_per_second: 21_000_000_000,
            window_macs: 1,
            share_ppm: 412_345,
            kept_back_macs: 0,
            pending: Amount(3_100_000),
            paid: Amount(41_000_000),
            next_payment: None,
            leases: 0,
            accepted: 42,
            refused: 0,
            audits_passed: 12,
            audits_failed: 0,
            own_networks_taken_over: 0,
            own_networks_backed_up: 0,
            networks_taken_over: 0,
            networks_backed_up: 0,
        }
    }

    #[test]
    fn a_miner_is_one_row_with_what_is_unusual_at_its_end() {
        let (calm, account) = (miner_text(&miner()), AccountId([4; 32]));
        let start =
            "\n  idle    strong  41.23 %  21,000,000,000 MAC/s  42 results  12 audits  41 PODL paid  3.1 pending";
        assert_eq!(calm, format!("{start}  {account}"));
        let busy =
            PoolMinerView { audits_failed: 1, kept_back_macs: 7_000_000_001, own_networks_taken_over: 2, ..miner() };
        let end = format!("  1 audits failed  7,001 MMAC kept back  2 taken over from it  {account}");
        assert_eq!(miner_text(&busy), format!("{start}{end}"));
    }

    #[test]
    fn coverage_names_the_parts_where_they_are_not_all() {
        let all = PoolCoverageView {
            space_networks: "8032500".into(),
            searched_networks: Some("8032500".into()),
            begun_networks: 61,
            begun_share: 61.0 / 8_032_500.0,
        };
        let text = coverage_text(&all);
        assert_eq!(text, "\ncoverage    61 begun of 8032500 networks (7.59e-6)");
        let some = PoolCoverageView { searched_networks: Some("1000".into()), ..all };
        assert_eq!(coverage_text(&some), format!("{text}, 1000 in the parts that are searched"));
    }
}
