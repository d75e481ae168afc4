//! Attacks with sync requests.

use std::time::{Duration, Instant};

use podl_consensus::codec;
use podl_consensus::state::Checkpoint;
use podl_engine::sync::Status;
use podl_engine::wire::{SyncRequest, SyncResponse};
use podl_network::Protocol;

use super::VOLLEY;
use crate::attacker::Attacker;
use crate::conduct::{Answer, Bystander, Claim, Conduct};
use crate::keys;

/// A height that no chain reaches.
const FAR: u64 = 1 << 60;

/// Ranges at the end of the number line.
pub(crate) async fn range_overflow(attacker: &mut Attacker) -> anyhow::Result<String> {
    let stranger = attacker.bystander().await?;
    let ranges = [(u64::MAX, 1), (u64::MAX, u32::MAX), (u64::MAX - 1, 32), (u64::MAX - 5, u32::MAX), (0, u32::MAX)];
    let mut answered = 0;
    for target in attacker.targets.clone() {
        for (from, count) in ranges {
            let answer = stranger.ask(target.peer, &SyncRequest::Range { from, count }).await;
            answered += u64::from(answer.is_some());
            attacker.done += 1;
        }
    }
    Ok(format!("{} ranges that end beyond the last number asked of all nodes, {answered} answered", attacker.done))
}

/// Claims a status; asked for blocks, it has its own way of not having them.
struct Boaster {
    claim: Claim,
    blocks: fn() -> Answer,
}

impl Conduct for Boaster {
    fn answer(&self, request: &SyncRequest) -> Answer {
        match request {
            SyncRequest::Status(_) => self.claim.answer(),
            _ => (self.blocks)(),
        }
    }
}

/// Heads that do not exist, told again and again by peers that hold back, lack or refuse the blocks.
pub(crate) async fn false_status(attacker: &mut Attacker) -> anyhow::Result<String> {
    let far = |tag: u64, finalised: bool| {
        let head = Checkpoint { height: FAR, block: keys::made_up("far head", tag) };
        let genesis = Checkpoint { height: 0, block: attacker.chain };
        Status { chain: attacker.chain, head, finalised: if finalised { head } else { genesis } }
    };
    let ways: [(bool, fn() -> Answer); 4] = [
        (false, || Answer::Hold),
        (true, || Answer::Hold),
        (true, || Answer::say(SyncResponse::Blocks(Vec::new()))),
        (false, || Answer::Refuse),
    ];
    let ways = ways.map(|(finalised, blocks)| (Claim::new(far(u64::from(finalised), finalised)), blocks));
    let end = Attacker::end();
    let mut peers = Vec::new();
    let mut banned = 0;
    for (claim, blocks) in ways.clone() {
        peers.push((attacker.stranger(Boaster { claim: claim.clone(), blocks }).await?, claim, blocks));
    }
    while Instant::now() < end {
        for (peer, claim, blocks) in &mut peers {
            if peer.connections().await == 0 {
                banned += 1;
                let fresh = Boaster { claim: claim.clone(), blocks: *blocks };
                *peer = attacker.stranger(fresh).await?;
            }
            for target in attacker.targets.clone() {
                peer.ask(target.peer, &SyncRequest::Status(claim.get())).await;
                attacker.done += 1;
            }
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep(peers.into_iter().map(|(peer, ..)| peer));
    Ok(format!("{} statuses with a head at 2^60 from 4 peers, {banned} times banned by all and back", attacker.done))
}

/// Requests far above the rate that is answered, and just below the one that is punished: 500 a second of one peer.
pub(crate) async fn request_flood(attacker: &mut Attacker) -> anyhow::Result<String> {
    const AT_ONCE: u64 = 8;
    const PACE: Duration = Duration::from_millis(20);
    let end = Attacker::end();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..3 {
        let stranger = attacker.stranger(Bystander).await?;
        for target in attacker.targets.clone() {
            for line in 0..AT_ONCE {
                let handle = stranger.handle();
                tasks.spawn(async move {
                    let (mut sent, mut answered) = (0u64, 0u64);
                    while Instant::now() < end {
                        let request = any_request(sent + number + line);
                        let asked = handle.request(target.peer, Protocol::Sync, codec::encode(&request)).await;
                        (sent, answered) = (sent + 1, answered + u64::from(asked.is_ok()));
                        tokio::time::sleep(PACE).await;
                    }
                    (sent, answered)
                });
            }
        }
        attacker.keep([stranger]);
    }
    let (mut sent, mut answered) = (0, 0);
    while let Some(counts) = tasks.join_next().await {
        let (more_sent, more_answered) = counts.unwrap_or_default();
        (sent, answered) = (sent + more_sent, answered + more_answered);
    }
    attacker.done = sent;
    Ok(format!("{sent} requests for ranges, blocks and intervals from 3 peers, {answered} answered"))
}

fn any_request(number: u64) -> SyncRequest {
    match number % 3 {
        0 => SyncRequest::Range { from: 1, count: 32 },
        1 => SyncRequest::Block(keys::made_up("asked block", number)),
        _ => SyncRequest::Interval(keys::made_up("asked interval", number)),
    }
}
