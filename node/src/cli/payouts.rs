//! `podl pool payouts --verify`: a miner computes again what a pool paid. Nothing that the manager says is believed:
//! share lists are worked out afresh, and blocks and transactions come from a node of the miner's choice.

use anyhow::{Context, bail, ensure};
use podl_chain_spec::{AccountId, Amount, ChainSpec, Hash32};
use podl_consensus::codec;
use podl_consensus::execute::burn_share;
use podl_consensus::types::{BatchPayment, Block, BlockHash, Height, TransactionKind};
use podl_pool::ledger::{
    ChainBlock, Difference, ShareList, ShareProof, ShareRow, check_batch, check_block, check_list, check_proofs,
};
use podl_rpc::NodeApiClient;
use podl_rpc::client::NodeClient;
use podl_rpc::types::{BlockId, PayoutView, TxState};
use serde::Serialize;

use super::output::{Out, grouped};
use super::remote::{Explain, block_on};
use crate::shares;

/// What is known of a payout's transaction.
#[derive(Clone, Debug)]
enum Paid {
    /// It waits for the manager's money or for a block.
    NotYet,
    /// The manager says it is final, the chain does not have it.
    Missing(Hash32),
    /// It is something else.
    NotAPayout(Hash32),
    /// It is on the chain.
    Batch { sender: AccountId, batch: BatchPayment },
}

/// Everything that a payout is judged by.
struct Evidence {
    payout: PayoutView,
    list: ShareList,
    chain: ChainBlock,
    paid: Paid,
    /// Rows of the account asked for, with their proofs.
    proofs: Vec<(ShareRow, ShareProof)>,
}

/// What an account has of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Cut {
    account: AccountId,
    /// Its verified work in the window, and that of all.
    macs: u64,
    window_macs: u128,
    bonus: Amount,
    amount: Amount,
}

/// The line of a payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Verdict {
    block: BlockHash,
    height: Height,
    tx: Option<Hash32>,
    /// `verified`, `waiting` (the list holds, the transaction is in no block yet) or `differs`.
    state: &'static str,
    differences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
}

/// Verifies the latest payouts and prints a line each.
pub(super) fn verify(
    manager: &NodeClient,
    chain: &NodeClient,
    limit: u32,
    account: Option<AccountId>,
    out: &Out,
) -> anyhow::Result<()> {
    let (owner, gathered) = block_on(gather(manager, chain, limit, account))?;
    let verdicts = gathered.iter().map(|evidence| judge(evidence, &owner, account));
    let verdicts: Vec<Verdict> = verdicts.filter(|v| account.is_none() || v.cut.is_some()).collect();
    verdicts.iter().try_for_each(|verdict| out.record(verdict, || text(verdict)))?;
    let wrong = verdicts.iter().filter(|verdict| verdict.state == "differs").count();
    ensure!(wrong == 0, "{wrong} of {} payouts differ from what the pool's rules give", verdicts.len());
    Ok(())
}

/// The manager's account, and the evidence of its latest payouts.
async fn gather(
    manager: &NodeClient,
    chain: &NodeClient,
    limit: u32,
    account: Option<AccountId>,
) -> anyhow::Result<(AccountId, Vec<Evidence>)> {
    let spec = chain.public().chain_spec().await.explain(chain)?;
    let status = manager.public().node_status().await.explain(manager)?;
    if status.chain != spec.genesis_hash() {
        bail!("the pool's node is on chain {}, the other on {}", status.chain.short(), spec.genesis_hash().short());
    }
    let owner = manager.public().pool_status().await.explain(manager)?.account;
    let payouts = manager.public().pool_payouts(limit).await.explain(manager)?;
    let mut gathered = Vec::with_capacity(payouts.len());
    for payout in payouts {
        let list = manager.public().pool_shares(payout.block).await.explain(manager)?;
        let proofs = match account {
            Some(account) => manager.public().pool_share_proofs(payout.block, account).await.explain(manager)?,
            None => Vec::new(),
        };
        let proofs = proofs.iter().map(|p| (shares::row_of(&p.row), shares::proof_of(p))).collect();
        let block = chain_block(chain, &spec, payout.block).await.with_context(|| format!("block {}", payout.block))?;
        let paid = transaction(chain, &spec, &payout).await?;
        gathered.push(Evidence { payout, list: shares::list_of(&list), chain: block, paid, proofs });
    }
    Ok((owner, gathered))
}

/// What the chain says of a won block. What it paid follows from the task and the specification.
async fn chain_block(chain: &NodeClient, spec: &ChainSpec, block: BlockHash) -> anyhow::Result<ChainBlock> {
    let view = chain.public().chain_block(BlockId::Hash(block)).await.explain(chain)?;
    let reward = if view.is_filler {
        spec.money.filler_subsidy
    } else {
        round_pay(spec, chain.public().task_get(view.task).await.explain(chain)?.summary.reward)
    };
    let model = view.score.map(|score| score.model_root);
    Ok(ChainBlock { height: view.height, producer: view.producer, reward, model })
}

/// What a won round pays: the reward less its burn, and the subsidy (docs/protocol.md, section 7).
fn round_pay(spec: &ChainSpec, reward: Amount) -> Amount {
    let burn = burn_share(spec, reward);
    let subsidy = burn.percent(spec.money.subsidy_percent);
    Amount(reward.0.saturating_sub(burn.0).saturating_add(subsidy.0))
}

/// The payout's transaction, read from the block that holds it.
async fn transaction(chain: &NodeClient, spec: &ChainSpec, payout: &PayoutView) -> anyhow::Result<Paid> {
    let Some(tx) = payout.tx else { return Ok(Paid::NotYet) };
    let status = chain.public().tx_status(tx).await.explain(chain)?;
    let block = match (status.state, status.block) {
        (TxState::Included | TxState::Final, Some(block)) => block,
        _ if payout.is_final => return Ok(Paid::Missing(tx)),
        _ => return Ok(Paid::NotYet),
    };
    let raw = chain.public().chain_raw_block(BlockId::Hash(block)).await.explain(chain)?;
    let block_bytes = spec.limits.block_bytes as usize;
    let held: Block = codec::decode(&raw.bytes.0, block_bytes).context("the node served a malformed block")?;
    if held.hash() != block || held.body.root() != held.header.message.body_root {
        bail!("the node served another block than {block}; do not rely on its answers");
    }
    let found = held.body.transactions.into_iter().find(|signed| signed.message.id() == tx);
    match found.map(|signed| signed.message) {
        Some(message) => Ok(match message.kind {
            TransactionKind::BatchPayout(batch) => Paid::Batch { sender: message.sender, batch },
            _ => Paid::NotAPayout(tx),
        }),
        None => bail!("block {block} does not hold transaction {tx}, although the node says so"),
    }
}

/// Compares everything. `owner` is the manager's account.
fn judge(evidence: &Evidence, owner: &AccountId, account: Option<AccountId>) -> Verdict {
    let Evidence { payout, list, chain, paid, proofs } = evidence;
    let mut found = check_list(list);
    found.extend(check_block(list, owner, chain));
    match paid {
        Paid::NotYet => {}
        Paid::Missing(tx) => found.push(Difference::Missing(*tx)),
        Paid::NotAPayout(tx) => found.push(Difference::NotAPayout(*tx)),
        Paid::Batch { sender, batch } => {
            found.extend(check_batch(list, owner, sender, batch));
            found.extend(account.iter().flat_map(|a| check_proofs(list, a, proofs, &batch.shares_root)));
        }
    }
    let state = match (found.is_empty(), paid) {
        (false, _) => "differs",
        (true, Paid::NotYet) => "waiting",
        (true, _) => "verified",
    };
    Verdict {
        block: payout.block,
        height: payout.height,
        tx: payout.tx,
        state,
        differences: found.iter().map(ToString::to_string).collect(),
        cut: account.and_then(|account| cut(list, account)),
    }
}

fn cut(list: &ShareList, account: AccountId) -> Option<Cut> {
    let own: Vec<&ShareRow> = list.rows.iter().filter(|row| row.account == account).collect();
    let sum = |read: fn(&ShareRow) -> u64| own.iter().fold(0u64, |sum, row| sum.saturating_add(read(row)));
    let window_macs = list.rows.iter().map(|row| u128::from(row.macs)).sum();
    let (bonus, amount) = (Amount(sum(|row| row.bonus.0)), Amount(sum(|row| row.amount.0)));
    (!own.is_empty()).then(|| Cut { account, macs: sum(|row| row.macs), window_macs, bonus, amount })
}

fn text(verdict: &Verdict) -> String {
    let tx = verdict.tx.map_or("not sent yet".into(), |tx| format!("transaction {tx}"));
    let mut text = format!("block {} {tx}: {}", verdict.height, verdict.state);
    for difference in &verdict.differences {
        text += &format!("\n  {difference}");
    }
    if let Some(cut) = &verdict.cut {
        let (own, all) = (grouped(cut.macs), grouped(u64::try_from(cut.window_macs).unwrap_or(u64::MAX)));
        text += &format!("\n  {} PODL for {own} of {all} verified MACs, of it {} PODL bonus", cut.amount, cut.bonus);
    }
    text
}

#[cfg(test)]
mod tests;
