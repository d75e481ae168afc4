//! Attacks with votes.

use std::time::{Duration, Instant};

use podl_chain_spec::Hash32;
use podl_consensus::types::{BlockHash, Height, READY_CAP, SignedVote};
use podl_engine::wire::Gossip;

use super::VOLLEY;
use crate::attacker::Attacker;
use crate::conduct::Bystander;
use crate::forge::unsigned;
use crate::keys;

/// How long votes for made-up blocks go on: an honest peer is banned after about half a minute, where it is.
const HAUNT: Duration = Duration::from_secs(50);

/// Votes whose ready flags break the form, for whatever the head is: each task twice, unsorted, too many.
pub(crate) async fn twice_ready(attacker: &mut Attacker) -> anyhow::Result<String> {
    let stranger = attacker.bystander().await?;
    let end = Attacker::end();
    let mut last = None;
    while Instant::now() < end {
        let seats = attacker.seats().await?;
        let head = attacker.honest_status().await?.head;
        if head.height == seats.height && last != Some(head) {
            last = Some(head);
            let ready = bad_ready(head.height);
            let vote = attacker.seat().vote(head.height, head.block, seats.justified.height, ready);
            stranger.gossip(&Gossip::Vote(vote)).await;
            attacker.done += 1;
        }
        tokio::time::sleep(VOLLEY / 2).await;
    }
    attacker.keep([stranger]);
    Ok(format!("{} votes of one seat whose ready flags break the form", attacker.done))
}

/// One task twice first: the form that every producer included.
fn bad_ready(height: Height) -> Vec<Hash32> {
    let task = |number| keys::made_up("ready task", number);
    let mut sorted: Vec<Hash32> = (0..=READY_CAP as u64).map(task).collect();
    sorted.sort_unstable();
    match height % 3 {
        0 => sorted,
        1 => vec![task(0), task(0)],
        _ => sorted.into_iter().rev().take(READY_CAP).collect(),
    }
}

/// Votes of one seat for blocks that nobody has: honest nodes ask each other for them.
pub(crate) async fn ghost_votes(attacker: &mut Attacker) -> anyhow::Result<String> {
    let key = keys::highest_peer(200)?;
    let stranger = attacker.stranger_as(key, std::sync::Arc::new(Bystander)).await?;
    let first = attacker.honest_status().await?.head.height + 1;
    let end = Instant::now() + HAUNT;
    let mut height = first;
    while Instant::now() < end {
        for twin in 0..2 {
            let block = keys::made_up("ghost", 2 * height + twin);
            let vote = attacker.seat().vote(height, block, 0, Vec::new());
            stranger.gossip(&Gossip::Vote(vote)).await;
            attacker.done += 1;
        }
        height += 1;
        tokio::time::sleep(2 * VOLLEY).await;
    }
    attacker.keep([stranger]);
    Ok(format!("{} votes of one seat for blocks that nobody has", attacker.done))
}

/// Votes that say nothing true, from peers that come back when they are banned.
pub(crate) async fn bad_votes(attacker: &mut Attacker) -> anyhow::Result<String> {
    let end = Attacker::end();
    let mut stranger = attacker.bystander().await?;
    let mut peers = 1;
    while Instant::now() < end {
        if stranger.connections().await < attacker.targets.len() {
            stranger = attacker.bystander().await?;
            peers += 1;
        }
        let head = attacker.honest_status().await?.head;
        for vote in votes(attacker, head.block, head.height) {
            stranger.gossip(&Gossip::Vote(vote)).await;
            attacker.done += 1;
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep([stranger]);
    Ok(format!("{} votes with bad signatures, heights and justified heights from {peers} peers", attacker.done))
}

fn votes(attacker: &Attacker, block: BlockHash, height: Height) -> Vec<SignedVote> {
    let (seat, number) = (attacker.seat(), attacker.done);
    let stranger = attacker.signer(keys::account(number));
    let ghost = keys::made_up("voted", number);
    vec![
        seat.vote(height, block, u64::MAX - number, Vec::new()),
        seat.vote(u64::MAX, block, number, Vec::new()),
        seat.vote(u64::MAX, ghost, u64::MAX, Vec::new()),
        seat.vote(0, block, number, Vec::new()),
        stranger.vote(height, block, 0, Vec::new()),
        stranger.vote(height, ghost, u64::MAX, Vec::new()),
        unsigned(seat.vote(height, block, 0, Vec::new()), number),
    ]
}
