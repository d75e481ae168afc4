//! `podl wallet`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use podl_chain_spec::{AccountId, Amount};
use podl_consensus::codec;
use podl_consensus::rules::transaction::least_fee_of;
use podl_consensus::state::{StateKey, StateProof, verify_proof};
use podl_consensus::types::{Block, Payment, Transaction, TransactionKind};
use podl_rpc::client::NodeClient;
use podl_rpc::types::{AccountView, BlockId, HexBytes, HistoryEntry, HistoryKind, StateSubject, TxState};
use podl_rpc::{AdminApiClient, NodeApiClient};
use serde::Serialize;
use serde_json::json;

use super::output::Out;
use super::remote::{Explain, OperatorArgs, RemoteArgs, block_on};
use crate::wallet::{self, KdfCost, PassphraseSource, Wallet, WalletRef, wallet_folder};

#[derive(Debug, Subcommand)]
pub(super) enum WalletCommand {
    /// Make an account in a new encrypted file.
    #[command(after_help = "Example: podl wallet new alice --password-file alice.pass")]
    New(NewArgs),
    /// List the wallets of the wallet folder.
    #[command(after_help = "Example: podl wallet list --json")]
    List,
    /// Show what an account owns.
    #[command(after_help = "Example: podl wallet balance alice --verify")]
    Balance(BalanceArgs),
    /// Send money.
    #[command(after_help = "Example: podl wallet send podl1… 12.5 --wallet alice")]
    Send(SendArgs),
    /// Show what changed an account, newest first.
    #[command(after_help = "Example: podl wallet history alice --limit 20")]
    History(HistoryArgs),
    /// Copy a wallet and open the copy, to see that it can be.
    #[command(after_help = "Example: podl wallet backup alice /media/stick/alice.json")]
    Backup(CopyArgs),
    /// Bring a backup back under a name that is free.
    #[command(after_help = "Example: podl wallet restore /media/stick/alice.json alice")]
    Restore(RestoreArgs),
}

/// How to unlock a wallet.
#[derive(Debug, Args)]
pub(super) struct UnlockArgs {
    /// File that holds the passphrase; else PODL_PASSWORD, else podl asks.
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
}

impl UnlockArgs {
    fn source(&self) -> PassphraseSource {
        PassphraseSource::new(self.password_file.clone())
    }
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Name in the wallet folder, or a path.
    #[arg(default_value = "default")]
    wallet: String,
    #[command(flatten)]
    unlock: UnlockArgs,
}

#[derive(Debug, Args)]
pub(super) struct BalanceArgs {
    /// A wallet, dev:NAME, or an address.
    #[arg(default_value = "default")]
    account: String,
    /// Check the node's answer against the state root of its head.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// Address of the receiver.
    to: AccountId,
    /// How much, in PODL.
    amount: Amount,
    /// Wallet to send from, signed here [default: the node's own wallet].
    #[arg(long)]
    wallet: Option<String>,
    /// Fee in PODL [default: the least that the chain takes].
    #[arg(long)]
    fee: Option<Amount>,
    /// Wait until the payment is in a final block.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    unlock: UnlockArgs,
    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// A wallet, dev:NAME, or an address.
    #[arg(default_value = "default")]
    account: String,
    /// Most entries.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only blocks below this height.
    #[arg(long, value_name = "HEIGHT")]
    before: Option<u64>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// A wallet.
    wallet: String,
    /// The copy, a new file.
    file: PathBuf,
    #[command(flatten)]
    unlock: UnlockArgs,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    /// Name in the wallet folder, or a path; must be free.
    #[arg(default_value = "default")]
    wallet: String,
    #[command(flatten)]
    unlock: UnlockArgs,
}

pub(super) fn run(command: WalletCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        WalletCommand::New(args) => new(&args, out),
        WalletCommand::List => list(out),
        WalletCommand::Balance(args) => balance(&args, out),
        WalletCommand::Send(args) => send(args, out),
        WalletCommand::History(args) => history(&args, out),
        WalletCommand::Backup(args) => {
            let from = file_of(&args.wallet)?;
            let account = wallet::backup(&from, &args.file, &args.unlock.source().get("Passphrase: ")?)?;
            report_file(out, account, &args.file, "backed up and reopened")
        }
        WalletCommand::Restore(args) => {
            let to = file_of(&args.wallet)?;
            let account = wallet::restore(&args.file, &to, &args.unlock.source().get("Passphrase: ")?)?;
            report_file(out, account, &to, "restored and reopened")
        }
    }
}

/// The file that a wallet's name means.
fn file_of(name: &str) -> anyhow::Result<PathBuf> {
    match WalletRef::parse(name, &wallet_folder()) {
        WalletRef::File(path) => Ok(path),
        WalletRef::Development(_) => bail!("{name} is a well-known account and has no file; choose a name of your own"),
    }
}

/// The account that a wallet's name or an address means.
fn account_of(text: &str) -> anyhow::Result<AccountId> {
    if text.starts_with("podl1") {
        return Ok(text.parse::<AccountId>()?);
    }
    let account = WalletRef::parse(text, &wallet_folder()).account();
    account.context("name a wallet or give an address; `podl wallet new` makes one")
}

fn report_file(out: &Out, account: AccountId, file: &std::path::Path, what: &str) -> anyhow::Result<()> {
    let object = json!({ "address": account, "file": file });
    out.record(&object, || format!("{account} {what}: {}", file.display()))
}

fn new(args: &NewArgs, out: &Out) -> anyhow::Result<()> {
    let path = file_of(&args.wallet)?;
    // Before anybody has thought of a passphrase.
    if path.exists() {
        bail!("{} exists already and is never overwritten; choose another name", path.display());
    }
    let passphrase = args.unlock.source().choose("Passphrase for the new wallet: ")?;
    let wallet = Wallet::generate()?;
    wallet::create(&path, &wallet, &passphrase, KdfCost::default())?;
    report_file(out, wallet.account(), &path, "made in")?;
    out.note("Without this file and its passphrase the account is lost: make a copy with `podl wallet backup`.")
}

fn list(out: &Out) -> anyhow::Result<()> {
    let folder = wallet_folder();
    let wallets = wallet::list(&folder).with_context(|| format!("the wallet folder {}", folder.display()))?;
    for (path, keystore) in &wallets {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        match keystore {
            Ok(keystore) => {
                let object = json!({ "name": name, "address": keystore.address, "file": path });
                out.record(&object, || format!("{name}  {}", keystore.address))?;
            }
            Err(error) => {
                let object = json!({ "name": name, "file": path, "error": error.to_string() });
                out.record(&object, || format!("{name}  {error}"))?;
            }
        }
    }
    if wallets.is_empty() {
        out.note(format!("no wallets in {}; `podl wallet new` makes one", folder.display()))?;
    }
    Ok(())
}

fn balance(args: &BalanceArgs, out: &Out) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Balance {
        #[serde(flatten)]
        account: AccountView,
        verified: bool,
    }
    let account = account_of(&args.account)?;
    let client = args.remote.connect()?;
    let view = block_on(async {
        let view = client.public().account_get(account).await.explain(&client)?;
        if args.verify { verified(&client, view).await } else { Ok(view) }
    })?;
    let balance = Balance { account: view, verified: args.verify };
    out.record(&balance, || {
        let view = &balance.account;
        let proof = if args.verify { ", proven by the state root" } else { "" };
        format!("{} PODL free, {} PODL locked, at height {}{proof}", view.spendable, view.locked, view.height)
    })
}

/// The account as the proof shows it, if the proof holds under a block header of the node's chain.
async fn verified(client: &NodeClient, claimed: AccountView) -> anyhow::Result<AccountView> {
    let id = claimed.account;
    let proof = client.public().chain_state_proof(StateSubject::Account(id)).await.explain(client)?;
    let raw = client.public().chain_raw_block(BlockId::Hash(proof.block)).await.explain(client)?;
    let block: Block = codec::decode(&raw.bytes.0, raw.bytes.0.len()).context("the node served a malformed block")?;
    if block.hash() != proof.block || block.header.message.state_root != proof.state_root {
        bail!("the node's proof is not of the block that it names; do not rely on its answers");
    }
    let value = proof.value.as_ref().map(|bytes| bytes.0.as_slice());
    let path = StateProof::from_bytes(&proof.proof.0)?;
    verify_proof(proof.state_root, StateKey::Account(id), value, &path)
        .context("the node's proof does not hold; do not rely on its answers")?;
    let account = match value {
        Some(bytes) => codec::decode(bytes, bytes.len()).context("the proven account is malformed")?,
        None => podl_consensus::state::Account::default(),
    };
    Ok(AccountView::new(id, &account, proof.height, claimed.next_nonce))
}

fn send(args: SendArgs, out: &Out) -> anyhow::Result<()> {
    let client = match args.wallet {
        Some(_) => args.operator.remote.connect()?,
        None => args.operator.connect().context("without --wallet the node's own wallet pays")?,
    };
    block_on(async {
        let tx = match &args.wallet {
            Some(name) => send_signed(&client, name, &args).await?,
            None => client.admin()?.admin_send(args.to, args.amount, args.fee).await.explain(&client)?,
        };
        if !args.wait {
            let object = json!({ "tx": tx, "state": TxState::Waiting });
            return out.record(&object, || format!("sent: transaction {tx}"));
        }
        wait_final(&client, tx, out).await
    })
}

/// Signs a transfer here and hands it to the node.
async fn send_signed(client: &NodeClient, name: &str, args: &SendArgs) -> anyhow::Result<podl_chain_spec::Hash32> {
    let status = client.public().node_status().await.explain(client)?;
    let wallet = WalletRef::parse(name, &wallet_folder()).open(&status.chain_name, &args.unlock.source())?;
    let spec = client.public().chain_spec().await.explain(client)?;
    let account = client.public().account_get(wallet.account()).await.explain(client)?;
    let mut transaction = Transaction {
        sender: wallet.account(),
        nonce: account.next_nonce,
        fee: args.fee.unwrap_or_default(),
        kind: TransactionKind::Transfer(Payment { to: args.to, amount: args.amount }),
    };
    if args.fee.is_none() {
        transaction.fee = least_fee_of(&spec, &transaction);
    }
    let signed = wallet.sign(transaction.clone(), &status.chain);
    let need = args.amount.checked_add(transaction.fee).context("the amount overflows")?;
    if need > account.spendable {
        bail!("{} PODL are free to spend, {need} PODL are needed with the fee; send less", account.spendable);
    }
    Ok(client.public().tx_submit(HexBytes(codec::encode(&signed))).await.explain(client)?)
}

/// Waits until a transaction is in a final block.
pub(super) async fn wait_final(client: &NodeClient, tx: podl_chain_spec::Hash32, out: &Out) -> anyhow::Result<()> {
    loop {
        let status = client.public().tx_status(tx).await.explain(client)?;
        match status.state {
            TxState::Final => {
                let height = status.height.unwrap_or_default();
                return out.record(&status, || format!("transaction {tx} is final in block {height}"));
            }
            TxState::Unknown => bail!("the node does not know transaction {tx} any more; was it replaced?"),
            TxState::Waiting | TxState::Included => {
                let tip = client.public().chain_tip().await.explain(client)?;
                client.public().chain_wait(tip.height + 1, 30_000).await.explain(client)?;
            }
        }
    }
}

fn history(args: &HistoryArgs, out: &Out) -> anyhow::Result<()> {
    let account = account_of(&args.account)?;
    let client = args.remote.connect()?;
    let entries = block_on(async {
        Ok(client.public().account_history(account, args.before, args.limit).await.explain(&client)?)
    })?;
    entries.iter().try_for_each(|entry| out.record(entry, || history_line(entry)))
}

fn history_line(entry: &HistoryEntry) -> String {
    let what = match entry.kind {
        HistoryKind::Sent => "sent",
        HistoryKind::Received => "received",
        HistoryKind::PaidOut => "paid its pool's miners",
        HistoryKind::PoolPay => "paid by its pool",
        HistoryKind::Published => "published a task",
        HistoryKind::Cancelled => "cancelled a task",
        HistoryKind::Produced => "produced the block",
        HistoryKind::Other => "sent a transaction",
    };
    let amount = entry.amount.map_or(String::new(), |amount| format!(" {amount} PODL"));
    let other = entry.other.map_or(String::new(), |other| format!(" ({other})"));
    let is_final = if entry.is_final { "" } else { ", not final yet" };
    format!("{:>8}  {what}{amount}{other}{is_final}", entry.height)
}
