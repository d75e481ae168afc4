//! Attacks with connections and bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use podl_consensus::codec;
use podl_engine::wire::{Gossip, SyncRequest, Topic};
use podl_network::Protocol;

use super::VOLLEY;
use crate::attacker::{Attacker, Target};
use crate::conduct::{Bystander, Claim, Conduct, Mute};
use crate::forge::{Place, noise};
use crate::keys;
use crate::stranger::Stranger;

/// Bytes that are no message, on every topic and protocol, from peers that come back when they are banned.
pub(crate) async fn malformed(attacker: &mut Attacker) -> anyhow::Result<String> {
    let end = Attacker::end();
    let mut stranger = attacker.bystander().await?;
    let mut peers = 1;
    while Instant::now() < end {
        for topic in Topic::ALL {
            let limit = topic.limit_bytes(&attacker.spec);
            for bytes in payloads(attacker, limit) {
                if stranger.connections().await == 0 {
                    stranger = attacker.bystander().await?;
                    peers += 1;
                }
                stranger.gossip_bytes(topic, bytes).await;
                attacker.done += 1;
            }
        }
        for protocol in Protocol::ALL {
            for target in attacker.targets.clone() {
                for bytes in payloads(attacker, 512) {
                    if stranger.connections().await == 0 {
                        stranger = attacker.bystander().await?;
                        peers += 1;
                    }
                    let handle = stranger.handle();
                    // Nobody waits for the answer.
                    tokio::spawn(async move { handle.request(target.peer, protocol, bytes).await });
                    attacker.done += 1;
                }
            }
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep([stranger]);
    Ok(format!(
        "{} messages of senseless, cut and overlong bytes on every topic and protocol, {peers} peers",
        attacker.done
    ))
}

/// Nothing, noise, a message cut short and one with more behind it, claims of huge lengths, more than the limit.
fn payloads(attacker: &Attacker, limit: usize) -> Vec<Vec<u8>> {
    let number = attacker.done;
    let place = Place::filler(&attacker.chain, attacker.chain, 1);
    let signer = attacker.signer(keys::account(number));
    let whole = Gossip::Commitment(signer.commitment(&place, keys::made_up("cut", number))).encode();
    let request = codec::encode(&SyncRequest::Range { from: number, count: 1 });
    vec![
        Vec::new(),
        noise(number, 100),
        noise(number, limit.saturating_sub(1).min(1 << 16)),
        whole[..whole.len() / 2].to_vec(),
        [whole.clone(), vec![0]].concat(),
        [request, vec![0xff; 3]].concat(),
        [whole[..32].to_vec(), vec![0xff; 9], vec![0x7f]].concat(),
        noise(number, limit + 2000),
    ]
}

/// Peers that take every request and never answer one.
pub(crate) async fn silent_peers(attacker: &mut Attacker) -> anyhow::Result<String> {
    const PEERS: usize = 20;
    let claim = Claim::new(attacker.honest_status().await?);
    let end = Attacker::end();
    let mut strangers = Vec::new();
    for key in keys::lowest_peers(PEERS, 1_000)? {
        let stranger = attacker.unconnected(key, Arc::new(Mute)).await?;
        for target in attacker.targets.clone() {
            attacker.done += u64::from(stranger.dial(&target.address).await);
            stranger.ask(target.peer, &SyncRequest::Status(claim.get())).await;
        }
        strangers.push(stranger);
    }
    while Instant::now() < end {
        claim.set(attacker.honest_status().await?);
        for stranger in &strangers {
            for target in &attacker.targets {
                stranger.ask(target.peer, &SyncRequest::Status(claim.get())).await;
            }
        }
        tokio::time::sleep(2 * VOLLEY).await;
    }
    attacker.keep(strangers);
    Ok(format!("{PEERS} peers with low ids on {} connections that never answer", attacker.done))
}

/// How often a peer looks whether its connections are closed.
const CLOSING: Duration = Duration::from_millis(5);

/// Peers that come and go.
pub(crate) async fn reconnect(attacker: &mut Attacker) -> anyhow::Result<String> {
    const REGULARS: usize = 6;
    let end = Attacker::end();
    let conduct: Arc<dyn Conduct> = Arc::new(Bystander);
    let mut regulars = tokio::task::JoinSet::new();
    for _ in 0..REGULARS {
        let stranger = attacker.unconnected(attacker.next_peer()?, conduct.clone()).await?;
        let targets = attacker.targets.clone();
        regulars.spawn(async move {
            let mut made = 0;
            while Instant::now() < end {
                made += come_and_go(&stranger, &targets, end).await;
            }
            made
        });
    }
    while Instant::now() < end {
        let fresh = attacker.unconnected(attacker.next_peer()?, conduct.clone()).await?;
        attacker.done += come_and_go(&fresh, &attacker.targets, end).await;
    }
    while let Some(made) = regulars.join_next().await {
        attacker.done += made.unwrap_or_default();
    }
    Ok(format!("{} connections made and left", attacker.done))
}

/// Connects with every node and leaves; how many took it.
async fn come_and_go(stranger: &Stranger, targets: &[Target], end: Instant) -> u64 {
    let mut made = 0;
    for target in targets {
        made += u64::from(stranger.dial(&target.address).await);
        stranger.leave(target.peer);
    }
    // A connection that still stands would be taken for a new one.
    while stranger.connections().await > 0 && Instant::now() < end {
        tokio::time::sleep(CLOSING).await;
    }
    made
}
