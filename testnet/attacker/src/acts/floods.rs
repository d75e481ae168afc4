//! Attacks by number.

use std::time::Instant;

use podl_chain_spec::AccountId;
use podl_consensus::types::ShardKey;
use podl_engine::wire::{Gossip, KeyRelease};

use super::{SHOTS, VOLLEY};
use crate::attacker::Attacker;
use crate::forge::Signer;
use crate::keys;
use crate::stranger::Stranger;

async fn three(attacker: &mut Attacker) -> anyhow::Result<Vec<Stranger>> {
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(attacker.bystander().await?);
    }
    Ok(strangers)
}

/// Keys that open nothing.
pub(crate) async fn key_flood(attacker: &mut Attacker) -> anyhow::Result<String> {
    let strangers = three(attacker).await?;
    let end = Attacker::end();
    while Instant::now() < end {
        for stranger in &strangers {
            for _ in 0..SHOTS {
                attacker.done += 1;
                let key = ShardKey(keys::made_up("key", attacker.done).0);
                let task = keys::made_up("task of a key", attacker.done % 5);
                stranger.gossip(&Gossip::Key(KeyRelease { task, round: 1, key })).await;
            }
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep(strangers);
    Ok(format!("{} made-up keys from 3 peers", attacker.done))
}

/// Commitments of owners who cannot pay, and of one who can.
pub(crate) async fn commitment_flood(attacker: &mut Attacker) -> anyhow::Result<String> {
    let strangers = three(attacker).await?;
    let rich = attacker.purse("seat-4").await?;
    let end = Attacker::end();
    let mut paid = 0;
    while Instant::now() < end {
        let place = attacker.place().await?;
        for stranger in &strangers {
            for _ in 0..SHOTS {
                attacker.done += 1;
                let poor = attacker.signer(keys::account(attacker.done));
                let commitment = poor.commitment(&place, keys::made_up("poor commitment", attacker.done));
                stranger.gossip(&Gossip::Commitment(commitment)).await;
            }
            for _ in 0..4 {
                paid += 1;
                let commitment = rich.commitment(&place, keys::made_up("rich commitment", paid));
                stranger.gossip(&Gossip::Commitment(commitment)).await;
            }
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep(strangers);
    Ok(format!("{} commitments of owners without money, {paid} of one with, from 3 peers", attacker.done))
}

/// Cheap transactions, gaps in nonces, the last nonce there is, senders without money.
pub(crate) async fn transaction_flood(attacker: &mut Attacker) -> anyhow::Result<String> {
    let strangers = three(attacker).await?;
    let mut senders = Vec::new();
    for name in ["seat-4", "seat-5", "seat-6"] {
        let signer = attacker.purse(name).await?;
        let nonce = attacker.nonce(signer.account()).await?;
        senders.push((signer, nonce));
    }
    let per_byte = attacker.spec.money.fee_per_byte;
    let end = Attacker::end();
    while Instant::now() < end {
        for (stranger, (sender, nonce)) in strangers.iter().zip(&mut senders) {
            for shot in 0..SHOTS {
                attacker.done += 1;
                let poor = attacker.signer(keys::account(attacker.done));
                let (from, number): (&Signer, u64) = match shot % 6 {
                    0 | 1 => {
                        *nonce += 1;
                        (sender, *nonce - 1)
                    }
                    2 => (sender, *nonce + 20 + shot),
                    3 => (sender, u64::MAX - shot),
                    4 => (&poor, shot % 2),
                    _ => (&poor, u64::MAX),
                };
                let to = AccountId(keys::made_up("receiver", attacker.done).0);
                stranger.gossip(&Gossip::Transaction(from.transfer(per_byte, to, number))).await;
            }
            // What was thrown away leaves no hole for ever.
            *nonce = attacker.nonce(sender.account()).await?.max(nonce.saturating_sub(40));
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep(strangers);
    Ok(format!("{} transactions of 3 paying and many empty accounts, with gaps and last nonces", attacker.done))
}
